from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.io.scripted_server import Script, Server, serving


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    """Start a server that runs a script for each connection, till the test is over."""
    with ExitStack() as servers:
        yield lambda script: servers.enter_context(serving(script))
