"""What it costs that a decision is a procedure, and to read on in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter_ns
from typing import Any

from agentauth_middleware._core.operations import Operation, Procedure, ReadLog
from agentauth_middleware._io.drive import drive, drive_async
from agentauth_middleware._io.perform import AsyncPerformer, BlockingPerformer
from benchmarks.report import Row
from benchmarks.rounds import Batch, Rounds, clocked
from benchmarks.scene import NewTokens, Scene
from benchmarks.signatures import bare_check, check_name

__all__ = ["measure_drivers"]

_MANY = 500
_FEW = 5
_RS256 = check_name("RS256")
_DRIVE, _FUNCTION = "procedure, blocking driver", "function"
_DRIVE_ASYNC, _COROUTINE = "procedure, awaiting driver", "coroutine function"
_READ, _READ_ASYNC = "reading on in the log, WSGI", "reading on in the log, ASGI"


def measure_drivers(scene: Scene, new: NewTokens, rounds: Rounds) -> Iterator[Row]:
    """A procedure that asks for nothing, beyond what a function costs; and one
    operation, which each process performs four times a second at most."""
    read_on = ReadLog(scene.store.read_log(0).position)
    perform, perform_async = BlockingPerformer(scene.store), AsyncPerformer(scene.store)
    with asyncio.Runner() as runner:
        contestants = {
            _RS256: bare_check(scene.issuers["RS256"], "RS256", new["RS256"]),
            _FUNCTION: _calling(lambda: _decide_in_function(), _MANY),
            _DRIVE: _calling(lambda: drive(_decide(), _refuse), _MANY),
            _COROUTINE: _awaiting(runner, lambda: _decide_in_coroutine(), _MANY),
            _DRIVE_ASYNC: _awaiting(
                runner, lambda: drive_async(_decide(), _refuse), _MANY
            ),
            _READ: _calling(lambda: perform(read_on), _FEW),
            _READ_ASYNC: _awaiting(runner, lambda: perform_async(read_on), _FEW),
        }
        timings = rounds.take_turns(contestants)
    for name, plain in (
        (_DRIVE, _FUNCTION),
        (_DRIVE_ASYNC, _COROUTINE),
        (_READ, None),
        (_READ_ASYNC, None),
    ):
        time = timings.time(name, minus=plain)
        ratio = timings.ratio(name, of=_RS256, minus=plain)
        yield Row("drivers", name, time, "µs", ratio, _RS256)


def _decide() -> Procedure[str]:
    """Asks for nothing, like the decision on a remembered token."""
    yield from ()
    return "granted"


def _decide_in_function() -> str:
    return "granted"


async def _decide_in_coroutine() -> str:
    return "granted"


def _refuse(operation: Operation[Any]) -> Any:
    raise AssertionError(f"{operation} is not asked for")


def _calling(call: Callable[[], object], times: int) -> Batch:
    return clocked(lambda _: call(), lambda _: range(times))


def _awaiting(
    runner: asyncio.Runner, call: Callable[[], Awaitable[object]], times: int
) -> Batch:
    async def call_all() -> int:
        started = perf_counter_ns()
        for _ in range(times):
            await call()
        return perf_counter_ns() - started

    return lambda _: runner.run(call_all()) / 1000 / times
