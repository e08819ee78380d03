"""What a store can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agentauth_middleware._core.operations import CutOff, LogPage

__all__ = ["Store"]


class Store(Protocol):
    """State that several middlewares, processes or hosts share.

    Methods block, may be called from any thread and after a fork, and raise
    ``UnavailableError`` when the store cannot be reached. Instants are epoch seconds;
    what expires still counts at the instant *expires_at* itself. Keys added once and
    keys of values do not meet: each may be used for both.
    """

    def add_once(self, key: str, *, expires_at: float) -> bool:
        """Add *key* unless it is there; ``True`` for exactly one of all callers.

        The key may be added again once *expires_at* has passed.
        """
        ...

    def put(self, key: str, value: bytes, *, expires_at: float) -> None:
        """Keep *value* under *key* until *expires_at*, in place of an earlier one."""
        ...

    def get(self, key: str) -> bytes | None:
        """The value last put under *key*; ``None`` if there is none or it expired."""
        ...

    def append_log(self, entries: Iterable[CutOff]) -> None:
        """Append *entries* to the log; returns when it is as durable as it will be.

        Of several with one key only the latest is kept, under a new position, and one
        whose ``forget_at`` has passed may be dropped: so the log is as long as what it
        still has to say.
        """
        ...

    def read_log(self, after: int) -> LogPage:
        """All entries behind position *after*, oldest first; 0 reads from the start.

        Positions only grow, and an entry never turns up at or before a position that
        has been read: reading on from ``LogPage.position`` misses none. An instant
        that is far in the future by the store's clock is given as the present: it was
        written by a clock that is wrong.
        """
        ...
