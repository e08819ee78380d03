"""The life of keys once more, with real drivers against an issuer that is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import anyio
import pytest

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._io.drive import drive, drive_async
from agentauth_middleware._io.perform import AsyncPerformer, BlockingPerformer
from agentauth_middleware.access import Access
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.support.deciding import Decided, deciding, request
from tests.support.stepping import Clock
from tests.support.tokens import RESOURCE

METADATA_PATH, KEYS_PATH = "/.well-known/oauth-authorization-server", "/jwks.json"


@pytest.fixture
def issuer() -> Iterator[ServedIssuer]:
    with FakeIssuer.serve() as served:
        yield served


def state_for(issuer: ServedIssuer) -> MiddlewareState:
    return MiddlewareState(
        ResourceServer(RESOURCE, issuers=[issuer.trust()], insecure_loopback=True)
    )


class Threads:
    """Decides on requests that all come at once, each in a thread.

    To the core they come at one moment, and a second after the last ones, however
    long a busy machine takes over them.
    """

    def __init__(self, state: MiddlewareState) -> None:
        self._state = state
        self._clock = Clock(time.time())
        self._perform = BlockingPerformer(MemoryStore())

    def decide(self, tokens: list[str]) -> list[Decided]:
        self._clock.tick(1.0)
        decisions: list[Decided] = []
        barrier = threading.Barrier(len(tokens))

        def work(token: str) -> None:
            barrier.wait()
            procedure = deciding(self._state, request(token.encode()), self._clock)
            decisions.append(drive(procedure, self._perform))

        threads = [threading.Thread(target=work, args=(token,)) for token in tokens]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._perform.close()
        return decisions


class Tasks:
    """The same, each in a task."""

    def __init__(self, state: MiddlewareState, backend: str) -> None:
        self._state = state
        self._clock = Clock(time.time())
        self._backend = backend
        self._perform = AsyncPerformer(MemoryStore())

    def decide(self, tokens: list[str]) -> list[Decided]:
        self._clock.tick(1.0)
        return anyio.run(self._decide, tokens, backend=self._backend)

    async def _decide(self, tokens: list[str]) -> list[Decided]:
        decisions: list[Decided] = []

        async def work(token: str) -> None:
            procedure = deciding(self._state, request(token.encode()), self._clock)
            decisions.append(await drive_async(procedure, self._perform))

        async with anyio.create_task_group() as tasks:
            for token in tokens:
                tasks.start_soon(work, token)
        await self._perform.aclose()
        return decisions


@pytest.fixture(params=["threads", "asyncio", "trio"])
def driven(
    request: pytest.FixtureRequest,
) -> Callable[[MiddlewareState], Threads | Tasks]:
    if request.param == "threads":
        return Threads
    return lambda state: Tasks(state, request.param)


def all_granted(decisions: list[Decided]) -> bool:
    return all(isinstance(decision, Access) for decision in decisions)


def reasons(decisions: list[Decided]) -> set[tuple[int, str]]:
    return {
        (decision.status, decision.reason)
        for decision in decisions
        if isinstance(decision, Refusal)
    }


def test_cold_requests_at_once_make_one_exchange(
    driven: Callable[[MiddlewareState], Threads | Tasks], issuer: ServedIssuer
) -> None:
    driver = driven(state_for(issuer))
    count = 40 if isinstance(driver, Threads) else 200
    decisions = driver.decide([issuer.token(RESOURCE) for _ in range(count)])

    assert len(decisions) == count
    assert all_granted(decisions)
    assert issuer.requests == [METADATA_PATH, KEYS_PATH]


def test_rotated_key_is_good_on_its_first_request(
    driven: Callable[[MiddlewareState], Threads | Tasks], issuer: ServedIssuer
) -> None:
    driver = driven(state_for(issuer))
    driver.decide([issuer.token(RESOURCE)])
    issuer.rotate()

    assert all_granted(driver.decide([issuer.token(RESOURCE)]))
    assert issuer.requests == [METADATA_PATH, KEYS_PATH, KEYS_PATH]


def test_flood_of_unknown_keys_makes_one_exchange_and_delays_nobody(
    driven: Callable[[MiddlewareState], Threads | Tasks], issuer: ServedIssuer
) -> None:
    """Within twelve seconds. Those that cannot be judged yet get a 429, no verdict."""
    driver = driven(state_for(issuer))
    known = issuer.token(RESOURCE)
    driver.decide([known])
    flood = [
        issuer.token(RESOURCE, header={"kid": f"flood-{number}"})
        for number in range(30)
    ]
    decisions = driver.decide([*flood, known])

    assert sum(isinstance(decision, Access) for decision in decisions) == 1
    assert reasons(decisions) <= {(401, "unknown_kid"), (429, "keys_cooling_down")}
    assert issuer.requests == [METADATA_PATH, KEYS_PATH, KEYS_PATH]


def test_failure_is_shared_and_told_as_our_trouble(
    driven: Callable[[MiddlewareState], Threads | Tasks], issuer: ServedIssuer
) -> None:
    """Not tried by each in turn, and not tried again at once."""
    driver = driven(state_for(issuer))
    issuer.replies[KEYS_PATH] = (500, {}, b"")
    decisions = driver.decide([issuer.token(RESOURCE) for _ in range(30)])
    again = driver.decide([issuer.token(RESOURCE) for _ in range(30)])

    assert len(decisions) == len(again) == 30
    assert reasons(decisions) <= {(503, "keys_unusable"), (503, "keys_unreachable")}
    assert reasons(again) == {(503, "keys_unreachable")}
    assert issuer.requests == [METADATA_PATH, KEYS_PATH]


def test_old_set_stays_in_use_while_the_issuer_is_in_trouble(
    driven: Callable[[MiddlewareState], Threads | Tasks], issuer: ServedIssuer
) -> None:
    driver = driven(state_for(issuer))
    driver.decide([issuer.token(RESOURCE)])
    old_key, trouble = issuer.token(RESOURCE), (302, {"location": "/evil"}, b"")
    issuer.rotate()
    issuer.replies[KEYS_PATH] = trouble
    (new,) = driver.decide([issuer.token(RESOURCE)])

    assert reasons([new]) == {(503, "keys_unusable")}
    assert all_granted(driver.decide([old_key]))
    assert "/evil" not in issuer.requests
