"""What threads share: a bounded map, places, and a permission now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import pytest

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.throttles import (
    Budgets,
    Cooldown,
    Failures,
    SharedSlots,
    Slots,
)


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


class Meeting:
    """A key whose comparison lets something else happen, as in another thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.happens: Callable[[], None] | None = None

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return isinstance(other, Meeting) and self.name == other.name


def test_entry_put_while_an_old_one_is_looked_up_is_not_overwritten() -> None:
    """Else a token that was just doubted would be good again."""
    entries: BoundedMap[Hashable, str] = BoundedMap(4)
    old = Meeting("token")
    entries.put(old, "good")
    entries.put("other", "x")
    entries.put("another", "x")  # now the first two are the old ones
    old.happens = lambda: entries.put(Meeting("token"), "doubted")
    entries.get(Meeting("token"))

    assert entries.get(Meeting("token")) == "doubted"


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


# Places that several share


def test_shared_place_is_free_once_all_have_left_it() -> None:
    slots = SharedSlots(1)
    assert slots.take("a", None)
    assert slots.take("a", None)
    slots.give_back("a")
    assert not slots.take("b", None)
    slots.give_back("a")

    assert slots.take("b", None)


def test_half_of_the_places_are_for_openers_that_hold_none() -> None:
    slots = SharedSlots(6)

    assert [slots.take(name, "one") for name in "abcd"] == [True] * 3 + [False]
    assert slots.take("a", "one")  # nothing new
    assert [slots.take(name, "other") for name in "ef"] == [True, False]
    assert [slots.take(name, name) for name in "ghi"] == [True, True, False]


def test_places_that_an_opener_holds_are_counted_but_the_one_named() -> None:
    slots = SharedSlots(6)
    for name in "abc":
        slots.take(name, "one")

    assert slots.opened_by("one", but="a") == 2
    assert slots.opened_by("one", but="x") == 3
    assert slots.opened_by("other", but="a") == 0


def test_places_of_nobody_known_are_limited_only_by_their_number() -> None:
    slots = SharedSlots(4)

    assert [slots.take(name, None) for name in "abcde"] == [True] * 4 + [False]


def test_place_counts_for_who_opened_it_till_all_have_left() -> None:
    slots = SharedSlots(2)
    slots.take("a", "one")
    slots.take("a", "other")
    slots.give_back("a")
    assert not slots.take("b", "one")
    slots.give_back("a")

    assert slots.take("b", "one")


def test_the_only_place_is_for_anybody() -> None:
    assert SharedSlots(1).take("a", "one")


# Failures


def test_failure_that_many_share_is_one() -> None:
    failures = Failures()

    assert [failures.add("a"), failures.add("a"), failures.add("b")] == [
        True,
        False,
        True,
    ]
    assert (failures.in_a_row, failures.in_all) == (2, 2)


def test_end_of_a_row_leaves_what_there_was_in_all() -> None:
    """By that number later exchanges are told from earlier ones."""
    failures = Failures()
    failures.add("a")
    failures.end_row()
    failures.add("b")

    assert (failures.in_a_row, failures.in_all) == (1, 2)


def test_failure_may_be_outside_of_any_row() -> None:
    """Not even for a moment, in which another thread might count as far as the end."""
    failures = Failures()
    failures.add("a")

    assert failures.add("b", in_a_row=False)
    assert (failures.in_a_row, failures.in_all) == (1, 2)


def test_failure_is_counted_once_among_threads() -> None:
    failures = Failures()
    news: list[bool] = []
    in_threads(16, lambda: news.append(failures.add("a")))

    assert news.count(True) == failures.in_all == 1


# Budgets


def test_budget_is_spent_and_comes_back_little_by_little() -> None:
    budgets = Budgets(2, 60.0, 10)
    budgets.spend("a", 1000.0)
    assert budgets.has_left("a", 1000.0)
    budgets.spend("a", 1000.0)
    assert not budgets.has_left("a", 1029.75)
    assert budgets.has_left("a", 1030.0)
    budgets.spend("a", 1030.0)

    assert not budgets.has_left("a", 1030.0)
    assert budgets.has_left("b", 1030.0)


def test_budget_that_is_overdrawn_is_empty_and_no_less() -> None:
    """Many may have asked before the first of them was charged."""
    budgets = Budgets(2, 60.0, 10)
    for _ in range(100):
        budgets.spend("a", 1000.0)

    assert budgets.has_left("a", 1030.0)


def test_budget_saves_nothing_up() -> None:
    budgets = Budgets(2, 60.0, 10)
    budgets.spend("a", 1000.0)
    for _ in range(2):
        budgets.spend("a", 9000.0)

    assert not budgets.has_left("a", 9000.0)


def test_budget_is_whole_after_the_clock_was_set_back() -> None:
    budgets = Budgets(2, 60.0, 10)
    for _ in range(2):
        budgets.spend("a", 9000.0)
    assert budgets.has_left("a", 1000.0)
    budgets.spend("a", 1000.0)

    assert budgets.has_left("a", 1000.0)
