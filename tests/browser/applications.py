"""The applications that pages call, each with a CORS layer of its own or without.

Every handler takes any method, as careless handlers do, and tells which methods it has
run on since the start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentauth_middleware import Issuer, ResourceServer, asgi, wsgi

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOLD = "BROWSER_TEST"
"""Name of the variable of the environment with what an application needs."""
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]


def told() -> Mapping[str, Any]:
    members: Mapping[str, Any] = json.loads(os.environ[TOLD])
    return members


def resource_server(**settings: Any) -> ResourceServer:
    issuer = Issuer(told()["issuer"], jwks=told()["jwks"])
    return ResourceServer(
        told()["resource"], issuers=[issuer], insecure_loopback=True, **settings
    )


def listing() -> ResourceServer:
    return resource_server(browser_origins=[told()["page"]])


def forwarding() -> ResourceServer:
    return resource_server(forward_unauthenticated_preflights=True)


class Notes:
    def __init__(self) -> None:
        self._ran: list[str] = []

    def run(self, method: str) -> dict[str, list[str]]:
        self._ran.append(method)
        return {"ran": self._ran}


# FastAPI


def _fastapi() -> Any:
    from fastapi import FastAPI, Request

    app, notes = FastAPI(), Notes()

    def handler(request: Request) -> dict[str, list[str]]:
        return notes.run(request.method)

    handler.__annotations__["request"] = Request
    app.add_api_route("/notes", handler, methods=METHODS)
    return app


def _add_cors(app: Any) -> None:
    from fastapi.middleware.cors import CORSMiddleware

    app.add_middleware(
        CORSMiddleware,
        allow_origins=[told()["page"]],
        allow_methods=["*"],
        allow_headers=["*"],
    )


def _install(app: Any, server: ResourceServer) -> None:
    from agentauth_middleware.fastapi import AgentAuth

    AgentAuth(server).install(app)


def fastapi_cors_before() -> Any:
    app = _fastapi()
    _add_cors(app)
    _install(app, resource_server())
    return app


def fastapi_cors_after() -> Any:
    app = _fastapi()
    _install(app, resource_server())
    _add_cors(app)
    return app


def fastapi_listing() -> Any:
    app = _fastapi()
    _install(app, listing())
    return app


def fastapi_cors_inside_listing() -> Any:
    app = _fastapi()
    _add_cors(app)
    return asgi.AgentAuthMiddleware(app, listing())


def fastapi_cors_inside_forwarding() -> Any:
    app = _fastapi()
    _add_cors(app)
    return asgi.AgentAuthMiddleware(app, forwarding())


# Flask


def _flask(server: ResourceServer) -> Any:
    from flask import Flask, request
    from flask_cors import CORS

    from agentauth_middleware.flask import AgentAuth

    app, notes = Flask(__name__), Notes()
    CORS(app, origins=[told()["page"]])
    AgentAuth(server).init_app(app)

    @app.route("/notes", methods=[m for m in METHODS if m != "OPTIONS"])
    def handler() -> dict[str, list[str]]:
        return notes.run(request.method)

    return app


def flask_listing() -> Any:
    return _flask(listing())


def flask_forwarding() -> Any:
    return _flask(forwarding())


# Django


def _django(server: ResourceServer) -> Any:
    settings: Any = import_module("django.conf").settings
    http: Any = import_module("django.http")
    urls: Any = import_module("django.urls")
    notes = Notes()

    def view(request: Any) -> Any:
        return http.JsonResponse(notes.run(request.method))

    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        ROOT_URLCONF=(urls.path("notes", view),),
        INSTALLED_APPS=["corsheaders"],
        MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],
        CORS_ALLOWED_ORIGINS=[told()["page"]],
    )
    application = import_module("django.core.wsgi").get_wsgi_application()
    return wsgi.AgentAuthMiddleware(application, server)


def django_listing() -> Any:
    return _django(listing())


def django_forwarding() -> Any:
    return _django(forwarding())


# Plain WSGI


def plain_listing() -> WSGIApplication:
    notes = Notes()

    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        body = json.dumps(notes.run(environ["REQUEST_METHOD"])).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    return wsgi.AgentAuthMiddleware(application, listing())
