"""An HTTP server that answers what it was told, and counts what it was asked.

Under uvicorn, in a process of its own: in ours it would take turns with what is
measured.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import uvicorn

from agentauth_middleware.testing import FakeIssuer

__all__ = ["INTROSPECTION", "KEYS", "METADATA", "RawClient", "Upstream", "serving"]

METADATA = "/.well-known/oauth-authorization-server"
KEYS = "/keys"
INTROSPECTION = "/introspection"
_CALLS = "/calls"


class Upstream:
    """The server, as it is told and asked by the benchmarks."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port)

    def answer(self, path: str, document: object, *, is_held: bool = False) -> None:
        """Answer *document* at *path* from now on; or, if *is_held*, not before this
        is called again."""
        told = {"document": document, "is_held": is_held}
        self._ask("PUT", path, json.dumps(told))

    def calls(self, path: str) -> int:
        """How often *path* was asked for."""
        counted: dict[str, int] = json.loads(self._ask("GET", _CALLS))
        return counted.get(path, 0)

    def publish(self, issuer: FakeIssuer) -> None:
        """Answer with the metadata and the keys of *issuer*, whose name is our URL."""
        self.answer(
            METADATA,
            {
                "issuer": issuer.issuer,
                "jwks_uri": self.url + KEYS,
                "introspection_endpoint": self.url + INTROSPECTION,
            },
        )
        self.answer(KEYS, issuer.jwks)

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        self._connection.request(method, path, body)
        return self._connection.getresponse().read()

    def close(self) -> None:
        self._connection.close()


class RawClient:
    """What no HTTP client can be faster than: bytes out and bytes in, over a socket
    that is open already."""

    def __init__(self, upstream: Upstream) -> None:
        self._socket = socket.create_connection(("127.0.0.1", upstream.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> bytes:
        """Send *request* and read the answer to its end."""
        self._socket.sendall(request)
        reply = self._socket.recv(65536)
        while not _is_complete(reply):
            reply += self._socket.recv(65536)
        return reply

    def close(self) -> None:
        self._socket.close()


@contextmanager
def serving() -> Generator[Upstream, None, None]:
    """A server on a free port of the loopback interface."""
    program = [sys.executable, "-m", __name__]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        upstream = Upstream(int(server.stdout.readline()))
        try:
            yield upstream
        finally:
            upstream.close()
            server.terminate()


def _is_complete(message: bytes) -> bool:
    head, end, body = message.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= _content_length(head)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


class _Application:
    """Answers what was told, and can be told and asked how often it was asked."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._calls: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, body = scope["path"], await _read(receive)
        if scope["method"] == "PUT":
            self._be_told(path, **json.loads(body))
            await _reply(send, 200, b"")
        elif path == _CALLS:
            await _reply(send, 200, json.dumps(self._calls).encode())
        else:
            self._calls[path] += 1
            if path in self._held:
                await self._held[path].wait()
            document = self._documents.get(path)
            await _reply(send, 404 if document is None else 200, document or b"")

    def _be_told(self, path: str, document: object, is_held: bool) -> None:
        self._documents[path] = json.dumps(document).encode()
        if path in self._held:
            self._held.pop(path).set()
        if is_held:
            self._held[path] = asyncio.Event()


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _reply(send: Any, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _serve() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            _Application(),
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=3600,  # the benchmarks are silent for minutes
        )
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    _serve()
