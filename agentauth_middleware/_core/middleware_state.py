"""What one middleware knows: its settings made ready, and everything it remembers."""

from __future__ import annotations

from math import inf
from typing import Protocol, TypeAlias

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.issuers.trust import Trust, TrustedIssuer
from agentauth_middleware._core.policy.cross_origin import CrossOrigin
from agentauth_middleware._core.policy.route_table import RouteTable
from agentauth_middleware._core.policy.scope_rules import ScopeRules
from agentauth_middleware._core.publish.challenge import Refusal, challenge, render
from agentauth_middleware._core.publish.own_urls import OwnUrls
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.throttles import Slots
from agentauth_middleware._syntax.http import Response
from agentauth_middleware.access import Access
from agentauth_middleware.settings.resource_server import ResourceServer


class SignedBy(Protocol):
    """The keys that a token was verified with."""

    known_since: float
    refresh_at: float
    generation: int


class _Unsigned:
    """What stands in for keys where the issuer was asked instead."""

    known_since = -inf
    refresh_at = inf
    generation = 0


UNSIGNED: SignedBy = _Unsigned()


class Remembered:
    """A token that was found good once: only what it says, and until when to believe
    that."""

    __slots__ = (
        "access",
        "actor_refusal",
        "answered_at",
        "ask_at",
        "care_at",
        "cleared_in",
        "dies_at",
        "generation",
        "is_bound",
        "keys",
        "trusted",
    )

    def __init__(
        self,
        access: Access,
        trusted: TrustedIssuer,
        *,
        dies_at: float,
        is_bound: bool,
        keys: SignedBy,
        generation: int,
        ask_at: float = inf,
        answered_at: float = -inf,
        actor_refusal: str | None = None,
    ) -> None:
        self.access = access
        self.actor_refusal = actor_refusal
        """Why its agent may not act at all, if so."""
        self.trusted = trusted
        self.dies_at = dies_at
        """Epoch seconds at which it has expired, leeway included."""
        self.is_bound = is_bound
        """Whether it is good only with proof of a key (RFC 7800)."""
        self.keys = keys
        """Those of its issuer, or ``UNSIGNED``."""
        self.generation = generation
        """The generation of *keys* it was verified under; another one forgets it."""
        self.ask_at = ask_at
        """When its issuer has to be asked about it again."""
        self.care_at = min(ask_at, trusted.known_until)
        """When it must not be taken for good without another thought."""
        self.answered_at = answered_at
        """When its issuer last called it active, if it ever did."""
        self.cleared_in: object = None
        """The edition of the log in which it was last found not revoked."""

    def needs_care(self, now: float) -> bool:
        """Whether its keys are due for a refresh or have changed, its issuer has to be
        asked or looked up; or the clock was set back, and nobody knows."""
        keys = self.keys
        return (
            not keys.known_since <= now < keys.refresh_at
            or self.generation != keys.generation
            or not self.answered_at <= now < self.care_at
        )

    def renew(self) -> None:
        """Its issuer was looked up, and is the same."""
        self.care_at = min(self.ask_at, self.trusted.known_until)

    def doubt(self) -> None:
        """Its issuer stood by it no longer: it has to be asked, whatever the route."""
        self.ask_at = self.care_at = -inf


Kept: TypeAlias = tuple[str, int | None, bytes, float]
"""What is left of a token: its issuer, the generation of the keys if it was signed, the
claims unread, and when to ask about it again.

A bare tuple of strings and numbers, since the garbage collector does not look into
those: a hundred thousand of them cost it nothing.
"""

_AT_HAND = 4096
"""How many tokens are kept ready, with their ``Access``."""


class MiddlewareState:
    """The state behind one middleware. Settings never change; the rest only forgets."""

    def __init__(self, server: ResourceServer, *, application_root: str = "") -> None:
        """*application_root* is a mount that the application assumes by itself.

        Raises:
            ConfigurationError: keys given in the settings cannot verify anything.
        """
        self.server = server
        self.application_root = application_root
        self.passes = server.unauthenticated == "pass"
        """Whether the API has other clients, who reach it untouched."""
        self.own_urls = OwnUrls(server)
        self.routes = RouteTable(server, application_root=application_root)
        self.cross_origin = CrossOrigin(server)
        self.trust = Trust(server)
        self.scope_rules = ScopeRules(server)
        self.at_hand: BoundedMap[bytes, Remembered] = BoundedMap(_AT_HAND)
        """The tokens in use, by SHA-256. The middleware serves one resource, so the
        digest alone is the key."""
        self.kept: BoundedMap[bytes, Kept] = BoundedMap(server.max_remembered_tokens)
        """All tokens that need no second check, as small as they can be."""
        self.revocations = RevocationView()
        self.log_reader = Slots(1)
        self._metadata_url = server.metadata_url
        self._auth_md_url = server.auth_md_url

    @property
    def fetches(self) -> bool:
        """Whether anything may have to be fetched at all."""
        issuers = self.server.listed_issuers
        return not issuers or any(
            issuer.jwks is None or issuer.introspection is not None
            for issuer in issuers
        )

    def challenge(self, refusal: Refusal) -> str:
        """The challenge of *refusal*, for an answer that is somebody else's."""
        return challenge(refusal, self._metadata_url)

    def doubt(self, digest: bytes) -> None:
        """Let a token not be taken for good before its issuer was asked again."""
        remembered, kept = self.at_hand.get(digest), self.kept.get(digest)
        if remembered is not None:
            remembered.doubt()
        if kept is not None:
            self.kept.put(digest, (*kept[:3], -inf))

    def write_refusal(self, refusal: Refusal) -> Response:
        """*refusal* as the answer to the request."""
        return render(refusal, self._metadata_url, self._auth_md_url)
