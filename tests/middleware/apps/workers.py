"""An application for several workers that share a store; each answer names its worker.

The refusals of the middleware as well, since what names the worker stands in front of
it. The environment names the issuer and the store's file; without one each has its own
memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware import Issuer, ResourceServer, asgi, wsgi
from agentauth_middleware.stores import MemoryStore, SQLiteStore, Store
from tests.support.server_side import RESOURCE

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

WORKER = "x-worker"


async def asgi_application(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"  # no lifespan
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def wsgi_application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def named_asgi(app: ASGIApp) -> ASGIApp:
    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = (WORKER.encode(), str(os.getpid()).encode())
                message = {**message, "headers": [*message["headers"], name]}
            await send(message)

        await app(scope, receive, send_named)

    return named


def named_wsgi(app: WSGIApplication) -> WSGIApplication:
    def named(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        def start_named(
            status: str, headers: list[tuple[str, str]], *exc_info: Any
        ) -> Any:
            named = [*headers, (WORKER, str(os.getpid()))]
            return start_response(status, named, *exc_info)

        return app(environ, start_named)

    return named


def resource_server() -> ResourceServer:
    issuer = Issuer(os.environ["ISSUER"])
    return ResourceServer(RESOURCE, issuers=[issuer], insecure_loopback=True)


def find_store() -> Store:
    file = os.environ["STORE"]
    return SQLiteStore(file) if file else MemoryStore()


def asgi_app() -> ASGIApp:
    middleware = asgi.AgentAuthMiddleware(
        asgi_application, resource_server(), store=find_store()
    )
    return named_asgi(middleware)


def wsgi_app() -> WSGIApplication:
    middleware = wsgi.AgentAuthMiddleware(
        wsgi_application, resource_server(), store=find_store()
    )
    return named_wsgi(middleware)
