"""``SQLiteStore`` shared by real processes: races, forks, deaths and locks.

Programs talk to the test by lines on their standard input and output, so that each
step happens when the test says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import SQLiteStore
from tests.support.log import append, names_of

NOW = 1_700_000_000.0

Program: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[..., Program]

needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system does not fork"
)
needs_users = pytest.mark.skipif(
    os.name != "posix", reason="this system has other permissions"
)

OPENING = """
import os, sys
from pathlib import Path
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import SQLiteStore
from tests.support.log import append, names_of

def say(*words):
    print(*words, flush=True)

def wait():
    return sys.stdin.readline().strip()
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program: its text, then its arguments."""
    with contextlib.ExitStack() as programs:

        def start(text: str, *arguments: object) -> Program:
            command = [sys.executable, "-c", OPENING + text, *map(str, arguments)]
            program = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            programs.enter_context(program)
            programs.callback(program.kill)
            return program

        yield start


def say(program: Program, line: object) -> None:
    assert program.stdin is not None
    program.stdin.write(f"{line}\n")


def hear(program: Program) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def hear_out(program: Program) -> list[str]:
    """All lines until the program has ended well."""
    assert program.stdout is not None
    lines = program.stdout.read().splitlines()
    assert program.wait() == 0
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def test_one_process_of_many_adds_a_key(start: Start, tmp_path: Path) -> None:
    """Also while all of them make the same new file."""
    program = f"""
for line in sys.stdin:
    store = SQLiteStore(line.strip(), busy_timeout=30, clock=lambda: {NOW})
    say(sum(store.add_once(f"proof {{n}}", expires_at={NOW} + 60) for n in range(10)))
"""
    processes = [start(program) for _ in range(4)]
    added: list[int] = []
    for number in range(20):
        for process in processes:
            say(process, tmp_path / f"{number}.db")
        added.append(sum(int(hear(process)) for process in processes))

    assert added == [10] * 20


def test_process_sees_what_another_has_kept(start: Start, file: Path) -> None:
    program = f"""
store = SQLiteStore(sys.argv[1], clock=lambda: {NOW})
store.put("key", b"value", expires_at={NOW} + 60)
append(store, b"record")
say(store.add_once("proof", expires_at={NOW} + 60))
wait()
"""
    store = SQLiteStore(file, clock=lambda: NOW)
    before = store.get("key"), names_of(store.read_log(0))
    process = start(program, file)
    answer = hear(process)

    assert before == (None, ())
    assert answer == "True"
    assert store.get("key") == b"value"
    assert names_of(store.read_log(0)) == (b"record",)
    assert not store.add_once("proof", expires_at=NOW + 60)


def test_log_written_by_processes_misses_nothing(start: Start, file: Path) -> None:
    """A reader that follows the log sees each record once, in the log's order."""
    program = """
store = SQLiteStore(sys.argv[1], busy_timeout=30)
wait()
for number in range(40):
    append(store, f"{sys.argv[2]} {number}".encode())
"""
    writers = [start(program, file, name) for name in "abc"]
    for writer in writers:
        say(writer, "go")
    store = SQLiteStore(file)
    followed: list[bytes] = []
    position, writing = 0, True
    while writing:
        writing = any(writer.poll() is None for writer in writers)
        page = store.read_log(position)
        assert page.position >= position
        followed += names_of(page)
        position = page.position

    assert tuple(followed) == names_of(store.read_log(0))
    for name in "abc":
        expected = [f"{name} {number}".encode() for number in range(40)]
        assert [r for r in followed if r.startswith(name.encode())] == expected


def test_writer_killed_at_work_loses_nothing_acknowledged(
    start: Start, file: Path
) -> None:
    program = """
store = SQLiteStore(sys.argv[1])
for number in range(1_000_000):
    append(store, f"{sys.argv[2]}-{number}".encode())
    say(f"{sys.argv[2]}-{number}")
"""
    for round_number in range(3):
        before = len(names_of(SQLiteStore(file).read_log(0)))
        writer = start(program, file, round_number)
        acknowledged = [hear(writer) for _ in range(20)]
        writer.kill()
        assert writer.stdout is not None
        acknowledged += writer.stdout.read().split()
        store = SQLiteStore(file, busy_timeout=0)
        append(store, b"next %d" % round_number)
        records = [record.decode() for record in names_of(store.read_log(0))[before:]]

        assert records[: len(acknowledged)] == acknowledged
        assert records[-1] == f"next {round_number}"
        # At most one was written but its acknowledgement cut off.
        assert len(records) <= len(acknowledged) + 2


LOCKING = """
import sqlite3
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
database.execute("CREATE TABLE half_done (number)")
say("locked")
wait()
database.execute("ROLLBACK")
say("unlocked")
wait()
"""


def test_writer_killed_in_a_transaction_leaves_no_trace(
    start: Start, file: Path
) -> None:
    store = SQLiteStore(file, busy_timeout=0)
    append(store, b"before")
    writer = start(LOCKING, file)
    hear(writer)
    writer.kill()
    writer.wait()
    append(store, b"after")

    assert names_of(store.read_log(0)) == (b"before", b"after")


def test_file_locked_too_long_is_unavailable_for_changes_alone(
    start: Start, file: Path
) -> None:
    store = SQLiteStore(file, busy_timeout=0.01, clock=lambda: NOW)
    append(store, b"record")
    store.put("key", b"value", expires_at=NOW + 60)
    other = start(LOCKING, file)
    hear(other)
    changes: list[Callable[[], object]] = [
        lambda: store.add_once("proof", expires_at=NOW + 60),
        lambda: store.put("key", b"other", expires_at=NOW + 60),
        lambda: append(store, b"lost"),
    ]
    for change in changes:
        with pytest.raises(UnavailableError, match="locked") as failure:
            change()
        assert failure.value.reason == "store_unreachable"
    during = store.get("key"), names_of(store.read_log(0))
    say(other, "unlock")
    hear(other)

    assert during == (b"value", (b"record",))
    assert store.add_once("proof", expires_at=NOW + 60)


def test_new_file_locked_too_long_is_unavailable(start: Start, file: Path) -> None:
    other = start(LOCKING, file)
    hear(other)
    store = SQLiteStore(file, busy_timeout=0)
    with pytest.raises(UnavailableError, match="locked"):
        store.read_log(0)
    say(other, "unlock")
    hear(other)

    assert names_of(store.read_log(0)) == ()


@needs_users
@pytest.mark.parametrize("exists", [False, True], ids=["new file", "old file"])
def test_folder_that_may_not_be_written_is_unavailable(
    start: Start, exists: bool
) -> None:
    program = """
store = SQLiteStore(sys.argv[1])
if os.geteuid() == 0:  # who may write everywhere
    os.setuid(65534)
for call in (
    lambda: store.add_once("proof", expires_at=0),
    lambda: store.get("key"),
    lambda: append(store, b"record"),
    lambda: store.read_log(0),
):
    try:
        call()
    except UnavailableError as error:
        say(error.reason)
"""
    # Not below pytest's own folder, which no other user may even enter.
    folder = Path(tempfile.mkdtemp())
    try:
        if exists:
            append(SQLiteStore(folder / "store.db"), b"record")
            (folder / "store.db").chmod(0o444)
        folder.chmod(0o555)
        reasons = hear_out(start(program, folder / "store.db"))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)

    assert reasons == ["store_unreachable"] * 4


def test_log_is_flushed_to_the_disk_and_the_rest_is_not(
    start: Start, file: Path
) -> None:
    """A power cut cannot be staged, so SQLite is asked what it would survive."""
    program = """
connections = []
def hook(event, arguments):
    if event == "sqlite3.connect/handle":
        connections.append(arguments[0])
sys.addaudithook(hook)
store = SQLiteStore(sys.argv[1])

def synchronous():
    return connections.pop().execute("PRAGMA synchronous").fetchone()[0]

append(store, b"record")
say(synchronous())
store.add_once("proof", expires_at=0)
say(synchronous())
"""
    full, normal = "2", "1"

    assert hear_out(start(program, file)) == [full, normal]


CHILD = """
def child():
    wait_for_parent()
    try:
        append(store, b"child")
        say("appended")
    except UnavailableError as error:
        say(error)
    sys.exit()

def wait_for_parent():
    os.close(told_by_parent)
    os.read(hears_parent, 1)

hears_parent, told_by_parent = os.pipe()
store = SQLiteStore(sys.argv[1], busy_timeout=30)
"""
PARENT = """
store = None  # The last connection of this process deletes the WAL, if it may.
os.close(told_by_parent)
os.waitpid(pid, 0)
say(*[record.decode() for record in names_of(SQLiteStore(sys.argv[1]).read_log(0))])
"""


@needs_fork
def test_child_shares_no_connection_with_its_parent(start: Start, file: Path) -> None:
    """The child would hold none of the locks, and lose what it appends."""
    program = """
append(store, b"parent")
store.get("key")
pid = os.fork()
if pid == 0:
    child()
"""
    lines = hear_out(start(CHILD + program + PARENT, file))

    assert lines == ["appended", "parent child"]


@needs_fork
def test_parent_goes_on_after_a_fork(start: Start, file: Path) -> None:
    program = """
append(store, b"before")
pid = os.fork()
if pid == 0:
    child()
append(store, b"parent")
"""
    lines = hear_out(start(CHILD + program + PARENT, file))

    assert lines == ["appended", "before parent child"]


@needs_fork
def test_fork_waits_until_no_thread_uses_a_connection(start: Start, file: Path) -> None:
    program = """
import threading, warnings
warnings.simplefilter("ignore")  # Python 3.12 and newer: a fork with threads

class Watched(threading.Thread):
    def run(self):
        append(store, b"thread")

store.read_log(0)
thread = Watched()
thread.start()
wait()
say("forking")
pid = os.fork()
if pid == 0:
    child()
thread.join()
del thread
"""
    append(SQLiteStore(file), b"first")
    other = start(LOCKING, file)
    hear(other)
    forking = start(CHILD + program + PARENT, file)
    say(forking, "fork")
    hear(forking)
    say(other, "unlock")
    hear(other)
    lines = hear_out(forking)

    assert lines == ["appended", "first thread child"]


@needs_fork
def test_child_of_a_fork_that_python_did_not_hear_of_refuses(
    start: Start, file: Path
) -> None:
    """As servers written in C fork; the store was used before."""
    program = """
import ctypes
fork = ctypes.PyDLL(None).fork
append(store, b"parent")
pid = fork()
if pid == 0:
    try:
        for use in (store, SQLiteStore(sys.argv[1]), SQLiteStore(sys.argv[1] + "2")):
            try:
                append(use, b"child")
            except UnavailableError as error:
                say(error.reason, "forked" in str(error))
    finally:
        os._exit(0)
os.waitpid(pid, 0)
append(store, b"again")
say(*[record.decode() for record in names_of(store.read_log(0))])
"""
    lines = hear_out(start(CHILD + program, file))

    assert lines == [*["store_unreachable True"] * 3, "parent again"]


@needs_fork
def test_store_made_before_such_a_fork_and_used_after_it_works(
    start: Start, file: Path
) -> None:
    program = """
import ctypes
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    append(store, b"child")
    os._exit(0)
os.waitpid(pid, 0)
say(*[record.decode() for record in names_of(store.read_log(0))])
"""
    lines = hear_out(start(CHILD + program, file))

    assert lines == ["child"]
