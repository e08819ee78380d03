from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentauth_middleware.testing import FakeIssuer, FakeProvider, ServedIssuer
from tests.authorization_server.embedded import Embedded, embed


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    """A running server that trusts one provider, and knows Ana."""
    with embed(tmp_path) as running:
        yield running


@pytest.fixture
def served() -> Iterator[ServedIssuer]:
    """A loopback HTTP server that counts what is fetched from it."""
    with FakeIssuer.serve() as server:
        yield server


@pytest.fixture
def served_provider(served: ServedIssuer) -> FakeProvider:
    """A provider whose keys are fetched from *served*, once they are published."""
    return FakeProvider(served.issuer)
