from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.carrying_out import KINDS, Get, client_of
from tests.support.scripted_server import Script, Server, serving


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    """Start a server that runs a script for each connection, till the test is over."""
    with ExitStack() as servers:
        yield lambda script: servers.enter_context(serving(script))


@pytest.fixture(params=KINDS)
def get(request: pytest.FixtureRequest) -> Iterator[Get]:
    """Carries out a fetch, with a client of either kind."""
    with client_of(request.param) as carry_out:
        yield carry_out


@pytest.fixture
def nobodys_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
