"""Remembered tokens: what is kept of a good token, and what is checked of it again.

A token does not change, so its signature and claims are checked once, and what it says
is remembered under its SHA-256. What may change is checked on every request: whether
it has expired or been revoked, whether its issuer's keys are still the same, and
whether its issuer has to be asked again (RFC 7662).
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol, TypeAlias

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.issuers.trust import Trust, TrustedIssuer
from agentauth_middleware._core.policy.caller import refusal_of_agent
from agentauth_middleware._core.policy.scope_rules import ScopeRules
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.tokens.token_claims import (
    expires_with_leeway,
    is_bound,
    read_access,
)
from agentauth_middleware._syntax.members import parse_object
from agentauth_middleware.access import Access
from agentauth_middleware.errors import ActorRefusedError, InvalidTokenError
from agentauth_middleware.reasons import Reason


class SigningKeys(Protocol):
    """The keys that a token was verified with."""

    known_since: float
    refresh_at: float
    generation: int


class _NoKeys:
    """Stands in for keys where the issuer was asked instead."""

    known_since = -inf
    refresh_at = inf
    generation = 0


NO_KEYS: SigningKeys = _NoKeys()


class Remembered:
    """A token that was found good: what it says, and until when that counts."""

    __slots__ = (
        "access",
        "actor_refusal",
        "answered_at",
        "ask_at",
        "caller",
        "checked_edition",
        "expires_at",
        "generation",
        "is_bound",
        "keys",
        "revalidate_at",
        "trusted",
    )

    def __init__(
        self,
        access: Access,
        trusted: TrustedIssuer,
        generation: int | None,
        *,
        is_bound: bool,
        ask_at: float = inf,
        answered_at: float = -inf,
    ) -> None:
        """*generation* is that of the issuer's keys which verified the token; ``None``
        if the issuer was asked instead."""
        self.access = access
        self.trusted = trusted
        self.keys = NO_KEYS if generation is None else trusted.keys
        self.generation = generation or 0
        self.is_bound = is_bound
        """Whether it is good only with proof of a key (RFC 7800)."""
        self.expires_at = expires_with_leeway(access, trusted.terms)
        """Epoch seconds."""
        self.ask_at = ask_at
        """When its issuer has to be asked about it again, epoch seconds."""
        self.answered_at = answered_at
        """When its issuer last called it active, epoch seconds."""
        self.revalidate_at = min(ask_at, trusted.known_until)
        """When it needs more than a look at its expiry."""
        self.actor_refusal = refusal_of_agent(access, trusted.settings)
        """Why its agent may not act at all, or ``None``."""
        self.checked_edition: object = None
        """The edition of the log of revocations in which it was last found good."""
        self.caller: Any = None
        """What a framework calls its caller. Made once, by the middleware that needs
        it."""

    def needs_revalidation(self, now: float) -> bool:
        """Whether its keys are due or have changed, or its issuer has to be asked or
        looked up; also after the clock was set back."""
        keys = self.keys
        return (
            not keys.known_since <= now < keys.refresh_at
            or self.generation != keys.generation
            or not self.answered_at <= now < self.revalidate_at
        )

    def keep_issuer(self) -> None:
        """Its issuer was looked up again, and is the same."""
        self.revalidate_at = min(self.ask_at, self.trusted.known_until)

    def force_introspection(self) -> None:
        """Its issuer has disowned the token: it must be asked before any use."""
        self.ask_at = self.revalidate_at = -inf


_Compact: TypeAlias = tuple[str, int | None, bytes, float]
"""A token as small as it can be kept: its issuer, the generation of the keys (``None``
if the issuer was asked), the claims unread, and when to ask about it.

A bare tuple of strings and numbers, since the garbage collector does not look into
those: a hundred thousand of them cost it nothing.
"""
_READY = 4096
"""How many tokens are kept with their ``Access`` ready."""


class RememberedTokens:
    """The good tokens of one middleware, by SHA-256.

    The middleware protects one resource, so the digest alone is the key.
    """

    def __init__(self, capacity: int, scope_rules: ScopeRules) -> None:
        self._ready: BoundedMap[bytes, Remembered] = BoundedMap(_READY)
        self._compact: BoundedMap[bytes, _Compact] = BoundedMap(capacity)
        self._scope_rules = scope_rules
        self.get = self._ready.get
        """The token of a digest, if it is ready: no more work than a look-up."""

    def was_verified(self, digest: bytes) -> bool:
        """Whether the token was found good before, under whatever keys."""
        return self._compact.get(digest) is not None

    def is_disowned(self, digest: bytes) -> bool:
        """Whether its issuer has called the token inactive: other keys do not make it
        good again."""
        compact = self._compact.get(digest)
        return compact is not None and compact[3] == -inf

    def disown(self, digest: bytes) -> None:
        """Note that the issuer has called the token inactive."""
        remembered, compact = self._ready.get(digest), self._compact.get(digest)
        if remembered is not None:
            remembered.force_introspection()
        if compact is not None:
            self._compact.put(digest, (*compact[:3], -inf))

    def recall(self, digest: bytes, trust: Trust, now: float) -> Remembered | None:
        """A token that is ready, or is made ready by reading its claims again.

        Where the issuer's answers take away from what a JWT says, it is asked again.

        Raises:
            InvalidTokenError: its issuer is trusted no more.
            TooManyRequestsError, UnavailableError: as ``Trust.find``.
        """
        remembered = self._ready.get(digest)
        if remembered is not None:
            return remembered
        compact = self._compact.get(digest)
        if compact is None:
            return None
        name, generation, payload, ask_at = compact
        trusted = trust.find(name, now)
        if generation not in (None, trusted.keys.generation):
            return None  # other keys, or other settings: to be verified again
        claims = parse_object(payload)
        access = read_access(claims, payload, trusted.terms)
        return self._make_ready(
            digest, access, trusted, generation, is_bound(claims), ask_at, -inf
        )

    def put(
        self,
        digest: bytes,
        access: Access,
        trusted: TrustedIssuer,
        generation: int | None,
        *,
        bound: bool,
        ask_at: float = inf,
        answered_at: float = -inf,
        recallable: bool = True,
    ) -> Remembered:
        """Remember a token that was just found good.

        Unless *recallable*, what it says now counts only while it is ready: *access*
        is what an answer of its issuer made of it, and says less than its claims.
        """
        if recallable:
            compact = (access.issuer, generation, access.payload, ask_at)
            self._compact.put(digest, compact)
        return self._make_ready(
            digest, access, trusted, generation, bound, ask_at, answered_at
        )

    def _make_ready(
        self,
        digest: bytes,
        access: Access,
        trusted: TrustedIssuer,
        generation: int | None,
        bound: bool,
        ask_at: float,
        answered_at: float,
    ) -> Remembered:
        remembered = Remembered(
            self._scope_rules.apply(access, trusted.settings),
            trusted,
            generation,
            is_bound=bound,
            ask_at=ask_at,
            answered_at=answered_at,
        )
        self._ready.put(digest, remembered)
        return remembered


def check_remembered(
    remembered: Remembered, revocations: RevocationView, now: float
) -> None:
    """Refuse a token that is no longer good, or not good without proof of a key.

    Raises:
        InvalidTokenError: it has expired, was revoked, or is bound to a key.
    """
    check_unexpired(remembered, now)
    check_unrevoked(remembered, revocations)
    check_unbound(remembered)


def check_unexpired(remembered: Remembered, now: float) -> None:
    """Refuse a token that has expired since it was verified."""
    if now >= remembered.expires_at:
        ago = now - (remembered.access.expires_at or 0)
        raise InvalidTokenError(Reason.EXPIRED, f"{ago:.0f} s ago")


def check_unrevoked(remembered: Remembered, revocations: RevocationView) -> None:
    """Refuse a revoked token. Looked up again only when the log has changed."""
    edition = revocations.edition
    if remembered.checked_edition is not edition:
        if revocations.refuses(remembered.access):
            raise InvalidTokenError(Reason.REVOKED)
        remembered.checked_edition = edition


def check_unbound(remembered: Remembered) -> None:
    """Refuse a token that is bound to a key: proofs of possession are not checked
    here, and accepted as a plain bearer token it would serve a thief.

    Source: RFC 7800 §3.1, RFC 9449 §7.2
    """
    if remembered.is_bound:
        raise InvalidTokenError(
            Reason.SENDER_CONSTRAINED, "bound to a key, sent as Bearer"
        )


def check_actor(remembered: Remembered) -> None:
    """Refuse an agent that may not act at all (``Issuer.agents``)."""
    if remembered.actor_refusal is not None:
        raise ActorRefusedError(remembered.actor_refusal)
