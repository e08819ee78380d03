from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.upstream.asking import KINDS, Core, Middleware, core, opened, resource_server
from tests.upstream.server import Upstream, serving

RunningMiddleware: TypeAlias = Callable[..., Middleware]
OpenCore: TypeAlias = Callable[..., Core]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving() as upstream:
        yield upstream


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A test that asks for it runs on each side."""
    kind: str = request.param
    return kind


@pytest.fixture
def middleware(kind: str, upstream: Upstream) -> Iterator[Middleware]:
    """A middleware that trusts *upstream*, in real time."""
    with opened(kind, resource_server(upstream)) as middleware:
        yield middleware


@pytest.fixture
def clocked(kind: str, upstream: Upstream) -> Iterator[Core]:
    """What stands behind such a middleware, where time passes only as told."""
    with core(kind, resource_server(upstream)) as clocked:
        yield clocked
