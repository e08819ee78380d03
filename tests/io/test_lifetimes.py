from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest

from agentauth_middleware._io.lifetimes import PerLoop, PerProcess


def test_per_process_makes_one_value() -> None:
    kept = PerProcess(object)

    assert kept.get() is kept.get()


def test_threads_that_come_at_once_get_the_same_value() -> None:
    both_make = threading.Barrier(2)

    def make() -> object:
        both_make.wait(10)
        return object()

    kept = PerProcess(make)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(kept.get), pool.submit(kept.get)

        assert first.result() is second.result()


def test_per_process_makes_a_new_value_after_pop() -> None:
    kept = PerProcess(object)
    first = kept.get()

    assert kept.pop() is first
    assert kept.pop() is None
    assert kept.get() is not first


def test_per_process_makes_a_new_value_after_a_fork() -> None:
    program = """
import os
from agentauth_middleware._io.lifetimes import PerProcess
kept = PerProcess(os.getpid)
parent = kept.get()
child = os.fork()
if child == 0:
    os._exit(0 if kept.get() == os.getpid() != parent else 1)
status = os.waitpid(child, 0)[1]
assert kept.get() == parent == os.getpid()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_per_loop_makes_a_value_for_each_loop(backend: str) -> None:
    kept = PerLoop(object)

    async def twice() -> tuple[object, object]:
        return await kept.get(), await kept.get()

    first, second = (anyio.run(twice, backend=backend) for _ in range(2))

    assert first[0] is first[1]
    assert second[0] is second[1]
    assert first[0] is not second[0]


@BACKENDS
def test_per_loop_closes_as_its_loop_ends(backend: str) -> None:
    closed: list[str] = []

    async def close(value: str) -> None:
        await anyio.lowlevel.cancel_shielded_checkpoint()
        closed.append(value)

    kept = PerLoop(lambda: "client", close)
    anyio.run(kept.get, backend=backend)

    assert closed == ["client"]


@pytest.mark.anyio
async def test_per_loop_closes_when_told_and_starts_anew() -> None:
    closed: list[object] = []

    async def close(value: object) -> None:
        closed.append(value)

    kept = PerLoop(object, close)
    first = await kept.get()
    await kept.aclose()
    await kept.aclose()

    assert closed == [first]
    assert await kept.get() is not first
