"""Calls that may hang, each in a thread that can be left behind.

There is no way to end such a call: a look-up of a name, a read of a disk, a server that
sends a header byte by byte. So the caller gives up in time, and the thread ends when
the call does. Abandoned threads are counted, so that they stay few: a call that might
leave one more is refused at once.
"""

from __future__ import annotations

import concurrent.futures
import math
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

import anyio
import anyio.to_thread

from agentauth_middleware._io.lifetimes import PerLoop, PerProcess
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason

__all__ = ["AsyncThreads", "BlockingThreads"]

Result = TypeVar("Result")

_HANGING = 4
"""How many may be left behind at one place, which then harms itself alone."""
_HANGING_IN_ALL = 32
"""From there on, one at a place; a place where none hangs is never refused."""


class _Ledger:
    """The abandoned threads of a process, by place."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hanging: Counter[str] = Counter()

    def open(self, at: str) -> _Call:
        """Begin a call at the place *at*.

        Raises:
            UnavailableError: too many hang.
        """
        with self.lock:
            hanging = self.hanging[at]
            is_full = hanging >= _HANGING or (
                hanging > 0 and self.hanging.total() >= _HANGING_IN_ALL
            )
        if is_full:
            raise UnavailableError(
                Reason.UPSTREAM_TIMEOUT, f"{at}: earlier requests hang"
            )
        return _Call(self, at)


class _Call:
    """One call, shared by its thread and its caller."""

    def __init__(self, ledger: _Ledger, at: str) -> None:
        self._ledger = ledger
        self._at = at
        self._runs = False
        self._is_left = False

    def run(self, call: Callable[[], Result]) -> Result:
        """Make the call; in its thread.

        Raises:
            TimeoutError: the caller has given up before it began.
        """
        with self._ledger.lock:
            if self._is_left:
                raise TimeoutError
            self._runs = True
        try:
            return call()
        finally:
            self._end()

    def _end(self) -> None:
        with self._ledger.lock:
            self._runs = False
            if self._is_left:
                self._count(-1)

    def leave(self) -> None:
        """Wait no longer, whether or not the call has ended."""
        with self._ledger.lock:
            self._is_left = True
            if self._runs:
                self._count(1)

    def _count(self, change: int) -> None:
        self._ledger.hanging[self._at] += change
        if not self._ledger.hanging[self._at]:
            del self._ledger.hanging[self._at]


class BlockingThreads:
    """For threads that wait."""

    def __init__(self) -> None:
        # In a forked child none of the parent's threads runs.
        self._ledgers = PerProcess(_Ledger)

    def run(self, call: Callable[[], Result], *, at: str, timeout: float) -> Result:
        """What *call* gives, if it does so within *timeout* seconds.

        It has a daemon thread to itself, at a cost of some 80 µs; where no thread can
        be started it is made here, and takes as long as it takes.

        Raises:
            TimeoutError: it did not.
            UnavailableError: too many earlier ones hang.
        """
        under_way = self._ledgers.get().open(at)
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()
        # Tracing that an operator has set up looks into the context.
        target = copy_context().run
        thread = threading.Thread(
            target=target,
            args=(_settle, future, under_way, call),
            name="agentauth-exchange",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # No more threads, or none at all here.
            return call()
        try:
            return future.result(timeout)
        finally:
            under_way.leave()


def _settle(
    future: concurrent.futures.Future[Result],
    under_way: _Call,
    call: Callable[[], Result],
) -> None:
    try:
        future.set_result(under_way.run(call))
    except BaseException as fault:  # Raised again in the caller.
        future.set_exception(fault)


class AsyncThreads:
    """For tasks that wait; how long is for them to say."""

    def __init__(self) -> None:
        self._ledgers = PerProcess(_Ledger)
        # Beyond the application's threads, which may all be busy. The ledger limits.
        self._limiters = PerLoop(lambda: anyio.CapacityLimiter(math.inf))

    async def run(self, call: Callable[[], Result], *, at: str) -> Result:
        """What *call* gives; when cancelled, its thread is left behind.

        Raises:
            UnavailableError: too many earlier ones hang.
        """
        limiter = await self._limiters.get()
        under_way = self._ledgers.get().open(at)
        try:
            return await anyio.to_thread.run_sync(
                under_way.run, call, abandon_on_cancel=True, limiter=limiter
            )
        finally:
            under_way.leave()
