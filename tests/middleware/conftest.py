from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Protocol

import pytest

from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore, Store
from tests.support.exchange import MIDDLEWARES, Middleware, running_middleware
from tests.support.scenarios import Issuers, resource_server, revoke_some


class RunningMiddleware(Protocol):
    def __call__(
        self, server: ResourceServer, store: Store | None = None
    ) -> Middleware: ...


@pytest.fixture(scope="session")
def issuers() -> Iterator[Issuers]:
    """Everybody who issues tokens; nobody answers at the URL of ``unreachable``."""
    with socket.socket() as silent:
        # Bound and never listening, so that nobody else gets the port.
        silent.bind(("127.0.0.1", 0))
        yield Issuers(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture(params=MIDDLEWARES)
def start_middleware(request: pytest.FixtureRequest) -> RunningMiddleware:
    """A test that asks for it runs on each side."""

    def start_middleware(
        server: ResourceServer, store: Store | None = None
    ) -> Middleware:
        return running_middleware(request.param, server, store)

    return start_middleware


@pytest.fixture
def middleware(start_middleware: RunningMiddleware, issuers: Issuers) -> Middleware:
    """The API of the table, where some tokens have been revoked."""
    store = MemoryStore()
    revoke_some(store, issuers)
    return start_middleware(resource_server(issuers.trusted), store)
