"""All that the embedded server keeps, in one SQLite file; one function a transaction.

Who its users are, which of them a provider's subject is linked to, which agents are
registered for them, which assertions and events have been seen, and the signing keys.

A registration is ``live``, ``revoked``, and ``told`` once all resource servers have
heard that it was revoked. It never comes back to life: an agent that is connected again
gets a new one, so nothing that was issued for the old one is ever good again.

A link that was withdrawn stays, with no user in it: what is seeded at each start must
not undo it.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentauth_middleware.authorization_server.database import Database
from agentauth_middleware.authorization_server.id_jag import IdentityAssertion

__all__ = ["Effect", "Outcome", "Registration", "State"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, email TEXT
);
CREATE INDEX IF NOT EXISTS users_by_email ON users (email);
CREATE TABLE IF NOT EXISTS links (
    provider TEXT, subject TEXT, user_id TEXT,
    PRIMARY KEY (provider, subject)
);
CREATE TABLE IF NOT EXISTS registrations (
    id TEXT PRIMARY KEY, provider TEXT, subject TEXT, user_id TEXT NOT NULL,
    client_id TEXT NOT NULL, auth_time REAL NOT NULL, amr TEXT NOT NULL,
    agent_platform TEXT, agent_context_id TEXT, first_vouched_at REAL NOT NULL,
    last_vouched_at REAL NOT NULL, state TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS live_registrations
    ON registrations (provider, subject) WHERE state = 'live';
CREATE INDEX IF NOT EXISTS untold_registrations
    ON registrations (state) WHERE state = 'revoked';
CREATE TABLE IF NOT EXISTS seen (
    kind TEXT, issuer TEXT, token_id TEXT, expires_at REAL NOT NULL,
    PRIMARY KEY (kind, issuer, token_id)
);
CREATE INDEX IF NOT EXISTS seen_by_expiry ON seen (expires_at);
CREATE TABLE IF NOT EXISTS providers (
    issuer TEXT PRIMARY KEY, settings TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS signing_keys (
    id INTEGER PRIMARY KEY, pem BLOB NOT NULL
);
"""


_SEEN_LONGER = 3600.0
"""Seconds for which what was seen is kept beyond its end: while a clock was ahead by
less, nothing is forgotten that is good again when it has been set right."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One agent, registered for one user."""

    id: str
    provider: str
    subject: str
    """What the provider calls the user."""
    user_id: str
    client_id: str
    auth_time: float
    amr: tuple[str, ...]
    agent_platform: str | None
    agent_context_id: str | None


Outcome = (
    Registration
    | Literal["replayed", "interaction_required", "no_account", "other_account"]
)
Effect = Literal["disconnected", "revoked", "nothing", "repeated"]
"""Of a provider's event: ``revoked`` is what was registered, while the link stays."""


class State:
    """What is in the file. Functions block; they may be called from any thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises:
        ConfigurationError: *path* can never be such a file.
        """
        self._database = Database(path, _SCHEMA)
        self.path = self._database.path
        self._transaction = self._database.transaction

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
        """Add a user; one that exists is not changed.

        Raises:
            ValueError: the name is empty.
        """
        if not user_id.strip():
            raise ValueError("add_user: a user needs a name; tokens carry it as sub")
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR IGNORE INTO users (id, email) VALUES (?, ?)",
                (user_id, email.lower() if email else None),
            )

    def link(self, provider: str, subject: str, user_id: str) -> None:
        """Say that *subject* of *provider* is *user_id* here, unless it was withdrawn.

        If it was another user, that user's registrations are revoked.

        Raises:
            ValueError: there is no such user, or a name is empty.
        """
        with self._transaction() as sql:
            _check_link(sql, provider, subject, user_id)
            sql.execute(
                "INSERT INTO links VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                " SET user_id = excluded.user_id WHERE links.user_id IS NOT NULL",
                (provider, subject, user_id),
            )
            _revoke_for_others(sql, provider, subject, user_id)

    def relink(self, provider: str, subject: str, user_id: str) -> None:
        """``link``, also after a withdrawal: the user wants the agent back.

        Raises:
            ValueError: there is no such user, or a name is empty.
        """
        with self._transaction() as sql:
            _check_link(sql, provider, subject, user_id)
            sql.execute(
                "INSERT OR REPLACE INTO links VALUES (?, ?, ?)",
                (provider, subject, user_id),
            )
            _revoke_for_others(sql, provider, subject, user_id)

    def register(
        self, assertion: IdentityAssertion, *, now: float, seen_until: float
    ) -> Outcome:
        """Consume *assertion* and register its agent for the user it is linked to.

        There is no silent match: that a verified e-mail address belongs to a user
        proves nothing to them, and they have to confirm.
        """
        with self._transaction() as sql:
            user_id = _linked_user(sql, assertion)
            if user_id and assertion.local_subject not in (None, user_id):
                return "other_account"
            name = ("id-jag", assertion.provider, assertion.token_id)
            if not _see(sql, name, now, seen_until):
                return "replayed"
            if user_id is None:
                is_known = _has_user(sql, assertion.email)
                return "interaction_required" if is_known else "no_account"
            return _upsert(sql, assertion, user_id)

    def see_client_assertion(
        self, client_id: str, token_id: str, *, now: float, seen_until: float
    ) -> bool:
        """Note that *client_id* has shown this one; ``False`` if it did before."""
        name = ("client-assertion", client_id, token_id)
        with self._transaction() as sql:
            return _see(sql, name, now, seen_until)

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
    ) -> Effect:
        """Revoke the registration of *subject* and withdraw its link, once an event.

        What the provider has vouched for after *vouched_until*, by its own clock, was
        connected again since: the link stays then, and so does a registration that did
        not exist before.
        """
        whose = (provider, subject)
        with self._transaction() as sql:
            if not _see(sql, ("event", provider, event_id), now, seen_until):
                return "repeated"
            revoked = sql.execute(
                "UPDATE registrations SET state = 'revoked' WHERE provider = ?"
                " AND subject = ? AND state = 'live' AND first_vouched_at <= ?",
                (*whose, vouched_until),
            ).rowcount
            is_connected_since = sql.execute(
                "SELECT 1 FROM registrations WHERE provider = ? AND subject = ?"
                " AND last_vouched_at > ?",
                (*whose, vouched_until),
            ).fetchone()
            if is_connected_since:
                return "revoked" if revoked else "nothing"
            withdrawn = sql.execute(
                "UPDATE links SET user_id = NULL WHERE provider = ? AND subject = ?"
                " AND user_id IS NOT NULL",
                whose,
            ).rowcount
            return "disconnected" if revoked or withdrawn else "nothing"

    def disconnect_user(self, user_id: str, registration_id: str | None) -> None:
        """Revoke all that is registered for *user_id*, and withdraw their links.

        With *registration_id*, only of the subject for whom that was registered.

        Raises:
            ValueError: there is no such user, or they have no such registration.
        """
        names = {"user": user_id, "id": registration_id}
        its_subject = (
            "(:id IS NULL OR (provider, subject) IN (SELECT provider, subject"
            " FROM registrations WHERE id = :id AND user_id = :user))"
        )
        with self._transaction() as sql:
            _check_user(sql, user_id)
            if registration_id is not None:
                _check_registration(sql, registration_id, user_id)
            sql.execute(
                "UPDATE links SET user_id = NULL"  # noqa: S608 - a constant
                f" WHERE user_id = :user AND {its_subject}",
                names,
            )
            sql.execute(
                "UPDATE registrations SET state = 'revoked'"  # noqa: S608 - as above
                f" WHERE user_id = :user AND state = 'live' AND {its_subject}",
                names,
            )

    def remember_providers(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Keep the *settings* of providers, by issuer; those of others kept before."""
        with self._transaction() as sql:
            sql.executemany(
                "INSERT OR REPLACE INTO providers VALUES (?, ?)", settings.items()
            )
            rows = sql.execute("SELECT issuer, settings FROM providers").fetchall()
        return {issuer: kept for issuer, kept in rows if issuer not in settings}

    def revoke_unless(self, is_trusted: Callable[[str, str], bool]) -> int:
        """Revoke the registrations for whose provider and client that does not hold.

        Their links stay. How many they are.
        """
        with self._transaction() as sql:
            names = sql.execute(
                "SELECT DISTINCT provider, client_id FROM registrations"
                " WHERE state = 'live'"
            ).fetchall()
            return sum(
                sql.execute(
                    "UPDATE registrations SET state = 'revoked' WHERE state = 'live'"
                    " AND provider = ? AND client_id = ?",
                    (provider, client_id),
                ).rowcount
                for provider, client_id in names
                if not is_trusted(provider, client_id)
            )

    def untold(self) -> list[Registration]:
        """The revoked registrations that may not be in the log yet."""
        with self._transaction() as sql:
            rows = sql.execute(
                f"SELECT {_COLUMNS} FROM registrations"  # noqa: S608 - a constant
                " WHERE state = 'revoked'"
            ).fetchall()
        return [_registration(row) for row in rows]

    def note_told(self, registration_id: str) -> None:
        """Remember that its revocation is in the log."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE registrations SET state = 'told'"
                " WHERE id = ? AND state = 'revoked'",
                (registration_id,),
            )


_COLUMNS = (
    "id, provider, subject, user_id, client_id, auth_time, amr, agent_platform,"
    " agent_context_id"
)


def _registration(row: tuple[Any, ...]) -> Registration:
    members: dict[str, Any] = dict(zip(_COLUMNS.split(", "), row, strict=True))
    members["amr"] = tuple(json.loads(members["amr"]))
    return Registration(**members)


def _check_link(
    sql: sqlite3.Connection, provider: str, subject: str, user_id: str
) -> None:
    if not provider or not subject:
        raise ValueError("link: provider and subject must both be named")
    _check_user(sql, user_id)


def _check_user(sql: sqlite3.Connection, user_id: str) -> None:
    if not sql.execute("SELECT 1 FROM users WHERE id = ?", (user_id,)).fetchone():
        raise ValueError(f"there is no user {user_id!r}; call add_user first")


def _check_registration(
    sql: sqlite3.Connection, registration_id: str, user_id: str
) -> None:
    found = sql.execute(
        "SELECT 1 FROM registrations WHERE id = ? AND user_id = ?",
        (registration_id, user_id),
    )
    if not found.fetchone():
        raise ValueError(f"{user_id!r} has no registration {registration_id!r}")


def _revoke_for_others(
    sql: sqlite3.Connection, provider: str, subject: str, user_id: str
) -> None:
    sql.execute(
        "UPDATE registrations SET state = 'revoked' WHERE provider = ?"
        " AND subject = ? AND user_id <> ? AND state = 'live'",
        (provider, subject, user_id),
    )


def _see(
    sql: sqlite3.Connection, name: tuple[str, str, str], now: float, seen_until: float
) -> bool:
    """Note kind, issuer and identifier; ``False`` if they were noted before."""
    sql.execute("DELETE FROM seen WHERE expires_at < ?", (now - _SEEN_LONGER,))
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
        INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'live')
        ON CONFLICT (provider, subject) WHERE state = 'live' DO UPDATE SET
            client_id = excluded.client_id,
            auth_time = excluded.auth_time, amr = excluded.amr,
            agent_platform = excluded.agent_platform,
            agent_context_id = excluded.agent_context_id,
            first_vouched_at = min(first_vouched_at, excluded.first_vouched_at),
            last_vouched_at = max(last_vouched_at, excluded.last_vouched_at)
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
            assertion.issued_at,
        ),
    )
    row = sql.execute(
        f"SELECT {_COLUMNS} FROM registrations"  # noqa: S608 - a constant
        " WHERE provider = ? AND subject = ? AND state = 'live'",
        (assertion.provider, assertion.subject),
    ).fetchone()
    return _registration(row)
