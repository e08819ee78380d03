"""An application for gevent's server, whose clock a request can move on.

``PATCHES`` says whether the application itself patches, before its imports or after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if os.environ.get("PATCHES") == "first":
    import_module("gevent.monkey").patch_all()

from agentauth_middleware import Issuer, ResourceServer, wsgi
from agentauth_middleware.stores import SQLiteStore
from tests.support.server_side import RESOURCE

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_real, _ahead = time.time, 0.0


def moved_on() -> float:
    return _real() + _ahead


time.time = moved_on


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def create_app() -> WSGIApplication:
    issuer = Issuer(os.environ["ISSUER"], timeout=2)
    server = ResourceServer(RESOURCE, issuers=[issuer], insecure_loopback=True)
    store = SQLiteStore(os.environ["STORE"])
    middleware = wsgi.AgentAuthMiddleware(application, server, store=store)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        global _ahead
        if environ["PATH_INFO"] == "/move-on":
            _ahead += 3700
            return application(environ, start_response)
        return middleware(environ, start_response)

    return app


app = create_app()

if os.environ.get("PATCHES") == "last":
    import_module("gevent.monkey").patch_all()
