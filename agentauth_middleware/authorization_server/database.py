"""One SQLite file, and its transactions.

What is in it includes private keys: it is made readable by its owner alone, and a file
that has vanished is never made again silently.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agentauth_middleware.errors import ConfigurationError, UnavailableError

__all__ = ["Database"]

_logger = logging.getLogger("agentauth_middleware")
_NOT_THE_OWNER = 0o077
_APPLICATION_ID = int.from_bytes(b"AgAS")
"""In the file, so that it is told from files of other programs."""


class Database:
    """The file. Functions block; they may be called from any thread."""

    def __init__(self, path: str | os.PathLike[str], schema: str) -> None:
        """Raises:
        ConfigurationError: *path* can never be such a file.
        """
        # Absolute, since servers change their folder after they have loaded settings.
        self.path = Path(path).absolute()
        if os.fspath(path) == ":memory:" or self.path.is_dir():
            raise ConfigurationError(f"database: {os.fspath(path)!r} is no file")
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                f"database: there is no folder {self.path.parent}; make it, writable "
                "by the user that the server runs as"
            )
        self._schema = schema
        self._preparing = threading.Lock()
        self._is_prepared = False

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """``BEGIN IMMEDIATE`` to ``COMMIT``; durable when it returns.

        Raises:
            UnavailableError: the file failed.
        """
        try:
            self._prepare()
            with self._connection() as sql:
                yield sql
        except (sqlite3.Error, OSError) as fault:
            raise UnavailableError(
                "state_unreachable", f"the database {self.path} failed: {fault}"
            ) from fault

    def _prepare(self) -> None:
        """Make what is missing of the file, once.

        One thread at a time: to close a file that another has open through SQLite
        would take that one's locks away (sqlite.org/howtocorrupt.html §2.2).
        """
        with self._preparing:
            if self._is_prepared:
                return
            self.path.touch(0o600)
            self._close_to_others()
            with self._connection() as sql:
                self._claim(sql)
                for statement in filter(str.strip, self._schema.split(";")):
                    sql.execute(statement)
            self._is_prepared = True

    def _claim(self, sql: sqlite3.Connection) -> None:
        """Mark the file as ours, unless it belongs to another program."""
        (owner,) = sql.execute("PRAGMA application_id").fetchone()
        (tables,) = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and owner != _APPLICATION_ID:
            raise ConfigurationError(
                f"database: {self.path} is used for something else, such as the store; "
                "name a file of its own"
            )
        sql.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _close_to_others(self) -> None:
        """Make the file readable by its owner only."""
        if os.name != "posix" or not self.path.stat().st_mode & _NOT_THE_OWNER:
            return
        self.path.chmod(0o600)
        _logger.warning(
            "the database %s, which holds private keys, was open to other users of "
            "this machine; only its owner can read it from now on",
            self.path,
        )

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        # With a rollback journal, not WAL: processes that start at once would be in
        # each other's way while the file changes its mode. And never a new file, which
        # would be readable by all and know nothing.
        sql = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=5.0
        )
        try:
            sql.execute("PRAGMA synchronous = EXTRA")
            sql.execute("BEGIN IMMEDIATE")
            yield sql
            sql.execute("COMMIT")
        finally:
            sql.close()  # rolls back what was not committed
