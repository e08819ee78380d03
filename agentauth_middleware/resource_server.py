"""Settings: which resource this is, whose tokens it trusts, what its paths demand.

All of it is checked when built and frozen afterwards. Settings do no I/O and hold no
state, so one ``ResourceServer`` serves any number of doors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from agentauth_middleware._core.claims import freeze, is_array, is_object
from agentauth_middleware._core.scopes import check_scopes, check_words
from agentauth_middleware._core.urls import check_url, well_known_url
from agentauth_middleware.access import Identity, IdentityDialect
from agentauth_middleware.errors import ConfigurationError

__all__ = ["Issuer", "ResourceServer", "Route"]

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""What an ``Issuer`` may sign with unless told otherwise. ``Ed25519`` is RFC 9864's
name for ``EdDSA`` with that curve."""
_OTHER_ALGORITHMS = ("RS384", "RS512", "PS384", "PS512", "ES384", "ES512")

# Without what other frameworks write placeholders with, and what is in no decoded path
# by intention: taken literally, such a route would never match.
_PATTERN = re.compile(r"(?:/[^/{}*<>?%#]+|/\{[A-Za-z_][A-Za-z0-9_]*\})*(?:/\*?)?")
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
    identity: IdentityDialect | Callable[[Mapping[str, Any]], Identity] = "rfc8693"
    """How its tokens say who is the user and who the agent; or a function of your own
    from claims to an ``Identity``. A ``ValueError`` there refuses the token."""
    actor_issuers: Sequence[str] = ()
    """Whose agents, besides its own, its tokens may name (``iss`` inside ``act``)."""
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
        _check_identity(self.identity)
        _check_range(self.timeout, "Issuer.timeout", 0.001, 60)
        _set(self, "algorithms", _checked_algorithms(self.algorithms))
        _set(self, "audience", _checked_audience(self.audience))
        _set(self, "jwks", _checked_jwks(self.jwks))
        _set(self, "actor_issuers", _checked_actor_issuers(self.actor_issuers))


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
        if not _is_pattern(self.pattern):
            raise ConfigurationError(
                f"{key}: not a pattern; write the decoded path in segments such as "
                "/admin/{id}, with {name} (not <name>) for one whole segment and * "
                "only as the last one"
            )
        for flag in ("public", "optional"):
            _check_flag(getattr(self, flag), f"{key}.{flag}")
        _set(self, "scopes", check_scopes(self.scopes, f"{key}.scopes"))
        _set(self, "acr_values", check_words(self.acr_values, f"{key}.acr_values"))
        _set(self, "methods", _checked_methods(self.methods, f"{key}.methods"))
        if self.user not in (None, "required"):
            raise ConfigurationError(f'{key}.user: {self.user!r} is not "required"')
        if self.agent not in (None, "required", "forbidden"):
            raise ConfigurationError(
                f'{key}.agent: {self.agent!r} is neither "required" nor "forbidden"'
            )
        if self.max_age is not None:
            _check_range(self.max_age, f"{key}.max_age", 0, 2**31 - 1, whole=True)
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
        for flag in ("metadata_at_root", "ignore_query_token", "insecure_loopback"):
            _check_flag(getattr(self, flag), f"ResourceServer.{flag}")
        self._check_url(self.resource, "ResourceServer.resource")
        self._check_issuers()
        routes = _checked_items(self.routes, Route, "ResourceServer.routes")
        _set(self, "routes", routes)
        self._check_scopes()
        self._check_limits()
        for key in ("documentation_uri", "policy_uri", "tos_uri", "logo_uri"):
            if (url := getattr(self, key)) is not None:
                self._check_url(url, f"ResourceServer.{key}")
        if self.name is not None and not _is_text(self.name):
            raise ConfigurationError(
                f"ResourceServer.name: {self.name!r} is no text or empty; write a name "
                "or None"
            )
        _set(self, "extra_metadata", _checked_metadata(self.extra_metadata))
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

    def _check_issuers(self) -> None:
        issuers = _checked_items(self.issuers, Issuer, "ResourceServer.issuers")
        if not issuers:
            raise ConfigurationError(
                "ResourceServer.issuers: empty; name at least one Issuer, or no token "
                "can ever be accepted"
            )
        for issuer in issuers:
            self._check_url(issuer.issuer, "Issuer.issuer")
            if "?" in issuer.issuer:
                raise ConfigurationError(
                    f"Issuer.issuer: {issuer.issuer!r} has a query; an issuer has none "
                    "(RFC 8414 §2)"
                )
            if "/.well-known/" in issuer.issuer:
                raise ConfigurationError(
                    f"Issuer.issuer: {issuer.issuer!r} is where its metadata stands; "
                    'write the "issuer" that is named there'
                )
            if issuer.jwks_uri is not None:
                self._check_url(issuer.jwks_uri, "Issuer.jwks_uri")
        if len({issuer.issuer for issuer in issuers}) != len(issuers):
            raise ConfigurationError(
                "ResourceServer.issuers: the same issuer twice; keep one of them"
            )
        _set(self, "issuers", issuers)

    def _check_scopes(self) -> None:
        if not is_object(self.scopes) or not all(map(_is_text, self.scopes.values())):
            raise ConfigurationError(
                "ResourceServer.scopes: not each with a sentence for people; write "
                '{"notes.read": "Read your notes"}'
            )
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
        _check_range(self.leeway, "ResourceServer.leeway", 0, 300)
        # An ordinary read of the log may take the 0.75 seconds.
        _check_range(self.max_log_age, "ResourceServer.max_log_age", 0.75, math.inf)
        _check_range(
            self.max_remembered_tokens,
            "ResourceServer.max_remembered_tokens",
            2,
            math.inf,
            whole=True,
            unit="tokens",
        )


def _set(settings: object, name: str, value: object) -> None:
    """Replace what was given by what was checked, in an instance still being built."""
    object.__setattr__(settings, name, value)


_Item = TypeVar("_Item")


def _checked_items(
    items: Iterable[object], kind: type[_Item], key: str
) -> tuple[_Item, ...]:
    """*items* as a tuple, if it is a list, or the like, of nothing but *kind*."""
    mend = f"write a list of {kind.__name__}"
    if isinstance(items, str) or not hasattr(items, "__iter__"):
        raise ConfigurationError(f"{key}: {items!r} is no list; {mend}")
    checked: list[_Item] = []
    for item in items:
        if not isinstance(item, kind):
            raise ConfigurationError(f"{key}: {item!r} is no {kind.__name__}; {mend}")
        checked.append(item)
    return tuple(checked)


def _check_range(
    number: object,
    key: str,
    least: float,
    most: float,
    *,
    whole: bool = False,
    unit: str = "seconds",
) -> None:
    """Refuse what is no number from *least* to *most*, as ``True`` is not."""
    if (
        isinstance(number, int if whole else int | float)
        and not isinstance(number, bool)
        and least <= number <= most
    ):
        return
    kind = "a whole number" if whole else "a number"
    raise ConfigurationError(
        f"{key}: {number!r} is not {kind} of {unit} from {least} to {most}"
    )


def _check_flag(flag: object, key: str) -> None:
    """Refuse what is not a flag: ``"no"`` would count as true."""
    if not isinstance(flag, bool):
        raise ConfigurationError(f"{key}: {flag!r} is no flag; write True or False")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_pattern(pattern: object) -> bool:
    if not isinstance(pattern, str) or not pattern.startswith("/"):
        return False
    return _PATTERN.fullmatch(pattern) is not None


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    checked = _checked_items(algorithms, str, "Issuer.algorithms")
    if not checked:
        raise ConfigurationError("Issuer.algorithms: empty; write at least one")
    known = ALGORITHMS + _OTHER_ALGORITHMS
    for algorithm in checked:
        if algorithm not in known:
            raise ConfigurationError(
                f"Issuer.algorithms: {algorithm!r} is not one of {', '.join(known)}"
            )
    return checked


def _checked_audience(audience: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if audience is None:
        return None
    values = (audience,) if isinstance(audience, str) else audience
    values = _checked_items(values, str, "Issuer.audience")
    if not values or not all(values):
        raise ConfigurationError("Issuer.audience: write one or several strings")
    return values


def _check_identity(identity: object) -> None:
    dialects: tuple[str, ...] = get_args(IdentityDialect)
    if iscoroutinefunction(identity):
        raise ConfigurationError(
            f"Issuer.identity: {identity!r} has to be awaited; write a plain function"
        )
    if identity in dialects or callable(identity):
        return
    raise ConfigurationError(
        f"Issuer.identity: {identity!r} is not one of {', '.join(dialects)}; choose "
        "one of them, or write a function from claims to Identity"
    )


def _checked_actor_issuers(issuers: Sequence[str]) -> tuple[str, ...]:
    checked = _checked_items(issuers, str, "Issuer.actor_issuers")
    if not all(checked):
        raise ConfigurationError(
            "Issuer.actor_issuers: one of them is empty; write what stands in act.iss"
        )
    return checked


def _checked_jwks(jwks: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if jwks is None:
        return None
    keys = jwks.get("keys") if is_object(jwks) else None
    if not is_array(keys) or not keys:
        raise ConfigurationError(
            'Issuer.jwks: not a JWK Set; write {"keys": [...]} with at least one key; '
            "where to fetch them is jwks_uri"
        )
    frozen: Mapping[str, Any] = freeze(jwks)
    return frozen


def _checked_methods(methods: Sequence[str] | None, key: str) -> frozenset[str] | None:
    if methods is None:
        return None
    checked = frozenset(_checked_items(methods, str, key))
    if not checked:
        raise ConfigurationError(f'{key}: empty; write ["GET"], or None for all')
    for method in checked:
        if not _METHOD.fullmatch(method):
            raise ConfigurationError(f"{key}: {method!r} is not a method in upper case")
    return checked


def _checked_metadata(members: Mapping[str, Any]) -> Mapping[str, Any]:
    if not is_object(members):
        raise ConfigurationError(
            'ResourceServer.extra_metadata: no mapping; write {"name": value}'
        )
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
        if not _is_json(value):
            raise ConfigurationError(
                f"{key}: is not JSON; write text, finite numbers, flags, and lists and "
                "mappings of them"
            )
    frozen: Mapping[str, Any] = freeze(members)
    return frozen


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False, default=dict)  # mappings of any make
    except (TypeError, ValueError):
        return False
    return True
