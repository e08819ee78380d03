"""Both drivers, over the same procedures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from agentauth_middleware._core.operations import Operation, Procedure
from agentauth_middleware._io.drive import drive, drive_async
from agentauth_middleware.errors import UnavailableError

Run: TypeAlias = Callable[[Procedure[Any], Callable[[Operation[Any]], Any]], Any]


@dataclass(frozen=True)
class Ask(Operation[int]):
    question: str


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Drives a procedure, its operations performed by a plain function."""
    if request.param == "blocking":
        return drive

    def run_async(
        procedure: Procedure[Any], perform: Callable[[Operation[Any]], Any]
    ) -> Any:
        async def perform_async(operation: Operation[Any]) -> Any:
            await anyio.lowlevel.checkpoint()
            return perform(operation)

        return anyio.run(drive_async, procedure, perform_async, backend=request.param)

    return run_async


def never_asked(operation: Operation[Any]) -> Any:
    raise AssertionError(f"{operation} was not to be asked for")


def unavailable(operation: Operation[Any]) -> Any:
    raise UnavailableError("upstream_timeout")


def add() -> Procedure[int]:
    first = yield from Ask("first")
    second = yield from Ask("second")
    return first * 10 + second


def test_drive_sends_each_answer_in(run: Run) -> None:
    answers: dict[Operation[Any], int] = {Ask("first"): 4, Ask("second"): 2}

    assert run(add(), lambda operation: answers[operation]) == 42


def test_drive_runs_a_procedure_that_asks_for_nothing(run: Run) -> None:
    def procedure() -> Procedure[str]:
        return "known"
        yield Ask("never")

    assert run(procedure(), never_asked) == "known"


def test_drive_throws_unavailable_in(run: Run) -> None:
    def procedure() -> Procedure[str]:
        try:
            yield from Ask("keys")
        except UnavailableError as failure:
            return f"stale keys after {failure.reason}"
        return "fresh keys"

    assert run(procedure(), unavailable) == "stale keys after upstream_timeout"


def test_drive_goes_on_after_a_failure(run: Run) -> None:
    def procedure() -> Procedure[int]:
        try:
            yield from Ask("closed")
        except UnavailableError:
            return (yield from Ask("open"))
        return 0

    def perform(operation: Operation[Any]) -> int:
        return unavailable(operation) if operation == Ask("closed") else 7

    assert run(procedure(), perform) == 7


def test_drive_lets_an_uncaught_failure_out(run: Run) -> None:
    with pytest.raises(UnavailableError, match="upstream_timeout"):
        run(add(), unavailable)


def test_drive_does_not_take_stop_iteration_of_perform_for_the_end(run: Run) -> None:
    """It would end the procedure with ``None``: a refusal lost."""

    def perform(operation: Operation[Any]) -> Any:
        raise StopIteration(None)

    # A coroutine cannot raise it; Python makes a ``RuntimeError`` of it there.
    with pytest.raises((StopIteration, RuntimeError)):
        run(add(), perform)


@pytest.mark.parametrize(
    "escape", [ZeroDivisionError, KeyboardInterrupt, TimeoutError, LookupError]
)
def test_drive_throws_nothing_else_in(run: Run, escape: type[BaseException]) -> None:
    """It leaves through the driver, and the procedure is closed."""
    seen: list[BaseException] = []

    def procedure() -> Procedure[None]:
        try:
            yield from Ask("anything")
        except BaseException as error:
            seen.append(error)
            raise

    def perform(operation: Operation[Any]) -> Any:
        raise escape

    with pytest.raises(escape):
        run(procedure(), perform)

    assert [type(error) for error in seen] == [GeneratorExit]


def test_drive_leaves_no_circle_behind(run: Run) -> None:
    """In an outage, each refused request would wait for the garbage collector."""
    failures: list[weakref.ref[UnavailableError]] = []

    def procedure() -> Procedure[str]:
        try:
            yield from Ask("keys")
        except UnavailableError as failure:
            failures.append(weakref.ref(failure))
        return "refused"

    gc.disable()
    try:
        run(procedure(), unavailable)

        assert failures[0]() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_cancellation_closes_the_procedure() -> None:
    seen: list[BaseException] = []
    asked = anyio.Event()

    def procedure() -> Procedure[None]:
        try:
            yield from Ask("a server that hangs")
        except BaseException as error:
            seen.append(error)
            raise

    async def perform(operation: Operation[Any]) -> None:
        asked.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive_async, procedure(), perform)
        await asked.wait()
        tasks.cancel_scope.cancel()

    assert [type(error) for error in seen] == [GeneratorExit]
