"""Which issuers are trusted, and which of them a token belongs to.

A JWT is of the issuer that its ``iss`` names. Any other token is of the issuer whose
prefix it begins with, or of the only issuer that can be asked about such tokens. A
token is never shown to several issuers: that would disclose it.

The operator's function of tenants may raise. It is then asked again about the same name
after a second at the earliest. What is answered meanwhile depends on the name, because
nothing else tells an outage of the operator's database from a name that the function
cannot cope with:

- A name that it has given an issuer for is no stranger's choice. The operator's own
  server is at fault: 503.
- Any other name may be junk, and a stranger can make up as many as they like. A 503
  would let them have this host taken out of service: 429, which says as well that the
  token is to be kept.

Neither is ever a 401, since nothing was found out about the token.
"""

from __future__ import annotations

from math import inf

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.issuers.discovery import Discovery
from agentauth_middleware._core.issuers.introspector import Introspector
from agentauth_middleware._core.issuers.keys import IssuerKeys
from agentauth_middleware._core.tokens.token_claims import Terms
from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware._syntax.urls import is_acceptable_url, other_by_slash
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer

_TENANTS = 8192
_STRANGERS = 8192
_KNOWN_FOR = 300.0
_UNKNOWN_FOR = 60.0
_FAILURES = 1024
_FAILED_FOR = 1.0
_RETRY_AFTER = 5
_MAX_FAULT = 500
"""How many characters of a fault's text are kept, since a name may be long."""
_MAX_NAME = 2048


class TrustedIssuer:
    """An issuer, and all that one middleware knows of it."""

    def __init__(self, issuer: Issuer, server: ResourceServer) -> None:
        """
        Raises:
            ConfigurationError: keys given in the settings cannot verify anything.
        """
        self.settings = issuer
        self.known_until = inf
        """When it has to be looked up again, if it was looked up at all."""
        leeway = server.leeway if issuer.leeway is None else issuer.leeway
        self.terms = Terms(issuer, server.resource, leeway)
        discovery = Discovery(issuer.issuer, insecure_loopback=server.insecure_loopback)
        self.keys = IssuerKeys(issuer, discovery=discovery)
        self.introspector: Introspector | None = None
        if issuer.introspection is not None:
            self.introspector = Introspector(
                issuer.introspection, self.terms, self.keys, discovery
            )


class Trust:
    """The issuers of one resource server: listed, or looked up by a function."""

    def __init__(self, server: ResourceServer) -> None:
        """
        Raises:
            ConfigurationError: keys given in the settings cannot verify anything.
        """
        self._server = server
        self._listed = {
            issuer.issuer: TrustedIssuer(issuer, server)
            for issuer in server.listed_issuers
        }
        self._tenants: BoundedMap[str, TrustedIssuer] = BoundedMap(_TENANTS)
        self._strangers: BoundedMap[str, float] = BoundedMap(_STRANGERS)
        self._failures: BoundedMap[str, tuple[float, str]] = BoundedMap(_FAILURES)
        self._named_in_metadata = frozenset(server.authorization_servers or ())
        asked = [
            trusted
            for trusted in self._listed.values()
            if trusted.introspector is not None
        ]
        self._by_prefix = {
            prefix: trusted
            for trusted in asked
            for prefix in map(str.encode, trusted.settings.opaque_prefixes)
        }
        self._prefixes = tuple(self._by_prefix)
        is_only = len(asked) == 1 and not self._prefixes
        self._only_asked = asked[0] if is_only else None

    def find(self, name: str, now: float) -> TrustedIssuer:
        """The issuer called *name*.

        Raises:
            InvalidTokenError: it is not trusted.
            TooManyRequestsError: the operator's function raised, and has never given
                an issuer of that name.
            UnavailableError: it raised for a name that it has given an issuer for.
        """
        found = self._listed.get(name)
        if found is None and callable(self._server.issuers):
            found = self._find_tenant(name, now)
        if found is None:
            raise InvalidTokenError(Reason.UNKNOWN_ISSUER, self._unknown(name))
        return found

    def known_settings(self, name: str) -> Issuer | None:
        """The settings of *name*, if no function has to be asked for them."""
        known = self._listed.get(name) or self._tenants.get(name)
        return None if known is None else known.settings

    def _unknown(self, name: str) -> str:
        """The detail for the log of a token whose issuer *name* is not trusted."""
        found = f"iss is {quoted(name)}"
        if callable(self._server.issuers):
            return f"{found}; the function given as issuers knows no such issuer"
        other = other_by_slash(name)
        if other not in self._listed:
            return f"{found}; expected {one_of(self._listed)}"
        told = f"expected {quoted(other)}, which differs by the slash at its end"
        return f"{found}; {told}; write the Issuer as it stands in its metadata"

    def has_prefix(self, token: bytes) -> bool:
        """Whether *token* begins as the opaque tokens of an issuer do."""
        return bool(self._prefixes) and token.startswith(self._prefixes)

    def find_opaque(self, token: bytes) -> TrustedIssuer | None:
        """The issuer to ask about *token*; ``None`` if it has to be a JWT.

        Raises:
            InvalidTokenError: the token is of no kind that is accepted.
        """
        if self._only_asked is None and not self._prefixes:
            return None
        if self.has_prefix(token):
            matching = (p for p in self._prefixes if token.startswith(p))
            return self._by_prefix[next(matching)]
        if token.count(b".") in (2, 4):
            return None
        if self._prefixes:
            expected = one_of(prefix.decode() for prefix in self._prefixes)
            raise InvalidTokenError(
                Reason.UNKNOWN_TOKEN_KIND, f"no JWT, and begins with none of {expected}"
            )
        return self._only_asked

    def _find_tenant(self, name: str, now: float) -> TrustedIssuer | None:
        """The issuer that the operator's function gives; it is called again every few
        minutes."""
        until = self._strangers.get(name) or -inf
        if now < until <= now + _UNKNOWN_FOR or len(name) > _MAX_NAME:
            return None
        known = self._tenants.get(name)
        if known is not None and now < known.known_until <= now + _KNOWN_FOR:
            return known
        self._check_not_held_off(name, known, now)
        try:
            found = self._look_up(name, known)
        except ConfigurationError as fault:
            text = str(fault)[:_MAX_FAULT]
            self._failures.put(name, (now + _FAILED_FOR, text))
            raise self._failure(name, known, text) from fault
        if found is None:
            self._strangers.put(name, now + _UNKNOWN_FOR)
            return None
        found.known_until = now + _KNOWN_FOR
        self._tenants.put(name, found)
        return found

    def _look_up(self, name: str, known: TrustedIssuer | None) -> TrustedIssuer | None:
        """The issuer that the function gives now; *known* if its settings are the same.

        Raises:
            ConfigurationError: it raised, or returned what cannot be used.
        """
        server = self._server
        if not is_acceptable_url(name, insecure_loopback=server.insecure_loopback):
            return None  # no issuer is called that (RFC 8414 §2)
        found = server.find_issuer(name)
        if found is None:
            return None
        if known is not None and found == known.settings:
            return known
        return TrustedIssuer(found, server)

    def _check_not_held_off(
        self, name: str, known: TrustedIssuer | None, now: float
    ) -> None:
        """Repeat the last failure for *name* while it is less than a second old."""
        until, text = self._failures.get(name) or (-inf, "")
        if now < until <= now + _FAILED_FOR:
            raise self._failure(name, known, text)

    def _failure(
        self, name: str, known: TrustedIssuer | None, text: str
    ) -> TooManyRequestsError | UnavailableError:
        if known is not None or name in self._named_in_metadata:
            return UnavailableError(
                Reason.ISSUER_LOOKUP_FAILED, text, retry_after=_RETRY_AFTER
            )
        return TooManyRequestsError(
            Reason.UNKNOWN_ISSUER_LOOKUP_FAILED, text, retry_after=_RETRY_AFTER
        )
