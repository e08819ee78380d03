"""Connections that are read on from while the server closes its own side."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator

import pytest

from agentauth_middleware._io.lingering import linger


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end, and the client's."""
    server, client = socket.socketpair()
    client.settimeout(20)
    with server, client:
        yield server, client


Pair = tuple[socket.socket, socket.socket]


def begin(
    server: socket.socket, max_bytes: float = math.inf, seconds: float = 300
) -> threading.Event:
    """Linger; the event is set at the end."""
    ended = threading.Event()
    limit = 2**40 if max_bytes == math.inf else int(max_bytes)
    linger(server, max_bytes=limit, seconds=seconds, done=ended.set)
    return ended


def test_a_client_may_send_on_after_the_server_has_closed(pair: Pair) -> None:
    server, client = pair
    ended = begin(server)
    server.sendall(b"answer")
    server.close()

    for _ in range(100):
        client.sendall(b"x" * 65536)
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""
    assert not ended.is_set()
    client.close()
    assert ended.wait(20)


def test_the_server_can_still_send_until_it_closes(pair: Pair) -> None:
    """Middleware that buffers sends the answer after it has closed the body."""
    server, client = pair
    begin(server)
    client.sendall(b"x" * 65536)
    client.sendall(b"x" * 65536)

    server.sendall(b"answer")
    assert client.recv(100) == b"answer"
    assert server.getblocking()


def test_reading_ends_after_so_many_bytes(pair: Pair) -> None:
    server, client = pair
    ended = begin(server, max_bytes=1000)
    server.close()
    client.sendall(b"x" * 999)
    assert client.recv(1) == b""
    assert not ended.wait(0.2)

    client.sendall(b"x")

    assert ended.wait(20)
    with pytest.raises(OSError, match="Broken pipe"):
        client.sendall(b"x")


def test_reading_ends_after_so_many_seconds(pair: Pair) -> None:
    server, client = pair
    ended = begin(server, seconds=0.1)
    server.close()
    client.sendall(b"x")

    assert ended.wait(20)


def test_a_connection_that_is_closed_already_is_left_alone(pair: Pair) -> None:
    server, _ = pair
    server.close()

    assert begin(server).is_set()


def test_without_threads_nothing_is_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    server, client = pair

    assert begin(server).is_set()
    server.close()
    assert client.recv(1) == b""
