"""Counters that limit how often something is done, shared by threads.

Each holds its lock for plain statements only.
"""

from __future__ import annotations

from agentauth_middleware._core.cache import BoundedMap, Lock


class Slots:
    """A fixed number of places; ``take`` says whether one was free."""

    __slots__ = ("_free", "_lock")

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = Lock()

    def take(self) -> bool:
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._free += 1


class SharedSlots:
    """A fixed number of places, each shared by all callers that use the same name.

    An opener that holds a place gets another one only while less than half of all are
    taken, so that the other half is there for openers that hold none.
    """

    __slots__ = ("_lock", "_opened_by", "_places", "_taken")

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[str, int] = {}
        self._opened_by: dict[str, str | None] = {}
        self._lock = Lock()

    def take(self, name: str, opener: str | None) -> bool:
        """Take a place under *name*, if there is one. *opener* ``None`` has no
        limit."""
        with self._lock:
            if name not in self._taken:
                if not self._is_free_for(opener):
                    return False
                self._opened_by[name] = opener
            self._taken[name] = self._taken.get(name, 0) + 1
            return True

    def _is_free_for(self, opener: str | None) -> bool:
        taken = len(self._taken)
        if opener is None or not self._count(opener):
            return taken < self._places
        return taken < self._places // 2

    def _count(self, opener: str) -> int:
        return sum(other == opener for other in self._opened_by.values())

    def opened_by(self, opener: str, *, but: str) -> int:
        """How many places *opener* holds, not counting the one under *but*."""
        with self._lock:
            return self._count(opener) - (self._opened_by.get(but) == opener)

    def give_back(self, name: str) -> None:
        with self._lock:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name], self._opened_by[name]


class Failures:
    """How many exchanges have failed, in a row and in all.

    One that many share is counted once.
    """

    __slots__ = ("_counted", "_lock", "in_a_row", "in_all")

    def __init__(self) -> None:
        self._counted: BoundedMap[str, bool] = BoundedMap(256)
        self._lock = Lock()
        self.in_a_row = 0
        self.in_all = 0

    def add(self, name: str, *, in_a_row: bool = True) -> bool:
        """Count the exchange *name*. Returns whether it was not counted before."""
        with self._lock:
            if self._counted.get(name):
                return False
            self._counted.put(name, True)
            self.in_all += 1
            self.in_a_row += in_a_row
            return True

    def end_row(self) -> None:
        self.in_a_row = 0


class Budgets:
    """For each of many names a budget that refills evenly over *interval*."""

    __slots__ = ("_capacity", "_interval", "_levels", "_lock")

    def __init__(self, capacity: int, interval: float, names: int) -> None:
        """At least half of *names* are remembered; a name that is forgotten has a full
        budget again."""
        self._capacity = capacity
        self._interval = interval
        self._levels: BoundedMap[str, tuple[float, float]] = BoundedMap(names)
        self._lock = Lock()

    def has_left(self, name: str, now: float, *, beside: int = 0) -> bool:
        """Whether *name* may spend, counting *beside*, which it has begun to spend, as
        spent."""
        return self._level(name, now) - beside >= 1

    def take(self, name: str, now: float) -> bool:
        """Spend, if *name* may."""
        with self._lock:
            level = self._level(name, now)
            if level < 1:
                return False
            self._levels.put(name, (level - 1, now))
            return True

    def spend(self, name: str, now: float) -> None:
        with self._lock:
            self._levels.put(name, (max(0.0, self._level(name, now) - 1), now))

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name) or (float(self._capacity), now)
        if at > now:
            return self._capacity  # the clock was set back
        regained = (now - at) * self._capacity / self._interval
        return min(self._capacity, level + regained)


class Cooldown:
    """One permission every *interval* seconds; unused ones do not add up."""

    __slots__ = ("_interval", "_lock", "_next_at")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next_at = float("-inf")
        self._lock = Lock()

    def take(self, now: float) -> bool:
        with self._lock:
            if now < self._next_at and self._next_at - now <= self._interval:
                return False
            self._next_at = now + self._interval
            return True

    def wait(self, now: float) -> float:
        """Seconds until the next permission."""
        return min(max(0.0, self._next_at - now), self._interval)
