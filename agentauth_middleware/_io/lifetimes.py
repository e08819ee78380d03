"""What lives as long as a process, and what lives as long as an event loop.

HTTP connections, events and threads are useless outside the process or the loop
that made them, but a middleware is made once: before the server forks, and perhaps for
several loops one after another. So it keeps such things in one of these two.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from anyio.lowlevel import current_token

__all__ = ["PerLoop", "PerProcess"]

Kept = TypeVar("Kept")


class PerProcess(Generic[Kept]):
    """A value made on first use, and again when the process id has changed.

    Without a lock, because a fork would copy it held. What a parent made is never
    dropped: closing it here could end what the parent still uses.
    """

    def __init__(self, make: Callable[[], Kept]) -> None:
        self._make = make
        self._values: dict[int, Kept] = {}

    def get(self) -> Kept:
        """This process's value; the same for threads that come at once."""
        process = os.getpid()
        value = self._values.get(process)
        if value is None:
            value = self._values.setdefault(process, self._make())
        return value

    def pop(self) -> Kept | None:
        """Forget this process's value, if it has been made, and give it back."""
        return self._values.pop(os.getpid(), None)


_keepers: dict[tuple[object, object], AsyncGenerator[None, None]] = {}
"""Held here, and not by the object they serve, so that they live until their loop
ends: trio warns of a generator that is dropped half-way."""


class PerLoop(Generic[Kept]):
    """A value for each running event loop, made on first use.

    It is closed when its loop ends, whether or not ``aclose`` was called: asyncio and
    trio both close the asynchronous generators that are left then. (A loop that is
    abandoned without that, as ``asyncio.run`` never does, leaves its value behind.)
    """

    def __init__(
        self,
        make: Callable[[], Kept],
        close: Callable[[Kept], Awaitable[None]] | None = None,
    ) -> None:
        self._make = make
        self._close = close
        self._values: dict[object, Kept] = {}

    async def get(self) -> Kept:
        """The running loop's value."""
        loop = current_token()
        if loop not in self._values:
            self._values[loop] = self._make()
            keeper = _keepers[self, loop] = self._keep_until_loop_ends(loop)
            await anext(keeper)
        return self._values[loop]

    async def aclose(self) -> None:
        """Close and forget the running loop's value, if it has been made."""
        keeper = _keepers.get((self, current_token()))
        if keeper is not None:
            await keeper.aclose()

    async def _keep_until_loop_ends(self, loop: object) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            del _keepers[self, loop]
            value = self._values.pop(loop)
            if self._close is not None:
                await self._close(value)
