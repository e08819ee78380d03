"""The store of a single process: plain dictionaries behind one lock."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterable

from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware._core.revocations.cut_offs import MOST_SKEW, clamped
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason

__all__ = ["MemoryStore"]

# More than the one entry that a call adds, so expired ones never pile up; a constant,
# so that no call pays for all that expired since the last one.
_DROPPED_AT_MOST = 2
_SWEPT_FROM = 1024
"""How long the log is before it is searched for what may be forgotten. The next time it
is twice as long, so that an append costs no more on average for it."""


class MemoryStore:
    """Keeps everything in the memory of one process; the default of the middlewares.

    Nothing is shared: a second worker accepts a replay that the first has seen, and
    never hears of a revocation told to the first. Nothing is durable either. For
    several workers use ``SQLiteStore``.

    Expired entries are dropped as calls come in. A full store raises
    ``UnavailableError`` instead of forgetting an entry that has not expired, since a
    forgotten replay is an accepted one. The log of revocations keeps the latest of each
    kind until its tokens have expired, and has no other bound.
    """

    def __init__(
        self, *, max_entries: int = 1_000_000, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            max_entries: how many keys added once are held, and how many values;
                about 300 bytes each.
            clock: the present, in epoch seconds.
        """
        self._clock = clock
        self._once = _Entries(max_entries)
        self._values = _Entries(max_entries)
        self._log: dict[bytes, tuple[int, CutOff]] = {}
        """By key, in the order of their positions."""
        self._end_of_log = 0
        self._sweep_log_at = _SWEPT_FROM
        self._lock = threading.Lock()
        _hold_during_fork(self._lock)

    def add_once(self, key: str, *, expires_at: float) -> bool:
        with self._lock:
            now = self._clock()
            if self._once.find(key, now) is not None:
                return False
            self._once.keep(key, b"", expires_at, now)
            return True

    def put(self, key: str, value: bytes, *, expires_at: float) -> None:
        with self._lock:
            self._values.keep(key, value, expires_at, self._clock())

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._values.find(key, self._clock())

    def append_log(self, entries: Iterable[CutOff]) -> None:
        with self._lock:
            for entry in entries:
                _, known = self._log.get(entry.key, (0, entry))
                if known is entry or known.at < entry.at:
                    self._log.pop(entry.key, None)
                    self._end_of_log += 1
                    self._log[entry.key] = (self._end_of_log, entry)
            if len(self._log) >= self._sweep_log_at:
                self._drop_forgotten()

    def _drop_forgotten(self) -> None:
        now = self._clock()
        self._log = {
            key: item for key, item in self._log.items() if item[1].forget_at >= now
        }
        self._sweep_log_at = max(_SWEPT_FROM, 2 * len(self._log))

    def read_log(self, after: int) -> LogPage:
        with self._lock:
            latest = self._clock() + MOST_SKEW
            found: list[tuple[bytes, float]] = []
            for position, entry in reversed(self._log.values()):
                if position <= after:
                    break
                found.append((entry.key, clamped(entry.at, latest)))
            return LogPage(max(after, self._end_of_log), tuple(reversed(found)))


class _Entries:
    """Values that expire. Not safe for threads by itself."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: dict[str, tuple[float, bytes]] = {}
        # By expiry, soonest first. The item of a key that was kept again stays until
        # its turn comes, and is told by its expiry, which is no longer the entry's.
        self._queue: list[tuple[float, str]] = []

    def find(self, key: str, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < now:
            return None
        return entry[1]

    def keep(self, key: str, value: bytes, expires_at: float, now: float) -> None:
        self._drop_expired(now)
        if key not in self._entries and len(self._entries) >= self._max_entries:
            raise UnavailableError(
                Reason.STORE_FULL,
                f"the MemoryStore holds {self._max_entries} entries, none of them"
                " expired; raise max_entries or use SQLiteStore",
            )
        self._entries[key] = (expires_at, value)
        heapq.heappush(self._queue, (expires_at, key))
        if len(self._queue) > 2 * len(self._entries) + 8:
            self._rebuild_queue()

    def _drop_expired(self, now: float) -> None:
        dropped = 0
        while dropped < _DROPPED_AT_MOST and self._queue and self._queue[0][0] < now:
            expires_at, key = heapq.heappop(self._queue)
            if key in self._entries and self._entries[key][0] == expires_at:
                del self._entries[key]
                dropped += 1

    def _rebuild_queue(self) -> None:
        """Leave out the items of keys kept again, or one key could fill the memory."""
        self._queue = [(entry[0], key) for key, entry in self._entries.items()]
        heapq.heapify(self._queue)


def _hold_during_fork(lock: threading.Lock) -> None:
    """Fork only while *lock* is free: a child would wait for ever for a thread that
    held it, for threads do not survive a fork, and see half of what it was doing."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch (not on Windows)
        os.register_at_fork(
            before=lock.acquire,
            after_in_parent=lock.release,
            after_in_child=lock.release,
        )
