"""Bounded maps that threads may share, and the lock of the core.

The core's only kind of lock comes from here. It is held for plain statements, never
while other code runs or a procedure waits.
"""

from __future__ import annotations

import threading  # noqa: TID251 - the one of the core
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def Lock() -> threading.Lock:
    """The core's only kind of lock, looked up when made: gevent may have replaced it
    after this module was imported."""
    return threading.Lock()


class BoundedMap(Generic[Key, Value]):
    """A map that keeps at least the last ``capacity / 2`` entries used.

    Entries live in two generations. When the young one is full it becomes the old one
    and the former old one goes; an entry that is looked up moves to the young one. A
    flood of entries that are used once cannot push out an entry in use before it fills
    half of the map. A look-up is one or two ``dict.get``.
    """

    __slots__ = ("_capacity", "_lock", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity // 2)
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        value = self._young.get(key)
        if value is not None:
            return value
        value = self._old.get(key)
        if value is not None:
            with self._lock:
                # Another thread may have put a newer one.
                value = self._young.get(key, value)
                self._put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._put(key, value)

    def _put(self, key: Key, value: Value) -> None:
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[key] = value
