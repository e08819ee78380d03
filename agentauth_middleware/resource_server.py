"""Settings: which resource this is, whose tokens it trusts, what its paths demand.

All of it is checked when built and frozen afterwards. Settings do no I/O and hold no
state, so one ``ResourceServer`` serves any number of doors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from agentauth_middleware._core.claims import freeze, is_object
from agentauth_middleware._core.scopes import check_scopes, check_words
from agentauth_middleware._core.settings import (
    check_flag,
    check_range,
    checked_items,
    is_text,
    replace_setting,
)
from agentauth_middleware._core.urls import check_url, well_known_url
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.issuer import ALGORITHMS, Issuer, check_issuer

__all__ = ["ALGORITHMS", "Issuer", "ResourceServer", "Route"]

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
    introspect: bool = False
    """Ask the token's issuer each time whether it is still good (RFC 7662)."""

    def __post_init__(self) -> None:
        key = f"Route({self.pattern!r})"
        if not _is_pattern(self.pattern):
            raise ConfigurationError(
                f"{key}: not a pattern; write the decoded path in segments such as "
                "/admin/{id}, with {name} (not <name>) for one whole segment and * "
                "only as the last one"
            )
        for flag in ("public", "optional", "introspect"):
            check_flag(getattr(self, flag), f"{key}.{flag}")
        replace_setting(self, "scopes", check_scopes(self.scopes, f"{key}.scopes"))
        replace_setting(
            self, "acr_values", check_words(self.acr_values, f"{key}.acr_values")
        )
        replace_setting(
            self, "methods", _checked_methods(self.methods, f"{key}.methods")
        )
        if self.user not in (None, "required"):
            raise ConfigurationError(f'{key}.user: {self.user!r} is not "required"')
        if self.agent not in (None, "required", "forbidden"):
            raise ConfigurationError(
                f'{key}.agent: {self.agent!r} is neither "required" nor "forbidden"'
            )
        if self.max_age is not None:
            check_range(self.max_age, f"{key}.max_age", 0, 2**31 - 1, whole=True)
        if self.public and (self.optional or self.introspect or self.demands_something):
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
    issuers: Sequence[Issuer] | Callable[[str], Issuer | None]
    """Whose tokens are accepted. The first is the one that most clients use. Or a
    function from the ``iss`` of a token to its ``Issuer``, for servers with tenants: it
    does no I/O, its answers are remembered, and ``None`` refuses the token."""
    authorization_servers: Sequence[str] | None = None
    """Which issuers the metadata names; by default all. With a function for *issuers*
    nobody but you can list them."""
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
            check_flag(getattr(self, flag), f"ResourceServer.{flag}")
        self._check_url(self.resource, "ResourceServer.resource")
        self._check_issuers()
        routes = checked_items(self.routes, Route, "ResourceServer.routes")
        replace_setting(self, "routes", routes)
        self._check_scopes()
        self._check_introspection()
        self._check_limits()
        for key in ("documentation_uri", "policy_uri", "tos_uri", "logo_uri"):
            if (url := getattr(self, key)) is not None:
                self._check_url(url, f"ResourceServer.{key}")
        if self.name is not None and not is_text(self.name):
            raise ConfigurationError(
                f"ResourceServer.name: {self.name!r} is no text or empty; write a name "
                "or None"
            )
        replace_setting(self, "extra_metadata", _checked_metadata(self.extra_metadata))
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
        if not callable(self.issuers):
            replace_setting(self, "issuers", self._checked_issuers(self.issuers))
        elif self.authorization_servers is None:
            raise ConfigurationError(
                "ResourceServer.authorization_servers: missing; a function as issuers "
                "cannot be listed, so name the issuers that clients may start from"
            )
        servers = self.authorization_servers
        if servers is None:
            servers = [issuer.issuer for issuer in self.listed_issuers]
        key = "ResourceServer.authorization_servers"
        servers = checked_items(servers, str, key)
        for server in servers:
            self._check_url(server, key)
            if self.find_issuer(server) is None:
                raise ConfigurationError(
                    f"{key}: {server!r} is not among ResourceServer.issuers; its "
                    "tokens would be refused"
                )
        replace_setting(self, "authorization_servers", servers)

    def _checked_issuers(self, given: Sequence[Issuer]) -> tuple[Issuer, ...]:
        key = "ResourceServer.issuers"
        issuers = checked_items(given, Issuer, key)
        if not issuers:
            raise ConfigurationError(
                f"{key}: empty; name at least one Issuer, or no token can ever be "
                "accepted"
            )
        for issuer in issuers:
            check_issuer(issuer, insecure_loopback=self.insecure_loopback)
        if len({issuer.issuer for issuer in issuers}) != len(issuers):
            raise ConfigurationError(f"{key}: the same issuer twice; keep one of them")
        _check_prefixes(issuers)
        return issuers

    @property
    def listed_issuers(self) -> tuple[Issuer, ...]:
        """*issuers*; none where it is a function, which cannot be listed."""
        return () if callable(self.issuers) else tuple(self.issuers)

    def find_issuer(self, name: str) -> Issuer | None:
        """The issuer called *name*, if its tokens are accepted."""
        if callable(self.issuers):
            return self.issuers(name)
        found = (issuer for issuer in self.issuers if issuer.issuer == name)
        return next(found, None)

    def _check_scopes(self) -> None:
        if not is_object(self.scopes) or not all(map(is_text, self.scopes.values())):
            raise ConfigurationError(
                "ResourceServer.scopes: not each with a sentence for people; write "
                '{"notes.read": "Read your notes"}'
            )
        check_scopes(self.scopes, "ResourceServer.scopes")
        replace_setting(self, "scopes", MappingProxyType(dict(self.scopes)))
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

    def _check_introspection(self) -> None:
        for route in self.routes:
            for issuer in self.listed_issuers:
                if route.introspect and issuer.introspection is None:
                    raise ConfigurationError(
                        f"Route({route.pattern!r}).introspect: {issuer.issuer} cannot "
                        "be asked about its tokens; add Issuer.introspection"
                    )

    def _check_limits(self) -> None:
        check_range(self.leeway, "ResourceServer.leeway", 0, 300)
        # An ordinary read of the log may take the 0.75 seconds.
        check_range(self.max_log_age, "ResourceServer.max_log_age", 0.75, math.inf)
        check_range(
            self.max_remembered_tokens,
            "ResourceServer.max_remembered_tokens",
            2,
            math.inf,
            whole=True,
            unit="tokens",
        )


def _check_prefixes(issuers: Sequence[Issuer]) -> None:
    """Whether each opaque token can be from one issuer at most.

    A token shown to a server that it is not from is a token given away.
    """
    asked = [issuer for issuer in issuers if issuer.introspection is not None]
    prefixes = sorted(
        (prefix, issuer.issuer) for issuer in asked for prefix in issuer.opaque_prefixes
    )
    if len(asked) > 1 and not all(issuer.opaque_prefixes for issuer in asked):
        raise ConfigurationError(
            "Issuer.opaque_prefixes: missing where several issuers are asked about "
            "tokens; write how the opaque tokens of each begin"
        )
    for (short, one), (long, other) in pairwise(prefixes):
        if long.startswith(short):
            raise ConfigurationError(
                f"Issuer.opaque_prefixes: {long!r} of {other} begins with {short!r} of "
                f"{one}; a token must have one issuer"
            )


def _is_pattern(pattern: object) -> bool:
    if not isinstance(pattern, str) or not pattern.startswith("/"):
        return False
    return _PATTERN.fullmatch(pattern) is not None


def _checked_methods(methods: Sequence[str] | None, key: str) -> frozenset[str] | None:
    if methods is None:
        return None
    checked = frozenset(checked_items(methods, str, key))
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
