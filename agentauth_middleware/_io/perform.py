"""From operation to answer, once blocking and once awaiting.

A performer belongs to a middleware, and with it all that a middleware keeps of the
outside world: its store, its HTTP client and the fetches under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, assert_never, cast

import anyio
import anyio.to_thread

from agentauth_middleware._core.operations import (
    AppendLog,
    CutOff,
    Fetch,
    LogPage,
    Operation,
    ReadLog,
    Start,
)
from agentauth_middleware._io import background
from agentauth_middleware._io.clients import (
    AsyncHTTPClient,
    BlockingHTTPClient,
    Certificates,
)
from agentauth_middleware._io.flights import AsyncFlights, BlockingFlights
from agentauth_middleware._io.lifetimes import PerLoop
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.stores import MemoryStore, Store

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AsyncPerformer", "BlockingPerformer"]

AnyOperation: TypeAlias = AppendLog | Fetch | ReadLog | Start
"""Every operation there is; what makes the two ``match`` below exhaustive."""

Done = TypeVar("Done")

_READERS = 4
"""How many threads read the log for one loop at a time."""
_HANGING = 8
"""How many may read in all, including those that were abandoned."""


class BlockingPerformer:
    """Performs in the calling thread; may be shared by threads and used after a fork.

    A store that hangs hangs the thread: its own time limits are all there is.
    """

    def __init__(
        self,
        store: Store,
        http_client: httpx.Client | httpx2.Client | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """*http_client* is used as it is and never closed here; *certificates* may be
        shared with other performers."""
        self._store = store
        self._client = BlockingHTTPClient(http_client, certificates)
        self._flights = BlockingFlights()
        self._reads = BlockingFlights(kept=0)

    def __call__(self, operation: Operation[Any]) -> Any:
        known = cast(AnyOperation, operation)
        match known:
            case Fetch() as fetch:
                return self._flights.share(fetch, self._client.carry_out)
            case ReadLog() as read:
                return self._reads.share(_Read(read), self._read_log)
            case AppendLog(entries):
                return self._store.append_log(entries)
            case Start() as start:
                return background.start(start, self)
            case _:
                assert_never(known)

    def _read_log(self, read: _Read) -> LogPage:
        return read.page_of(self._store)

    def prepare(self) -> None:
        """Do ahead what no request should wait for; before the server forks is best.

        Opens no connection.

        Raises:
            ConfigurationError: a variable of the environment keeps HTTP clients from
                being made.
        """
        self._client.check_environment()

    def close(self) -> None:
        """Close the HTTP client made here. The next ``Fetch`` makes another."""
        self._client.close()


class AsyncPerformer:
    """Performs in the running event loop, asyncio or trio, and in several in turn.

    What is started in the background has a thread, and there an HTTP client of its
    own. With an *http_client* handed in it is not started, since its requests would
    bypass that client; what it would have fetched ahead is fetched in line once
    overdue.
    """

    def __init__(
        self,
        store: Store,
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        *,
        store_timeout: float = 2.0,
    ) -> None:
        """*http_client* is used as it is and never closed here; *store_timeout* is how
        many seconds a request waits for the store."""
        certificates = Certificates()
        self._client = AsyncHTTPClient(http_client, certificates)
        self._flights = AsyncFlights()
        self._reads = AsyncFlights(kept=0)
        self._log = _Log(store, store_timeout)
        self._background = (
            BlockingPerformer(store, certificates=certificates)
            if http_client is None
            else None
        )

    async def __call__(self, operation: Operation[Any]) -> Any:
        known = cast(AnyOperation, operation)
        match known:
            case Fetch() as fetch:
                return await self._flights.share(fetch, self._client.carry_out)
            case ReadLog() as read:
                return await self._reads.share(_Read(read), self._log.read)
            case AppendLog(entries):
                return await self._log.append(entries)
            case Start() as start:
                if self._background is not None:
                    background.start(start, self._background)
            case _:
                assert_never(known)

    def prepare(self) -> None:
        """Do ahead what no request should wait for; before the server forks is best.

        Opens no connection.

        Raises:
            ConfigurationError: a variable of the environment keeps HTTP clients from
                being made.
        """
        self._client.check_environment()

    async def aclose(self) -> None:
        """Close the HTTP clients made here, this loop's and the background's.

        The next ``Fetch`` makes another.
        """
        await self._client.aclose()
        if self._background is not None:
            self._background.close()


@dataclass(frozen=True, slots=True)
class _Read:
    """A read of the log, shared by all callers that ask while it is under way."""

    operation: ReadLog
    timeout: float = 5.0

    @property
    def flight(self) -> str:
        return f"log behind {self.operation.after}"

    def page_of(self, store: Store) -> LogPage:
        """The page of *store*, dated by the first caller of this read."""
        page = store.read_log(self.operation.after)
        return replace(page, asked_at=self.operation.asked_at)


class _Log:
    """The log of a store, which blocks, for tasks, which must not.

    In threads beyond the application's, which may all be busy; and not in many, since
    a store that hangs keeps each thread it is given.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._is_in_memory = isinstance(store, MemoryStore)
        self._limiters = PerLoop(lambda: anyio.CapacityLimiter(_READERS))
        self._slots = threading.BoundedSemaphore(_HANGING)

    async def read(self, read: _Read) -> LogPage:
        return await self._run(lambda: read.page_of(self._store))

    async def append(self, entries: tuple[CutOff, ...]) -> None:
        await self._run(lambda: self._store.append_log(entries))

    async def _run(self, call: Callable[[], Done]) -> Done:
        if self._is_in_memory:
            return call()
        limiter = await self._limiters.get()
        with anyio.move_on_after(self._timeout):
            return await anyio.to_thread.run_sync(
                self._in_slot, call, abandon_on_cancel=True, limiter=limiter
            )
        raise UnavailableError(
            Reason.STORE_TIMEOUT, f"the log did not answer in {self._timeout:g} s"
        )

    def _in_slot(self, call: Callable[[], Done]) -> Done:
        # asyncio's limiter counts a thread out as soon as nothing waits for it.
        if not self._slots.acquire(blocking=False):
            raise UnavailableError(
                Reason.STORE_TIMEOUT, "earlier calls for the log hang"
            )
        try:
            return call()
        finally:
            self._slots.release()
