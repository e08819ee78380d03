"""A thousand issuers, listed or looked up by a function, beside a single one.

Requests come from all of them by turns. Each has made itself known before: what is
measured is not the first token of a tenant, but all later ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from agentauth_middleware import Issuer
from agentauth_middleware.testing import FakeIssuer
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Batch, Rounds
from benchmarks.scene import Scene, check_access, mint, resource_server
from benchmarks.sides import Call, Calls, Side

__all__ = ["make_tenants", "measure_tenants"]

TENANTS = 1000
_MANY = 100
_FEW = 8
_ONE, _LISTED, _LOOKED_UP = "one issuer", "1,000 listed", "1,000 by function"


def make_tenants() -> Sequence[FakeIssuer]:
    """Each with a key of its own."""
    return [
        FakeIssuer(f"https://as.example.com/tenants/{number}")
        for number in range(TENANTS)
    ]


def measure_tenants(
    side: Side, scene: Scene, tenants: Sequence[FakeIssuer], rounds: Rounds
) -> Iterator[Row]:
    """The rows of one protocol.

    Raises:
        AssertionError: the middleware does not do what is measured.
    """
    group = f"{TENANTS:,} issuers, {side.name}"
    contestants: dict[str, Batch] = {}
    for name, issuers, asked in (
        (_ONE, [tenants[0].trust()], tenants[:1]),
        (_LISTED, [tenant.trust() for tenant in tenants], tenants),
        (_LOOKED_UP, _finder(tenants), tenants),
    ):
        server = resource_server(issuers, authorization_servers=[tenants[0].issuer])
        middleware = side.middleware(side.bare, server, scene.store)
        for tenant in asked:
            token = mint(tenant)
            check_access(side.answer(middleware, _bearer(token)).access, token)
        contestants[_remembered(name)] = side.batch(middleware, _that_come_back(asked))
        contestants[_new(name)] = side.batch(middleware, _each_once(asked))
    timings = rounds.take_turns(contestants)
    for kind, target in (
        (_remembered, targets.TENANTS_REMEMBERED),
        (_new, targets.TENANTS_NEW),
    ):
        limit = kind(_ONE)
        yield Row(group, limit, timings.time(limit), "µs")
        for name in map(kind, (_LISTED, _LOOKED_UP)):
            ratio = timings.ratio(name, of=limit)
            taken = timings.time(name)
            yield Row(group, name, taken, "µs", ratio, limit, target)


def _remembered(issuers: str) -> str:
    return f"remembered token, {issuers}"


def _new(issuers: str) -> str:
    return f"new token, {issuers}"


def _finder(tenants: Sequence[FakeIssuer]) -> Callable[[str], Issuer | None]:
    """What an operator would write over a table of tenants."""
    issuers = {tenant.issuer: tenant.trust() for tenant in tenants}
    return issuers.get


def _that_come_back(tenants: Sequence[FakeIssuer]) -> Calls:
    calls = [_bearer(mint(tenant)) for tenant in _some_of(tenants, _MANY)]
    return lambda _: calls


def _each_once(tenants: Sequence[FakeIssuer]) -> Calls:
    return lambda _: [_bearer(mint(tenant)) for tenant in _some_of(tenants, _FEW)]


def _some_of(tenants: Sequence[FakeIssuer], count: int) -> list[FakeIssuer]:
    return random.choices(tenants, k=count)  # noqa: S311 - no secret depends on it


def _bearer(token: str) -> Call:
    return Call("/notes/1", f"Bearer {token}")
