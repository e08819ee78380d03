"""From operation to answer, once blocking and once awaiting.

A performer belongs to a door, and with it all that a door keeps of the outside
world: its store, its HTTP client and the fetches under way.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never, cast

import anyio
import anyio.to_thread

from agentauth_middleware._core.operations import (
    Fetch,
    LogPage,
    Operation,
    ReadLog,
    Start,
)
from agentauth_middleware._io import background
from agentauth_middleware._io.clients import AsyncHTTPClient, BlockingHTTPClient
from agentauth_middleware._io.flights import AsyncFlights, BlockingFlights
from agentauth_middleware._io.lifetimes import PerLoop
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore, Store

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncPerformer", "BlockingPerformer"]

AnyOperation: TypeAlias = Fetch | ReadLog | Start
"""Every operation there is; what makes the two ``match`` below exhaustive."""

_READERS = 4
"""How many threads read the log for one loop at a time."""
_HANGING = 8
"""How many may read in all, those included that nobody waits for any more."""


class BlockingPerformer:
    """Performs in the calling thread; may be shared by threads and used after a fork.

    A store that hangs hangs the thread: its own time limits are all there is.
    """

    def __init__(self, store: Store, http_client: httpx.Client | None = None) -> None:
        """*http_client* is used as it is and never closed here."""
        self._store = store
        self._client = BlockingHTTPClient(http_client)
        self._flights = BlockingFlights()

    def __call__(self, operation: Operation[Any]) -> Any:
        known = cast(AnyOperation, operation)
        match known:
            case Fetch() as fetch:
                return self._flights.share(fetch, self._client.get)
            case ReadLog(after):
                return self._store.read_log(after)
            case Start() as start:
                return background.start(start, self)
            case _:
                assert_never(known)

    def open(self) -> None:
        """Make the HTTP client now and not at the first ``Fetch``."""
        self._client.open()

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
        http_client: httpx.AsyncClient | None = None,
        *,
        store_timeout: float = 2.0,
    ) -> None:
        """*http_client* is used as it is and never closed here; *store_timeout* is how
        many seconds a request waits for the store."""
        self._client = AsyncHTTPClient(http_client)
        self._flights = AsyncFlights()
        self._log = _LogReader(store, store_timeout)
        self._background = BlockingPerformer(store) if http_client is None else None

    async def __call__(self, operation: Operation[Any]) -> Any:
        known = cast(AnyOperation, operation)
        match known:
            case Fetch() as fetch:
                return await self._flights.share(fetch, self._client.get)
            case ReadLog(after):
                return await self._log.read(after)
            case Start() as start:
                if self._background is not None:
                    background.start(start, self._background)
            case _:
                assert_never(known)

    async def open(self) -> None:
        """Make this loop's HTTP client now and not at the first ``Fetch``."""
        await self._client.open()

    async def aclose(self) -> None:
        """Close the HTTP clients made here, this loop's and the background's.

        The next ``Fetch`` makes another.
        """
        await self._client.aclose()
        if self._background is not None:
            self._background.close()


class _LogReader:
    """Reads the log of a store, which blocks, for tasks, which must not.

    In threads beyond the application's, which may all be busy; and not in many, since
    a store that hangs keeps each thread it is given.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._is_in_memory = isinstance(store, MemoryStore)
        self._limiters = PerLoop(lambda: anyio.CapacityLimiter(_READERS))
        self._slots = threading.BoundedSemaphore(_HANGING)

    async def read(self, after: int) -> LogPage:
        if self._is_in_memory:
            return self._store.read_log(after)
        limiter = await self._limiters.get()
        with anyio.move_on_after(self._timeout):
            return await anyio.to_thread.run_sync(
                self._read, after, abandon_on_cancel=True, limiter=limiter
            )
        raise UnavailableError(
            "store_timeout", f"the log was not read in {self._timeout:g} s"
        )

    def _read(self, after: int) -> LogPage:
        # asyncio's limiter counts a thread out as soon as nobody waits for it.
        if not self._slots.acquire(blocking=False):
            raise UnavailableError("store_timeout", "earlier reads of the log hang")
        try:
            return self._store.read_log(after)
        finally:
            self._slots.release()
