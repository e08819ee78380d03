"""What is read of a request's body after the request was refused, and what is not.

That answers then arrive is shown over sockets, in ``test_large_bodies``.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import TaskStatus
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route as Endpoint
from starlette.types import Message, Receive, Scope, Send

from agentauth_middleware import asgi, flask, wsgi
from agentauth_middleware.errors import ActorRefusedError
from agentauth_middleware.starlette import answer_refusals, well_known_routes
from tests.support.server_side import (
    SERVER,
    bearer,
    environ,
    exchange,
    http_scope,
    request,
    unheard,
)

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

LENGTH = ("Content-Length", "18")
CHUNKED = ("Transfer-Encoding", "chunked")


# ASGI


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def post(*headers: tuple[str, str], **members: Any) -> dict[str, Any]:
    return http_scope("/notes", headers, method="POST", **members)


async def _unreached(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("let in")


def refusing(**settings: Any) -> asgi.AgentAuthMiddleware:
    return asgi.AgentAuthMiddleware(_unreached, replace(SERVER, **settings))


THREE = (piece(b"123456"), piece(b"123456"), piece(b"123456", more=False))


@pytest.mark.anyio
@pytest.mark.parametrize("header", [LENGTH, CHUNKED])
async def test_the_answer_is_sent_before_the_body_is_read(
    header: tuple[str, str],
) -> None:
    async with exchange(refusing(), post(header)) as talk:
        assert (await talk.next_sent())["status"] == 401
        sent = await talk.next_sent()
        assert sent["more_body"]
        assert len(sent["body"]) == int(talk.headers["content-length"])
        assert talk.taken == []
        await talk.deliver(*THREE)

        assert await talk.next_sent() == {"type": "http.response.body", "body": b""}
    assert talk.taken == list(THREE)


@pytest.mark.anyio
@pytest.mark.parametrize(("limit", "read"), [(11, 2), (12, 2), (13, 3), (18, 3)])
async def test_no_more_is_read_than_allowed(limit: int, read: int) -> None:
    talk = await request(refusing(discard_bytes=limit), post(LENGTH), *THREE)

    assert talk.taken == list(THREE[:read])
    assert len(talk.sent) == 3


@pytest.mark.anyio
async def test_nothing_is_waited_for_longer_than_allowed() -> None:
    talk = await request(refusing(discard_seconds=0.01), post(LENGTH), piece(b"x"))

    assert talk.taken == [piece(b"x")]
    assert len(talk.sent) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("setting", ["discard_bytes", "discard_seconds"])
async def test_reading_on_can_be_switched_off(setting: str) -> None:
    talk = await request(refusing(**{setting: 0}), post(LENGTH), *THREE)

    assert talk.taken == []
    assert len(talk.sent) == 2


@pytest.mark.anyio
async def test_answers_at_our_own_urls_are_followed_as_well() -> None:
    scope = http_scope("/auth.md", [LENGTH], method="POST")
    talk = await request(refusing(), scope, *THREE)

    assert talk.status == 405
    assert talk.taken == list(THREE)


@pytest.mark.anyio
async def test_reading_ends_when_the_client_has_gone() -> None:
    gone = {"type": "http.disconnect"}
    talk = await request(refusing(), post(LENGTH), piece(b"x"), gone)

    assert talk.taken == [piece(b"x"), gone]


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)])
async def test_a_request_without_a_body_is_answered_as_ever(
    headers: tuple[tuple[str, str], ...],
) -> None:
    talk = await request(refusing(), post(*headers))

    assert talk.taken == []
    assert len(talk.sent) == 2


def handling(handle: Callable[[Receive], Any]) -> asgi.AgentAuthMiddleware:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await handle(receive)
        raise ActorRefusedError("not_theirs")

    return asgi.AgentAuthMiddleware(application, SERVER)


def allowed(*headers: tuple[str, str]) -> dict[str, Any]:
    return post(("Authorization", bearer()), *headers)


@pytest.mark.anyio
async def test_what_a_handler_left_unread_is_read() -> None:
    async def handle(receive: Receive) -> None:
        await receive()

    talk = await request(handling(handle), allowed(LENGTH), *THREE)

    assert talk.status == 403
    assert talk.taken == list(THREE)


@pytest.mark.anyio
async def test_a_body_that_a_handler_has_read_is_not_waited_for() -> None:
    async def handle(receive: Receive) -> None:
        while (await receive()).get("more_body"):
            pass

    talk = await request(handling(handle), allowed(LENGTH), *THREE)

    assert talk.status == 403
    assert talk.taken == list(THREE)
    assert len(talk.sent) == 2


@pytest.mark.anyio
async def test_few_connections_are_read_on_from_at_a_time() -> None:
    """One address has half of them, and the other half is for others."""
    middleware = refusing(discard_seconds=300)
    clients = [1] * 32 + list(range(2, 34))
    waiting = [post(LENGTH, client=(f"192.0.2.{client}", 1)) for client in clients]

    async def has_been_read_on_from(scope: Scope) -> bool:
        talk = await request(middleware, scope, piece(b"", more=False))
        return bool(talk.taken)

    async with anyio.create_task_group() as tasks:

        async def wait(scope: Scope, *, task_status: TaskStatus[None]) -> None:
            async with exchange(middleware, scope) as talk:
                await talk.next_sent()
                assert (await talk.next_sent()).get("more_body")
                task_status.started()

        for scope in waiting[:32]:
            await tasks.start(wait, scope)
        await anyio.wait_all_tasks_blocked()
        assert not await has_been_read_on_from(post(LENGTH, client=("192.0.2.1", 2)))
        assert await has_been_read_on_from(post(LENGTH, client=("192.0.2.2", 2)))
        for scope in waiting[32:]:
            await tasks.start(wait, scope)
        await anyio.wait_all_tasks_blocked()
        assert not await has_been_read_on_from(post(LENGTH, client=("192.0.2.99", 2)))
        tasks.cancel_scope.cancel()

    assert await has_been_read_on_from(post(LENGTH, client=("192.0.2.1", 2)))


@pytest.mark.anyio
async def test_starlette_answers_and_what_is_left_is_read() -> None:
    """Where the application itself answers, since the middleware stands outside."""

    async def notes(request: Request) -> PlainTextResponse:
        raise ActorRefusedError("not_theirs")

    app = Starlette(routes=[Endpoint("/notes", notes, methods=["POST"])])
    answer_refusals(app, SERVER)
    middleware = asgi.AgentAuthMiddleware(app, SERVER)

    talk = await request(middleware, allowed(LENGTH), *THREE)

    assert talk.status == 403
    assert talk.taken == list(THREE)


@pytest.mark.anyio
async def test_well_known_routes_answer_and_what_is_left_is_read() -> None:
    app = Starlette(routes=well_known_routes(SERVER))
    scope = http_scope("/auth.md", [LENGTH], method="POST")

    talk = await request(app, scope, *THREE)

    assert talk.status == 405
    assert talk.taken == list(THREE)


# WSGI


def _unreached_wsgi(*_: object) -> Iterable[bytes]:
    raise AssertionError("let in")


def ask(app: WSGIApplication, given: WSGIEnvironment) -> int:
    """Run *app* as a server does; how far it has read the body."""
    body = app(given, unheard)
    assert b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        assert given["wsgi.input"].tell() == 0  # the answer comes first
        close()
    position: int = given["wsgi.input"].tell()
    return position


def upload(size: object, **members: Any) -> WSGIEnvironment:
    """A request that says that *size* bytes come."""
    return {
        **environ("/notes", method="POST"),
        "CONTENT_LENGTH": str(size),
        "wsgi.multithread": True,
        "wsgi.input": io.BytesIO(b"x" * 200_000),
        **members,
    }


@pytest.mark.parametrize(
    ("size", "settings", "members", "read"),
    [
        pytest.param(150_000, {}, {}, 150_000, id="all"),
        pytest.param(150_000, {"discard_bytes": 70_000}, {}, 70_000, id="limit"),
        pytest.param(150_000, {"discard_seconds": 0}, {}, 0, id="off"),
        pytest.param(150_000, {}, {"wsgi.multithread": False}, 0, id="one thread"),
        pytest.param("", {}, {"HTTP_TRANSFER_ENCODING": "chunked"}, 0, id="no end"),
        pytest.param(
            "",
            {},
            {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
            200_000,
            id="chunks",
        ),
        pytest.param("1e5", {}, {}, 0, id="no number"),
        pytest.param("0", {}, {}, 0, id="none"),
    ],
)
def test_a_thread_of_the_server_reads_on(
    size: Any, settings: dict[str, Any], members: dict[str, Any], read: int
) -> None:
    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, replace(SERVER, **settings))

    assert ask(middleware, upload(size, **members)) == read


def test_one_thread_of_the_server_reads_on_at_a_time() -> None:
    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, SERVER)
    others: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            others.append(ask(middleware, upload(1000)))
            return super().read(size)

    given = {**upload(1000), "wsgi.input": Slow(b"x" * 1000)}

    assert ask(middleware, given) == 1000
    assert others == [0]
    assert ask(middleware, upload(1000)) == 1000


def test_a_thread_of_the_server_reads_on_for_so_long() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            late = time.monotonic() + 0.02
            while time.monotonic() < late:
                pass
            return super().read(size)

    settings = replace(SERVER, discard_seconds=0.01)
    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, settings)
    given = {**upload(200_000), "wsgi.input": Slow(b"x" * 200_000)}

    assert 0 < ask(middleware, given) < 200_000


def test_a_client_that_has_gone_is_no_error() -> None:
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError

    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, SERVER)

    assert ask(middleware, {**upload(1000), "wsgi.input": Gone()}) == 0


@pytest.mark.parametrize("kind", ["at once", "in the first step"])
def test_what_a_handler_may_have_read_is_not_waited_for(kind: str) -> None:
    """Some servers' input has no end, and reading on hangs."""

    def application(*_: object) -> Iterable[bytes]:
        raise ActorRefusedError("not_theirs")

    def streaming(*_: object) -> Iterable[bytes]:
        yield from application()

    app = application if kind == "at once" else streaming
    middleware = wsgi.AgentAuthMiddleware(app, SERVER)

    assert ask(middleware, upload(1000, HTTP_AUTHORIZATION=bearer())) == 0


class Gunicorn:
    """As much of a response of gunicorn's as there is to see."""

    def __init__(self) -> None:
        self.closes = False

    def start_response(self, *_: object) -> Any:
        return unheard("", ())

    def force_close(self) -> None:
        self.closes = True


def is_lingered_on(
    app: WSGIApplication, start_response: Any = None, **members: Any
) -> bool:
    """Whether the connection stays open after the server has closed its side."""
    server, client = socket.socketpair()
    client.settimeout(20)
    with server, client:
        given = upload(
            1000,
            **{
                "gunicorn.socket": server,
                "SERVER_PROTOCOL": "HTTP/1.1",
                "wsgi.url_scheme": "https",
                **members,
            },
        )
        body = app(given, start_response or Gunicorn().start_response)
        assert b"".join(body)
        if (close := getattr(body, "close", None)) is not None:
            close()
        server.close()
        assert client.recv(1) == b""
        try:
            client.sendall(b"x")
        except BrokenPipeError:
            return False
        return True


def _wrapped(*_: object) -> Any:
    """A ``start_response`` of other middleware, behind which gunicorn's is hidden."""
    return unheard("", ())


@pytest.mark.parametrize(
    ("start_response", "members", "lingers"),
    [
        pytest.param(None, {}, True, id="gunicorn's own"),
        pytest.param(None, {"SERVER_PROTOCOL": "HTTP/2"}, False, id="HTTP/2"),
        pytest.param(_wrapped, {}, False, id="may be kept alive"),
        pytest.param(_wrapped, {"HTTP_CONNECTION": "close"}, True, id="close"),
        pytest.param(_wrapped, {"wsgi.multithread": False}, True, id="sync"),
        pytest.param(_wrapped, {"SERVER_PROTOCOL": "HTTP/1.0"}, True, id="HTTP/1.0"),
        pytest.param(
            _wrapped,
            {"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_CONNECTION": "keep-alive"},
            False,
            id="HTTP/1.0 kept alive",
        ),
    ],
)
def test_connections_of_gunicorn_are_lingered_on_where_it_closes_them(
    start_response: Any, members: dict[str, Any], lingers: bool
) -> None:
    """On others the next request would be eaten."""
    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, SERVER)

    assert is_lingered_on(middleware, start_response, **members) == lingers


def test_gunicorn_is_told_to_close() -> None:
    middleware = wsgi.AgentAuthMiddleware(_unreached_wsgi, SERVER)
    response = Gunicorn()

    assert is_lingered_on(middleware, response.start_response)
    assert response.closes


def _raising(*_: object) -> Iterable[bytes]:
    raise ActorRefusedError("not_theirs")


def _raising_in_step(*_: object) -> Iterable[bytes]:
    yield from _raising()


def _in_flask() -> WSGIApplication:
    app = Flask(__name__)
    app.add_url_rule("/notes", view_func=lambda: list(_raising()), methods=["POST"])
    flask.AgentAuth(SERVER).init_app(app)
    return app


RAISING: dict[str, Callable[[], WSGIApplication]] = {
    "at once": lambda: wsgi.AgentAuthMiddleware(_raising, SERVER),
    "in the first step": lambda: wsgi.AgentAuthMiddleware(_raising_in_step, SERVER),
    "in Flask": _in_flask,
}


@pytest.mark.parametrize("make", RAISING.values(), ids=RAISING)
def test_refusals_that_handlers_raise_are_lingered_on(
    make: Callable[[], WSGIApplication],
) -> None:
    assert is_lingered_on(make(), HTTP_AUTHORIZATION=bearer())


def test_other_answers_of_the_application_are_left_alone() -> None:
    app = Flask(__name__)
    app.post("/notes")(lambda: ("no", 400))
    flask.AgentAuth(SERVER).init_app(app)

    assert not is_lingered_on(app, HTTP_AUTHORIZATION=bearer())
