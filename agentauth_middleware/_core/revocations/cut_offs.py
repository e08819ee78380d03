"""Revocations: what stands in the log, and which tokens it refuses.

The log is append-only and shared; every process keeps a view of it in memory. A
record names its target by what tokens say of themselves, and a token issued at or
before the record's instant is refused. Instants only grow, so records may be applied
in any order and more than once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from agentauth_middleware._core.cache import Lock
from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._syntax.members import (
    instant,
    is_object,
    optional_text,
    parse_object,
    text,
)
from agentauth_middleware.access import Access


@dataclass(frozen=True, slots=True)
class Revocation:
    """Refuses the tokens of *issuer* issued at or before *at* that match the rest.

    With nothing else it is every token of the issuer; *token_id* is one token;
    *subject* is all of a user's, *agent* all of an agent's, for whomever it acts, and
    both together those of this agent for this user.
    """

    issuer: str
    at: float
    """Epoch seconds."""
    subject: str | None = None
    agent: tuple[str, str] | None = None
    """Issuer and subject of the immediate actor."""
    token_id: str | None = None

    @property
    def target(self) -> Hashable:
        return (self.issuer, self.subject, self.agent, self.token_id)

    def to_record(self) -> bytes:
        members: dict[str, object] = {"iss": self.issuer, "at": self.at}
        if self.subject is not None:
            members["sub"] = self.subject
        if self.agent is not None:
            members["act"] = {"iss": self.agent[0], "sub": self.agent[1]}
        if self.token_id is not None:
            members["jti"] = self.token_id
        return json.dumps(members).encode()


def read_revocation(record: bytes) -> Revocation:
    """The revocation in *record*.

    Raises:
        ValueError: it is none. A log that cannot be understood must not be passed
            over: what it revokes would live on.
    """
    members = parse_object(record)
    if members.keys() - {"iss", "at"} not in _TARGETS:
        raise ValueError("names its target in a way that is not known here")
    return Revocation(
        text(members, "iss"),
        instant(members, "at"),
        optional_text(members, "sub"),
        _read_agent(members["act"]) if "act" in members else None,
        optional_text(members, "jti"),
    )


_TARGETS = (set[str](), {"sub"}, {"act"}, {"sub", "act"}, {"jti"})


def _read_agent(act: object) -> tuple[str, str]:
    if not is_object(act):
        raise ValueError("act is not an object")
    return text(act, "iss"), text(act, "sub")


_APPLIED_PAGES = 16
"""How many pages back somebody may come late with one and not move the view back."""


class RevocationView:
    """What one process knows of the log."""

    __slots__ = ("_applied", "_cutoffs", "_lock", "edition", "position", "read_at")

    def __init__(self) -> None:
        self._cutoffs: dict[Hashable, float] = {}
        self._applied: deque[LogPage] = deque(maxlen=_APPLIED_PAGES)
        self._lock = Lock()
        self.position = 0
        """How far the log has been read. Goes back when an older log takes over."""
        self.read_at = float("-inf")
        """When the last read was asked for; all that was acknowledged by then is in."""
        self.edition = object()
        """Another one after each revocation, so that a token once cleared stays so
        until there is news. An object and no number: threads may apply at once, and
        two that count up may count to the same number."""

    def apply(self, page: LogPage, asked_at: float) -> None:
        """Take in what was read. Threads may do so at once and in any order.

        A page that many share is taken in once, and the others wait for it: each on
        its own they would take so long that the view were too old for all of them.

        Raises:
            ValueError: a record cannot be understood.
        """
        with self._lock:
            if not any(page is applied for applied in self._applied):
                for record in page.records:
                    self._add(read_revocation(record))
                self._applied.append(page)
                self.position = page.position
        if page.is_last:
            asked_at = asked_at if page.asked_at is None else page.asked_at
            self.read_at = max(self.read_at, asked_at)

    def _add(self, revocation: Revocation) -> None:
        if revocation.at > self._cutoffs.get(revocation.target, float("-inf")):
            self._cutoffs[revocation.target] = revocation.at
            self.edition = object()

    def refuses(self, access: Access) -> bool:
        """Whether the token behind *access* has been revoked."""
        if access.token_id and self.has_token(access.issuer, access.token_id):
            return True
        agent = access.agent
        actor = (agent.issuer, agent.subject) if agent is not None else None
        cutoff = self.cutoff(access.issuer, access.subject, actor)
        if cutoff is None:
            return False
        return access.issued_at is None or access.issued_at <= cutoff

    def has_token(self, issuer: str, token_id: str) -> bool:
        """Whether this one token has been revoked by its identifier."""
        return (issuer, None, None, token_id) in self._cutoffs

    def cutoff(
        self, issuer: str, subject: str | None, agent: tuple[str, str] | None
    ) -> float | None:
        """The latest instant at which tokens of this kind were revoked.

        *agent* is issuer and subject of the immediate actor, where there is one.
        """
        targets = {
            (issuer, None, None, None),
            (issuer, subject, None, None),
            (issuer, None, agent, None),
            (issuer, subject, agent, None),
        }
        instants = [self._cutoffs[target] for target in targets & self._cutoffs.keys()]
        return max(instants, default=None)
