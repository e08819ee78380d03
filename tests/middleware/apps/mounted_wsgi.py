"""Flask behind a middleware that keeps ``/assets`` public and ``/admin`` for few.

The environment names the issuer.
"""

from __future__ import annotations

import os

from flask import Flask

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import RESOURCE

ROUTES = (Route("/assets/*", public=True), Route("/admin/*", scopes=("admin",)))


def flask(server: ResourceServer) -> Flask:
    """Its handlers answer with their names."""
    app = Flask(__name__)

    @app.get("/")
    def index() -> str:
        return "index"

    @app.get("/admin")
    @app.get("/admin/")
    def admin() -> str:
        return "admin"

    @app.get("/assets/<path:name>")
    def asset(name: str) -> str:
        return "asset"

    app.wsgi_app = AgentAuthMiddleware(app.wsgi_app, server)  # type: ignore[method-assign]
    return app


def app() -> Flask:
    issuer = Issuer(os.environ["ISSUER"])
    return flask(
        ResourceServer(
            RESOURCE, issuers=[issuer], routes=ROUTES, insecure_loopback=True
        )
    )
