"""Both middlewares around any application, with all they take."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import Access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.asgi import Caller as Caller
from agentauth_middleware.starlette import (
    answer_refusals,
    declared_scopes,
    requires,
    well_known_routes,
)
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.wsgi import AgentAuthMiddleware as WSGIMiddleware
from typing_tests.settings import PLAIN

STORE = SQLiteStore("agentauth.db")


async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None: ...


def wsgi_app(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    access = environ["agentauth.access"]
    assert isinstance(access, Access)
    return [access.require_user().subject.encode()]


# A middleware is itself an application of its protocol.
asgi: ASGIApp = AgentAuthMiddleware(asgi_app, PLAIN)
asgi = AgentAuthMiddleware(
    asgi, resource_server=PLAIN, store=STORE, http_client=httpx.AsyncClient()
)
wsgi: WSGIApplication = WSGIMiddleware(wsgi_app, PLAIN)
wsgi = WSGIMiddleware(
    wsgi,
    resource_server=PLAIN,
    store=STORE,
    http_client=httpx.Client(),
    remote_user=lambda access: access.subject,
)


def scopes_for(environ: WSGIEnvironment) -> list[str]:
    return ["notes.write"] if environ["REQUEST_METHOD"] == "POST" else ["notes.read"]


asgi = AgentAuthMiddleware(asgi, PLAIN, scopes_for=lambda scope: [scope["path"]])
wsgi = WSGIMiddleware(wsgi, PLAIN, scopes_for=scopes_for)

# Starlette.


@requires("notes.read", "notes.write")
async def notes(request: Request) -> JSONResponse:
    caller = request.user
    assert isinstance(caller, Caller)
    return JSONResponse({"for": caller.access.require_user().subject})


starlette = Starlette(
    routes=[
        *well_known_routes(PLAIN),
        PathRoute("/notes", notes),
        Mount("/inner", AgentAuthMiddleware(asgi_app, PLAIN)),
    ]
)
starlette.add_middleware(
    AgentAuthMiddleware,
    resource_server=PLAIN,
    store=STORE,
    scopes_for=declared_scopes,
)
answer_refusals(starlette, PLAIN)

# What must not pass.

AgentAuthMiddleware(asgi_app, PLAIN, http_client=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

WSGIMiddleware(wsgi_app, PLAIN, http_client=httpx.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

AgentAuthMiddleware(wsgi_app, PLAIN)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

WSGIMiddleware(asgi_app, PLAIN)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

AgentAuthMiddleware(asgi_app, PLAIN, store="agentauth.db")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

AgentAuthMiddleware(asgi_app, PLAIN, STORE)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

AgentAuthMiddleware(asgi_app, PLAIN, scopes_for=["notes.read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

WSGIMiddleware(wsgi_app, PLAIN, scopes_for=lambda environ: None)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]

starlette.add_middleware(AgentAuthMiddleware, server=PLAIN)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
