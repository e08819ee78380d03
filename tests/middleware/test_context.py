"""``current_access()``: everywhere in a request, and in no other."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Endpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import current_access
from agentauth_middleware.asgi import AgentAuthMiddleware as AsgiMiddleware
from agentauth_middleware.wsgi import AgentAuthMiddleware as WsgiMiddleware
from tests.support.server_side import (
    SERVER,
    Exchange,
    bearer,
    environ,
    exchange,
    http_scope,
    request,
    serve,
    unheard,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

MANY = 200


def subject() -> str:
    access = current_access()
    return "nobody" if access is None else str(access.subject)


def who_asks(number: int) -> tuple[str, dict[str, str], str]:
    """Path and credentials of a request, and whom it acts for: each third nobody."""
    if number % 3 == 0:
        return "/optional", {}, "nobody"
    return "/", {"Authorization": bearer(subject=f"user-{number}")}, f"user-{number}"


def asgi_scope(number: int) -> tuple[Scope, str]:
    path, headers, expected = who_asks(number)
    return http_scope(path, headers.items()), expected


async def answer(send: Send, text: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


@pytest.mark.anyio
async def test_context_is_kept_apart_among_interleaved_requests() -> None:
    """All are in the application at once, and go on in turns."""
    inside = 0
    all_inside = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        seen = [subject()]
        inside += 1
        if inside == MANY:
            all_inside.set()
        await all_inside.wait()
        for _ in range(5):
            await checkpoint()
            seen.append(subject())
        await answer(send, " ".join(sorted(set(seen))))

    middleware = AsgiMiddleware(app, SERVER)
    talks: list[tuple[Exchange, str]] = []

    async def get(number: int) -> None:
        scope, expected = asgi_scope(number)
        talks.append((await request(middleware, scope), expected))

    async with anyio.create_task_group() as tasks:
        for number in range(MANY):
            tasks.start_soon(get, number)

    assert len(talks) == MANY
    assert [talk.body.decode() for talk, _ in talks] == [name for _, name in talks]
    assert subject() == "nobody"


def test_context_is_kept_apart_among_interleaved_wsgi_bodies() -> None:
    """One thread steps all bodies in turns, as servers on event loops do."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        at_close: list[str] = environ["test.at_close"]
        try:
            for _ in range(3):
                yield subject().encode()
        finally:
            at_close.append(subject())

    middleware = WsgiMiddleware(app, SERVER)
    bodies: list[Any] = []
    names: list[str] = []
    at_close: list[str] = []
    for number in range(MANY):
        path, headers, expected = who_asks(number)
        members = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        given = environ(path, **members)
        given["test.at_close"] = at_close
        bodies.append(middleware(given, unheard))
        names.append(expected)

    for _ in range(2):
        assert [next(body).decode() for body in bodies] == names
        assert subject() == "nobody"

    for body in bodies:
        body.close()

    assert at_close == names
    assert subject() == "nobody"


def test_context_is_kept_apart_among_wsgi_requests_in_threads() -> None:
    """Threads take up one request after another."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [subject().encode()]

    middleware = WsgiMiddleware(app, SERVER)

    def get(number: int) -> tuple[str, str, str]:
        path, headers, expected = who_asks(number)
        members = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        body = serve(middleware, environ(path, **members)).body.decode()
        return body, subject(), expected

    with ThreadPoolExecutor(8) as threads:
        for body, afterwards, expected in threads.map(get, range(MANY)):
            assert (body, afterwards) == (expected, "nobody")


@pytest.mark.anyio
async def test_context_of_a_request_made_inside_another_is_its_own() -> None:
    """A handler that asks another application of the same process."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, subject())

    inner_middleware = AsgiMiddleware(inner, SERVER)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        seen = [subject()]
        for made in (
            http_scope("/public"),
            http_scope(headers=[("Authorization", bearer(subject="bob"))]),
        ):
            seen.append((await request(inner_middleware, made)).body.decode())
            seen.append(subject())
        await answer(send, " ".join(seen))

    talk = await request(
        AsgiMiddleware(outer, SERVER),
        http_scope(headers=[("Authorization", bearer(subject="alice"))]),
    )

    assert talk.body == b"alice nobody alice bob alice"


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
async def test_context_ends_with_the_request(fails: bool) -> None:
    """In the very task that called the middleware."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, subject())
        if fails:
            raise OSError("disk")

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope(headers=[("Authorization", bearer())])
    try:
        await AsgiMiddleware(app, SERVER)(scope, receive, send)
    except OSError:
        assert fails

    assert sent[1]["body"] == b"user-1"
    assert subject() == "nobody"


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_wsgi_context_ends_with_the_call(fails: bool) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if fails:
            raise OSError("disk")
        return [subject().encode()]

    body: Iterable[bytes] = [b"user-1"]
    try:
        body = WsgiMiddleware(app, SERVER)(
            environ(HTTP_AUTHORIZATION=bearer()), unheard
        )
    except OSError:
        assert fails

    assert list(body) == [b"user-1"]
    assert subject() == "nobody"


@pytest.mark.anyio
async def test_context_reaches_tasks_and_threads_that_the_handler_starts() -> None:
    seen: list[str] = []

    async def note() -> None:
        await checkpoint()
        seen.append(subject())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
        seen.append(await anyio.to_thread.run_sync(subject))
        context = copy_context()
        thread = threading.Thread(target=lambda: seen.append(context.run(subject)))
        thread.start()
        thread.join()
        await answer(send, "")

    await request(
        AsgiMiddleware(app, SERVER),
        http_scope(headers=[("Authorization", bearer(subject="alice"))]),
    )

    assert seen == ["alice"] * 3


# Starlette


async def async_handler(request: Request) -> Response:
    return PlainTextResponse(subject())


def sync_handler(request: Request) -> Response:
    return PlainTextResponse(subject() if on_another_thread() else "no thread")


def on_another_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


async def async_stream(request: Request) -> Response:
    async def pieces() -> AsyncGenerator[str, None]:
        for _ in range(2):
            await checkpoint()
            yield f"{subject()} "

    return StreamingResponse(pieces())


async def sync_stream(request: Request) -> Response:
    def pieces() -> Iterator[str]:
        for _ in range(2):
            yield f"{subject()} " if on_another_thread() else "no thread "

    return StreamingResponse(pieces())


def starlette(*routes: Endpoint, middleware: Iterable[Middleware] = ()) -> ASGIApp:
    app = Starlette(routes=routes, middleware=list(middleware))
    app.add_middleware(AsgiMiddleware, resource_server=SERVER)
    return app


HANDLERS = [
    Endpoint("/async", async_handler),
    Endpoint("/sync", sync_handler),
    Endpoint("/stream/async", async_stream),
    Endpoint("/stream/sync", sync_stream),
]


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


@pytest.mark.anyio
@pytest.mark.parametrize("path", [handler.path for handler in HANDLERS])
@pytest.mark.parametrize(
    "middleware",
    [[], [Middleware(BaseHTTPMiddleware, dispatch=pass_on)]],
    ids=["alone", "below BaseHTTPMiddleware"],
)
async def test_context_reaches_handlers_of_starlette(
    path: str, middleware: list[Middleware]
) -> None:
    app = starlette(*HANDLERS, middleware=middleware)
    bodies: list[tuple[list[str], str]] = []

    async def get(name: str) -> None:
        scope = http_scope(path, [("Authorization", bearer(subject=name))])
        async with exchange(app, scope) as talk:
            await talk.deliver({"type": "http.request", "body": b""})
        bodies.append((talk.body.decode().split(), name))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(get, f"user-{number}")

    assert len(bodies) == 10
    assert all(set(seen) == {name} for seen, name in bodies)


@pytest.mark.anyio
async def test_context_reaches_background_tasks_of_starlette() -> None:
    """Which run when the client has its answer, perhaps beside its next request."""
    seen: list[str] = []
    held = anyio.Event()

    async def note() -> None:
        await held.wait()
        seen.append(subject())

    def note_in_a_thread() -> None:
        seen.append(subject() if on_another_thread() else "no thread")

    async def handler(request: Request) -> Response:
        tasks = [BackgroundTask(note), BackgroundTask(note_in_a_thread)]
        return PlainTextResponse("accepted", background=BackgroundTasks(tasks))

    app = starlette(Endpoint("/", handler), Endpoint("/async", async_handler))
    alice = http_scope(headers=[("Authorization", bearer(subject="alice"))])
    bob = http_scope("/async", [("Authorization", bearer(subject="bob"))])
    async with exchange(app, alice) as talk:
        await talk.deliver({"type": "http.request", "body": b""})
        await wait_all_tasks_blocked()
        between = await request(app, bob)
        held.set()

    assert between.body == b"bob"
    assert seen == ["alice", "alice"]
