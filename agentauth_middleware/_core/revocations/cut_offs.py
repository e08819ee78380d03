"""Cut-offs: what a revocation refuses, and what one process knows of all of them.

A revocation names its target by claims, and refuses tokens issued at or before its
instant. Of several with one target only the latest counts. So they may be applied in
any order and more than once, and the log keeps only the latest.

In memory a target is a hash of 16 bytes: a process holds a million of them in about
120 MB, and reads them without parsing anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from math import inf

from agentauth_middleware._core.cache import Lock
from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware.access import Access

DEFAULT_RETENTION = 400 * 86_400
"""Seconds after which every token issued before a revocation is taken to have expired,
if neither the issuer's settings nor the caller set a retention."""
_CLOCKS = 3600 + 300
"""Seconds on top of every retention: for clocks, and for the largest leeway."""
MOST_SKEW = 300.0
"""Seconds by which the clock that dates a revocation may be ahead of the store's."""
_FULL_READ_AFTER = 100_000
"""How many entries a process applies at least before it forgets what the log forgot."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Refuses the tokens of *issuer* issued at or before *at* that match the rest.

    With nothing else it is every token of the issuer; *token_id* is one token;
    *subject* is all tokens of a user, *agent* all of an agent, and both together those
    of this agent for this user.
    """

    issuer: str
    at: float
    """Epoch seconds."""
    subject: str | None = None
    agent: tuple[str, str] | None = None
    """Issuer and subject of the immediate actor."""
    token_id: str | None = None

    @property
    def key(self) -> bytes:
        if self.token_id is not None:
            return _key_of("jti", self.issuer, self.token_id)
        return _key_of("sub", self.issuer, self.subject, *(self.agent or ()))

    @property
    def entry(self) -> tuple[bytes, float]:
        """As a page of the log has it."""
        return self.key, self.at

    def to_cut_off(self, retention: float = DEFAULT_RETENTION) -> CutOff:
        """The entry of the log. *retention* is in seconds, ``inf`` for ever."""
        members: dict[str, object] = {"iss": self.issuer, "at": self.at}
        if self.subject is not None:
            members["sub"] = self.subject
        if self.agent is not None:
            members["act"] = {"iss": self.agent[0], "sub": self.agent[1]}
        if self.token_id is not None:
            members["jti"] = self.token_id
        record = json.dumps(members).encode()
        return CutOff(self.key, self.at, self.at + retention + _CLOCKS, record)


def _key_of(kind: str, *names: str | None) -> bytes:
    """A hash that no other kind and no other names have."""
    text = kind
    for name in names:
        text += " -" if name is None else f" {len(name)}:{name}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def clamped(at: float, latest: float) -> float:
    """*at*, or the present if *at* is later than *latest* (the present plus
    ``MOST_SKEW``). Otherwise a revocation by a host whose clock is hours ahead would
    refuse every token that is issued in those hours.
    """
    return at if at <= latest else latest - MOST_SKEW


class RevocationView:
    """What one process knows of the log."""

    __slots__ = (
        "_applied_since_full_read",
        "_cut_offs",
        "_lock",
        "edition",
        "epoch",
        "position",
        "read_at",
    )

    def __init__(self) -> None:
        self._cut_offs: dict[bytes, float] = {}
        self._applied_since_full_read = 0
        self._lock = Lock()
        self.epoch: str = ""
        """Which log was read; empty before the first page."""
        self.position: int = 0
        """How far the log has been read. Back at 0 when another log takes over."""
        self.read_at = -inf
        """When the last read began. Every revocation acknowledged by then is known."""
        self.edition = object()
        """A new object after each revocation: a token that was checked against this
        edition need not be checked again. Not a number, because two threads that count
        up at once may reach the same number."""

    def apply(self, page: LogPage, asked_at: float) -> None:
        """Take in what was read. Threads may do so at once and in any order.

        A shared page is applied once, and other threads wait for it: if each applied
        it, the view would be too old for all of them by the end. A page that comes
        late, or from a log that is no longer read, is ignored.
        """
        with self._lock:
            is_current = page.epoch == self.epoch or not self.epoch
            if is_current and page.position > self.position:
                self._add(page)
                self.position, self.epoch = page.position, page.epoch
        if page.is_last:
            asked_at = asked_at if page.asked_at is None else page.asked_at
            self.read_at = max(self.read_at, asked_at)

    def _add(self, page: LogPage) -> None:
        cut_offs, is_news = self._cut_offs, False
        for key, at in page.entries:
            if at > cut_offs.get(key, -inf):
                cut_offs[key] = at
                is_news = True
        self._applied_since_full_read += len(page.entries)
        if is_news:
            self.edition = object()

    @property
    def is_due_for_a_full_read(self) -> bool:
        """Whether the log may have forgotten much of what is remembered here."""
        return self._applied_since_full_read > 2 * max(
            _FULL_READ_AFTER, len(self._cut_offs)
        )

    def replace_by(self, full: RevocationView) -> None:
        """Take over what *full* knows, which has just read the whole log, and forget
        the rest."""
        with self._lock:
            self._cut_offs = full._cut_offs
            self._applied_since_full_read = 0
            self.position, self.epoch = full.position, full.epoch
            self.edition = object()
            self.read_at = max(self.read_at, full.read_at)

    def is_of_another_log(self, page: LogPage, after: int) -> bool:
        """Whether *page*, which was asked for behind *after*, is not from the log that
        was read before, or from an older copy of it."""
        is_other = bool(self.epoch) and page.epoch != self.epoch
        return is_other or page.position < after

    def begin_again(self, epoch: str) -> tuple[CutOff, ...]:
        """Read the log of *epoch* from its start. Returns all that is known, because
        that log may lack it."""
        with self._lock:
            self.position, self.epoch = 0, epoch
            known = tuple(self._cut_offs.items())
        return tuple(
            CutOff(key, at, at + DEFAULT_RETENTION + _CLOCKS) for key, at in known
        )

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
        return _key_of("jti", issuer, token_id) in self._cut_offs

    def cutoff(
        self, issuer: str, subject: str | None, agent: tuple[str, str] | None
    ) -> float | None:
        """The latest instant at which tokens of this kind were revoked.

        *agent* is issuer and subject of the immediate actor, where there is one.
        """
        if not self._cut_offs:
            return None
        names: list[tuple[str | None, ...]] = [(None,)]
        if subject is not None:
            names.append((subject,))
        if agent is not None:
            names += [(None, *agent), (subject, *agent)]
        found = (self._cut_offs.get(_key_of("sub", issuer, *name)) for name in names)
        return max((at for at in found if at is not None), default=None)
