"""A server that says, byte for byte, what a test wants a client to hear."""

from __future__ import annotations

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
    received: bytes = b""

    def next_request(self) -> bytes | None:
        """The head of the next request; ``None`` once the client has closed."""
        while b"\r\n\r\n" not in self.received:
            piece = self.stream.recv(65536)
            if not piece:
                return None
            self.received += piece
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        self.requests.append(head)
        return head

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
    connections: list[Connection] = field(default_factory=list[Connection])
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client has closed its connection."""


@contextmanager
def serving(script: Script) -> Generator[Server, None, None]:
    """A server that runs *script* for each connection, in threads."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection = Connection(self.request, over, server.requests)
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
