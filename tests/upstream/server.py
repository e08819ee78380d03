"""An authorization server on its good and its bad days.

Real HTTP, or HTTPS with certificates of an authority of its own, on a loopback port, in
threads. It publishes metadata and keys and answers introspection. For each path it can
be told a *fault* to answer with instead, and it writes down what it was asked.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, TypeAlias, cast
from urllib.parse import parse_qs

from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.testing import FakeIssuer

METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
KEYS = "/upstream-keys"
INTROSPECTION = "/upstream-introspection"
ELSEWHERE = "/elsewhere"
"""Where redirects point. Nobody may ever ask for it."""

PATIENCE = 20.0
"""Seconds for what takes a moment, on a machine however busy."""


@dataclass
class Exchange:
    """A request, and the means to answer it."""

    path: str
    fields: Mapping[str, str]
    """Names in lower case."""
    document: Mapping[str, Any] | None
    """The good answer, if there is one."""
    connection: socket.socket
    wire: BinaryIO
    over: threading.Event
    """Set when the test ends: then nobody may wait any longer."""

    def is_given_up(self) -> bool:
        """Whether the client has closed the connection."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def answer_well(self) -> None:
        if self.document is None:
            self.reply(b"", "404 Not Found", "text/plain")
        else:
            self.reply(json.dumps(self.document).encode())

    def send(self, data: bytes) -> None:
        self.wire.write(data)

    def reply(
        self,
        body: bytes,
        status: str = "200 OK",
        content_type: str = "application/json",
        *fields: str,
    ) -> None:
        self.send(head_of(len(body), status, content_type, *fields) + body)

    def drip(self, data: bytes, pause: float = 0.02) -> None:
        """Send *data* byte by byte, until all is sent or nobody listens."""
        for byte in data:
            self.send(bytes([byte]))
            if self.over.wait(pause):
                return


def head_of(length: int, status: str, content_type: str, *fields: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


Fault: TypeAlias = Callable[[Exchange], None]
"""What is done with a request instead of answering it well."""


@dataclass
class Held:
    """Replies that are held back."""

    arrived: threading.Event = field(default_factory=threading.Event)
    """Set when a request is there whose reply is held back."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set it to let them go."""
    exchanges: list[Exchange] = field(default_factory=list[Exchange])

    def is_awaited(self) -> bool:
        """Whether everybody who has asked is still waiting for the reply."""
        return not any(exchange.is_given_up() for exchange in self.exchanges)


class Upstream:
    """What an authorization server publishes, and what it has been asked so far."""

    def __init__(self, url: str, close_port: Callable[[], None]) -> None:
        self.url = url
        self.close_port = close_port
        """Refuse connections from now on."""
        self.signer = FakeIssuer(url)
        """Mints its tokens; what it rotates is published."""
        self.keys: Mapping[str, Any] | None = None
        """The key set to publish instead of the signer's."""
        self.metadata: dict[str, Any] = {
            "issuer": url,
            "jwks_uri": url + KEYS,
            "introspection_endpoint": url + INTROSPECTION,
        }
        self.active: dict[str, Mapping[str, Any]] = {}
        """What introspection says of each active token."""
        self.calls: list[str] = []
        """The path of each request so far."""
        self.faults: dict[str, Fault] = {}
        """By path."""
        self.certificate: ssl.SSLContext | None = None
        """What the next connections are encrypted with."""
        self.over = threading.Event()

    def trust(self, **settings: Any) -> Issuer:
        """Settings that discover this issuer; *settings* are ``Issuer``'s."""
        return Issuer(self.url, **settings)

    def count(self, path: str) -> int:
        """How many requests for *path* there were."""
        return self.calls.count(path)

    @contextmanager
    def holding(self, path: str) -> Generator[Held, None, None]:
        """Hold back the replies for *path*, until released or the block ends."""
        held = Held()

        def wait(exchange: Exchange) -> None:
            held.exchanges.append(exchange)
            held.arrived.set()
            held.released.wait(PATIENCE)
            exchange.answer_well()

        self.faults[path] = wait
        try:
            yield held
        finally:
            del self.faults[path]
            held.released.set()

    def answer(self, exchange: Exchange) -> None:
        self.calls.append(exchange.path)
        self.faults.get(exchange.path, Exchange.answer_well)(exchange)

    def document(
        self, path: str, form: Mapping[str, list[str]]
    ) -> Mapping[str, Any] | None:
        """The good answer to a request."""
        if path == METADATA:
            return self.metadata
        if path == KEYS:
            return self.signer.jwks if self.keys is None else self.keys
        if path == INTROSPECTION:
            (token,) = form["token"]
            return self.active.get(token, {"active": False})
        return None


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False  # So that leaving waits for them.

    def __init__(self, host: str, scheme: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        url = f"{scheme}://{host}:{self.server_port}"
        self.upstream = Upstream(url, self.close_port)
        self.bugs: list[BaseException | None] = []

    def close_port(self) -> None:
        """Refuse connections, till the end."""
        self.shutdown()
        self.socket.close()
        # Bound and never listening, so that nobody else gets the port.
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        stream, address = super().get_request()
        context = self.upstream.certificate
        if context is not None:
            # The handshake is for the handler's thread: it may fail, or take its time.
            stream = context.wrap_socket(
                stream, server_side=True, do_handshake_on_connect=False
            )
        return stream, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # The client has had enough.
            self.bugs.append(sys.exception())


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.close_connection = True
        upstream = cast(_Server, self.server).upstream
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        form = parse_qs(body.decode())
        document = upstream.document(self.path, form)
        wire = cast(BinaryIO, self.wfile)
        fields = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(
            self.path, fields, document, self.connection, wire, upstream.over
        )
        with suppress(OSError):  # The client has had enough.
            upstream.answer(exchange)

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is not the place for an access log."""


@contextmanager
def serving(
    host: str = "127.0.0.1", certificate: ssl.SSLContext | None = None
) -> Generator[Upstream, None, None]:
    """An upstream until the block ends; *host* is what its URL calls it."""
    with _Server(host, "http" if certificate is None else "https") as server:
        upstream = server.upstream
        upstream.certificate = certificate
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield upstream
        finally:
            upstream.over.set()
            server.shutdown()
            thread.join()
    assert not server.bugs
