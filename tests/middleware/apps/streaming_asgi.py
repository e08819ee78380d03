"""Streams and websockets behind the ASGI middleware, held back until another request
comes.

The environment names the issuer.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Endpoint
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.asgi import AgentAuthMiddleware
from tests.support.server_side import RESOURCE


class MiddlewareState:
    """What one request waits for, and another brings; then it is closed again."""

    def __init__(self) -> None:
        self._opened = anyio.Event()

    async def pass_through(self) -> None:
        with anyio.fail_after(30):
            await self._opened.wait()
        self._opened = anyio.Event()

    def open(self) -> None:
        self._opened.set()


released, left = MiddlewareState(), MiddlewareState()


async def pieces() -> AsyncGenerator[str, None]:
    yield "data: first\n\n"
    await released.pass_through()
    yield "data: last\n\n"


async def stream(request: Request) -> Response:
    return StreamingResponse(pieces(), media_type="application/octet-stream")


async def events(request: Request) -> Response:
    return StreamingResponse(pieces(), media_type="text/event-stream")


async def release(request: Request) -> Response:
    released.open()
    return PlainTextResponse("released")


class Watched:
    """Streams until its client has left, by ASGI itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            left.open()


async def has_left(request: Request) -> Response:
    await left.pass_through()
    return PlainTextResponse("left")


class Upload:
    """Answers each piece of the body before the next has come."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            size = b"%d " % len(message["body"])
            await send({"type": "http.response.body", "body": size, "more_body": more})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_text(f"{websocket.user.identity}: {text}")
    except WebSocketDisconnect:
        left.open()


async def guarded(websocket: WebSocket) -> None:
    websocket.scope["agentauth.access"].require_scopes("mail.send")
    await echo(websocket)


def protected() -> Starlette:
    application = Starlette(
        routes=[
            Endpoint("/stream", stream),
            Endpoint("/events", events),
            Endpoint("/release", release),
            Endpoint("/watched", Watched()),
            Endpoint("/left", has_left),
            Endpoint("/upload", Upload()),
            WebSocketRoute("/echo", echo),
            WebSocketRoute("/guarded", guarded),
        ]
    )
    server = ResourceServer(
        RESOURCE,
        issuers=[Issuer(os.environ["ISSUER"])],
        routes=[Route("/release", public=True), Route("/left", public=True)],
        insecure_loopback=True,
    )
    application.add_middleware(AgentAuthMiddleware, resource_server=server)
    return application


app = protected()
