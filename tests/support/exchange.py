"""A request as it goes over the wire, an answer as it comes back, and both middlewares.

Nothing here is a test client with opinions of its own: header lines stay as many as
they are, targets keep their spelling, and what a server would refuse goes through.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import anyio

from agentauth_middleware import asgi, wsgi
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from tests.support.application import Seen, asgi_application, wsgi_application

MIDDLEWARES = ("asgi-asyncio", "asgi-trio", "wsgi")


@dataclass(frozen=True)
class HTTPRequest:
    """Text stands for bytes as in ISO 8859-1."""

    method: str = "GET"
    target: str = "/"
    """Path and query, percent-encoded or not."""
    fields: tuple[tuple[str, str], ...] = ()
    """Field lines in their order."""
    mount: str = ""
    """The ``root_path`` or ``SCRIPT_NAME`` that the server has set."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass(frozen=True)
class Answer:
    status: int
    fields: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes

    def lines(self, name: str) -> list[str]:
        """The value of each field line called *name*."""
        return [value for key, value in self.fields if key == name]

    def field(self, name: str) -> str | None:
        """The value of the only field line called *name*."""
        values = self.lines(name)
        assert len(values) < 2, f"{name} stands twice"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Middleware:
    """One of the middlewares, with the application of ``application`` behind it."""

    kind: str
    ask: Callable[[HTTPRequest], Answer]
    seen: list[Seen]
    """What reached the application."""

    def get(self, target: str, fields: Mapping[str, str] | None = None) -> Answer:
        return self.ask(HTTPRequest("GET", target, tuple((fields or {}).items())))


def running_middleware(
    kind: str, server: ResourceServer, store: Store | None
) -> Middleware:
    """A middleware of *kind*, one of ``MIDDLEWARES``, that has remembered nothing
    yet."""
    seen: list[Seen] = []
    if kind == "wsgi":
        blocking = wsgi.AgentAuthMiddleware(wsgi_application(seen), server, store=store)
        return Middleware(kind, partial(ask_wsgi, blocking), seen)
    backend = kind.removeprefix("asgi-")
    awaiting = asgi.AgentAuthMiddleware(asgi_application(seen), server, store=store)
    return Middleware(kind, partial(ask_asgi, awaiting, backend), seen)


def ask_asgi(app: Any, backend: str, request: HTTPRequest) -> Answer:
    """What *app* answers, in an event loop of its own."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, scope_of(request), receive, send, backend=backend)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert {message["type"] for message in bodies} == {"http.response.body"}
    assert [message.get("more_body", False) for message in bodies].index(False) == (
        len(bodies) - 1
    )
    fields = [
        (name.decode(), value.decode("latin-1")) for name, value in _fields(start)
    ]
    return Answer(
        start["status"], tuple(fields), b"".join(part["body"] for part in bodies)
    )


def _fields(start: Any) -> Iterable[tuple[bytes, bytes]]:
    for name, value in start["headers"]:
        assert name == name.lower()
        yield name, value


def scope_of(request: HTTPRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.mount + request.path),
        "raw_path": (request.mount + request.path).encode("latin-1"),
        "root_path": request.mount,
        "query_string": request.query.encode("latin-1"),
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in request.fields
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


def ask_wsgi(app: Any, request: HTTPRequest) -> Answer:
    """What *app* answers."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        assert exc_info is not None or not begun
        begun.append((status, headers))
        return write

    def write(data: bytes) -> object:
        raise AssertionError("neither the middlewares nor their application write")

    body = app(environ_of(request), start_response)
    try:
        content = b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    status, headers = begun[-1]
    fields = tuple((name.lower(), value) for name, value in headers)
    return Answer(int(status.split(" ")[0]), fields, content)


def environ_of(request: HTTPRequest) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": request.mount,
        "PATH_INFO": unquote_to_bytes(request.path.encode("latin-1")).decode("latin-1"),
        "RAW_URI": request.mount + request.target,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.fields:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
        # Servers join the lines of a field, and nobody can tell afterwards.
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
