"""What passes between server and application passes the ASGI middleware as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware.asgi import AgentAuthMiddleware
from tests.support.server_side import SERVER, bearer, exchange, http_scope, request

pytestmark = pytest.mark.anyio

PIECES: list[Message] = [
    {"type": "http.request", "body": b"one", "more_body": True, "of": "the server's"},
    {"type": "http.request", "body": b"two", "more_body": True},
    {"type": "http.request", "body": b"", "more_body": False},
]


def authorized(path: str = "/", **members: Any) -> dict[str, Any]:
    return http_scope(path, [("Authorization", bearer())], **members)


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body and then answers."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_asgi_body_reaches_the_application_untouched() -> None:
    talk = await request(
        AgentAuthMiddleware(read_all, SERVER), authorized(method="POST"), *PIECES
    )

    assert talk.status == 204
    assert len(talk.taken) == 3
    assert all(map(lambda took, gave: took is gave, talk.taken, PIECES))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/", 401, id="refused"),
        pytest.param("/.well-known/oauth-protected-resource", 200, id="own URL"),
    ],
)
async def test_asgi_middleware_answers_without_reading(path: str, status: int) -> None:
    talk = await request(
        AgentAuthMiddleware(read_all, SERVER), http_scope(path), *PIECES
    )

    assert talk.status == status
    assert talk.taken == []


async def test_asgi_answer_reaches_the_server_untouched() -> None:
    """Messages of extensions included, about which the middleware knows nothing."""
    messages: list[Message] = [
        {"type": "http.response.debug", "info": {"template": "notes.html"}},
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.pathsend", "path": "/srv/note.txt"},
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]},
    ]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    talk = await request(AgentAuthMiddleware(answer, SERVER), authorized())

    assert all(map(lambda sent, given: sent is given, talk.sent, messages))
    assert len(talk.sent) == len(messages)


async def test_asgi_scope_keeps_what_the_server_put_there() -> None:
    seen: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await read_all(scope, receive, send)

    state = {"pool": object()}
    extensions: dict[str, dict[str, object]] = {"http.response.pathsend": {}}
    scope = authorized(state=state, extensions=extensions)
    given = dict(scope)
    await request(AgentAuthMiddleware(note, SERVER), scope)

    assert seen[0]["state"] is state
    assert seen[0]["extensions"] is extensions
    assert {key: seen[0][key] for key in given} == given


@pytest.mark.parametrize("kind", ["mqtt", "webtransport", "HTTP", ""])
async def test_asgi_scope_that_nobody_can_decide_on_is_not_let_through(
    kind: str,
) -> None:
    seen: list[object] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        raise AssertionError("read by the middleware")

    async def send(message: Message) -> None:
        raise AssertionError("written by the middleware")

    with pytest.raises(RuntimeError, match=f"'{kind}'"):
        await AgentAuthMiddleware(note, SERVER)({"type": kind}, receive, send)

    assert seen == []


# Streams


def plain_stream(held: anyio.Event) -> ASGIApp:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await held.wait()
        await send({"type": "http.response.body", "body": b"last"})

    return AgentAuthMiddleware(stream, SERVER)


def server_sent_events(held: anyio.Event) -> ASGIApp:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await held.wait()
        yield b"last"

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return app


@pytest.mark.parametrize("make", [plain_stream, server_sent_events])
async def test_asgi_stream_passes_piece_by_piece(make: Any) -> None:
    """The first piece is there while the application has not got the second."""
    held = anyio.Event()
    async with exchange(make(held), authorized()) as talk:
        assert (await talk.next_sent())["status"] == 200
        assert (await talk.next_sent())["body"] == b"first"
        held.set()
        assert (await talk.next_sent())["body"] == b"last"

    assert talk.raised is None


async def test_asgi_body_passes_piece_by_piece() -> None:
    """An application that echoes answers the first piece before the next one comes."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(
                {
                    "type": "http.response.body",
                    "body": message["body"],
                    "more_body": more,
                }
            )

    async with exchange(AgentAuthMiddleware(echo, SERVER), authorized()) as talk:
        await talk.deliver(PIECES[0])
        assert (await talk.next_sent())["status"] == 200
        assert (await talk.next_sent())["body"] == PIECES[0]["body"]
        for piece in PIECES[1:]:
            await talk.deliver(piece)
            assert (await talk.next_sent())["body"] == piece["body"]


async def test_asgi_disconnect_reaches_the_application() -> None:
    disconnected = anyio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        disconnected.set()

    async with exchange(AgentAuthMiddleware(wait, SERVER), authorized()) as talk:
        await talk.deliver({"type": "http.request", "body": b"", "more_body": False})
        await talk.next_sent()
        await talk.next_sent()
        await talk.deliver({"type": "http.disconnect"})
        await disconnected.wait()


async def test_asgi_server_gone_reaches_the_application() -> None:
    """What ``send`` raises once the client has left, as newer servers do."""
    seen: list[BaseException] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"tick"})
        except OSError as error:
            seen.append(error)
            raise

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    gone = OSError("client has left")

    async def send(message: Message) -> None:
        raise gone

    with pytest.raises(OSError, match="client has left"):
        await AgentAuthMiddleware(stream, SERVER)(authorized(), receive, send)

    assert seen == [gone]


@pytest.mark.parametrize("query", [b"", b"?x=%20", b"?x=%2F..%2Fpublic"])
async def test_asgi_query_in_the_raw_path_is_no_part_of_it(query: bytes) -> None:
    """Some servers leave it there. An escape in it is none of the path's."""
    path = "/.well-known/oauth-protected-resource"
    scope = http_scope(path, raw_path=path.encode() + query)

    assert (await request(AgentAuthMiddleware(read_all, SERVER), scope)).status == 200
