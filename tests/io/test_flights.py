"""Callers that want the same exchange share one: tasks and threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.flights import AsyncFlights, BlockingFlights
from agentauth_middleware.errors import UnavailableError
from tests.support.waiting import await_halt

KEYS = Reply(200, {}, b'{"keys": []}')
FETCH = Fetch("https://as.example/keys", "keys", timeout=5.0, max_bytes=1000)


def fetch(flight: str, timeout: float = 5.0) -> Fetch:
    return Fetch(FETCH.url, flight, timeout=timeout, max_bytes=1000)


def out_of_reach() -> UnavailableError:
    try:
        refuse_connection()
    except UnavailableError as failure:
        return failure


def refuse_connection() -> NoReturn:
    """Fail as a client does."""
    try:
        raise ConnectionRefusedError
    except ConnectionRefusedError as fault:
        raise UnavailableError(
            "upstream_unreachable", "refused", retry_after=9
        ) from fault


class LeaderFailedError(Exception):
    """A bug, met by whoever leads."""


@dataclass
class Exchanges:
    """Exchanges that begin at once and end when told."""

    outcomes: list[Reply | BaseException]
    """How they end, in order; the last is repeated."""
    count: int = 0

    def begin(self) -> Reply | BaseException:
        self.count += 1
        return self.outcomes[min(self.count, len(self.outcomes)) - 1]


def end(outcome: Reply | BaseException) -> Reply:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


# Tasks


@dataclass
class Tasks:
    """What the tasks of a test ask for, and what became of it."""

    exchanges: Exchanges
    flights: AsyncFlights = field(default_factory=AsyncFlights)
    may_end: anyio.Event = field(default_factory=anyio.Event)
    replies: list[Reply] = field(default_factory=list[Reply])
    failures: list[Exception] = field(default_factory=list[Exception])

    async def exchange(self, fetch: Fetch) -> Reply:
        outcome = self.exchanges.begin()
        await self.may_end.wait()
        return end(outcome)

    async def ask(self, fetch: Fetch = FETCH) -> None:
        try:
            self.replies.append(await self.flights.share(fetch, self.exchange))
        except Exception as failure:
            self.failures.append(failure)


@pytest.mark.anyio
async def test_tasks_share_an_exchange() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        tasks.may_end.set()

    assert tasks.exchanges.count == 1
    assert tasks.replies == [KEYS] * 50


@pytest.mark.anyio
async def test_tasks_share_a_failure() -> None:
    """Sharing only success, waiters on a dead server would ask it one by one."""
    tasks = Tasks(Exchanges([out_of_reach()]))
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        tasks.may_end.set()

    assert tasks.exchanges.count == 1
    check_own_failures(tasks.failures, 50)


def check_own_failures(failures: list[Exception], number: int) -> None:
    """Each caller gets its own error, which says what the shared one said."""
    assert len({id(failure) for failure in failures}) == number
    for failure in failures:
        assert isinstance(failure, UnavailableError)
        assert failure.reason == "upstream_unreachable"
        assert str(failure) == "refused"
        assert failure.retry_after == 9
    assert len({id(failure.__cause__) for failure in failures}) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("outcome", [KEYS, out_of_reach()], ids=["reply", "failure"])
async def test_task_that_comes_late_gets_the_outcome(
    outcome: Reply | UnavailableError,
) -> None:
    tasks = Tasks(Exchanges([outcome]))
    tasks.may_end.set()
    await tasks.ask()
    await tasks.ask()

    assert tasks.exchanges.count == 1
    assert len(tasks.replies + tasks.failures) == 2


@pytest.mark.anyio
async def test_new_flight_asks_again() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    tasks.may_end.set()
    await tasks.ask(fetch("keys, first"))
    await tasks.ask(fetch("keys, second"))

    assert tasks.exchanges.count == 2


@pytest.mark.anyio
async def test_outcomes_are_kept_up_to_a_bound() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    tasks.may_end.set()
    for number in range(33):
        await tasks.ask(fetch(f"{number}"))
    await tasks.ask(fetch("32"))
    await tasks.ask(fetch("1"))

    assert tasks.exchanges.count == 33

    await tasks.ask(fetch("0"))

    assert tasks.exchanges.count == 34


@pytest.mark.anyio
async def test_outcome_is_kept_for_seconds() -> None:
    """A later question under the same name must not get an old answer."""
    times = [0.0]
    tasks = Tasks(Exchanges([KEYS]), AsyncFlights(timer=lambda: times[0]))
    tasks.may_end.set()
    await tasks.ask()
    times[0] = 4.9
    await tasks.ask()

    assert tasks.exchanges.count == 1

    times[0] = 5.1
    await tasks.ask()

    assert tasks.exchanges.count == 2


@pytest.mark.anyio
async def test_outcome_is_kept_for_nobody_where_none_are_kept() -> None:
    """What is to be news for whoever asks must not be what was asked before."""
    tasks = Tasks(Exchanges([KEYS]), AsyncFlights(kept=0))
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        tasks.may_end.set()

    assert tasks.exchanges.count == 1
    assert tasks.replies == [KEYS] * 8

    await tasks.ask()

    assert tasks.exchanges.count == 2


@pytest.mark.anyio
async def test_cancelled_task_hands_over() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    leader = anyio.CancelScope()

    async def lead() -> None:
        with leader:
            await tasks.ask()

    async with anyio.create_task_group() as group:
        group.start_soon(lead)
        await wait_all_tasks_blocked()
        for _ in range(8):
            group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        leader.cancel()
        await wait_all_tasks_blocked()

        assert leader.cancelled_caught
        assert tasks.exchanges.count == 2

        tasks.may_end.set()

    assert tasks.exchanges.count == 2
    assert tasks.replies == [KEYS] * 8


@pytest.mark.anyio
async def test_cancelled_task_leaves_nothing_behind() -> None:
    """Whoever comes next leads; nobody waits for a leader that is gone."""
    tasks = Tasks(Exchanges([KEYS]))
    async with anyio.create_task_group() as group:
        group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    tasks.may_end.set()
    await tasks.ask()

    assert tasks.exchanges.count == 2
    assert tasks.replies == [KEYS]


@pytest.mark.anyio
async def test_cancelled_waiter_disturbs_nobody() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    async with anyio.create_task_group() as group:
        group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as waiters:
            waiters.start_soon(tasks.ask)
            await wait_all_tasks_blocked()
            waiters.cancel_scope.cancel()
        tasks.may_end.set()

    assert tasks.exchanges.count == 1
    assert tasks.replies == [KEYS]


@pytest.mark.anyio
async def test_bug_stays_with_the_task_that_leads() -> None:
    tasks = Tasks(Exchanges([LeaderFailedError(), KEYS]))
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        tasks.may_end.set()

    assert tasks.exchanges.count == 2
    assert [type(failure) for failure in tasks.failures] == [LeaderFailedError]
    assert tasks.replies == [KEYS] * 7


@pytest.mark.anyio
async def test_task_waits_no_longer_than_its_own_timeout() -> None:
    tasks = Tasks(Exchanges([KEYS]))
    async with anyio.create_task_group() as group:
        group.start_soon(tasks.ask)
        await wait_all_tasks_blocked()
        await tasks.ask(fetch("keys", timeout=0.01))

        assert [str(failure) for failure in tasks.failures] == [
            "no answer in 0.01 s to the request that asked"
        ]

        tasks.may_end.set()

    assert tasks.exchanges.count == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_loops_share_no_exchange(backend: str) -> None:
    """One performer, several loops one after another: tests of users do that."""
    flights = AsyncFlights()
    exchanges = Exchanges([KEYS])

    async def exchange(fetch: Fetch) -> Reply:
        return end(exchanges.begin())

    for _ in range(2):
        anyio.run(flights.share, FETCH, exchange, backend=backend)

    assert exchanges.count == 2


# Threads


@dataclass
class Threads:
    """What the threads of a test ask for."""

    exchanges: Exchanges
    pool: ThreadPoolExecutor
    flights: BlockingFlights = field(default_factory=BlockingFlights)
    leads: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    idents: list[int] = field(default_factory=list[int])

    def exchange(self, fetch: Fetch) -> Reply:
        outcome = self.exchanges.begin()
        self.leads.set()
        assert self.may_end.wait(10)
        return end(outcome)

    def ask(self, fetch: Fetch = FETCH) -> Future[Reply]:
        def run() -> Reply:
            self.idents.append(threading.get_ident())
            return self.flights.share(fetch, self.exchange)

        return self.pool.submit(run)

    def ask_and_wait(self, number: int) -> list[Future[Reply]]:
        """The first one leads, the others have come to a halt."""
        first = self.ask()
        assert self.leads.wait(10)
        others = [self.ask() for _ in range(number - 1)]
        await_halt(self.idents, number)
        return [first, *others]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as pool:
        yield pool


def test_threads_share_an_exchange(pool: ThreadPoolExecutor) -> None:
    threads = Threads(Exchanges([KEYS]), pool)
    asked = threads.ask_and_wait(50)
    threads.may_end.set()

    assert [future.result() for future in asked] == [KEYS] * 50
    assert threads.exchanges.count == 1


class SlowName(str):
    """Lets other threads run each time it is looked up in a dictionary."""

    def __hash__(self) -> int:
        threading.Event().wait(0.001)
        return super().__hash__()


def test_threads_that_come_at_once_share_an_exchange(pool: ThreadPoolExecutor) -> None:
    """Also between looking for a flight and beginning one."""
    threads = Threads(Exchanges([KEYS]), pool)
    threads.may_end.set()
    start = threading.Barrier(8)

    def ask(number: int) -> Reply:
        start.wait(10)
        return threads.flights.share(fetch(SlowName("keys")), threads.exchange)

    assert list(pool.map(ask, range(8))) == [KEYS] * 8
    assert threads.exchanges.count == 1


def test_threads_share_a_failure(pool: ThreadPoolExecutor) -> None:
    threads = Threads(Exchanges([out_of_reach()]), pool)
    asked = threads.ask_and_wait(50)
    threads.may_end.set()
    failures = [future.exception() for future in asked]

    assert threads.exchanges.count == 1
    check_own_failures([f for f in failures if isinstance(f, Exception)], 50)


@pytest.mark.parametrize("outcome", [KEYS, out_of_reach()], ids=["reply", "failure"])
def test_thread_that_comes_late_gets_the_outcome(
    outcome: Reply | UnavailableError, pool: ThreadPoolExecutor
) -> None:
    threads = Threads(Exchanges([outcome]), pool)
    threads.may_end.set()
    first, second = (threads.ask().exception() for _ in range(2))

    assert threads.exchanges.count == 1
    assert type(first) is type(second)


def test_outcome_is_kept_for_seconds_among_threads(pool: ThreadPoolExecutor) -> None:
    times = [0.0]
    flights = BlockingFlights(timer=lambda: times[0])
    threads = Threads(Exchanges([KEYS]), pool, flights)
    threads.may_end.set()
    threads.ask().result()
    times[0] = 5.1
    threads.ask().result()

    assert threads.exchanges.count == 2


@pytest.mark.parametrize("outcome", [KEYS, out_of_reach()], ids=["reply", "failure"])
def test_outcome_is_kept_for_no_thread_where_none_are_kept(
    outcome: Reply | UnavailableError, pool: ThreadPoolExecutor
) -> None:
    threads = Threads(Exchanges([outcome]), pool, BlockingFlights(kept=0))
    asked = threads.ask_and_wait(8)
    threads.may_end.set()
    failures = [future.exception() for future in asked]

    assert threads.exchanges.count == 1
    assert len({type(failure) for failure in failures}) == 1

    threads.ask().exception()

    assert threads.exchanges.count == 2


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, LeaderFailedError])
def test_thread_that_cannot_finish_hands_over(
    end: type[BaseException], pool: ThreadPoolExecutor
) -> None:
    threads = Threads(Exchanges([end(), KEYS]), pool)
    first, *others = threads.ask_and_wait(8)
    threads.may_end.set()

    assert isinstance(first.exception(), end)
    assert [future.result() for future in others] == [KEYS] * 7
    assert threads.exchanges.count == 2


def test_thread_waits_no_longer_than_its_own_timeout(pool: ThreadPoolExecutor) -> None:
    threads = Threads(Exchanges([KEYS]), pool)
    leader = threads.ask()
    threads.leads.wait(10)
    waiter = threads.ask(fetch("keys", timeout=0.01))
    failure = waiter.exception()
    threads.may_end.set()

    assert isinstance(failure, UnavailableError)
    assert failure.reason == "upstream_timeout"
    assert leader.result() == KEYS


def test_forked_child_waits_for_nobody_in_its_parent() -> None:
    program = """
import os, threading
from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.flights import BlockingFlights

flights = BlockingFlights()
fetch = Fetch("https://as.example/keys", "keys", timeout=5.0, max_bytes=1000)
leads, may_end = threading.Event(), threading.Event()

def hang(fetch):
    leads.set()
    may_end.wait()
    return Reply(200, {}, b"")

leader = threading.Thread(target=flights.share, args=(fetch, hang))
leader.start()
leads.wait()
child = os.fork()
if child == 0:
    reply = flights.share(fetch, lambda fetch: Reply(201, {}, b""))
    os._exit(0 if reply.status == 201 else 1)
status = os.waitpid(child, 0)[1]
may_end.set()
leader.join()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    # Newer Pythons warn of forks beside threads, which is just what is tried here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]

    assert subprocess.run(command).returncode == 0


# What is kept


class Request:
    """Stands for all that a request holds on to."""


def test_kept_failure_holds_no_request() -> None:
    """Through the frames in its traceback it would, for as long as it is kept."""
    flights = BlockingFlights()

    def exchange(fetch: Fetch) -> Reply:
        refuse_connection()

    def ask() -> weakref.ref[Request]:
        request = Request()
        with pytest.raises(UnavailableError):
            flights.share(FETCH, exchange)
        return weakref.ref(request)

    request = ask()
    gc.collect()

    assert request() is None
