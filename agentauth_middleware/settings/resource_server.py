"""Settings: which resource this is, which issuers it trusts, what its paths demand.

All of it is checked when built and frozen afterwards. Settings do no I/O and hold no
state, so one ``ResourceServer`` serves any number of middlewares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from agentauth_middleware._syntax.members import freeze, is_object
from agentauth_middleware._syntax.scopes import check_scopes
from agentauth_middleware._syntax.urls import check_origin, check_url, well_known_url
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import (
    check_flag,
    check_plain_function,
    check_range,
    checked_items,
    is_text,
    replace_setting,
    shown,
)
from agentauth_middleware.settings.issuer import Issuer, check_issuer
from agentauth_middleware.settings.reachability import check_reachable
from agentauth_middleware.settings.route import Route

__all__ = ["ResourceServer"]

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
    only you can list them. ``[]`` names none: agents then have to know from elsewhere
    who issues tokens."""
    name: str | None = None
    """For people, when an agent asks them for permission."""
    scopes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Each scope that clients may ask for, with a sentence for people."""
    client_scope_prefix: str = ""
    """What stands in front of a scope where clients ask for it, and not in tokens: at
    Entra ``"api://<application id>/"``. Challenges and documents tell clients the names
    with it; everything else here has the names of tokens. It is one for all issuers: a
    challenge is for clients of any of them."""
    implied_scopes: Mapping[str, Sequence[str]] = field(
        default_factory=dict[str, Sequence[str]]
    )
    """Scopes that a scope includes: ``{"notes.write": ["notes.read"]}``."""
    routes: Sequence[Route] = ()
    unmatched: Literal["authenticated", "refuse"] | None = None
    """What a path that matches no route demands: a good token, or ``"refuse"``. By
    default a good token, and with ``unauthenticated="pass"`` agents are refused there:
    an API with other clients has paths that no agent was meant to call."""
    unauthenticated: Literal["challenge", "pass"] = "challenge"
    """What becomes of requests without an agent's credential. ``"pass"`` is for an API
    that has other clients, with sessions or keys of its own: they reach it untouched,
    and its 401 answers gain the challenge. Routes bind agents alone then."""
    browser_origins: Sequence[str] = ()
    """Whose pages may call this API from a browser, with a token in ``Authorization``:
    ``["https://app.example.com"]``, or ``["*"]`` for all. The middleware answers their
    preflights, and lets them read its own answers and the application's."""
    forward_unauthenticated_preflights: bool = False
    """Let CORS preflights reach the application, though they bear no credential, for a
    CORS layer of its own. Without that layer handlers may run on them."""
    documentation_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    logo_uri: str | None = None
    extra_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further members of the metadata (RFC 9728 §2), among them names in other
    languages: ``{"resource_name#de": "Notizen"}``."""
    metadata_at_root: bool = True
    """Also answer at the well-known URL without the resource's path, and at
    ``/auth.md`` of the host. Switch it off where several resources share a host."""
    leeway: int = 60
    """Seconds by which clocks may differ."""
    max_log_age: float = 0.75
    """Seconds. While the store does not answer, requests go on with what was last read
    of its log of revocations if that is no older than this; then they get a 503. Any
    more than 0.75 and a revoked token may live longer than one second.
    ``math.inf`` never refuses."""
    discard_bytes: int = 32 * 2**20
    """How much of a request's body is still read, and dropped, after the request was
    refused. Otherwise the answer to a large upload is lost on its way. 0 reads nothing.
    """
    discard_seconds: float = 10
    """How long it may take to read that. 0 reads nothing."""
    revocation_retention: int = 400 * 86_400
    """Seconds after which every token that was good has expired, so that its revocation
    may be forgotten; for issuers without ``max_token_age``."""
    ignore_query_token: bool = False
    """Set it if ``access_token`` in a query means something else in this API. It is
    never a credential either way."""
    max_remembered_tokens: int = 20_000
    """How many verified tokens each process may remember; about 1.3 kB each."""
    insecure_loopback: bool = False
    """Allow http URLs on a loopback host, while developing."""

    def __post_init__(self) -> None:
        for flag in (
            "metadata_at_root",
            "ignore_query_token",
            "insecure_loopback",
            "forward_unauthenticated_preflights",
        ):
            check_flag(getattr(self, flag), f"ResourceServer.{flag}")
        self._check_url(self.resource, "ResourceServer.resource")
        self._check_issuers()
        routes = checked_items(self.routes, Route, "ResourceServer.routes")
        replace_setting(self, "routes", routes)
        check_reachable(routes)
        self._check_scopes()
        self._check_introspection()
        self._check_limits()
        self._check_browser_origins()
        for key in ("documentation_uri", "policy_uri", "tos_uri", "logo_uri"):
            if (url := getattr(self, key)) is not None:
                self._check_url(url, f"ResourceServer.{key}")
        if self.name is not None and not is_text(self.name):
            raise ConfigurationError(
                f"ResourceServer.name: {self.name!r} is no text or empty; write a name "
                "or None"
            )
        replace_setting(self, "extra_metadata", _checked_metadata(self.extra_metadata))
        if self.unmatched not in ("authenticated", "refuse", None):
            raise ConfigurationError(
                f"ResourceServer.unmatched: {self.unmatched!r} is neither "
                '"authenticated" nor "refuse"; write one of them, or leave it out'
            )
        self._check_unauthenticated()

    def retention_of(self, issuer: str) -> float:
        """Seconds for which a revocation of tokens of *issuer* must be remembered.

        For ever where its tokens may have no ``exp``, as those about which it is asked.
        """
        found = self.find_issuer(issuer)
        if found is not None and found.max_token_age is not None:
            return found.max_token_age
        if found is not None and found.introspection is not None:
            return math.inf
        return self.revocation_retention

    @property
    def refuses_unmatched(self) -> bool:
        """Whether a path that matches no route refuses every token."""
        if self.unmatched is None:
            return self.unauthenticated == "pass"
        return self.unmatched == "refuse"

    @property
    def metadata_url(self) -> str:
        """Where the metadata is published (RFC 9728 §3.1); every challenge names it."""
        return well_known_url(self.resource)

    def scopes_for_clients(self, scopes: Iterable[str]) -> tuple[str, ...]:
        """*scopes*, which tokens carry, under the names by which clients ask for
        them."""
        return tuple(self.client_scope_prefix + scope for scope in scopes)

    @property
    def auth_md_url(self) -> str:
        """Where ``auth.md`` is published."""
        return self.resource.partition("?")[0].rstrip("/") + "/auth.md"

    def _check_url(self, url: str, key: str) -> None:
        check_url(url, key, insecure_loopback=self.insecure_loopback)

    def _check_issuers(self) -> None:
        if callable(self.issuers):
            self._check_function(self.issuers)
        else:
            replace_setting(self, "issuers", self._checked_issuers(self.issuers))
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

    def _check_function(self, function: Callable[[str], Issuer | None]) -> None:
        check_plain_function(function, "ResourceServer.issuers")
        if isinstance(function, type):
            raise ConfigurationError(
                "ResourceServer.issuers: a class would make an issuer of any name; "
                "write a list of Issuer, or a function that gives None for strangers"
            )
        if self.authorization_servers is None:
            raise ConfigurationError(
                "ResourceServer.authorization_servers: missing; a function as issuers "
                "cannot be listed, so name the issuers that clients may start from"
            )

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
        """The issuer called *name*, if its tokens are accepted.

        Raises:
            ConfigurationError: the function that is asked cannot say so.
        """
        if callable(self.issuers):
            return self._ask_function(self.issuers, name)
        found = (issuer for issuer in self.issuers if issuer.issuer == name)
        return next(found, None)

    def _ask_function(
        self, function: Callable[[str], Issuer | None], name: str
    ) -> Issuer | None:
        key, fix = "ResourceServer.issuers", "return an Issuer, or None"
        try:
            found = function(name)
        except Exception as fault:  # the operator's code may raise whatever it likes
            raise ConfigurationError(
                f"{key}: raised {fault!r} for {name!r}{_place_of(fault)}; {fix}"
            ) from fault
        if found is None:
            return None
        if not _is_issuer(found):
            raise ConfigurationError(
                f"{key}: returned {shown(found)} for {name!r}; {fix}"
            )
        if found.issuer != name:
            raise ConfigurationError(
                f"{key}: returned the Issuer {found.issuer!r} for {name!r}; return the "
                "one of that name, or None"
            )
        if found.opaque_prefixes:
            raise ConfigurationError(
                f"Issuer.opaque_prefixes: of {name!r}, which a function gives; opaque "
                "tokens name no issuer to call it with, so list their issuers"
            )
        check_issuer(found, insecure_loopback=self.insecure_loopback)
        return found

    def _check_scopes(self) -> None:
        if not is_object(self.scopes) or not all(map(is_text, self.scopes.values())):
            raise ConfigurationError(
                "ResourceServer.scopes: not each with a sentence for people; write "
                '{"notes.read": "Read your notes"}'
            )
        check_scopes(self.scopes, "ResourceServer.scopes")
        replace_setting(self, "scopes", MappingProxyType(dict(self.scopes)))
        self._check_client_scope_prefix()
        self._check_implied_scopes()
        if not self.scopes:
            return
        for route in self.routes:
            for names in ("scopes", "any_scopes"):
                key = f"Route({route.pattern!r}).{names}"
                self._check_declared(getattr(route, names), key)
        for issuer in self.listed_issuers:
            for name, scopes in issuer.agent_scopes.items():
                self._check_declared(scopes, f"Issuer.agent_scopes[{name!r}]")

    def _check_client_scope_prefix(self) -> None:
        key, prefix = "ResourceServer.client_scope_prefix", self.client_scope_prefix
        if prefix == "":
            return
        check_scopes([prefix], key)
        if prefix[-1].isalnum():
            raise ConfigurationError(
                f"{key}: {prefix!r} does not end in a separator; write {prefix + '/'!r}"
            )
        for scope in self.scopes:
            if scope.startswith(prefix):
                raise ConfigurationError(
                    f"ResourceServer.scopes: {scope!r} has the prefix for clients; "
                    f"write the name in tokens, {scope.removeprefix(prefix)!r}"
                )

    def _check_implied_scopes(self) -> None:
        key = "ResourceServer.implied_scopes"
        if not is_object(self.implied_scopes):
            raise ConfigurationError(
                f'{key}: no mapping; write {{"notes.write": ["notes.read"]}}'
            )
        implied = {
            scope: check_scopes(implied, f"{key}[{scope!r}]")
            for scope, implied in self.implied_scopes.items()
        }
        check_scopes(implied, key)
        if self.scopes:
            for scope, others in implied.items():
                self._check_declared([scope, *others], key)
        replace_setting(self, "implied_scopes", MappingProxyType(implied))

    def _check_declared(self, scopes: Sequence[str], key: str) -> None:
        """Refuse a scope that clients cannot ask for."""
        for scope in scopes:
            if scope not in self.scopes:
                raise ConfigurationError(
                    f"{key}: {scope!r} is not among ResourceServer.scopes; declare it "
                    "there, so that clients can ask for it"
                )

    def _check_introspection(self) -> None:
        for route in self.routes:
            for issuer in self.listed_issuers:
                if route.introspect and issuer.introspection is None:
                    raise ConfigurationError(
                        f"Route({route.pattern!r}).introspect: {issuer.issuer} cannot "
                        "be asked about its tokens; add Issuer.introspection"
                    )

    def _check_unauthenticated(self) -> None:
        key = "ResourceServer.unauthenticated"
        if self.unauthenticated not in ("challenge", "pass"):
            raise ConfigurationError(
                f'{key}: {self.unauthenticated!r} is neither "challenge" nor "pass"; '
                "write one of them, or leave it out"
            )
        if self.unauthenticated == "challenge":
            return
        for issuer in self.listed_issuers:
            if issuer.introspection is not None and not issuer.opaque_prefixes:
                raise ConfigurationError(
                    f"{key}: opaque tokens of {issuer.issuer} cannot be told "
                    "from keys of the API's own; add Issuer.opaque_prefixes"
                )

    def _check_browser_origins(self) -> None:
        key = "ResourceServer.browser_origins"
        origins = checked_items(self.browser_origins, str, key)
        replace_setting(self, "browser_origins", origins)
        if origins == ("*",):
            if self.forward_unauthenticated_preflights:
                raise ConfigurationError(
                    "ResourceServer.forward_unauthenticated_preflights: has no effect "
                    f'beside {key}=["*"], which answers every preflight; remove one'
                )
            return
        for origin in origins:
            check_origin(origin, key)

    def _check_limits(self) -> None:
        check_range(self.leeway, "ResourceServer.leeway", 0, 300)
        # An ordinary read of the log may take the 0.75 seconds.
        check_range(self.max_log_age, "ResourceServer.max_log_age", 0.75, math.inf)
        check_range(
            self.discard_bytes,
            "ResourceServer.discard_bytes",
            0,
            math.inf,
            whole=True,
            unit="bytes",
        )
        check_range(self.discard_seconds, "ResourceServer.discard_seconds", 0, 300)
        check_range(
            self.revocation_retention,
            "ResourceServer.revocation_retention",
            60,
            2**31 - 1,
            whole=True,
        )
        check_range(
            self.max_remembered_tokens,
            "ResourceServer.max_remembered_tokens",
            2,
            math.inf,
            whole=True,
            unit="tokens",
        )


def _place_of(fault: Exception) -> str:
    """Where in the operator's code *fault* was raised."""
    trace, place = fault.__traceback__, ""
    while trace is not None and (trace := trace.tb_next) is not None:
        place = f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
    return place


def _is_issuer(value: object) -> bool:
    """Whether the operator's function returned an ``Issuer``; at run time its type is
    not checked."""
    return isinstance(value, Issuer)


def _check_prefixes(issuers: Sequence[Issuer]) -> None:
    """Whether each opaque token can be from one issuer at most.

    A token that is shown to a server of another issuer is disclosed.
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
                f"{key}: would promise what this middleware does not enforce; remove it"
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
