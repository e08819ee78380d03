"""Bursts of junk about which a real server has to be asked, beside good tokens."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.support.deciding import Decided
from tests.upstream.asking import GRANTED, KINDS, RESOURCE, core, outcome_of
from tests.upstream.server import INTROSPECTION, PATIENCE, Exchange, Upstream

OTHERS = [f"198.51.100.{number}" for number in range(10)]
ANSWER_TIME = 0.05
"""Seconds that the server takes for each answer."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "junk_from", [["192.0.2.1"], ["192.0.2.1", "192.0.2.2"]], ids=["one", "two"]
)
def test_burst_of_junk_is_its_senders_affair(
    kind: str, junk_from: list[str], upstream: Upstream
) -> None:
    """Whoever else comes meanwhile is served, and no one is answered 5xx."""

    def slowly(exchange: Exchange) -> None:
        exchange.over.wait(ANSWER_TIME)
        exchange.answer_well()

    introspection = Introspection("api", client_secret="secret of ours", timeout=10)
    server = ResourceServer(
        RESOURCE,
        issuers=[upstream.trust(introspection=introspection)],
        insecure_loopback=True,
    )
    upstream.faults[INTROSPECTION] = slowly
    junk: list[Future[Decided]] = []
    good: list[Future[Decided]] = []
    with core(kind, server) as asked:
        for burst in range(3):
            for sender in junk_from:
                for number in range(30):
                    token = f"junk_{sender}_{burst}_{number}"
                    junk.append(asked.submit(token, sender))
            for other in OTHERS[: 10 - len(junk_from)]:
                token = f"good_{other}_{burst}"
                upstream.active[token] = {"active": True, "aud": RESOURCE}
                good.append(asked.submit(token, other))
            outcomes = {outcome_of(each.result(PATIENCE)) for each in good}
            assert outcomes == {GRANTED}

        answered = {outcome_of(each.result(PATIENCE)) for each in junk}
    assert {status for status, _ in answered} == {401, 429}
