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

import logging
import os
import secrets
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware._core.revocations.cut_offs import MOST_SKEW, clamped
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.reasons import Reason

__all__ = ["SQLiteStore"]

_logger = logging.getLogger("agentauth_middleware")

# Nothing here needs a SQLite newer than 3.24, the oldest still found with Python 3.11.
_VERSION = 2
_SCHEMA = (
    """
    CREATE TABLE log (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        at REAL NOT NULL,
        forget_at REAL,
        record BLOB NOT NULL
    )
    """,
    "CREATE INDEX log_by_forgetting ON log (forget_at)",
    "CREATE TABLE epoch (name TEXT NOT NULL)",
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
# so that readers of the other file do not miss entries of this one.
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
_SET_EPOCH = "INSERT INTO epoch (name) VALUES (?)"
_EPOCH = "SELECT name FROM epoch"
# An entry is replaced only by a later one, which gets a new position: no reader of the
# one before can miss it.
_APPEND = """
    INSERT OR REPLACE INTO log (key, at, forget_at, record)
    SELECT :key, :at, :forget_at, :record
    WHERE NOT EXISTS (SELECT 1 FROM log WHERE key = :key AND at >= :at)
"""
_DROP_FORGOTTEN = """
    DELETE FROM log WHERE position IN (
        SELECT position FROM log WHERE forget_at < ? ORDER BY forget_at LIMIT ?
    )
"""
# A log that ends before the position asked for is an older copy, put in place of the
# one that was read. It is read from the start: records may come twice, not be missed.
_END = "SELECT seq FROM sqlite_sequence WHERE name = 'log'"
_READ = """
    SELECT position, key, at FROM log WHERE position > ?
    ORDER BY position LIMIT 20000
"""
_PAGE = 20_000

_IDLE_CONNECTIONS = 8
_OPEN_TO_ALL = 0o002
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
        create: Literal["once", "always", "never"] = "once",
        busy_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            path: the file; its folder must exist.
            create: whether to make the file where there is none. ``"once"``: unless it
                was there before, which a small file beside it remembers (``-made``):
                revocations that were in it would be forgotten in silence. Delete that
                one as well to begin anew.
            busy_timeout: how long, in seconds, a change may wait for those of others.
            clock: the present, in epoch seconds.

        Raises:
            ConfigurationError: *path* can never be such a file.
        """
        self._file = file = _check_path(path)
        if create not in ("once", "always", "never"):
            raise ConfigurationError(
                f'SQLiteStore.create: {create!r} is unknown; write "once", "always" '
                'or "never"'
            )
        self._clock = clock
        self._entries = _Connections(file, busy_timeout, "NORMAL", clock, create)
        self._log = _Connections(file, busy_timeout, "FULL", clock, create)

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

    def append_log(self, entries: Iterable[CutOff]) -> None:
        rows = [_row_of(entry) for entry in entries]
        with self._log.change() as sql:
            sql.executemany(_APPEND, rows)
            sql.execute(_DROP_FORGOTTEN, (self._clock(), 2 * len(rows)))

    def read_log(self, after: int) -> LogPage:
        with self._entries.read() as sql:
            (epoch,) = sql.execute(_EPOCH).fetchone()
            (end,) = sql.execute(_END).fetchone()
            after = 0 if after > end else after
            rows = sql.execute(_READ, (after,)).fetchall()
        latest = self._clock() + MOST_SKEW
        is_last = len(rows) < _PAGE
        return LogPage(
            end if is_last else rows[-1][0],
            tuple((key, clamped(at, latest)) for _, key, at in rows),
            is_last=is_last,
            epoch=f"{epoch} {_inode(self._file)}",
        )


def _row_of(entry: CutOff) -> dict[str, object]:
    """SQLite has no infinity that compares; what is kept for ever has no end."""
    forget_at = None if entry.forget_at == inf else entry.forget_at
    return {
        "key": entry.key,
        "at": entry.at,
        "forget_at": forget_at,
        "record": entry.record,
    }


def _check_path(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    if name == ":memory:":
        raise ConfigurationError(
            "SQLiteStore.path: ':memory:' is shared with no other process; use "
            "MemoryStore, or name a file"
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
                    Reason.STORE_UNREACHABLE,
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
        create: Literal["once", "always", "never"],
    ) -> None:
        self._file = file
        self._create = create
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
                Reason.STORE_UNREACHABLE, f"the store {self._file} failed: {error}"
            ) from error

    @contextmanager
    def read(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection whose reads all see one state of the file."""
        with self.lend() as sql:
            sql.execute("BEGIN")
            yield sql
            sql.execute("COMMIT")

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
            inode = _inode(self._file)
            if connection.is_open and inode is not None and connection.inode == inode:
                return connection
            _all_open().close(connection)
        return self._open()

    def _put_back(self, connection: _Connection) -> None:
        if len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            _all_open().close(connection)

    def _open(self) -> _Connection:
        is_there = self._file.exists() and self._file.stat().st_size > 0
        if not is_there:
            self._check_may_create()
        if not self._file.exists():
            _create_private(self._file)
        _close_to_others(self._file)
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
            self._remember(sql)
            if connection.inode is None:  # it was empty before
                connection.inode = _inode(self._file)
        except BaseException:
            _all_open().close(connection)
            raise
        return connection

    def _check_may_create(self) -> None:
        """
        Raises:
            UnavailableError: the store was there and is gone, or is never to be made.
        """
        if self._create == "always":
            return
        if self._create == "never" or _marker_of(self._file).exists():
            raise UnavailableError(
                Reason.STORE_GONE,
                f"the store {self._file} is gone, and with it what was revoked; put it "
                f"back, or delete {_marker_of(self._file)} to begin anew",
            )

    def _remember(self, sql: sqlite3.Connection) -> None:
        """Remember beside the store that it is there, and which one it is.

        Raises:
            UnavailableError: another one was there before.
        """
        (epoch,) = sql.execute(_EPOCH).fetchone()
        marker = _marker_of(self._file)
        known = marker.read_text() if marker.exists() else ""
        if known == epoch:
            return
        if known and self._create != "always":
            raise UnavailableError(
                Reason.STORE_GONE,
                f"another store is in the place of {self._file}; put the former back, "
                f"or delete {marker} to use this one",
            )
        draft = marker.with_name(f"{marker.name}-{os.getpid()}-{threading.get_ident()}")
        draft.touch(0o600)
        draft.chmod(self._file.stat().st_mode & 0o777)
        draft.write_text(epoch)
        draft.replace(marker)


def _marker_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-made")


def _close_to_others(file: Path) -> None:
    """Allow only the owner and the group of the store to change it.

    Raises:
        UnavailableError: every user may change it, and this process may not change its
            mode.
    """
    mode = file.stat().st_mode
    if os.name != "posix" or not mode & _OPEN_TO_ALL:
        return
    try:
        file.chmod(mode & 0o770)
    except PermissionError as error:
        raise UnavailableError(
            Reason.STORE_OPEN_TO_ALL,
            f"every user of this machine may change the store {file}, which belongs to "
            "another user: let its owner run `chmod o-rwx` on it",
        ) from error
    _logger.warning(
        "every user of this machine could change the store %s; only its owner and its "
        "group can from now on",
        file,
    )


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
    if not status.st_size:  # emptied by another program: no longer the same
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
        sql.execute(_SET_EPOCH, (secrets.token_hex(8),))
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
