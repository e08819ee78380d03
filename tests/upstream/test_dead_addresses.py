"""A name of several addresses, where nobody answers at the first.

Real sockets: at the one address all places to wait are taken, so that a connection is
neither made nor refused. Only what the name stands for is made up.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.upstream.asking import KINDS, RESOURCE, opened, resource_server
from tests.upstream.server import KEYS, Upstream, serving

DEAD, ALIVE = "127.0.0.2", "127.0.0.1"


@contextmanager
def unanswered(port: int) -> Generator[None, None, None]:
    """Let nobody get a connection to *port* of the dead address."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        try:
            listener.bind((DEAD, port))
        except OSError:
            pytest.skip(f"{DEAD} is no address of this machine")
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((DEAD, port))
            _, connected, _ = select.select([], [waiting], [], 0.05)
            if not connected:
                break
        else:
            pytest.skip("this machine takes any number of connections")
        yield


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    look_up = socket.getaddrinfo

    def look_up_two(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "localhost":
            return look_up(host, port, *args, **options)
        return [
            (
                socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port),
            )
            for address in (DEAD, ALIVE)
        ]

    with serving("localhost") as upstream, unanswered(port_of(upstream)):
        monkeypatch.setattr(socket, "getaddrinfo", look_up_two)
        yield upstream
        monkeypatch.undo()


def port_of(upstream: Upstream) -> int:
    return int(upstream.url.rpartition(":")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_fetched_from_the_address_that_answers(
    kind: str, upstream: Upstream
) -> None:
    """In the time that the issuer is given in all."""
    server = resource_server(upstream, jwks_uri=upstream.url + KEYS, timeout=1.0)
    with opened(kind, server) as middleware:
        assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200
    assert upstream.calls == [KEYS]
