"""What threads share: a bounded map, places, and a permission now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agentauth_middleware._core.cache import BoundedMap, Cooldown, Slots


def test_map_gives_back_what_was_put() -> None:
    entries: BoundedMap[str, int] = BoundedMap(10)
    entries.put("a", 1)
    entries.put("a", 2)

    assert entries.get("a") == 2
    assert entries.get("b") is None


def test_map_keeps_falsy_values() -> None:
    entries: BoundedMap[str, int] = BoundedMap(10)
    entries.put("zero", 0)

    assert entries.get("zero") == 0


def test_map_never_holds_more_than_its_capacity() -> None:
    entries: BoundedMap[int, int] = BoundedMap(10)
    for number in range(1000):
        entries.put(number, number)
    kept = [number for number in range(1000) if entries.get(number) is not None]

    assert 5 <= len(kept) <= 10
    assert kept[-1] == 999


def test_map_keeps_an_entry_in_use_through_a_flood() -> None:
    entries: BoundedMap[object, str] = BoundedMap(10)
    entries.put("in use", "kept")
    for number in range(1000):
        entries.put(number, "flood")

        assert entries.get("in use") == "kept"


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_smallest_map_keeps_the_last_entry(capacity: int) -> None:
    entries: BoundedMap[int, str] = BoundedMap(capacity)
    entries.put(1, "first")
    entries.put(2, "second")
    entries.put(3, "third")

    assert entries.get(3) == "third"
    assert entries.get(1) is None


def in_threads(count: int, work: Callable[[], None]) -> None:
    """Run *work* in *count* threads that all begin at once."""
    barrier = threading.Barrier(count)

    def begin() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=begin) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_slots_give_out_each_place_once() -> None:
    slots = Slots(2)

    assert [slots.take(), slots.take(), slots.take()] == [True, True, False]
    slots.give_back()
    assert [slots.take(), slots.take()] == [True, False]


def test_slots_give_out_each_place_once_among_threads() -> None:
    slots = Slots(3)
    taken: list[bool] = []
    in_threads(16, lambda: taken.append(slots.take()))

    assert taken.count(True) == 3


def test_cooldown_permits_once_an_interval() -> None:
    cooldown = Cooldown(12)

    assert cooldown.take(1000.0)
    assert not cooldown.take(1000.0)
    assert not cooldown.take(1011.75)
    assert cooldown.take(1012.0)
    assert not cooldown.take(1012.0)


def test_cooldown_saves_nothing_up() -> None:
    cooldown = Cooldown(12)
    cooldown.take(1000.0)

    assert [cooldown.take(9000.0), cooldown.take(9000.0)] == [True, False]


def test_cooldown_is_not_stuck_after_the_clock_was_set_back() -> None:
    cooldown = Cooldown(12)
    cooldown.take(1_000_000.0)

    assert cooldown.take(1000.0)


def test_cooldown_permits_once_among_threads() -> None:
    cooldown = Cooldown(12)
    permitted: list[bool] = []
    in_threads(16, lambda: permitted.append(cooldown.take(1000.0)))

    assert permitted.count(True) == 1
