"""Real servers with a middleware inside, and a client that sends what it is told to
send."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)

from tests.support.exchange import Answer, HTTPRequest
from tests.support.served import SETTINGS

_ROOT = Path(__file__).parents[2]

_UVICORN = (
    "uvicorn --factory tests.support.served:asgi_middleware --no-access-log --fd {fd}"
)
_HYPERCORN = (
    "hypercorn tests.support.served:asgi_middleware() --workers 0 --bind fd://{fd}"
)
_GUNICORN = "gunicorn tests.support.served:wsgi_middleware() --bind fd://{fd}"

COMMANDS = {
    "uvicorn-h11": f"{_UVICORN} --http h11",
    "uvicorn-httptools": f"{_UVICORN} --http httptools",
    "hypercorn": _HYPERCORN,
    "hypercorn-http2": _HYPERCORN,
    "gunicorn-sync": f"{_GUNICORN} --worker-class sync",
    "gunicorn-gthread": f"{_GUNICORN} --worker-class gthread --threads 2",
    "gunicorn-gevent": f"{_GUNICORN} --worker-class gevent",
    "waitress": "tests.support.served {fd}",
}
"""Each is a module to run and its arguments."""


@dataclass(frozen=True)
class Server:
    name: str
    address: tuple[str, int]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def ask(self, request: HTTPRequest) -> Answer:
        """The answer to *request*, over a connection of its own."""
        if not self.name.endswith("http2"):
            return self.send(written(request), request.method)
        with self.connect() as connection:
            return ask_over_http2(connection, request)

    def send(self, data: bytes, method: str = "GET") -> Answer:
        """The answer to *data*, over a connection of its own."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_answer(connection, method)


def written(request: HTTPRequest, body: bytes = b"") -> bytes:
    """*request* as it goes over the wire in HTTP/1.1."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def read_answer(connection: socket.socket, method: str) -> Answer:
    """The next answer in HTTP/1.1; *method* says whether it has a body."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    fields = tuple((name.lower(), value) for name, value in response.getheaders())
    return Answer(response.status, fields, response.read())


def ask_over_http2(connection: socket.socket, request: HTTPRequest) -> Answer:
    """The answer to *request*, over a new connection without TLS (RFC 9113 §3.3)."""
    # What is sent is the test's affair, however wrong it is.
    h2 = H2Connection(
        H2Configuration(
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    h2.initiate_connection()
    pseudo = {":method": request.method, ":path": request.target, ":scheme": "http"}
    fields = [(name.lower(), value) for name, value in request.fields]
    authority = [(":authority", value) for name, value in fields if name == "host"]
    others = [line for line in fields if line[0] != "host"]
    h2.send_headers(1, [*pseudo.items(), *authority, *others], end_stream=True)
    connection.sendall(h2.data_to_send())
    lines: list[tuple[str, str]] = []
    body = b""
    while True:
        for event in h2.receive_data(connection.recv(65536)):
            match event:
                case ResponseReceived():
                    lines = [(str(name), str(value)) for name, value in event.headers]
                case DataReceived():
                    body += event.data
                case StreamEnded():
                    status = int(dict(lines)[":status"])
                    return Answer(status, tuple(lines[1:]), body)
                case StreamReset() | ConnectionTerminated():
                    raise ConnectionResetError(repr(event))
                case _:
                    pass
        connection.sendall(h2.data_to_send())


@contextmanager
def serving(name: str, settings: str, log: Path) -> Generator[Server, None, None]:
    """The server called *name*, on a free loopback port, till the end of the block.

    Raises:
        AssertionError: it has written a stack trace to *log*.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        # Bound and listening already: whoever connects waits for the server to start.
        fd = listener.fileno()
        arguments = COMMANDS[name].format(fd=fd).split(" ")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=_ROOT,
                env={**os.environ, SETTINGS: settings},
                pass_fds=[fd],
                stdout=output,
                stderr=output,
            )
        try:
            yield Server(name, listener.getsockname())
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
    assert "Traceback" not in log.read_text(errors="replace")
