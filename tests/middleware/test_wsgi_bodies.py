"""What passes between server and application passes the WSGI middleware as it is."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

from agentauth_middleware import current_access
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import SERVER, bearer, environ, serve, unheard

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

OK = ("200 OK", [("Content-Type", "text/plain")])


def authorized(path: str = "/", **members: Any) -> WSGIEnvironment:
    return environ(path, HTTP_AUTHORIZATION=bearer(), **members)


def answering(make_body: Callable[[], Iterable[bytes]]) -> WSGIApplication:
    """An application behind a middleware, whose body *make_body* makes."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)
        return make_body()

    return AgentAuthMiddleware(app, SERVER)


def test_wsgi_body_is_left_to_the_application() -> None:
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("read by the middleware")

        readline = readlines = __next__ = read  # type: ignore[assignment]

    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"])
        start_response(*OK)
        return []

    unread = Unread(b"body")
    middleware = AgentAuthMiddleware(app, SERVER)
    with_body: dict[str, Any] = {"CONTENT_LENGTH": "4", "wsgi.input": unread}
    middleware(authorized(method="POST", **with_body), unheard)
    middleware(environ(method="POST", **with_body), unheard)

    assert seen == [unread]


def test_wsgi_start_response_is_the_servers_own() -> None:
    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(start_response)
        return []

    AgentAuthMiddleware(app, SERVER)(authorized(), unheard)

    assert seen == [unheard]


class Note(list[bytes]):
    """A list that can be told from its copy."""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([b"note"], id="list"),
        pytest.param((b"no", b"te"), id="tuple"),
        pytest.param(Note([b"note"]), id="subclass of list"),
    ],
)
def test_wsgi_list_is_passed_on_as_it_is(body: Iterable[bytes]) -> None:
    """Servers read its length: from one block they know ``Content-Length``."""
    assert answering(lambda: body)(authorized(), unheard) is body


def test_wsgi_list_of_one_gets_its_length() -> None:
    answer = serve(answering(lambda: [b"note"]), authorized())

    assert answer.headers["content-length"] == "4"
    assert answer.body == b"note"


def test_wsgi_file_wrapper_reaches_the_server() -> None:
    """Which may then send the file without reading it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"note"))
        return wrapped

    answer = serve(AgentAuthMiddleware(app, SERVER), authorized())

    assert answer.sent_as_file
    assert answer.body == b"note"


def test_wsgi_file_wrapper_of_somebody_else_is_an_ordinary_body() -> None:
    answer = serve(answering(lambda: FileWrapper(io.BytesIO(b"note"))), authorized())

    assert answer.body == b"note"


def test_wsgi_file_wrapper_that_is_a_function_does_no_harm() -> None:
    """As uWSGI has it: there nobody can tell what it returned."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"note"))
        return wrapped

    def wrap(file: io.BytesIO, size: int = 8192) -> Iterator[bytes]:
        return iter([file.read()])

    middleware = AgentAuthMiddleware(app, SERVER)
    body = middleware({**authorized(), "wsgi.file_wrapper": wrap}, unheard)

    assert list(body) == [b"note"]


def test_wsgi_write_callable_works() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response(*OK)
        write(b"one ")
        write(b"two ")
        return [b"three"]

    answer = serve(AgentAuthMiddleware(app, SERVER), authorized())

    assert answer.status == 200
    assert answer.body == b"one two three"


def test_wsgi_stream_passes_piece_by_piece() -> None:
    """The first piece is there while the application has not got the second."""
    made: list[bytes] = []

    def stream() -> Iterator[bytes]:
        for piece in (b"first", b"second"):
            made.append(piece)
            yield piece

    body = iter(answering(stream)(authorized(), unheard))

    assert made == []
    assert next(body) == b"first"
    assert made == [b"first"]
    assert next(body) == b"second"
    assert list(body) == []


def test_wsgi_stream_is_not_read_ahead_while_the_application_waits() -> None:
    may_go_on = threading.Event()

    def stream() -> Iterator[bytes]:
        yield b"first"
        assert may_go_on.wait(10)
        yield b"second"

    body = iter(answering(stream)(authorized(), unheard))
    with ThreadPoolExecutor(1) as server:
        assert server.submit(next, body).result(10) == b"first"
        second = server.submit(next, body)
        may_go_on.set()
        assert second.result(10) == b"second"


class Closing:
    """A body that counts how often it is closed."""

    def __init__(self, pieces: Iterable[bytes], failure: Exception | None = None):
        self.pieces = pieces
        self.failure = failure
        self.closed = 0
        self.access_at_close: object = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.closed += 1
        self.access_at_close = current_access()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(Closing([b"one", b"two"]), id="read to its end"),
        pytest.param(Closing([]), id="empty"),
        pytest.param(Closing([b"one"], OSError("disk")), id="broken half-way"),
        pytest.param(Closing([], OSError("disk")), id="broken at once"),
    ],
)
def test_wsgi_close_is_called_once(body: Closing) -> None:
    answer = serve(answering(lambda: body), authorized())

    assert answer.raised is body.failure
    assert body.closed == 1
    assert body.access_at_close is not None


def test_wsgi_close_is_called_though_nothing_was_read() -> None:
    """As servers do for HEAD, or when the client has left."""
    closing = Closing([b"one"])
    body: Any = answering(lambda: closing)(authorized(), unheard)
    body.close()

    assert closing.closed == 1


def test_wsgi_generator_is_closed_half_way() -> None:
    seen: list[object] = []

    def stream() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            seen.append(current_access())

    body: Any = answering(stream)(authorized(), unheard)
    assert next(body) == b"one"
    body.close()

    assert [getattr(access, "subject", None) for access in seen] == ["user-1"]


def test_wsgi_body_without_close_can_be_closed() -> None:
    body: Any = answering(lambda: iter([b"one"]))(authorized(), unheard)
    body.close()

    assert list(body) == [b"one"]


def test_wsgi_body_ends_in_the_context_that_the_call_began() -> None:
    """Frameworks reset in a stream what they set before it, with the token they got."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def make_body() -> Iterator[bytes]:
        token = variable.set("set in the call")

        def stream() -> Iterator[bytes]:
            yield variable.get().encode()
            variable.reset(token)
            yield variable.get().encode()

        return stream()

    body = answering(make_body)(authorized(), unheard)

    assert list(body) == [b"set in the call", b"unset"]
    assert variable.get() == "unset"


def test_wsgi_error_half_way_reaches_the_server() -> None:
    failure = OSError("disk")
    answer = serve(answering(lambda: Closing([b"one"], failure)), authorized())

    assert answer.raised is failure
    assert answer.body == b"one"


def test_wsgi_application_may_replace_its_own_answer() -> None:
    """An error page in place of an answer not yet sent, by ``exc_info``."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)
        try:
            raise OSError("disk")
        except OSError:
            start_response("500 Oh No", OK[1], sys.exc_info())
        return iter([b"sorry"])

    answer = serve(AgentAuthMiddleware(app, SERVER), authorized())

    assert (answer.status, answer.body) == (500, b"sorry")
