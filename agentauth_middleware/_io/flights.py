"""Single flight: callers that want the same exchange share one.

The first caller of a flight *leads* it: it carries out the exchange, and the others
wait. What the flight brings is kept a while for those who come late, a failure like
an answer. A leader that cannot finish, because it was cancelled, interrupted or met
a bug, ends the flight without an outcome; the waiters then start over, one of them as
the new leader, and none of them gets to see what befell the old one.

A waiter is patient for its own ``timeout`` and no longer, whatever the leader does.
(One that takes over has waited already and then asks with that timeout.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import anyio
from cachetools import TTLCache

from agentauth_middleware._io.lifetimes import PerLoop, PerProcess
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason

__all__ = ["AsyncFlights", "BlockingFlights"]

_KEPT_FOR = 5.0
"""Seconds. A caller that joins later decided to ask after the answer came, and needs a
new one."""
_MARGIN = 0.25
"""Seconds a waiter grants beyond its timeout, so that a leader that set out with it
can tell why it failed."""

Outcome: TypeAlias = Any
"""What the exchange brought, or its ``UnavailableError``."""


class Shareable(Protocol):
    """What can be asked for together: all of one *flight* get one answer."""

    @property
    def flight(self) -> str: ...
    @property
    def timeout(self) -> float:
        """Seconds."""
        ...


Asked = TypeVar("Asked", bound=Shareable)
Answer = TypeVar("Answer")


class _Event(Protocol):
    def set(self) -> None: ...


Event = TypeVar("Event", bound=_Event)


class _Flight(Generic[Event]):
    """One exchange. Ended without an outcome: its leader gave up."""

    __slots__ = ("ended", "name", "outcome")

    def __init__(self, name: str, ended: Event) -> None:
        self.name = name
        self.ended = ended
        self.outcome: Outcome | None = None


class _Board(Generic[Event]):
    """The flights under way, and the last ones that have ended."""

    def __init__(
        self, make_event: Callable[[], Event], kept: int, timer: Callable[[], float]
    ) -> None:
        self._make_event = make_event
        self._lock = threading.Lock()
        self._under_way: dict[str, _Flight[Event]] = {}
        self._landed: TTLCache[str, _Flight[Event]] = TTLCache(kept, _KEPT_FOR, timer)

    def join(self, name: str) -> tuple[_Flight[Event], bool]:
        """The flight of that name, and whether the caller is to lead it."""
        with self._lock:
            flight = self._under_way.get(name) or self._landed.get(name)
            if flight is not None:
                return flight, False
            flight = self._under_way[name] = _Flight(name, self._make_event())
            return flight, True

    @contextmanager
    def lead(self, flight: _Flight[Event]) -> Generator[None, None, None]:
        """Carry out the exchange in here; however that goes, the flight ends."""
        try:
            yield
        except UnavailableError as failure:
            flight.outcome = _without_frames(failure)
        finally:
            self._end(flight)

    def _end(self, flight: _Flight[Event]) -> None:
        with self._lock:
            del self._under_way[flight.name]
            if flight.outcome is not None and self._landed.maxsize:
                self._landed[flight.name] = flight
        flight.ended.set()


class BlockingFlights:
    """Single flight among the threads of a process."""

    def __init__(
        self, *, kept: int = 32, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """*kept* is how many outcomes are kept for seconds after their flight."""
        # In a forked child the exchanges of the parent are not under way.
        self._boards = PerProcess(lambda: _Board(threading.Event, kept, timer))

    def share(self, asked: Asked, exchange: Callable[[Asked], Answer]) -> Answer:
        """The outcome of the flight of *asked*; its leader calls *exchange*.

        Raises:
            UnavailableError: the exchange failed, here or in the thread that led, or
                that thread did not finish in time. A new one for each caller.
        """
        board = self._boards.get()
        deadline = time.monotonic() + asked.timeout + _MARGIN
        while True:
            flight, leads = board.join(asked.flight)
            if leads:
                with board.lead(flight):
                    flight.outcome = exchange(asked)
            elif not flight.ended.wait(deadline - time.monotonic()):
                raise _overdue(asked)
            if flight.outcome is not None:
                answer: Answer = _own(flight.outcome)
                return answer


class AsyncFlights:
    """Single flight among the tasks of an event loop, and no further."""

    def __init__(
        self, *, kept: int = 32, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """*kept* is how many outcomes are kept for seconds after their flight."""
        self._boards = PerLoop(lambda: _Board(anyio.Event, kept, timer))

    async def share(
        self, asked: Asked, exchange: Callable[[Asked], Awaitable[Answer]]
    ) -> Answer:
        """The outcome of the flight of *asked*; its leader awaits *exchange*.

        Raises:
            UnavailableError: the exchange failed, here or in the task that led, or
                that task did not finish in time. A new one for each caller.
        """
        board = await self._boards.get()
        deadline = anyio.current_time() + asked.timeout + _MARGIN
        while True:
            flight, leads = board.join(asked.flight)
            if leads:
                with board.lead(flight):
                    flight.outcome = await exchange(asked)
            elif not await _ends_before(deadline, flight.ended):
                raise _overdue(asked)
            if flight.outcome is not None:
                answer: Answer = _own(flight.outcome)
                return answer


async def _ends_before(deadline: float, ended: anyio.Event) -> bool:
    with anyio.CancelScope(deadline=deadline):
        await ended.wait()
    return ended.is_set()


def _own(outcome: Outcome) -> Any:
    """The shared answer, or a failure of the caller's own: raising changes it."""
    if isinstance(outcome, UnavailableError):
        raise UnavailableError(
            outcome.reason, str(outcome), retry_after=outcome.retry_after
        ) from outcome
    return outcome


def _without_frames(failure: UnavailableError) -> UnavailableError:
    """*failure*, fit to be kept: its frames would keep a whole request alive."""
    error: BaseException | None = failure
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    return failure


def _overdue(asked: Shareable) -> UnavailableError:
    return UnavailableError(
        Reason.UPSTREAM_TIMEOUT,
        f"no answer in {asked.timeout:g} s to the request that asked",
    )
