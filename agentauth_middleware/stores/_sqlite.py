"""The store of all workers on one host: a SQLite file that they share.

Readers never wait, since the file is in WAL mode; writers wait for each other, at most
for the busy timeout. What the store relies on, and where it comes from:

- *One of all callers adds a key.* Every change runs between ``BEGIN IMMEDIATE`` and
  ``COMMIT``, that is while no other process can change anything.
- *A reader of the log misses nothing.* For the same reason positions are given out in
  the order of the commits: when a reader sees position N, all before it are there, and
  none will ever be given out again (``AUTOINCREMENT``).
- *What was appended to the log survives a power cut.* ``synchronous=FULL`` flushes the
  WAL before ``COMMIT`` returns. Other changes survive the death of any process, which
  ``synchronous=NORMAL`` promises without waiting for the disk.
- *No connection crosses a fork*: see ``_OpenConnections``.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentauth_middleware._core.operations import LogPage
from agentauth_middleware.errors import ConfigurationError, UnavailableError

__all__ = ["SQLiteStore"]

# Nothing here needs a SQLite newer than 3.24, the oldest still found with Python 3.11.
_VERSION = 1
_SCHEMA = (
    """
    CREATE TABLE log (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        record BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE entries (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX entries_by_expiry ON entries (expires_at)",
    f"PRAGMA user_version = {_VERSION}",
)
# A file that takes the place of another begins its log behind the end of the other's,
# so that whoever has read that one does not overlook what is in this one.
_SET_FIRST_POSITION = "INSERT INTO sqlite_sequence (name, seq) VALUES ('log', ?)"

# Two at a time, more than the one that a change adds, so that they never pile up.
_DROP_EXPIRED = """
    DELETE FROM entries WHERE (kind, key) IN (
        SELECT kind, key FROM entries WHERE expires_at < ?
        ORDER BY expires_at LIMIT 2
    )
"""
_ADD_ONCE = """
    INSERT INTO entries (kind, key, value, expires_at)
    VALUES ('once', :key, x'', :expires_at)
    ON CONFLICT (kind, key) DO UPDATE SET expires_at = excluded.expires_at
    WHERE entries.expires_at < :now
"""
_PUT = """
    INSERT OR REPLACE INTO entries (kind, key, value, expires_at)
    VALUES ('value', ?, ?, ?)
"""
_GET = """
    SELECT value FROM entries
    WHERE kind = 'value' AND key = ? AND expires_at >= ?
"""
_APPEND = "INSERT INTO log (record) VALUES (?)"
# A log that ends before the position asked for is an older copy, put in place of the
# one that was read. It is read from the start: records may come twice, not be missed.
_READ = """
    SELECT position, record FROM log
    WHERE position > CASE
        WHEN :after > (SELECT max(position) FROM log) THEN 0 ELSE :after
    END
    ORDER BY position LIMIT 2000
"""
_PAGE = 2000

_IDLE_CONNECTIONS = 8
_WAL_ATTEMPTS = 100
_FORK_TIMEOUT = 10.0


class SQLiteStore:
    """Shared by all processes of one host that name the same file.

    The file is made on first use, readable by its owner alone; SQLite keeps two more
    beside it (``-wal``, ``-shm``). It must be on a local disk: network file systems
    lack the locks that this relies on. Whatever SQLite reports is raised as
    ``UnavailableError``, and the next call tries again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            path: the file; its folder must exist.
            busy_timeout: how long, in seconds, a change may wait for those of others.
            clock: the present, in epoch seconds.

        Raises:
            ConfigurationError: *path* can never be such a file.
        """
        file = _check_path(path)
        self._clock = clock
        self._entries = _Connections(file, busy_timeout, "NORMAL", clock)
        self._log = _Connections(file, busy_timeout, "FULL", clock)

    def add_once(self, key: str, *, expires_at: float) -> bool:
        now = self._clock()
        entry = {"key": key, "expires_at": expires_at, "now": now}
        with self._entries.change() as sql:
            sql.execute(_DROP_EXPIRED, (now,))
            return sql.execute(_ADD_ONCE, entry).rowcount == 1

    def put(self, key: str, value: bytes, *, expires_at: float) -> None:
        now = self._clock()
        with self._entries.change() as sql:
            sql.execute(_DROP_EXPIRED, (now,))
            sql.execute(_PUT, (key, value, expires_at))

    def get(self, key: str) -> bytes | None:
        now = self._clock()
        with self._entries.lend() as sql:
            row = sql.execute(_GET, (key, now)).fetchone()
        return None if row is None else row[0]

    def append_log(self, record: bytes) -> None:
        with self._log.change() as sql:
            sql.execute(_APPEND, (record,))

    def read_log(self, after: int) -> LogPage:
        with self._entries.lend() as sql:
            rows = sql.execute(_READ, {"after": after}).fetchall()
        if not rows:
            return LogPage(after, ())
        records = tuple(record for _, record in rows)
        return LogPage(rows[-1][0], records, is_last=len(rows) < _PAGE)


def _check_path(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    if name == ":memory:":
        raise ConfigurationError(
            "SQLiteStore.path: ':memory:' is shared by nobody; use MemoryStore, or"
            " name a file"
        )
    if "://" in name:
        raise ConfigurationError(
            f"SQLiteStore.path: {name!r} is a URL; write the path of the file alone"
        )
    # Absolute, since servers change their folder after they have loaded the settings.
    file = Path(path).absolute()
    if file.is_dir():
        raise ConfigurationError(
            f"SQLiteStore.path: '{file}' is a folder; name a file in it"
        )
    if not file.parent.is_dir():
        raise ConfigurationError(
            f"SQLiteStore.path: there is no folder '{file.parent}'; make it, writable"
            " by the user that the workers run as"
        )
    return file


@dataclass(eq=False, slots=True)
class _Connection:
    sql: sqlite3.Connection
    inode: tuple[int, int] | None
    is_open: bool = True


class _OpenConnections:
    """All connections of this process, so that none crosses a fork.

    SQLite keeps, once per process and file, a note of the locks it holds. A child that
    inherits the note, but not the locks, takes none: the parent would believe to be the
    last to use the file, and delete the WAL that the child has just written to. Opening
    a connection of its own does not help the child. So a fork waits until no thread
    uses a connection, and then all are closed.

    A fork that Python does not hear of (in a server written in C) is noticed by the
    process id; what is left then is to refuse.
    """

    def __init__(self) -> None:
        # Re-entrant: a connection is also closed by the garbage collector, anywhere.
        self._at_rest = threading.Condition(threading.RLock())
        self._in_use = 0
        self._open: set[_Connection] = set()
        self._process = os.getpid()
        if hasattr(os, "register_at_fork"):  # pragma: no branch (not on Windows)
            os.register_at_fork(
                before=self._prepare_fork,
                after_in_parent=self._at_rest.release,
                after_in_child=self._at_rest.release,
            )

    @contextmanager
    def use(self) -> Generator[None, None, None]:
        """While connections are opened, used or closed; holds up forks."""
        with self._at_rest:
            self._check_process()
            self._in_use += 1
        try:
            yield
        finally:
            with self._at_rest:
                self._in_use -= 1
                self._at_rest.notify_all()

    def add(self, connection: _Connection) -> None:
        self._open.add(connection)

    def close(self, connection: _Connection) -> None:
        with self._at_rest:
            # One that was inherited stays in the set for ever: to drop the last
            # reference would close it.
            if self._process == os.getpid():  # pragma: no branch (as above)
                connection.is_open = False
                connection.sql.close()
                self._open.discard(connection)

    def _check_process(self) -> None:
        if self._process != os.getpid():  # pragma: no cover (tested in other processes)
            if self._open:
                raise UnavailableError(
                    "store_unreachable",
                    "the process was forked while the store was open, without Python's"
                    " knowledge; let the workers be the first to use it",
                )
            self._process = os.getpid()

    def _prepare_fork(self) -> None:  # pragma: no cover (tested in other processes)
        self._at_rest.acquire()
        # Not for ever: the thread that forks might itself be using a connection, in a
        # signal handler. The child will then refuse.
        if self._at_rest.wait_for(lambda: not self._in_use, timeout=_FORK_TIMEOUT):
            while self._open:
                self.close(self._open.pop())


_MADE: dict[str, _OpenConnections] = {}


def _all_open() -> _OpenConnections:
    """Those of this process. Made on first use, since gevent may replace its locks
    after this module was imported."""
    return _MADE.get("all") or _MADE.setdefault("all", _OpenConnections())


class _Connections:
    """Connections to one file, opened when needed, each lent to one thread at a time.

    Those at rest belong to no thread, so nothing is left over when a thread ends.
    """

    def __init__(
        self,
        file: Path,
        busy_timeout: float,
        synchronous: Literal["NORMAL", "FULL"],
        clock: Callable[[], float],
    ) -> None:
        self._file = file
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._clock = clock
        self._idle: list[_Connection] = []
        weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def lend(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection for one operation; the one place where SQLite's errors end."""
        try:
            with _all_open().use():
                connection = self._take()
                try:
                    yield connection.sql
                except BaseException:
                    _all_open().close(connection)  # which also rolls back
                    raise
                self._put_back(connection)
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(
                "store_unreachable", f"the store {self._file} failed: {error}"
            ) from error

    @contextmanager
    def change(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection in a transaction that excludes all other changes."""
        with self.lend() as sql:
            sql.execute("BEGIN IMMEDIATE")
            yield sql
            sql.execute("COMMIT")

    def _take(self) -> _Connection:
        while (connection := _pop(self._idle)) is not None:
            # An operator who puts another file in its place will revoke in that one.
            if connection.is_open and connection.inode == _inode(self._file):
                return connection
            _all_open().close(connection)
        return self._open()

    def _put_back(self, connection: _Connection) -> None:
        if len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            _all_open().close(connection)

    def _open(self) -> _Connection:
        if not self._file.exists():
            _create_private(self._file)
        # Looked up first: a file that takes its place meanwhile is noticed later.
        inode = _inode(self._file)
        sql = sqlite3.connect(
            f"{self._file.as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection = _Connection(sql, inode)
        _all_open().add(connection)
        try:
            sql.execute(f"PRAGMA synchronous = {self._synchronous}")
            _prepare(sql, self._clock)
        except BaseException:
            _all_open().close(connection)
            raise
        return connection


def _close_all(idle: list[_Connection]) -> None:
    while (connection := _pop(idle)) is not None:
        _all_open().close(connection)


def _pop(idle: list[_Connection]) -> _Connection | None:
    try:
        return idle.pop()
    except IndexError:  # another thread was faster, or there was none
        return None


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _create_private(file: Path) -> None:
    """Make an empty file that its owner alone can read, unless one is there.

    SQLite gives ``-wal`` and ``-shm`` the same mode.
    """
    # Made under another name and linked into place, because to close a descriptor of
    # the file itself would drop all locks that this process holds on it (POSIX).
    descriptor, draft = tempfile.mkstemp(prefix=f"{file.name}-new-", dir=file.parent)
    os.close(descriptor)
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)


def _prepare(sql: sqlite3.Connection, clock: Callable[[], float]) -> None:
    """Make the tables, unless they are there; all processes may start at once."""
    if not _is_empty(sql):
        return
    _switch_to_wal(sql)
    sql.execute("BEGIN IMMEDIATE")
    if _is_empty(sql):
        for statement in _SCHEMA:
            sql.execute(statement)
        sql.execute(_SET_FIRST_POSITION, (int(clock() * 1_000_000),))
    sql.execute("COMMIT")


def _is_empty(sql: sqlite3.Connection) -> bool:
    """True for a new file, false for one of ours; refuses any other."""
    # One statement, since the tables might be made between two.
    version, tables = sql.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_user_version"
    ).fetchone()
    if version == _VERSION and tables:
        return False
    if version == 0 and not tables:
        return True
    raise sqlite3.DatabaseError("it is not a store of this version; name another file")


def _switch_to_wal(sql: sqlite3.Connection) -> None:
    """The mode stays with the file.

    While another connection changes the file the switch is refused at once, whatever
    the busy timeout. A transaction does wait for it, so one is put between.
    """
    for _ in range(_WAL_ATTEMPTS):
        try:
            sql.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            sql.execute("BEGIN IMMEDIATE")
            sql.execute("COMMIT")
        else:
            return
    # That is, if others were in the way at each of the attempts.
    raise sqlite3.OperationalError("its journal mode cannot be set")  # pragma: no cover
