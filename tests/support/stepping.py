"""Stepping a procedure by hand: what it asks for is looked at, answers are canned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias

from agentauth_middleware._core.operations import Operation, Procedure, Reply, Result
from agentauth_middleware.errors import UnavailableError
from tests.support.tokens import NOW

Answer: TypeAlias = object
"""What is sent in; an ``UnavailableError`` is thrown in instead."""


class Clock:
    """Epoch seconds that pass only when they are told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


class Stepper(Generic[Result]):
    """One procedure under way, perhaps one of several.

    It runs up to its first operation when made; what it raises comes out there or
    from ``answer``.
    """

    def __init__(self, procedure: Procedure[Result]) -> None:
        self._procedure = procedure
        self._ended: tuple[Result] | None = None
        self.asks: Operation[Any] | None = None
        """The operation it waits for; ``None`` once it has ended."""
        self._step(lambda: procedure.send(None))

    def answer(self, answer: Answer) -> None:
        """Give it the answer it waits for."""
        if isinstance(answer, UnavailableError):
            failure = answer
            self._step(lambda: self._procedure.throw(failure))
        else:
            self._step(lambda: self._procedure.send(answer))

    def close(self) -> None:
        """Abandon it, as a driver does whose request is cancelled."""
        self._procedure.close()

    @property
    def result(self) -> Result:
        assert self._ended is not None, f"it still asks for {self.asks}"
        return self._ended[0]

    def _step(self, step: Callable[[], Operation[Any]]) -> None:
        try:
            self.asks = step()
        except StopIteration as finished:
            self.asks, self._ended = None, (finished.value,)


def play(
    procedure: Procedure[Result], transcript: Iterable[tuple[Operation[Any], Answer]]
) -> Result:
    """The result of *procedure*, which must ask for exactly these operations."""
    stepper = Stepper(procedure)
    for operation, answer in transcript:
        assert stepper.asks == operation
        stepper.answer(answer)
    assert stepper.asks is None
    return stepper.result


def json_reply(document: object, status: int = 200, /, **headers: str) -> Reply:
    """*document* as a server sends it; ``cache_control="no-store"`` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status,
        {"content-type": "application/json", **named},
        json.dumps(document).encode(),
    )
