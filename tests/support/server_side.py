"""One request at a time, seen from the server's side of ASGI and of WSGI.

Both sides go by the book and no further, so that a test sees each message, each step
of a body, and what escapes from the application.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import AsyncGenerator, Iterable, MutableMapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import SimpleHandler

import anyio
from starlette.types import ASGIApp, Message, Scope

from agentauth_middleware import ResourceServer, Route
from agentauth_middleware.testing import FakeIssuer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer()
SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust(subjects="users")],
    routes=[
        Route("/public", public=True),
        Route("/optional", optional=True),
        Route("/sent", scopes=("mail.send",)),
    ],
)

FORWARDING = replace(SERVER, forward_unauthenticated_preflights=True)


def bearer(**members: Any) -> str:
    """The value of ``Authorization`` with a good token; *members* as for ``token``."""
    return f"Bearer {ISSUER.token(RESOURCE, **members)}"


# ASGI


def http_scope(
    path: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: str = "GET",
    **members: Any,
) -> dict[str, Any]:
    """The scope of a request, as a server builds it; *members* are added."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("192.0.2.1", 49152),
        "server": ("api.example.com", 443),
        "extensions": {},
        **members,
    }


def websocket_scope(
    path: str = "/", headers: Iterable[tuple[str, str]] = (), **members: Any
) -> dict[str, Any]:
    """The scope of a websocket handshake; *members* are added."""
    scope = http_scope(path, headers, type="websocket", scheme="wss", subprotocols=[])
    del scope["method"]
    return {**scope, **members}


class Exchange:
    """One scope's messages to the application and back, until it returns."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._app = app
        self._scope = scope
        self._give, self._given = anyio.create_memory_object_stream[Message](math.inf)
        self._say, self._said = anyio.create_memory_object_stream[Message](math.inf)
        self.taken: list[Message] = []
        """What the application has received."""
        self.sent: list[Message] = []
        """What the application has sent."""
        self.raised: Exception | None = None
        """What escaped from the application."""

    async def deliver(self, *messages: Message) -> None:
        """Have *messages* ready for the application, whenever it asks."""
        for message in messages:
            await self._give.send(message)

    async def next_sent(self) -> Message:
        """The application's next message, as soon as it is sent."""
        return await self._said.receive()

    async def run(self) -> None:
        """Call the application; whoever waits for more is told when it returns."""
        with self._say:
            try:
                await self._app(self._scope, self._receive, self._send)
            except Exception as error:
                self.raised = error

    def close(self) -> None:
        self._give.close()
        self._given.close()
        self._said.close()

    async def _receive(self) -> Message:
        message = await self._given.receive()
        self.taken.append(message)
        return message

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        await self._say.send(message)

    @property
    def status(self) -> int:
        """The status of the answer, to a request or to a refused handshake."""
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of the answer."""
        pairs: Iterable[tuple[bytes, bytes]] = self.sent[0]["headers"]
        return {name.decode(): value.decode() for name, value in pairs}

    @property
    def body(self) -> bytes:
        """The whole body of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def exchange(app: ASGIApp, scope: Scope) -> AsyncGenerator[Exchange, None]:
    """Run *app* beside the block, and wait for it afterwards."""
    with closing(Exchange(app, scope)) as talk:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.run)
            yield talk


async def request(app: ASGIApp, scope: Scope, *messages: Message) -> Exchange:
    """A whole exchange: *messages* are there from the start; a bug is raised."""
    async with exchange(app, scope) as talk:
        await talk.deliver(*messages or ({"type": "http.request", "body": b""},))
    return talk


# WSGI


def environ(
    path: str = "/", *, method: str = "GET", body: str = "", **members: Any
) -> WSGIEnvironment:
    """What a server hands to the application; *members* are added."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "api.example.com",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "text/plain",
        "wsgi.input": io.BytesIO(body.encode()),
        **members,
    }


def unheard(status: str, headers: object, exc_info: object = None) -> Any:
    """A ``start_response`` of which nobody wants to know."""

    def write(data: bytes, /) -> None:
        """Nobody reads it."""

    return write


@dataclass
class Answer:
    """What a server sent for a request, and what escaped from the application."""

    status: int
    headers: dict[str, str]
    body: bytes
    raised: BaseException | None = None
    sent_as_file: bool = False
    """Whether the server recognised the body as its own file wrapper."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Handler(SimpleHandler):
    """The standard library's WSGI server, writing to memory."""

    http_version = "1.1"
    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 - as the base class has it

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.output = io.BytesIO()
        super().__init__(environ["wsgi.input"], self.output, io.StringIO(), environ)
        self.raised: BaseException | None = None
        self.sent_as_file = False

    def sendfile(self) -> bool:
        self.sent_as_file = True
        return super().sendfile()

    def log_exception(self, exc_info: Any) -> None:
        self.raised = exc_info[1]


def serve(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Run *app* as a server does, from the request to ``close``."""
    handler = _Handler(environ)
    handler.run(app)
    head, _, body = handler.output.getvalue().partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    return Answer(
        int(status.split(" ")[1]),
        {name.lower(): value for name, value in pairs},
        body,
        handler.raised,
        handler.sent_as_file,
    )
