"""Calls that hang are left behind, but only a few of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest

from agentauth_middleware._io.threads import AsyncThreads, BlockingThreads
from agentauth_middleware.errors import UnavailableError
from tests.support.deadlines import try_within


class Place:
    """Where calls hang till the test says otherwise."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self._lock = threading.Lock()
        self.begun = 0

    def hang(self) -> str:
        with self._lock:
            self.begun += 1
        self.may_end.wait(10)
        return "answer"


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.may_end.set()


def answer() -> str:
    return "answer"


def leave_behind(threads: BlockingThreads, place: Place, at: str) -> bool:
    """Whether one more call hangs now; not if it is refused.

    On a busy machine a call can be given up before it has begun: that is none yet.
    """
    before = place.begun
    while place.begun == before:
        try:
            threads.run(place.hang, at=at, timeout=0.01)
        except TimeoutError:
            continue
        except UnavailableError:
            return False
    return True


def is_refused(run: Callable[[], str]) -> bool:
    try:
        return run() != "answer"
    except UnavailableError as failure:
        return failure.reason == "upstream_timeout"


def test_few_calls_hang_at_one_place(place: Place) -> None:
    threads = BlockingThreads()
    hang = [leave_behind(threads, place, "https://slow.example") for _ in range(5)]

    assert hang == [True] * 4 + [False]
    assert threads.run(answer, at="https://as.example", timeout=5) == "answer"

    place.may_end.set()
    again = try_within(
        10,
        lambda: is_refused(
            lambda: threads.run(answer, at="https://slow.example", timeout=5)
        ),
        lambda refused: not refused,
    )

    assert not again


def test_few_calls_hang_in_all(place: Place) -> None:
    threads = BlockingThreads()
    for number in range(32):
        assert leave_behind(threads, place, f"{number}.example")

    assert is_refused(lambda: threads.run(answer, at="0.example", timeout=5))


def test_calls_that_hang_elsewhere_stop_nobody_who_answers(place: Place) -> None:
    """Else a few issuers that hang would close the middleware to all others."""
    threads = BlockingThreads()
    for number in range(40):
        assert leave_behind(threads, place, f"{number}.example")

    assert threads.run(answer, at="https://as.example", timeout=5) == "answer"


def test_calls_that_somebody_waits_for_are_not_counted(place: Place) -> None:
    threads = BlockingThreads()

    def run(number: int) -> str:
        return threads.run(place.hang, at="https://as.example", timeout=10)

    with ThreadPoolExecutor(50) as pool:
        asked = pool.map(run, range(50))
        begun = try_within(10, lambda: place.begun, lambda begun: begun == 50)
        place.may_end.set()

        assert begun == 50
        assert list(asked) == ["answer"] * 50


@pytest.mark.parametrize("fault", [ZeroDivisionError, SystemExit])
def test_what_a_call_raises_is_raised_where_it_is_waited_for(
    fault: type[BaseException],
) -> None:
    def fail() -> str:
        raise fault

    with pytest.raises(fault):
        BlockingThreads().run(fail, at="https://as.example", timeout=5)


def test_forked_child_counts_no_thread_of_its_parent() -> None:
    program = """
import os, threading
from agentauth_middleware._io.threads import BlockingThreads

threads = BlockingThreads()
may_end = threading.Event()
for _ in range(4):
    try:
        threads.run(may_end.wait, at="as.example", timeout=0.01)
    except TimeoutError:
        pass
child = os.fork()
if child == 0:
    os._exit(threads.run(lambda: 0, at="as.example", timeout=5))
status = os.waitpid(child, 0)[1]
may_end.set()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    # Newer Pythons warn of forks beside threads, which is just what is tried here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]

    assert subprocess.run(command).returncode == 0


# Tasks


@pytest.mark.anyio
async def test_few_calls_hang_for_tasks(place: Place) -> None:
    threads = AsyncThreads()
    for _ in range(4):
        await leave_behind_async(threads, place)
    with pytest.raises(UnavailableError) as failure:
        await threads.run(answer, at="https://slow.example")

    assert failure.value.reason == "upstream_timeout"
    assert await threads.run(answer, at="https://as.example") == "answer"


async def leave_behind_async(threads: AsyncThreads, place: Place) -> None:
    """Begin a call that hangs, and cancel the task that waits for it."""
    begun = place.begun
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await threads.run(place.hang, at="https://slow.example")

        group.start_soon(run)
        while place.begun == begun:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_call_that_never_began_is_not_counted() -> None:
    threads = AsyncThreads()
    for _ in range(8):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await threads.run(answer, at="https://as.example")

    assert await threads.run(answer, at="https://as.example") == "answer"
