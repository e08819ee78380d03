"""A server with few threads, and junk that would like to have them all."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.middleware.apps.starting import gunicorn, running
from tests.upstream.asking import RESOURCE
from tests.upstream.server import KEYS, PATIENCE, Upstream

SERVER = gunicorn("workers:wsgi_app()", "--workers=1", "--threads=4", "--keep-alive=0")
JUNK = 50


def ask(connection: socket.socket, token: str) -> socket.socket:
    """*connection*, on which a request with *token* is under way."""
    lines = ["GET / HTTP/1.1", "Host: api", f"Authorization: Bearer {token}", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def status_on(connection: socket.socket) -> int:
    with connection, connection.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def statuses(connections: Iterable[socket.socket]) -> Iterator[int]:
    """The answers, each as it comes: gunicorn waits for clients that read late."""
    waiting = set(connections)
    while waiting:
        answered, _, _ = select.select(waiting, [], [], PATIENCE)
        assert answered
        waiting.difference_update(answered)
        yield from map(status_on, answered)


@pytest.mark.system
def test_junk_leaves_threads_for_known_keys(upstream: Upstream, tmp_path: Path) -> None:
    """While the issuer keeps everybody waiting who asks it for a key."""
    token = upstream.signer.token
    known = token(RESOURCE)
    junk = [token(RESOURCE, header={"kid": f"junk-{n}"}) for n in range(JUNK)]
    store = str(tmp_path / "store.sqlite")
    with running(SERVER, tmp_path / "log", ISSUER=upstream.url, STORE=store) as server:
        assert status_on(ask(server.connect_socket(), known)) == 204
        with upstream.holding(KEYS) as held, ThreadPoolExecutor() as reader:
            connections = [ask(server.connect_socket(), token) for token in junk]
            refused = reader.submit(list[int], statuses(connections))
            assert held.arrived.wait(PATIENCE)

            for _ in range(2):
                assert status_on(ask(server.connect_socket(), known)) == 204
            assert held.is_awaited()
            # Two may wait for the fetch, which does not come.
            assert sorted(refused.result())[:-2] == [429] * (JUNK - 2)
    assert upstream.count(KEYS) == 2
