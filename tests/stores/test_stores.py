"""What every store promises, in one table for all of them."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentauth_middleware import stores
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware.stores import MemoryStore, SQLiteStore, Store
from tests.support.log import AT, append, entry, names_of

NOW = 1_700_000_000.0


class Clock:
    """Stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


MAKERS: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda folder, clock: MemoryStore(clock=clock),
    "sqlite": lambda folder, clock: SQLiteStore(folder / "store.db", clock=clock),
}


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Store:
    make: Callable[[Path, Clock], Store] = request.param
    return make(tmp_path, clock)


def test_key_is_added_once(store: Store) -> None:
    first = store.add_once("proof", expires_at=NOW + 60)
    second = store.add_once("proof", expires_at=NOW + 60)
    other = store.add_once("another proof", expires_at=NOW + 60)

    assert (first, second, other) == (True, False, True)


@pytest.mark.parametrize(
    ("age", "added"),
    [
        pytest.param(60, False, id="at the instant it expires"),
        pytest.param(60.001, True, id="just expired"),
    ],
)
def test_key_is_added_again_once_it_expired(
    store: Store, clock: Clock, age: float, added: bool
) -> None:
    store.add_once("proof", expires_at=NOW + 60)
    clock.now = NOW + age
    store.add_once("another proof", expires_at=NOW + 120)

    assert store.add_once("proof", expires_at=NOW + 120) is added


def test_refused_key_lives_no_longer_for_it(store: Store, clock: Clock) -> None:
    store.add_once("proof", expires_at=NOW + 60)
    store.add_once("proof", expires_at=NOW + 600)
    clock.now = NOW + 61

    assert store.add_once("proof", expires_at=NOW + 120)


def test_key_added_again_is_refused_until_its_new_end(
    store: Store, clock: Clock
) -> None:
    store.add_once("proof", expires_at=NOW + 60)
    clock.now = NOW + 61
    store.add_once("proof", expires_at=NOW + 120)
    for other in range(5):
        store.add_once(f"other {other}", expires_at=NOW + 120)

    assert not store.add_once("proof", expires_at=NOW + 120)


def test_expired_key_is_free_behind_many_others(store: Store, clock: Clock) -> None:
    """Dropping what expired takes many calls; none of them has to wait for it."""
    for number in range(50):
        store.add_once(f"proof {number}", expires_at=NOW + number)
    clock.now = NOW + 100
    again = [store.add_once(f"proof {n}", expires_at=NOW + 200) for n in (49, 25, 0)]

    assert again == [True, True, True]


def test_one_thread_of_many_adds_a_key(store: Store) -> None:
    together = threading.Barrier(8)

    def race(_: int) -> list[bool]:
        together.wait()
        return [store.add_once(f"proof {n}", expires_at=NOW + 60) for n in range(25)]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(race, range(8)))

    assert [sum(column) for column in zip(*answers, strict=True)] == [1] * 25


def test_value_is_got_back(store: Store) -> None:
    store.put("key", b"\x00value\xff", expires_at=NOW + 60)

    assert store.get("key") == b"\x00value\xff"
    assert store.get("another key") is None


def test_empty_value_is_a_value(store: Store) -> None:
    store.put("key", b"", expires_at=NOW + 60)

    assert store.get("key") == b""


def test_value_takes_the_place_of_an_earlier_one(store: Store, clock: Clock) -> None:
    store.put("key", b"old", expires_at=NOW + 60)
    store.put("key", b"new", expires_at=NOW + 120)
    clock.now = NOW + 61
    for other in range(5):
        store.put(f"other {other}", b"", expires_at=NOW + 120)

    assert store.get("key") == b"new"


@pytest.mark.parametrize(
    ("age", "value"),
    [
        pytest.param(60, b"value", id="at the instant it expires"),
        pytest.param(60.001, None, id="just expired"),
    ],
)
def test_value_expires(
    store: Store, clock: Clock, age: float, value: bytes | None
) -> None:
    store.put("key", b"value", expires_at=NOW + 60)
    clock.now = NOW + age
    store.put("another key", b"value", expires_at=NOW + 120)

    assert store.get("key") == value


def test_keys_added_once_and_keys_of_values_do_not_meet(store: Store) -> None:
    store.put("key", b"value", expires_at=NOW + 60)
    added = store.add_once("key", expires_at=NOW + 60)

    assert added
    assert store.get("key") == b"value"


def test_empty_log_has_no_records(store: Store) -> None:
    page = store.read_log(0)

    assert names_of(page) == ()
    assert page.is_last


def test_log_is_read_in_the_order_it_was_written(store: Store) -> None:
    records = tuple(f"record {number}\n\x00".encode() for number in range(12))
    for record in records:
        append(store, record)

    assert names_of(store.read_log(0)) == records


def test_log_is_read_on_from_a_position(store: Store) -> None:
    append(store, b"first")
    first = store.read_log(0)
    nothing_new = store.read_log(first.position)
    append(store, b"second")
    append(store, b"third")
    rest = store.read_log(first.position)

    assert first.position > 0
    assert (nothing_new.position, names_of(nothing_new)) == (first.position, ())
    assert names_of(rest) == (b"second", b"third")
    assert rest.position > first.position


def test_log_keeps_the_latest_of_each_key_and_misses_none(store: Store) -> None:
    store.append_log([entry(b"one", AT), entry(b"other", AT)])
    before = store.read_log(0)
    store.append_log([entry(b"one", AT + 1)])
    after = store.read_log(before.position)

    assert after.entries == ((b"one", AT + 1),)
    assert set(store.read_log(0).entries) == {(b"one", AT + 1), (b"other", AT)}


def test_log_keeps_a_later_entry_when_an_earlier_one_comes_late(store: Store) -> None:
    store.append_log([entry(b"one", AT + 10)])
    store.append_log([entry(b"one", AT)])

    assert store.read_log(0).entries == ((b"one", AT + 10),)


def test_log_forgets_what_may_be_forgotten(store: Store, clock: Clock) -> None:
    for number in range(2000):
        clock.now += 1
        forget_at = clock.now + 10
        store.append_log([entry(b"%d" % number, forget_at=forget_at)])
    store.append_log([entry(b"for ever")])
    clock.now += 1_000_000

    assert len(store.read_log(0).entries) < 1100
    for number in range(3000):
        store.append_log([entry(b"new %d" % number, forget_at=clock.now + 10)])
    names = names_of(store.read_log(0))
    assert b"for ever" in names
    assert b"1999" not in names


def test_entry_from_a_clock_far_ahead_counts_from_now(
    store: Store, clock: Clock
) -> None:
    """Else it would refuse all tokens of the hours to come."""
    store.append_log(
        [entry(b"ahead", clock.now + 7200), entry(b"a bit", clock.now + 60)]
    )

    assert dict(store.read_log(0).entries) == {
        b"ahead": clock.now,
        b"a bit": clock.now + 60,
    }


def test_log_does_not_expire(store: Store, clock: Clock) -> None:
    append(store, b"record")
    clock.now = NOW + 10 * 365 * 86400
    store.add_once("proof", expires_at=clock.now + 60)

    assert names_of(store.read_log(0)) == (b"record",)


def test_log_written_by_threads_misses_nothing(store: Store) -> None:
    """A reader that follows the log sees each record once, in the log's order."""
    writing = threading.Barrier(5)

    def write(thread: int) -> None:
        writing.wait()
        for number in range(20):
            append(store, f"{thread} {number}".encode())

    followed: list[bytes] = []
    position = 0
    with ThreadPoolExecutor(4) as threads:
        written = [threads.submit(write, thread) for thread in range(4)]
        writing.wait()
        while len(followed) < 80 and not any(
            w.done() and w.exception() for w in written
        ):
            page = store.read_log(position)
            followed += names_of(page)
            position = page.position

    assert tuple(followed) == names_of(store.read_log(0))
    assert len(followed) == 80


def test_stores_load_sqlite_for_those_who_ask() -> None:
    program = """
import sys
import agentauth_middleware.stores as stores
print("sqlite3" in sys.modules)
stores.SQLiteStore
print("sqlite3" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stdout.split() == ["False", "True"]


def test_stores_have_no_other_names() -> None:
    with pytest.raises(AttributeError, match="OracleStore"):
        getattr(stores, "OracleStore")  # noqa: B009 (its absence is the point)


@pytest.mark.parametrize("seed", range(5))
def test_reader_at_any_position_misses_nothing_while_the_log_is_compacted(
    store: Store, seed: int
) -> None:
    """Compared with a model that forgets nothing; readers come as late as they like."""
    chance = random.Random(seed)  # noqa: S311 - no secret depends on it
    model: dict[bytes, float] = {}
    readers = [RevocationView() for _ in range(5)]
    for _ in range(300):
        key, at = b"%d" % chance.randrange(20), AT + chance.randrange(1000)
        store.append_log([entry(key, at)])
        model[key] = max(at, model.get(key, at))
        reader = chance.choice(readers)
        reader.apply(store.read_log(reader.position), NOW)
    for reader in [*readers, RevocationView()]:
        reader.apply(store.read_log(reader.position), NOW)
        assert {one.key: one.at for one in reader.begin_again("")} == model
    assert len(store.read_log(0).entries) == len(model)
