"""What is particular to ``SQLiteStore`` within one process: its file and its errors."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.stores import SQLiteStore, Store
from tests.support.log import append, names_of

NOW = 1_700_000_000.0
DESCRIPTORS = Path("/proc/self/fd")

needs_proc = pytest.mark.skipif(
    not DESCRIPTORS.is_dir(), reason="open files are listed in /proc only"
)
needs_modes = pytest.mark.skipif(os.name != "posix", reason="files have no modes")


def open_descriptors(file: Path) -> int:
    """How many descriptors this process has of *file* itself."""
    targets: list[str] = []
    for link in DESCRIPTORS.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append(os.readlink(link))
    return targets.count(str(file))


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("{tmp}/none/store.db", "make it", id="folder missing"),
        pytest.param("{tmp}", "name a file in it", id="a folder"),
        pytest.param(":memory:", "use MemoryStore", id="memory"),
    ],
)
def test_path_that_cannot_be_a_store_is_named(
    tmp_path: Path, path: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^SQLiteStore.path: .*{says}"):
        SQLiteStore(path.format(tmp=tmp_path))


def test_store_is_opened_when_first_used(file: Path) -> None:
    """Servers fork after they have made it."""
    store = SQLiteStore(file)
    before = file.exists()
    store.read_log(0)

    assert (before, file.exists()) == (False, True)


def test_relative_path_is_taken_from_the_folder_it_was_given_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("store.db")
    monkeypatch.chdir("/")
    append(store, b"record")

    assert (tmp_path / "store.db").exists()


@pytest.mark.parametrize("name", ["a?b#c%20d.db", "ünï cödé.db", "file:x.db"])
def test_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    append(SQLiteStore(tmp_path / name), b"record")

    assert names_of(SQLiteStore(tmp_path / name).read_log(0)) == (b"record",)
    assert {found.name for found in tmp_path.iterdir()} == {name, f"{name}-made"}


def test_state_outlives_the_store(file: Path) -> None:
    first = SQLiteStore(file, clock=lambda: NOW)
    append(first, b"record")
    first.put("key", b"value", expires_at=NOW + 60)
    first.add_once("proof", expires_at=NOW + 60)
    del first
    second = SQLiteStore(file, clock=lambda: NOW)

    assert names_of(second.read_log(0)) == (b"record",)
    assert second.get("key") == b"value"
    assert not second.add_once("proof", expires_at=NOW + 60)


@needs_modes
def test_new_file_is_readable_by_its_owner_alone(file: Path) -> None:
    earlier = os.umask(0)
    try:
        store = SQLiteStore(file)
        append(store, b"record")
        modes = {found.name: mode(found) for found in file.parent.iterdir()}
    finally:
        os.umask(earlier)

    assert modes == dict.fromkeys(
        ["store.db", "store.db-made", "store.db-shm", "store.db-wal"], 0o600
    )


@needs_modes
def test_empty_file_made_by_the_operator_keeps_its_mode(file: Path) -> None:
    file.touch()
    file.chmod(0o660)
    store = SQLiteStore(file)
    append(store, b"record")

    assert {mode(found) for found in file.parent.iterdir()} == {0o660}


KEEPING: dict[str, Callable[[Store, str, float], object]] = {
    "add_once": lambda store, key, end: store.add_once(key, expires_at=end),
    "put": lambda store, key, end: store.put(key, b"value", expires_at=end),
}


@pytest.mark.parametrize("keep", KEEPING.values(), ids=KEEPING)
def test_what_expired_leaves_the_file(
    file: Path, keep: Callable[[Store, str, float], object]
) -> None:
    now = NOW
    store = SQLiteStore(file, clock=lambda: now)
    for number in range(2_000):
        keep(store, f"a rather long key of a proof {number}", now + 1)
        now += 1
    del store

    assert file.stat().st_size < 64_000


def no_database(file: Path) -> None:
    file.write_bytes(b"not a database\n" * 1_000)


def damaged(file: Path) -> None:
    store = SQLiteStore(file)
    for _ in range(5):
        append(store, bytes(20_000))
    del store
    with file.open("r+b") as pages:
        pages.seek(4_096)
        pages.write(b"\xff" * (file.stat().st_size - 4_096))


def cut_short(file: Path) -> None:
    append(SQLiteStore(file), b"record")
    os.truncate(file, 5_000)


def made_by_a_newer_version(file: Path) -> None:
    append(SQLiteStore(file), b"record")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 99")


def without_room_for_its_wal(file: Path) -> None:
    file.touch()
    file.with_name("store.db-wal").mkdir()


def of_something_else(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE notes (text)")


CALLS: dict[str, Callable[[Store], object]] = {
    "add_once": lambda store: store.add_once("proof", expires_at=NOW + 60),
    "put": lambda store: store.put("key", b"value", expires_at=NOW + 60),
    "get": lambda store: store.get("key"),
    "append_log": lambda store: append(store, b"record"),
    "read_log": lambda store: store.read_log(0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "spoil",
    [
        no_database,
        damaged,
        cut_short,
        made_by_a_newer_version,
        of_something_else,
        without_room_for_its_wal,
    ],
)
def test_file_that_is_no_store_is_unavailable(
    file: Path, spoil: Callable[[Path], None], call: Callable[[Store], object]
) -> None:
    spoil(file)
    spoiled = file.read_bytes()
    store = SQLiteStore(file, clock=lambda: NOW)
    with pytest.raises(UnavailableError, match="store\\.db") as failure:
        call(store)

    assert failure.value.reason == "store_unreachable"
    assert file.read_bytes() == spoiled


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_folder_that_vanished_is_unavailable(
    file: Path, call: Callable[[Store], object]
) -> None:
    store = SQLiteStore(file)
    append(store, b"record")
    shutil.rmtree(file.parent)
    with pytest.raises(UnavailableError) as failure:
        call(store)

    assert failure.value.reason == "store_unreachable"


def test_store_works_again_once_the_file_is_fixed(file: Path) -> None:
    no_database(file)
    store = SQLiteStore(file)
    with pytest.raises(UnavailableError):
        append(store, b"lost")
    file.unlink()
    append(store, b"kept")

    assert names_of(store.read_log(0)) == (b"kept",)


@needs_proc
def test_file_that_cannot_be_used_is_not_left_open(file: Path) -> None:
    no_database(file)
    store = SQLiteStore(file)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            store.read_log(0)

    assert open_descriptors(file) == 0


def test_new_file_changed_by_another_is_waited_for(file: Path) -> None:
    """SQLite itself refuses at once to change the journal mode of a file in use."""
    store = SQLiteStore(file)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")

        def give_way(frame: FrameType, event: str, function: object) -> None:
            if event == "c_exception" and "execute" in repr(function):
                other.rollback()

        sys.setprofile(give_way)
        try:
            append(store, b"record")
        finally:
            sys.setprofile(None)

    assert names_of(store.read_log(0)) == (b"record",)


def test_bug_of_the_caller_is_no_outage_and_leaves_no_lock(file: Path) -> None:
    store = SQLiteStore(file, busy_timeout=0)
    with pytest.raises(UnicodeEncodeError):
        store.add_once("\ud800", expires_at=NOW + 60)
    append(store, b"record")

    assert names_of(store.read_log(0)) == (b"record",)


def move_away(file: Path) -> None:
    """As an operator would who wants to begin anew, or to go back to a copy."""
    for part in file.parent.glob("store.db*"):
        part.rename(part.with_name(f"old-{part.name}"))


def vanish(file: Path) -> None:
    for part in file.parent.glob("store.db*"):
        if not part.name.endswith("-made"):
            part.unlink()


def empty(file: Path) -> None:
    vanish(file)
    file.touch()


def put_another_in_place(file: Path) -> None:
    elsewhere = file.with_name("another")
    append(SQLiteStore(elsewhere), b"record")
    vanish(file)
    with contextlib.closing(sqlite3.connect(elsewhere)) as source:
        source.execute("VACUUM INTO ?", (str(file),))


LOSSES = {"vanished": vanish, "emptied": empty, "replaced": put_another_in_place}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("is_new", [True, False], ids=["new worker", "old worker"])
def test_store_that_was_there_and_is_gone_is_not_made_anew(
    file: Path,
    lose: Callable[[Path], None],
    call: Callable[[Store], object],
    is_new: bool,
) -> None:
    """Else what was revoked in it would be good again, and nobody would know."""
    store = SQLiteStore(file)
    append(store, b"revoked")
    lose(file)
    if is_new:
        store = SQLiteStore(file)

    with pytest.raises(UnavailableError, match="-made") as failure:
        call(store)

    assert failure.value.reason == "store_gone"


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_operator_begins_anew_by_deleting_what_remembers_the_store(
    file: Path, lose: Callable[[Path], None]
) -> None:
    store = SQLiteStore(file)
    append(store, b"revoked")
    lose(file)
    file.with_name("store.db-made").unlink()
    append(store, b"new")

    assert names_of(SQLiteStore(file).read_log(0))[-1:] == (b"new",)


def test_store_may_always_be_made_anew_if_the_operator_wants_that(file: Path) -> None:
    append(SQLiteStore(file), b"revoked")
    vanish(file)
    append(SQLiteStore(file, create="always"), b"new")

    assert names_of(SQLiteStore(file).read_log(0)) == (b"new",)


def test_store_may_never_be_made(file: Path) -> None:
    with pytest.raises(UnavailableError) as failure:
        append(SQLiteStore(file, create="never"), b"new")

    assert failure.value.reason == "store_gone"


def test_create_is_one_of_three_words(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"SQLiteStore\.create"):
        SQLiteStore(file, create=True)  # type: ignore[arg-type]


@needs_modes
def test_store_that_everybody_may_change_is_closed_to_them(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(SQLiteStore(file), b"record")
    file.chmod(0o666)
    append(SQLiteStore(file), b"another")

    assert mode(file) == 0o660
    assert "every user of this machine could change the store" in caplog.text


def test_new_file_in_place_of_the_old_is_followed(file: Path) -> None:
    """Or a worker would never hear of revocations told after the change."""
    now = NOW
    worker = SQLiteStore(file, clock=lambda: now)
    for number in range(5):
        append(worker, f"old {number}".encode())
    position = worker.read_log(0).position
    now += 1
    move_away(file)
    operator = SQLiteStore(file, clock=lambda: now)
    for number in range(9):
        append(operator, f"new {number}".encode())
    page = worker.read_log(position)

    assert names_of(page) == tuple(f"new {number}".encode() for number in range(9))


def test_older_copy_in_place_of_the_file_is_read_from_the_start(file: Path) -> None:
    worker = SQLiteStore(file)
    append(worker, b"before the copy")
    copy = file.with_name("copy")
    with contextlib.closing(sqlite3.connect(file)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    for number in range(5):
        append(worker, b"after the copy %d" % number)
    position = worker.read_log(0).position
    move_away(file)
    copy.rename(file)
    append(SQLiteStore(file), b"after the return")
    page = worker.read_log(position)

    assert names_of(page) == (b"before the copy", b"after the return")
    assert names_of(worker.read_log(page.position)) == ()


def append_many(file: Path, count: int) -> tuple[bytes, ...]:
    """Append *count* records at once; one by one each would wait for the disk."""
    records = tuple(f"record {number}".encode() for number in range(count))
    append(SQLiteStore(file), records[0])
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.executemany(
            "INSERT INTO log (key, at, record) VALUES (?, 1.0, x'')",
            [(each,) for each in records[1:]],
        )
    return records


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        pytest.param(19_999, [19_999], id="less than a page"),
        pytest.param(20_000, [20_000, 0], id="a page"),
        pytest.param(20_001, [20_000, 1], id="a page and one"),
        pytest.param(45_000, [20_000, 20_000, 5_000], id="several"),
    ],
)
def test_long_log_is_read_in_pages(file: Path, count: int, sizes: list[int]) -> None:
    """The last one says so, and no record is missed or comes twice."""
    records = append_many(file, count)
    store = SQLiteStore(file)
    pages = [store.read_log(0)]
    while not pages[-1].is_last:
        pages.append(store.read_log(pages[-1].position))

    assert [len(names_of(page)) for page in pages] == sizes
    assert sum((names_of(page) for page in pages), ()) == records
    assert store.read_log(pages[-1].position).is_last


def test_long_older_copy_in_place_of_the_file_is_read_from_the_start(
    file: Path,
) -> None:
    append_many(file, 20_500)
    worker = SQLiteStore(file)
    copy = file.with_name("copy")
    with contextlib.closing(sqlite3.connect(file)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    append(worker, b"after the copy")
    position = worker.read_log(worker.read_log(0).position).position
    move_away(file)
    copy.rename(file)
    first = worker.read_log(position)
    second = worker.read_log(first.position)

    assert (len(names_of(first)), first.is_last) == (20_000, False)
    assert (len(names_of(second)), second.is_last) == (500, True)


@needs_proc
def test_threads_that_end_leave_no_connection(file: Path) -> None:
    store = SQLiteStore(file)
    store.get("key")
    one = open_descriptors(file)
    for _ in range(20):
        thread = threading.Thread(target=store.get, args=["key"])
        thread.start()
        thread.join()

    assert open_descriptors(file) == one


@needs_proc
def test_many_threads_at_once_leave_few_connections(file: Path) -> None:
    """They wait for a transaction to end, each with a connection of its own."""
    wal = file.with_name("store.db-wal")
    store = SQLiteStore(file, busy_timeout=30)
    append(store, b"record")

    def add(number: int) -> bool:
        return store.add_once(f"proof {number}", expires_at=NOW)

    with (
        ThreadPoolExecutor(20) as threads,
        contextlib.closing(sqlite3.connect(file)) as database,
    ):
        database.execute("BEGIN IMMEDIATE")
        answers = threads.map(add, range(20))
        while open_descriptors(wal) < 20:
            pass  # They come one by one.
        database.rollback()

    assert all(answers)
    assert open_descriptors(wal) < 12


@needs_proc
def test_store_that_is_let_go_closes_its_connections(file: Path) -> None:
    """Without a ``ResourceWarning``, which would fail this test."""
    store = SQLiteStore(file)
    append(store, b"record")
    store.get("key")
    opened = open_descriptors(file)
    del store
    gc.collect()

    assert (opened, open_descriptors(file)) == (2, 0)


def test_backup_of_a_store_in_use_has_what_its_file_alone_lacks(file: Path) -> None:
    """As the docs say: newer changes are in the ``-wal`` file beside it."""
    store = SQLiteStore(file)
    append(store, b"first")
    copied, backed_up = file.with_name("copied.db"), file.with_name("backed_up.db")

    shutil.copy(file, copied)
    with (
        contextlib.closing(sqlite3.connect(file)) as source,
        contextlib.closing(sqlite3.connect(backed_up)) as copy,
    ):
        source.backup(copy)

    assert b"first" not in copied.read_bytes()
    assert names_of(SQLiteStore(backed_up).read_log(0)) == (b"first",)
    assert names_of(store.read_log(0)) == (b"first",)
