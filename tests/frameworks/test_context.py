"""``current_access()`` in whatever a framework runs, and never another request's."""

# FastAPI reads the annotations of handlers, which here name things of their own test.

import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Security, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from flask import Flask, Response, stream_with_context

from agentauth_middleware import Access, ConfigurationError, current_access
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.flask import access, requires
from tests.frameworks.notes_server import RESOURCE, SERVER, bearer

MANY = 200

auth = AgentAuth(SERVER)


def subject() -> str:
    found = current_access()
    return "nobody" if found is None else str(found.subject)


def names() -> list[str]:
    return [f"user-{number}" for number in range(MANY)]


# FastAPI


def make_app(seen: list[str]) -> FastAPI:
    app = FastAPI()
    auth.install(app)
    inside = 0
    all_inside = anyio.Event()

    def noting() -> Generator[str, None, None]:
        """Run in threads of the framework, to the end of the request."""
        seen.append(subject())
        yield subject()
        seen.append(subject())

    @app.get("/sync")
    def sync(noted: Annotated[str, Depends(noting)]) -> list[str]:
        return [noted, subject()]

    @app.get("/background")
    def background(tasks: BackgroundTasks) -> None:
        async def later() -> None:
            seen.append(subject())

        tasks.add_task(later)
        tasks.add_task(lambda: seen.append(subject()))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        def pieces() -> Iterator[str]:
            for _ in range(3):
                yield f"{subject()} "

        return StreamingResponse(pieces())

    @app.get("/meet")
    async def meet(
        caller: Annotated[Access, Security(auth)],
        noted: Annotated[str, Depends(noting)],
    ) -> StreamingResponse:
        """Goes on when all requests have come this far."""
        nonlocal inside
        inside += 1
        if inside == MANY:
            all_inside.set()
        await all_inside.wait()

        async def pieces() -> AsyncGenerator[str, None]:
            for name in (str(caller.subject), noted, subject(), subject()):
                await anyio.sleep(0)
                yield f"{name} "

        return StreamingResponse(pieces())

    @app.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            await websocket.send_text(subject())

    return app


def test_context_reaches_sync_handlers_and_dependencies_of_fastapi() -> None:
    seen: list[str] = []
    response = TestClient(make_app(seen)).get("/sync", headers=bearer(subject="alice"))

    assert response.json() == ["alice", "alice"]
    assert seen == ["alice", "alice"]


def test_context_reaches_background_tasks_of_fastapi() -> None:
    seen: list[str] = []
    TestClient(make_app(seen)).get("/background", headers=bearer(subject="alice"))

    assert seen == ["alice", "alice"]


def test_context_reaches_streamed_bodies_of_fastapi() -> None:
    response = TestClient(make_app([])).get("/stream", headers=bearer(subject="alice"))

    assert response.text == "alice alice alice "


def test_context_lasts_as_long_as_a_websocket() -> None:
    client = TestClient(make_app([]))
    with (
        client.websocket_connect("/live", headers=bearer(subject="alice")) as one,
        client.websocket_connect("/live", headers=bearer(subject="bob")) as other,
    ):
        heard: list[str] = []
        for websocket in (one, other, one):
            websocket.send_text("who?")
            heard.append(websocket.receive_text())

    assert heard == ["alice", "bob", "alice"]


@pytest.mark.anyio
async def test_context_is_kept_apart_among_interleaved_requests_to_fastapi() -> None:
    seen: list[str] = []
    answers: dict[str, str] = {}
    transport = httpx.ASGITransport(make_app(seen))
    async with httpx.AsyncClient(transport=transport, base_url=RESOURCE) as client:

        async def get(name: str) -> None:
            response = await client.get("/meet", headers=bearer(subject=name))
            answers[name] = response.text

        async with anyio.create_task_group() as tasks:
            for name in names():
                tasks.start_soon(get, name)

    assert answers == {name: f"{name} " * 4 for name in names()}
    assert sorted(seen) == sorted(names() * 2)
    assert subject() == "nobody"


# Flask


def create_app(together: int = 1) -> Flask:
    app = Flask(__name__)
    FlaskAgentAuth(SERVER).init_app(app)
    meeting = threading.Barrier(together)

    @app.get("/")
    def view() -> str:
        meeting.wait(20)
        return f"{subject()} {access.subject}"

    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[str]:
            for _ in range(3):
                yield f"{subject()} {access.subject} "

        return Response(pieces())

    @app.get("/stream/with/context")
    def stream_in_the_request() -> Response:
        def pieces() -> Iterator[str]:
            yield f"{subject()} {access.subject} "

        return Response(stream_with_context(pieces()))

    @app.get("/thread")
    def thread() -> str:
        context = copy_context()
        with ThreadPoolExecutor(1) as threads:
            with_copy = threads.submit(context.run, subject).result()
            return f"{with_copy} {threads.submit(subject).result()}"

    @app.get("/guard")
    def guard() -> str:
        @requires()
        def guarded() -> str:
            return subject()

        with ThreadPoolExecutor(1) as threads:
            return threads.submit(guarded).result()

    return app


@pytest.mark.parametrize(
    ("path", "times"), [("/", 2), ("/stream", 6), ("/stream/with/context", 2)]
)
def test_context_reaches_views_and_streamed_bodies_of_flask(
    path: str, times: int
) -> None:
    response = create_app().test_client().get(path, headers=bearer(subject="alice"))

    assert response.text.split() == ["alice"] * times


def test_context_is_kept_apart_among_simultaneous_requests_to_flask() -> None:
    """Eight at a time are in the view together, in threads that serve many."""
    app = create_app(together=8)

    def get(name: str) -> tuple[str, str]:
        body = app.test_client().get("/", headers=bearer(subject=name)).text
        return body, subject()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(get, names()))

    assert answers == [(f"{name} {name}", "nobody") for name in names()]


def test_context_is_kept_apart_among_interleaved_bodies_of_flask() -> None:
    """One thread steps through all bodies in turns."""
    client = create_app().test_client()
    bodies: list[Any] = [
        client.get("/stream", headers=bearer(subject=name), buffered=False).response
        for name in names()
    ]

    for _ in range(3):
        steps = [next(body) for body in bodies]
        assert steps == [f"{name} {name} ".encode() for name in names()]
        assert subject() == "nobody"


def test_context_reaches_a_thread_of_ones_own_only_with_a_copy() -> None:
    response = create_app().test_client().get("/thread", headers=bearer(subject="eve"))

    assert response.text == "eve nobody"


def test_guard_in_a_thread_without_the_context_says_what_to_do() -> None:
    """And lets nobody through, nor blames the caller."""
    app = create_app()
    app.testing = True

    with pytest.raises(ConfigurationError, match=r"copy_context\(\)\.run"):
        app.test_client().get("/guard", headers=bearer(subject="eve"))
