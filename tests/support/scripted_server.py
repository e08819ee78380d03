"""A server that says, byte for byte, what a test wants a client to hear."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass
class Connection:
    """One client's connection, in a thread of its own."""

    stream: socket.socket
    over: threading.Event
    """Set when the test ends: then nobody may wait any longer."""
    requests: list[bytes]
    bodies: list[bytes]
    received: bytes = b""

    def next_request(self) -> bytes | None:
        """The head of the next request; ``None`` once the client has closed."""
        while b"\r\n\r\n" not in self.received:
            if not self._receive():
                return None
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body_bytes = int(length[1]) if length else 0
        while len(self.received) < body_bytes:
            if not self._receive():
                return None
        self.bodies.append(self.received[:body_bytes])
        self.received = self.received[body_bytes:]
        self.requests.append(head)
        return head

    def _receive(self) -> bool:
        piece = self.stream.recv(65536)
        self.received += piece
        return piece != b""

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)

    def reply(self, *fields: str, body: bytes = b"", status: str = "200 OK") -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
        self.send("\r\n".join(head).encode() + body)

    def hang_up(self) -> None:
        with suppress(OSError):  # Already closed.
            self.stream.shutdown(socket.SHUT_RDWR)


Script: TypeAlias = Callable[[Connection], None]


@dataclass
class Server:
    """Where it listens, and what it has met so far."""

    url: str
    requests: list[bytes] = field(default_factory=list[bytes])
    """Their heads."""
    bodies: list[bytes] = field(default_factory=list[bytes])
    connections: list[Connection] = field(default_factory=list[Connection])
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client has closed its connection."""

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/keys")

    def fields(self, number: int = 0) -> dict[str, str]:
        """The header fields of a request; names in lower case."""
        _, *lines = self.requests[number].decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return {name.lower(): value for name, value in pairs}


@contextmanager
def serving(script: Script) -> Generator[Server, None, None]:
    """A server that runs *script* for each connection, in threads."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection = Connection(self.request, over, server.requests, server.bodies)
            server.connections.append(connection)
            with suppress(OSError):  # The client or the test has had enough.
                script(connection)
                connection.next_request()
            server.left.set()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        server = Server(f"http://127.0.0.1:{listener.server_address[1]}/keys")
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            over.set()
            for connection in server.connections:
                connection.hang_up()
            listener.shutdown()
            thread.join()


def answer_all(connection: Connection) -> None:
    """A script: every request gets the same good answer."""
    while connection.next_request() is not None:
        connection.reply("Content-Type: application/json", body=b'{"keys": []}')


def once(*fields: str, body: bytes = b"", status: str = "200 OK") -> Script:
    """A script: one answer, to one request."""

    def script(connection: Connection) -> None:
        connection.next_request()
        connection.reply(*fields, body=body, status=status)

    return script


def drip_headers(connection: Connection) -> None:
    """A script: no pause is long, but the headers never end."""
    connection.next_request()
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    while not connection.over.wait(0.01):
        connection.send(b"x")
