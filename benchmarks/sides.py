"""The two protocols: a bare application, a middleware before it, and requests to send.

Requests look as a server makes them and are copied afresh before each batch, since
middlewares and applications write into them. Nothing is sent over a socket: a server's
own time would hide what is measured.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from time import perf_counter_ns
from typing import Any, Protocol

from agentauth_middleware import Access, ResourceServer, asgi, wsgi
from agentauth_middleware.stores import Store
from agentauth_middleware.testing import FakeIssuer
from benchmarks.floor import ASGIFloor, WSGIFloor
from benchmarks.rounds import Batch

__all__ = ["SIDES", "ASGISide", "Answer", "Call", "Calls", "Side"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request, in the words of neither protocol."""

    path: str
    authorization: str | None = None
    method: str = "GET"


Calls = Callable[[int], Sequence[Call]]
"""What is sent in a round, by its number."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    access: Access | None
    """What the application found."""


class Side(Protocol):
    """One protocol."""

    name: str
    bare: Any
    """The application, which answers 200 and two bytes."""
    streaming: Any
    """One that answers 200 and ten pieces."""

    def middleware(self, app: Any, server: ResourceServer, store: Store) -> Any:
        """A middleware before *app*."""
        ...

    def floor(self, app: Any, issuer: FakeIssuer, audience: str) -> Any:
        """The hand-written middleware with the least correct work before *app*."""
        ...

    def answer(self, app: Any, call: Call) -> Answer:
        """What *app* makes of *call*."""
        ...

    def answers_at_once(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        """What *app* makes of *calls*, which all are there before one is answered."""
        ...

    def begin(self, app: Any, call: Call) -> Callable[[], Answer]:
        """Let *app* begin with *call*. What is returned waits for its answer."""
        ...

    def batch(self, app: Any, calls: Calls) -> Batch:
        """*app* on each of *calls*."""
        ...

    def close(self) -> None: ...


class ASGISide:
    """Calls are awaited one after another in one event loop."""

    name = "ASGI"

    def __init__(self) -> None:
        self.bare: Any = _asgi_application
        self.streaming: Any = _asgi_stream
        self._runner = asyncio.Runner()

    def middleware(self, app: Any, server: ResourceServer, store: Store) -> Any:
        return asgi.AgentAuthMiddleware(app, server, store=store)

    def floor(self, app: Any, issuer: FakeIssuer, audience: str) -> Any:
        return ASGIFloor(app, issuer, audience)

    def answer(self, app: Any, call: Call) -> Answer:
        return self._runner.run(self._answer(app, call))

    def answers_at_once(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        async def answer_all() -> list[Answer]:
            return await asyncio.gather(*(self._answer(app, call) for call in calls))

        return self._runner.run(answer_all())

    def begin(self, app: Any, call: Call) -> Callable[[], Answer]:
        loop = self._runner.get_loop()
        answering = loop.create_task(self._answer(app, call))
        return lambda: loop.run_until_complete(answering)

    def longest_stall(self, app: Any, known: Call, other: Call | None) -> float:
        """Milliseconds for which the event loop stood still, at the longest, while
        *app* answered *other*, or for a second, and *known* every other millisecond."""

        async def watch() -> float:
            meanwhile: Awaitable[object] = (
                asyncio.sleep(1.0) if other is None else self._answer(app, other)
            )
            waiting = asyncio.ensure_future(meanwhile)
            longest, last = 0, perf_counter_ns()
            while not waiting.done():
                await self._answer(app, known)
                await asyncio.sleep(0.001)
                now = perf_counter_ns()
                longest, last = max(longest, now - last), now
            return longest / 1e6

        return self._runner.run(watch())

    async def _answer(self, app: Any, call: Call) -> Answer:
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        scope = _scope(call)
        await app(scope, _receive, send)
        return Answer(sent[0]["status"], scope.get("agentauth.access"))

    def batch(self, app: Any, calls: Calls) -> Batch:
        async def send_all(scopes: Sequence[dict[str, Any]]) -> int:
            started = perf_counter_ns()
            for scope in scopes:
                await app(scope, _receive, _send)
            return perf_counter_ns() - started

        def batch(number: int) -> float:
            scopes = [_scope(call) for call in calls(number)]
            return self._runner.run(send_all(scopes)) / 1000 / len(scopes)

        return batch

    def close(self) -> None:
        self._runner.close()


async def _asgi_application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"ok"})


async def _asgi_stream(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    for _ in range(10):
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


_HEADERS = [(b"content-type", b"text/plain")]


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Mapping[str, Any]) -> None:
    pass


def _scope(call: Call) -> dict[str, Any]:
    """As uvicorn makes it."""
    headers = [
        (b"host", b"api.example.com"),
        (b"user-agent", b"assistant/1.0"),
        (b"accept", b"application/json"),
    ]
    if call.authorization is not None:
        headers.append((b"authorization", call.authorization.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "headers": headers,
        "state": {},
        "method": call.method,
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": b"",
    }


class WSGISide:
    """The body of each answer is read to its end and closed, as a server does."""

    name = "WSGI"

    def __init__(self) -> None:
        self.bare: Any = _wsgi_application
        self.streaming: Any = _wsgi_stream

    def middleware(self, app: Any, server: ResourceServer, store: Store) -> Any:
        return wsgi.AgentAuthMiddleware(app, server, store=store)

    def floor(self, app: Any, issuer: FakeIssuer, audience: str) -> Any:
        return WSGIFloor(app, issuer, audience)

    def answer(self, app: Any, call: Call) -> Answer:
        started: list[str] = []

        def start_response(status: str, *rest: object) -> None:
            started.append(status)

        environ = _environ(call)
        _read(app(environ, start_response))
        return Answer(int(started[0][:3]), environ.get("agentauth.access"))

    def answers_at_once(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        barrier = Barrier(len(calls))

        def answer(call: Call) -> Answer:
            barrier.wait()
            return self.answer(app, call)

        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(answer, calls))

    def begin(self, app: Any, call: Call) -> Callable[[], Answer]:
        executor = ThreadPoolExecutor(1)
        answering = executor.submit(self.answer, app, call)
        executor.shutdown(wait=False)
        return answering.result

    def batch(self, app: Any, calls: Calls) -> Batch:
        def batch(number: int) -> float:
            environs = [_environ(call) for call in calls(number)]
            started = perf_counter_ns()
            for environ in environs:
                _read(app(environ, _start_response))
            return (perf_counter_ns() - started) / 1000 / len(environs)

        return batch

    def close(self) -> None:
        pass


def _wsgi_application(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]


def _wsgi_stream(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    for _ in range(10):
        yield b"ok"


def _start_response(status: str, headers: object, exc_info: object = None) -> None:
    pass


def _read(body: Iterable[bytes]) -> None:
    for _ in body:
        pass
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _environ(call: Call) -> dict[str, Any]:
    """As gunicorn makes it."""
    environ: dict[str, Any] = {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "REQUEST_METHOD": call.method,
        "QUERY_STRING": "",
        "RAW_URI": call.path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "PATH_INFO": call.path,
        "SCRIPT_NAME": "",
        "HTTP_HOST": "api.example.com",
        "HTTP_USER_AGENT": "assistant/1.0",
        "HTTP_ACCEPT": "application/json",
    }
    if call.authorization is not None:
        environ["HTTP_AUTHORIZATION"] = call.authorization
    return environ


class _FileWrapper:
    """Stands for the server's own; no answer here is a file."""


SIDES: Mapping[str, Callable[[], Side]] = {"asgi": ASGISide, "wsgi": WSGISide}
