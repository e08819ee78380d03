"""No target reaches a handler with less than its ``Route`` demands, in any framework.

Targets made at random go to the real routers, handed over as the real servers do. Those
that lead to a handler where there is no middleware are sent through the middleware:
without a token, and with tokens that lack what the handler demands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from zlib import crc32

import pytest

from tests.differential.applications import DEPLOYMENTS, Deployment
from tests.differential.gateways import GATEWAYS
from tests.differential.guarding import (
    ALL_CELLS,
    BARE,
    SOME_CELLS,
    WITH_PREFIX,
    authorization,
    guard,
)
from tests.differential.sending import Outcome, Sent, send_all, unprotected
from tests.differential.targets import (
    OPEN_TO_ALL,
    PREFIX,
    demands,
    hostile_targets,
    known_targets,
    plain_targets,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `root_path` parameter is deprecated"
)

CREDENTIALS = (None, "", "a", "b")
"""The scopes of a token, or that there is none."""


def too_little(demand: str | None, credential: str | None) -> bool:
    if demand is None:
        return False
    return credential is None or (demand != "" and demand != credential)


def holes(
    deployment: Deployment, server: str, reached: list[Outcome]
) -> Iterator[tuple[str, ...]]:
    gateway = GATEWAYS[deployment.kind][server]
    is_prefixed = bool(deployment.patterns) or deployment.is_mounted_unseen
    prefixes = {deployment.patterns, PREFIX if is_prefixed else ""}
    for prefix in sorted(prefixes):
        for catch_all in (False, True):
            demanded = demands(catch_all=catch_all)
            # Where neither the server nor a pattern tells of it, the resource has to.
            is_told = not is_prefixed or bool(deployment.mount or deployment.patterns)
            named = is_prefixed and not (is_told and catch_all)
            resource = WITH_PREFIX if named else BARE
            protect = guard(deployment, prefix, catch_all=catch_all, resource=resource)
            sent = [
                Sent(
                    outcome.sent.target,
                    {}
                    if credential is None
                    else {"Authorization": authorization(resource, credential)},
                )
                for outcome in reached
                for credential in CREDENTIALS
                if any(too_little(demanded[name], credential) for name in outcome.ran)
            ]
            tokens = {
                authorization(resource, credential): credential
                for credential in CREDENTIALS
                if credential is not None
            }
            for outcome in send_all(deployment, gateway, sent, protect):
                token = outcome.sent.fields.get("Authorization")
                credential = tokens[token] if token else None
                for name in outcome.ran:
                    if too_little(demanded[name], credential):
                        target = outcome.sent.target
                        yield (
                            f"{target.method} {target.target}",
                            f"ran {name}",
                            f"demands {demanded[name]!r}",
                            f"had {credential!r}",
                            f"patterns {prefix}/… {'and /*' if catch_all else ''}",
                        )


def reached_handlers(
    deployment: Deployment, server: str, *, seed: int, size: int
) -> list[Outcome]:
    gateway = GATEWAYS[deployment.kind][server]
    targets = [*plain_targets(), *known_targets(), *islice(hostile_targets(seed), size)]
    sent = [Sent(target) for target in dict.fromkeys(targets)]
    outcomes = send_all(deployment, gateway, sent, unprotected)
    return [one for one in outcomes if not OPEN_TO_ALL.issuperset(one.ran)]


def check(name: str, server: str, *, size: int) -> None:
    deployment = DEPLOYMENTS[name]
    seed = crc32(f"{name}, {server}".encode())
    reached = reached_handlers(deployment, server, seed=seed, size=size)
    if not reached:
        pytest.skip("the framework itself finds none of its handlers there")
    ran = {handler for one in reached for handler in one.ran}
    assert ran | OPEN_TO_ALL == demands(catch_all=False).keys()
    assert list(holes(deployment, server, reached)) == []


@pytest.mark.parametrize(("name", "server"), SOME_CELLS)
def test_no_handler_runs_with_less_than_it_demands(name: str, server: str) -> None:
    check(name, server, size=8)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "server"), ALL_CELLS)
def test_no_handler_runs_with_less_than_it_demands_however_long(
    name: str, server: str
) -> None:
    check(name, server, size=10_000)
