"""Refusals in what streams a response: answered until its first piece is sent.

Frameworks send the status of a streamed response before they run its first line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from flask import Flask, stream_with_context
from flask import Response as FlaskResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as PathRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware import current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.starlette import answer_refusals
from tests.frameworks.notes_server import SERVER, bearer
from tests.support.server_side import Exchange, environ, exchange, http_scope, serve
from tests.support.server_side import request as asked

NOTES = [b"first ", b"second"]
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def check() -> None:
    access = current_access()
    assert access is not None
    access.require_scopes("notes.write")


def lines() -> Iterator[bytes]:
    check()
    yield from NOTES


async def async_lines() -> AsyncIterator[bytes]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.lowlevel.checkpoint)
    check()
    for line in NOTES:
        yield line


async def notes(request: Request) -> Response:
    kind: dict[str, Any] = {"lines": lines, "async": async_lines}
    return StreamingResponse(kind[request.query_params["by"]]())


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


BELOW = [Middleware(BaseHTTPMiddleware, dispatch=pass_on), Middleware(GZipMiddleware)]


def inside_starlette(*middleware: Middleware) -> ASGIApp:
    app = Starlette(routes=[PathRoute("/notes", notes)], middleware=middleware)
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return app


def around_starlette() -> ASGIApp:
    app = Starlette(routes=[PathRoute("/notes", notes)])
    return AgentAuthMiddleware(app, SERVER)


def around_starlette_that_answers() -> ASGIApp:
    app = Starlette(routes=[PathRoute("/notes", notes)])
    answer_refusals(app, SERVER)
    return AgentAuthMiddleware(app, SERVER)


def in_fastapi() -> ASGIApp:
    app = FastAPI()
    app.get("/notes", response_model=None)(notes)
    AgentAuth(SERVER).install(app)
    return app


async def get(
    app: ASGIApp, by: str, spec_version: str, token: dict[str, str]
) -> Exchange:
    """With the *spec_version* of uvicorn, or of others.

    By it Starlette looks for disconnects beside the stream, in a task group.
    """
    asgi = {"version": "3.0", "spec_version": spec_version}
    query = f"by={by}".encode()
    scope = http_scope("/notes", list(token.items()), query_string=query, asgi=asgi)
    return await asked(app, scope)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "app",
    [
        pytest.param(inside_starlette(), id="add_middleware"),
        pytest.param(inside_starlette(*BELOW), id="below other middleware"),
        pytest.param(around_starlette(), id="around"),
        pytest.param(around_starlette_that_answers(), id="answer_refusals"),
        pytest.param(in_fastapi(), id="FastAPI"),
    ],
)
@pytest.mark.parametrize("by", ["lines", "async"])
@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_refusal_in_the_first_step_of_a_stream_is_answered(
    app: ASGIApp, by: str, spec_version: str
) -> None:
    refused = await get(app, by, spec_version, bearer("notes.read"))
    granted = await get(app, by, spec_version, bearer("notes.write"))

    assert refused.status == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert refused.json["scope"] == "notes.write"
    assert (granted.status, granted.body) == (200, b"first second")


def test_refusal_in_the_first_step_of_a_stream_of_flask_is_answered() -> None:
    app = Flask(__name__)

    @app.get("/notes")
    def notes() -> FlaskResponse:
        return FlaskResponse(stream_with_context(lines()))

    FlaskAgentAuth(SERVER).init_app(app)

    def status(*scopes: str) -> int:
        token = bearer(*scopes)["Authorization"]
        return serve(app, environ("/notes", HTTP_AUTHORIZATION=token)).status

    assert status("notes.read") == 403
    assert status("notes.write") == 200


def bare(app: ASGIApp) -> tuple[ASGIApp, dict[str, Any]]:
    scope = http_scope("/notes", list(bearer("notes.read").items()))
    return AgentAuthMiddleware(app, SERVER), scope


@pytest.mark.anyio
async def test_refusal_after_the_first_piece_is_a_broken_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        check()

    talk = await asked(*bare(app))

    assert talk.status == 200
    assert len(talk.sent) == 2
    assert "notes.write" in str(talk.raised)


@pytest.mark.anyio
async def test_error_in_the_first_step_of_a_stream_is_not_hidden() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise RuntimeError("broken") from KeyError("note")

    talk = await asked(*bare(app))

    assert talk.sent == []
    assert isinstance(talk.raised, RuntimeError)


@pytest.mark.anyio
async def test_error_that_a_refusal_caused_is_an_error_where_nothing_streams() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check()
        except Exception as refusal:
            raise RuntimeError("broken") from refusal

    talk = await asked(*bare(app))

    assert talk.sent == []
    assert str(talk.raised) == "broken"


@pytest.mark.anyio
async def test_response_without_a_body_is_sent_when_the_application_returns() -> None:
    """Which is a fault that the server shall see."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)

    talk = await asked(*bare(app))

    assert talk.sent == [START]


AT_ONCE: dict[str, Message] = {
    "event stream": {
        **START,
        "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")],
    },
    "known length": {**START, "headers": [(b"Content-Length", b"5")]},
}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", AT_ONCE)
async def test_status_that_clients_wait_for_is_sent_at_once(kind: str) -> None:
    """The client of an event stream is told that it is connected."""
    piece = {"type": "http.response.body", "body": b"notes"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(AT_ONCE[kind])
        await receive()
        await send(piece)

    with anyio.fail_after(5):
        async with exchange(*bare(app)) as talk:
            start = await talk.next_sent()
            await talk.deliver({"type": "http.request", "body": b""})

    assert start == AT_ONCE[kind]
    assert talk.sent == [start, piece]
