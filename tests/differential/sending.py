"""Sending requests to an application in process, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from tests.differential.applications import App, Deployment, Protect, Ran
from tests.differential.gateways import Gateway
from tests.differential.targets import Target


@dataclass(frozen=True)
class Sent:
    target: Target
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    is_websocket: bool = False


@dataclass(frozen=True)
class Outcome:
    sent: Sent
    status: int
    """0 where the server, or an error that none has answered, ended the request."""
    ran: tuple[str, ...]


def send_all(
    deployment: Deployment, gateway: Gateway, sent: Iterable[Sent], protect: Protect
) -> list[Outcome]:
    """What becomes of each request."""
    if deployment.kind == "asgi":
        return asyncio.run(_send_all_asgi(deployment, gateway, sent, protect))
    ran: Ran = []
    app = deployment.build(ran, protect)
    outcomes: list[Outcome] = []
    for one in sent:
        environ = _handed(gateway, deployment, one)
        status = 0 if environ is None else _ask_wsgi(app, environ)
        outcomes.append(Outcome(one, status, _taken(ran)))
    return outcomes


async def _send_all_asgi(
    deployment: Deployment, gateway: Gateway, sent: Iterable[Sent], protect: Protect
) -> list[Outcome]:
    ran: Ran = []
    app = deployment.build(ran, protect)
    outcomes: list[Outcome] = []
    async with _started(app):
        for one in sent:
            scope = _handed(gateway, deployment, one)
            status = 0 if scope is None else await _ask_asgi(app, scope)
            outcomes.append(Outcome(one, status, _taken(ran)))
    return outcomes


def _handed(
    gateway: Gateway, deployment: Deployment, sent: Sent
) -> dict[str, Any] | None:
    fields = {"Host": "api.example.com", **sent.fields}
    target = sent.target
    handed = gateway(target.method, target.target, deployment.mount, fields)
    if handed is not None and sent.is_websocket:
        del handed["method"]
        handed |= {"type": "websocket", "scheme": "ws", "subprotocols": []}
    return handed


def _taken(ran: Ran) -> tuple[str, ...]:
    names = tuple(ran)
    ran.clear()
    return names


def _ask_wsgi(app: App, environ: dict[str, Any]) -> int:
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        statuses.append(status)

    body = app(environ, start_response)
    for _ in body:
        pass
    getattr(body, "close", lambda: None)()
    return int(statuses[-1].split(" ")[0])


async def _ask_asgi(app: App, scope: dict[str, Any]) -> int:
    statuses: list[int] = []
    first = {"type": "http.request", "body": b"", "more_body": False}
    if scope["type"] == "websocket":
        first = {"type": "websocket.connect"}
    bodies = iter([first])
    forever = asyncio.Event()

    async def receive() -> dict[str, Any]:
        for message in bodies:
            return message
        await forever.wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0] if statuses else 0


@asynccontextmanager
async def _started(app: App) -> AsyncGenerator[None, None]:
    """*app* after its start-up, if it has any."""
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[str] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

    async def send(message: dict[str, Any]) -> None:
        answers.put_nowait(message["type"])

    async def run() -> None:
        # "Django can only handle ASGI/HTTP connections"; servers go on without.
        with suppress(ValueError):
            await app(scope, messages.get, send)
        answers.put_nowait("ended")

    task = asyncio.create_task(run())
    messages.put_nowait({"type": "lifespan.startup"})
    answer = await answers.get()
    assert answer in ("lifespan.startup.complete", "ended")
    try:
        yield
    finally:
        messages.put_nowait({"type": "lifespan.shutdown"})
        await task


def is_asgi(app: App) -> bool:
    return iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__)


def unprotected(app: App) -> App:
    """*app*; what it raises is answered as servers do."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            if scope["type"] == "lifespan":
                raise
            await send({"type": "http.response.start", "status": 500, "headers": []})

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        try:
            return list(app(environ, start_response))
        except Exception:
            start_response("500 Internal Server Error", [])
            return []

    return asgi if is_asgi(app) else wsgi
