"""Settings: which resource this is, whose tokens it trusts, what its paths demand.

All of it is checked when built and frozen afterwards. Settings do no I/O and hold no
state, so one ``ResourceServer`` serves any number of doors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from agentauth_middleware._core.claims import freeze, is_array
from agentauth_middleware._core.scopes import check_scopes
from agentauth_middleware._core.urls import check_url, well_known_url
from agentauth_middleware.errors import ConfigurationError

__all__ = ["Issuer", "ResourceServer", "Route"]

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""What an ``Issuer`` may sign with unless told otherwise. ``Ed25519`` is RFC 9864's
name for ``EdDSA`` with that curve."""
_OTHER_ALGORITHMS = ("RS384", "RS512", "PS384", "PS512", "ES384", "ES512")

_PATTERN = re.compile(r"(?:/[^/{}*]+|/\{[A-Za-z_][A-Za-z0-9_]*\})*(?:/\*?)?")
_METHOD = re.compile(r"[A-Z]+")

_NAMED_MEMBERS = frozenset(
    {
        "resource",
        "authorization_servers",
        "scopes_supported",
        "bearer_methods_supported",
        "resource_name",
        "resource_documentation",
        "resource_policy_uri",
        "resource_tos_uri",
        "resource_logo_uri",
    }
)
_PROMISES_NOT_KEPT = frozenset(
    {
        "tls_client_certificate_bound_access_tokens",
        "dpop_signing_alg_values_supported",
        "dpop_bound_access_tokens_required",
        "actor_profile_required",
    }
)


@dataclass(frozen=True)
class Issuer:
    """An authorization server whose access tokens are accepted.

    By default everything else is discovered from its identifier.
    """

    issuer: str
    """Its identifier, byte for byte as in its metadata and in the ``iss`` of tokens."""
    _: KW_ONLY
    jwks_uri: str | None = None
    """Where its keys are, instead of asking its metadata."""
    jwks: Mapping[str, Any] | None = None
    """Its keys themselves (a JWK Set, RFC 7517 §5): nothing is fetched at all."""
    audience: str | Sequence[str] | None = None
    """What its tokens carry in ``aud`` for this resource; by default the resource
    identifier. With several, one of them suffices."""
    algorithms: Sequence[str] = ALGORITHMS
    subjects: Literal["unknown", "users"] = "unknown"
    """``"users"`` says that a subject other than the client is a person. Without it,
    a token that names no actor gives ``access.subject`` and no ``access.user``."""
    timeout: float = 5.0
    """Seconds for one exchange with this server."""

    def __post_init__(self) -> None:
        if self.jwks is not None and self.jwks_uri is not None:
            raise ConfigurationError(
                "Issuer: jwks and jwks_uri exclude each other; keep one"
            )
        if self.subjects not in ("unknown", "users"):
            raise ConfigurationError(
                f'Issuer.subjects: {self.subjects!r} is neither "unknown" nor "users"'
            )
        if not 0 < self.timeout <= 60:
            raise ConfigurationError(
                f"Issuer.timeout: {self.timeout!r} is not between 0 and 60 seconds"
            )
        _set(self, "algorithms", _checked_algorithms(self.algorithms))
        _set(self, "audience", _checked_audience(self.audience))
        _set(self, "jwks", _checked_jwks(self.jwks))


@dataclass(frozen=True)
class Route:
    """What the paths that match *pattern* demand.

    In a pattern ``{name}`` stands for one segment and a final ``*`` for the rest. It
    is matched against the path below the mount. The first route that matches counts.
    """

    pattern: str
    _: KW_ONLY
    methods: Sequence[str] | None = None
    """``GET`` includes ``HEAD`` and websocket handshakes; ``None`` is every method."""
    scopes: Sequence[str] = ()
    """All of them are needed."""
    public: bool = False
    """Nothing is checked and there is never an ``Access``."""
    optional: bool = False
    """Without credentials the request goes on without ``Access``; bad ones are
    refused all the same."""
    user: Literal["required"] | None = None
    agent: Literal["required", "forbidden"] | None = None
    max_age: int | None = None
    """Seconds since the user authenticated, at most (RFC 9470)."""
    acr_values: Sequence[str] = ()
    """One of these must be the token's ``acr``; in order of preference (RFC 9470)."""

    def __post_init__(self) -> None:
        key = f"Route({self.pattern!r})"
        if not self.pattern.startswith("/") or not _PATTERN.fullmatch(self.pattern):
            raise ConfigurationError(
                f"{key}: not a pattern; write segments such as /notes/{{id}}, with "
                "{name} for one whole segment and * only as the last one"
            )
        _set(self, "scopes", check_scopes(self.scopes, f"{key}.scopes"))
        _set(self, "acr_values", check_scopes(self.acr_values, f"{key}.acr_values"))
        _set(self, "methods", _checked_methods(self.methods, key))
        if self.user not in (None, "required"):
            raise ConfigurationError(f'{key}.user: {self.user!r} is not "required"')
        if self.agent not in (None, "required", "forbidden"):
            raise ConfigurationError(
                f'{key}.agent: {self.agent!r} is neither "required" nor "forbidden"'
            )
        if self.max_age is not None and not 0 <= self.max_age < 2**31:
            raise ConfigurationError(
                f"{key}.max_age: {self.max_age!r} is not a number of seconds"
            )
        if self.public and (self.optional or self.demands_something):
            raise ConfigurationError(
                f"{key}: public checks nothing, so it excludes every other demand; "
                "use optional for a route that works with and without a token"
            )

    @cached_property
    def demands_something(self) -> bool:
        """Whether a good token alone is not enough."""
        return bool(
            self.scopes or self.user or self.agent or self.demands_authentication
        )

    @cached_property
    def demands_authentication(self) -> bool:
        """Whether it matters how or when the user signed in."""
        return bool(self.acr_values) or self.max_age is not None


@dataclass(frozen=True)
class ResourceServer:
    """One protected resource: an API, as OAuth sees it (RFC 6749 §1.1)."""

    resource: str
    """Its identifier: an https URL without trailing slash (RFC 9728 §1.2). Clients ask
    for tokens for exactly this string, and tokens carry it in ``aud``."""
    _: KW_ONLY
    issuers: Sequence[Issuer]
    """Whose tokens are accepted. The first is the one that most clients use."""
    name: str | None = None
    """For people, when an agent asks them for permission."""
    scopes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Each scope that clients may ask for, with a sentence for people."""
    routes: Sequence[Route] = ()
    unmatched: Literal["authenticated", "refuse"] = "authenticated"
    """What a path that matches no route demands."""
    documentation_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    logo_uri: str | None = None
    extra_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further members of the metadata (RFC 9728 §2), among them names in other
    languages: ``{"resource_name#de": "Notizen"}``."""
    metadata_at_root: bool = True
    """Also answer at the well-known URL without the resource's path. Switch it off
    where several resources share a host."""
    leeway: int = 60
    """Seconds by which clocks may differ."""
    max_log_age: float = 0.75
    """Seconds. While the store does not answer, requests go on with what was last read
    of its log of revocations if that is no older than this; then they get a 503. Any
    more than 0.75 and a revoked token may live longer than one second.
    ``math.inf`` never refuses."""
    ignore_query_token: bool = False
    """Set it if ``access_token`` in a query means something else in this API. It is
    never a credential either way."""
    max_remembered_tokens: int = 20_000
    """How many verified tokens each process may remember; about 1.3 kB each."""
    insecure_loopback: bool = False
    """Allow http URLs on a loopback host, while developing."""

    def __post_init__(self) -> None:
        self._check_resource()
        self._check_issuers()
        self._check_scopes()
        self._check_limits()
        for key in ("documentation_uri", "policy_uri", "tos_uri", "logo_uri"):
            if (url := getattr(self, key)) is not None:
                self._check_url(url, f"ResourceServer.{key}")
        if self.name is not None and not self.name.strip():
            raise ConfigurationError("ResourceServer.name: empty; write a name or None")
        _set(self, "extra_metadata", _checked_metadata(self.extra_metadata))
        _set(self, "routes", tuple(self.routes))
        if self.unmatched not in ("authenticated", "refuse"):
            raise ConfigurationError(
                f"ResourceServer.unmatched: {self.unmatched!r} is neither "
                '"authenticated" nor "refuse"'
            )

    @property
    def metadata_url(self) -> str:
        """Where the metadata is published (RFC 9728 §3.1); every challenge names it."""
        return well_known_url(self.resource)

    @property
    def auth_md_url(self) -> str:
        """Where ``auth.md`` is published."""
        return self.resource.partition("?")[0].rstrip("/") + "/auth.md"

    def _check_url(self, url: str, key: str) -> None:
        check_url(url, key, insecure_loopback=self.insecure_loopback)

    def _check_resource(self) -> None:
        self._check_url(self.resource, "ResourceServer.resource")

    def _check_issuers(self) -> None:
        issuers = tuple(self.issuers)
        if not issuers:
            raise ConfigurationError(
                "ResourceServer.issuers: empty; name at least one Issuer, or no token "
                "can ever be accepted"
            )
        names = [issuer.issuer for issuer in issuers]
        if len(set(names)) != len(names):
            raise ConfigurationError(
                "ResourceServer.issuers: the same issuer twice; keep one of them"
            )
        for issuer in issuers:
            self._check_url(issuer.issuer, "Issuer.issuer")
            if "?" in issuer.issuer:
                raise ConfigurationError(
                    f"Issuer.issuer: {issuer.issuer!r} has a query; an issuer has none "
                    "(RFC 8414 §2)"
                )
            if issuer.jwks_uri is not None:
                self._check_url(issuer.jwks_uri, "Issuer.jwks_uri")
        _set(self, "issuers", issuers)

    def _check_scopes(self) -> None:
        check_scopes(self.scopes, "ResourceServer.scopes")
        _set(self, "scopes", MappingProxyType(dict(self.scopes)))
        if not self.scopes:
            return
        for route in self.routes:
            for scope in route.scopes:
                if scope not in self.scopes:
                    raise ConfigurationError(
                        f"Route({route.pattern!r}).scopes: {scope!r} is not among "
                        "ResourceServer.scopes; declare it there, so that clients can "
                        "ask for it"
                    )

    def _check_limits(self) -> None:
        if not 0 <= self.leeway <= 300:
            raise ConfigurationError(
                f"ResourceServer.leeway: {self.leeway!r} is not between 0 and 300 "
                "seconds"
            )
        if not self.max_log_age >= 0.75:
            raise ConfigurationError(
                f"ResourceServer.max_log_age: {self.max_log_age!r} is less than the "
                "0.75 seconds that an ordinary read may take"
            )
        if self.max_remembered_tokens < 2:
            raise ConfigurationError(
                "ResourceServer.max_remembered_tokens: at least 2 are needed"
            )


def _set(settings: object, name: str, value: object) -> None:
    """Replace what was given by what was checked, in an instance still being built."""
    object.__setattr__(settings, name, value)


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(algorithms, str) or not algorithms:
        raise ConfigurationError("Issuer.algorithms: write a tuple of at least one")
    known = ALGORITHMS + _OTHER_ALGORITHMS
    for algorithm in algorithms:
        if algorithm not in known:
            raise ConfigurationError(
                f"Issuer.algorithms: {algorithm!r} is not one of {', '.join(known)}"
            )
    return tuple(algorithms)


def _checked_audience(audience: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if audience is None:
        return None
    values = (audience,) if isinstance(audience, str) else tuple(audience)
    if not values or not all(values):
        raise ConfigurationError("Issuer.audience: write one or several strings")
    return values


def _checked_jwks(jwks: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if jwks is None:
        return None
    keys = jwks.get("keys")
    if not is_array(keys) or not keys:
        raise ConfigurationError(
            'Issuer.jwks: not a JWK Set; write {"keys": [...]} with at least one key'
        )
    frozen: Mapping[str, Any] = freeze(jwks)
    return frozen


def _checked_methods(methods: Sequence[str] | None, key: str) -> frozenset[str] | None:
    if methods is None:
        return None
    if isinstance(methods, str) or not methods:
        raise ConfigurationError(f'{key}.methods: write a tuple, such as ("GET",)')
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise ConfigurationError(
                f"{key}.methods: {method!r} is not a method in upper case"
            )
    return frozenset(methods)


def _checked_metadata(members: Mapping[str, Any]) -> Mapping[str, Any]:
    for member, value in members.items():
        key = f"ResourceServer.extra_metadata[{member!r}]"
        if member in _NAMED_MEMBERS:
            raise ConfigurationError(f"{key}: has a setting of its own; use that")
        if member in _PROMISES_NOT_KEPT:
            raise ConfigurationError(
                f"{key}: would promise what this door does not enforce; remove it"
            )
        if value is None or value in ("", [], (), {}):
            raise ConfigurationError(
                f"{key}: is empty; leave the member out (RFC 9728 §3.2)"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{key}: is not a number of JSON")
    frozen: Mapping[str, Any] = freeze(members)
    return frozen
