from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Protocol

import pytest

from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore, Store
from tests.support.exchange import DOORS, Door, open_door
from tests.support.scenarios import Issuers, resource_server, revoke_some


class OpenDoor(Protocol):
    def __call__(self, server: ResourceServer, store: Store | None = None) -> Door: ...


@pytest.fixture(scope="session")
def issuers() -> Iterator[Issuers]:
    """Everybody who issues tokens; nobody answers at the URL of ``unreachable``."""
    with socket.socket() as silent:
        # Bound and never listening, so that nobody else gets the port.
        silent.bind(("127.0.0.1", 0))
        yield Issuers(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture(params=DOORS)
def open_a_door(request: pytest.FixtureRequest) -> OpenDoor:
    """A test that asks for it runs on each door."""

    def open_a_door(server: ResourceServer, store: Store | None = None) -> Door:
        return open_door(request.param, server, store)

    return open_a_door


@pytest.fixture
def door(open_a_door: OpenDoor, issuers: Issuers) -> Door:
    """The API of the table, where some tokens have been revoked."""
    store = MemoryStore()
    revoke_some(store, issuers)
    return open_a_door(resource_server(issuers.trusted), store)
