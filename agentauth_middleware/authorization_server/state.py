"""All that the embedded server keeps, in one SQLite file; one function a transaction.

__all__ = ["Outcome", "Registration", "State"]

Who its users are, which of them a provider's subject is linked to, which agents are
registered for them, which assertions and events have been seen, and the signing keys.
The file holds private keys: it is made readable by its owner alone.

A registration is ``live``, ``revoked``, and ``told`` once all resource servers have
heard that it was revoked. It never comes back to life: an agent that is connected again
gets a new one, so nothing that was issued for the old one is ever good again.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentauth_middleware.authorization_server.id_jag import IdentityAssertion
from agentauth_middleware.errors import ConfigurationError, UnavailableError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, email TEXT
);
CREATE INDEX IF NOT EXISTS users_by_email ON users (email);
CREATE TABLE IF NOT EXISTS links (
    provider TEXT, subject TEXT, user_id TEXT NOT NULL,
    PRIMARY KEY (provider, subject)
);
CREATE TABLE IF NOT EXISTS registrations (
    id TEXT PRIMARY KEY, provider TEXT, subject TEXT, user_id TEXT NOT NULL,
    client_id TEXT NOT NULL, auth_time REAL NOT NULL, amr TEXT NOT NULL,
    agent_platform TEXT, agent_context_id TEXT, vouched_at REAL NOT NULL,
    state TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS live_registrations
    ON registrations (provider, subject) WHERE state = 'live';
CREATE INDEX IF NOT EXISTS untold_registrations
    ON registrations (state) WHERE state = 'revoked';
CREATE TABLE IF NOT EXISTS seen (
    kind TEXT, issuer TEXT, token_id TEXT, expires_at REAL NOT NULL,
    PRIMARY KEY (kind, issuer, token_id)
);
CREATE TABLE IF NOT EXISTS signing_keys (
    id INTEGER PRIMARY KEY, pem BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Registration:
    """One agent, registered for one user."""

    id: str
    user_id: str
    client_id: str
    auth_time: float
    amr: tuple[str, ...]
    agent_platform: str | None
    agent_context_id: str | None


Outcome = Registration | Literal["replayed", "interaction_required", "no_account"]


class State:
    """The file. Functions block; they may be called from any thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises:
        ConfigurationError: *path* can never be such a file.
        """
        # Absolute, since servers change their folder after they have loaded settings.
        self._path = Path(path).absolute()
        if os.fspath(path) == ":memory:" or self._path.is_dir():
            raise ConfigurationError(f"database: {os.fspath(path)!r} is no file")
        if not self._path.parent.is_dir():
            raise ConfigurationError(
                f"database: there is no folder {self._path.parent}; make it, writable "
                "by the user that the server runs as"
            )
        self._preparing = threading.Lock()
        self._is_prepared = False

    def signing_keys(self, new_pem: bytes) -> list[bytes]:
        """The signing keys, newest last; *new_pem* becomes the first if there is none.

        Of several processes that start at once one gives its key to all.
        """
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR IGNORE INTO signing_keys (id, pem) VALUES (1, ?)",
                (new_pem,),
            )
            rows = sql.execute("SELECT pem FROM signing_keys ORDER BY id")
            return [pem for (pem,) in rows]

    def add_user(self, user_id: str, *, email: str | None = None) -> None:
        """Make a user known; one who is known already keeps what is known."""
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR IGNORE INTO users (id, email) VALUES (?, ?)",
                (user_id, email.lower() if email else None),
            )

    def link(self, provider: str, subject: str, user_id: str) -> None:
        """Say that *subject* of *provider* is *user_id* here.

        If it was somebody else, what was registered for them is revoked.
        """
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO links VALUES (?, ?, ?)",
                (provider, subject, user_id),
            )
            sql.execute(
                "UPDATE registrations SET state = 'revoked' WHERE provider = ?"
                " AND subject = ? AND user_id <> ? AND state = 'live'",
                (provider, subject, user_id),
            )

    def register(
        self, assertion: IdentityAssertion, *, now: float, seen_until: float
    ) -> Outcome:
        """Consume *assertion* and register its agent for the user it is linked to.

        There is no silent match: that a verified e-mail address belongs to a user
        proves nothing to them, and they have to confirm.
        """
        with self._transaction() as sql:
            name = ("id-jag", assertion.provider, assertion.token_id)
            if not _see(sql, name, now, seen_until):
                return "replayed"
            user_id = _linked_user(sql, assertion)
            if user_id is None:
                is_known = _has_user(sql, assertion.email)
                return "interaction_required" if is_known else "no_account"
            return _upsert(sql, assertion, user_id)

    def registration(self, registration_id: str) -> Registration | None:
        """The registration of that id, unless it has been revoked."""
        with self._transaction() as sql:
            row = sql.execute(
                f"SELECT {_COLUMNS} FROM registrations"  # noqa: S608 - a constant
                " WHERE id = ? AND state = 'live'",
                (registration_id,),
            ).fetchone()
        return None if row is None else _registration(row)

    def disconnect(
        self,
        provider: str,
        subject: str,
        *,
        vouched_until: float,
        event_id: str,
        now: float,
        seen_until: float,
    ) -> None:
        """Revoke the registration of *subject* and forget its link, once for an event.

        An agent for which the provider has vouched after *vouched_until*, by the
        provider's clock, was connected again since: nothing happens to it.
        """
        with self._transaction() as sql:
            if not _see(sql, ("event", provider, event_id), now, seen_until):
                return
            is_newer = sql.execute(
                "SELECT 1 FROM registrations WHERE provider = ? AND subject = ?"
                " AND state = 'live' AND vouched_at > ?",
                (provider, subject, vouched_until),
            ).fetchone()
            if is_newer:
                return
            sql.execute(
                "UPDATE registrations SET state = 'revoked'"
                " WHERE provider = ? AND subject = ? AND state = 'live'",
                (provider, subject),
            )
            sql.execute(
                "DELETE FROM links WHERE provider = ? AND subject = ?",
                (provider, subject),
            )

    def untold(self) -> list[Registration]:
        """The revoked registrations that resource servers may not have heard of."""
        with self._transaction() as sql:
            rows = sql.execute(
                f"SELECT {_COLUMNS} FROM registrations"  # noqa: S608 - a constant
                " WHERE state = 'revoked'"
            ).fetchall()
        return [_registration(row) for row in rows]

    def note_told(self, registration_id: str) -> None:
        """Remember that all resource servers have heard that it was revoked."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE registrations SET state = 'told'"
                " WHERE id = ? AND state = 'revoked'",
                (registration_id,),
            )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """``BEGIN IMMEDIATE`` to ``COMMIT``; durable when it returns."""
        try:
            self._prepare()
            with self._connection() as sql:
                yield sql
        except (sqlite3.Error, OSError) as fault:
            raise UnavailableError("state_unreachable", str(fault)) from fault

    def _prepare(self) -> None:
        """Make what is missing of the file, once.

        One thread at a time: to close a file that another has open through SQLite
        would take that one's locks away (sqlite.org/howtocorrupt.html §2.2).
        """
        with self._preparing:
            if self._is_prepared:
                return
            self._path.touch(0o600)
            with self._connection() as sql:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    sql.execute(statement)
            self._is_prepared = True

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        # With a rollback journal, not WAL: processes that start at once would be in
        # each other's way while the file changes its mode.
        sql = sqlite3.connect(self._path, isolation_level=None, timeout=5.0)
        try:
            sql.execute("PRAGMA synchronous = EXTRA")
            sql.execute("BEGIN IMMEDIATE")
            yield sql
            sql.execute("COMMIT")
        finally:
            sql.close()  # rolls back what was not committed


_COLUMNS = "id, user_id, client_id, auth_time, amr, agent_platform, agent_context_id"


def _registration(row: tuple[str, str, str, float, str, str, str]) -> Registration:
    registration_id, user_id, client_id, auth_time, amr, platform, context = row
    return Registration(
        registration_id,
        user_id,
        client_id,
        auth_time,
        tuple(json.loads(amr)),
        platform,
        context,
    )


def _see(
    sql: sqlite3.Connection, name: tuple[str, str, str], now: float, seen_until: float
) -> bool:
    """Note kind, issuer and identifier; ``False`` if they were noted before."""
    sql.execute("DELETE FROM seen WHERE expires_at < ?", (now,))
    added = sql.execute(
        "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (*name, seen_until)
    )
    return added.rowcount == 1


def _linked_user(sql: sqlite3.Connection, assertion: IdentityAssertion) -> str | None:
    row = sql.execute(
        "SELECT user_id FROM links WHERE provider = ? AND subject = ?",
        (assertion.provider, assertion.subject),
    ).fetchone()
    return None if row is None else row[0]


def _has_user(sql: sqlite3.Connection, email: str | None) -> bool:
    found = sql.execute("SELECT 1 FROM users WHERE email = ?", (email,))
    return found.fetchone() is not None


def _upsert(
    sql: sqlite3.Connection, assertion: IdentityAssertion, user_id: str
) -> Registration:
    """The live registration of this subject, brought up to date, or a new one."""
    sql.execute(
        """
        INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'live')
        ON CONFLICT (provider, subject) WHERE state = 'live' DO UPDATE SET
            client_id = excluded.client_id,
            auth_time = excluded.auth_time, amr = excluded.amr,
            agent_platform = excluded.agent_platform,
            agent_context_id = excluded.agent_context_id,
            vouched_at = max(vouched_at, excluded.vouched_at)
        """,
        (
            f"agent_{secrets.token_urlsafe(16)}",
            assertion.provider,
            assertion.subject,
            user_id,
            assertion.client_id,
            assertion.auth_time,
            json.dumps(assertion.amr),
            assertion.agent_platform,
            assertion.agent_context_id,
            assertion.issued_at,
        ),
    )
    row = sql.execute(
        f"SELECT {_COLUMNS} FROM registrations"  # noqa: S608 - a constant
        " WHERE provider = ? AND subject = ? AND state = 'live'",
        (assertion.provider, assertion.subject),
    ).fetchone()
    return _registration(row)
