"""Settings: which issuers are trusted, and how far.

The defaults are those of RFC 9068. Each deviation that a real server needs is a setting
of its own, for that server and no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from agentauth_middleware._syntax.members import freeze, is_array, is_object
from agentauth_middleware._syntax.urls import check_url
from agentauth_middleware.access import Identity, IdentityDialect
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.agent_names import (
    AgentName,
    checked_agents,
    checked_ceilings,
)
from agentauth_middleware.settings.checks import (
    check_flag,
    check_plain_function,
    check_range,
    checked_items,
    replace_setting,
    shown,
)
from agentauth_middleware.settings.introspection import Introspection

__all__ = ["ALGORITHMS", "KNOWN_ALGORITHMS", "Issuer"]

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""What an ``Issuer`` may sign with unless told otherwise. ``Ed25519`` is RFC 9864's
name for ``EdDSA`` with that curve."""
KNOWN_ALGORITHMS = (
    *ALGORITHMS,
    *("RS384", "RS512", "PS384", "PS512", "ES384", "ES512"),
)

_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_JWT_BEGINNINGS = ("eyA", "eyB", "eyI", "eyJ", "ew0", "ewk", "ewo")
"""Base64url of a brace and what JSON lets follow: a quotation mark, or white space."""


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
    jwks_file: str | os.PathLike[str] | None = None
    """A file with its keys, which is read again when it may have changed."""
    max_key_age: int = 86_400
    """Seconds for which keys are used that could not be fetched again."""
    introspection: Introspection | None = None
    """How to ask about opaque tokens, and about JWTs where a route wants it."""
    opaque_prefixes: Sequence[str] = ()
    """How its opaque tokens begin. Needed where several issuers have such tokens: no
    token is ever shown to a server that it is not from."""
    audience: str | Sequence[str] | None = None
    """What its tokens carry in ``aud`` for this resource; by default the resource
    identifier. With several, one of them suffices."""
    require_audience: bool = True
    """Refuse JWTs without ``aud``. Switching it off needs *client_ids*."""
    client_ids: Sequence[str] = ()
    """The clients whose tokens are accepted; by default all."""
    algorithms: Sequence[str] = ALGORITHMS
    token_types: Sequence[str | None] = ("at+jwt",)
    """What ``typ`` its JWTs may have. ``"JWT"`` and ``None`` are for servers that
    do not follow RFC 9068; then other kinds of token are told apart by their claims."""
    scope_claims: Sequence[str] = ("scope",)
    """Where its tokens list scopes. ``scope`` is one string (RFC 6749 §3.3); other
    claims, such as ``scp`` or ``permissions``, may be arrays as well. A JWT that has
    one of these is an access token, where its ``typ`` does not tell."""
    scope_as_array: bool = False
    """Accept ``scope`` as an array of strings as well, in tokens and in answers."""
    allow_nonce: bool = False
    """Accept ``nonce``, by which ID tokens are told, in access tokens of a ``typ`` that
    other tokens have too."""
    client_id_claims: Sequence[str] = ("client_id",)
    """Where its tokens name the client: the first of these that is there."""
    require_client_id: bool = True
    require_jti: bool = True
    """Without ``jti`` a single token cannot be revoked."""
    required_claims: Sequence[str] = ()
    """Further claims without which a token is refused."""
    max_token_age: int | None = None
    """Seconds since ``iat``, at most."""
    leeway: int | None = None
    """Seconds by which its clock may differ; by default ``ResourceServer.leeway``."""
    subjects: Literal["unknown", "users"] = "unknown"
    """``"users"`` says that a subject other than the client is a person. Without it,
    a token that names no actor gives ``access.subject`` and no ``access.user``."""
    first_party_clients: Sequence[str] | None = None
    """The clients with which people act for themselves. Where this is set, even to
    ``()``, every other client that acts for a person is an agent, named by its client
    id, unless the token names one itself. All other subjects are then people, as with
    ``subjects="users"``."""
    identity: IdentityDialect | Callable[[Mapping[str, Any]], Identity] = "rfc8693"
    """How its tokens say who is the user and who the agent; or a function of your own
    from claims to an ``Identity``. A ``ValueError`` there refuses the token."""
    actor_issuers: Sequence[str] = ()
    """Whose agents, besides its own, its tokens may name (``iss`` inside ``act``)."""
    max_chain: int = 5
    """Actors of a token, the immediate one included. Longer chains are refused."""
    agents: Sequence[AgentName] | None = None
    """Which agents may act; by default all. One of another namespace is a pair,
    ``(issuer, subject)``, whose issuer is among *actor_issuers*."""
    agent_scopes: Mapping[AgentName, Sequence[str]] = field(
        default_factory=dict[AgentName, Sequence[str]]
    )
    """By agent, or ``"*"`` for all others: the scopes that it may use at most."""
    timeout: float = 5.0
    """Seconds for one exchange with this server."""

    def __post_init__(self) -> None:
        self._check_key_source()
        if self.subjects not in ("unknown", "users"):
            raise ConfigurationError(
                f'Issuer.subjects: {self.subjects!r} is neither "unknown" nor "users"; '
                'write "users" if each subject but the client is a person, or leave it '
                "out"
            )
        _check_identity(self.identity)
        self._check_first_party_clients()
        self._check_durations()
        for flag in (
            "require_audience",
            "require_client_id",
            "require_jti",
            "scope_as_array",
            "allow_nonce",
        ):
            check_flag(getattr(self, flag), f"Issuer.{flag}")
        for names in (
            "actor_issuers",
            "client_ids",
            "scope_claims",
            "client_id_claims",
            "required_claims",
        ):
            checked = _checked_names(getattr(self, names), f"Issuer.{names}")
            replace_setting(self, names, checked)
        replace_setting(self, "token_types", _checked_types(self.token_types))
        replace_setting(self, "algorithms", _checked_algorithms(self.algorithms))
        replace_setting(self, "audience", _checked_audience(self.audience))
        replace_setting(self, "jwks", _checked_jwks(self.jwks))
        self._check_claims()
        self._check_opaque_tokens()
        self._check_agents()
        if not self.require_audience and not self.client_ids:
            raise ConfigurationError(
                "Issuer.require_audience: tokens without aud are good for any API; "
                "name the clients whose tokens you take in Issuer.client_ids"
            )

    def _check_key_source(self) -> None:
        sources = (self.jwks, self.jwks_uri, self.jwks_file)
        if sum(source is not None for source in sources) > 1:
            raise ConfigurationError(
                "Issuer: jwks, jwks_uri and jwks_file exclude each other; keep one"
            )
        if self.jwks_file is not None:
            _check_path(self.jwks_file, "Issuer.jwks_file")

    def _check_claims(self) -> None:
        """Refuse an empty list of claims where one is needed."""
        if not self.scope_claims:
            raise ConfigurationError(
                "Issuer.scope_claims: empty, so that no token has any scope; name at "
                "least one claim"
            )
        if not self.client_id_claims and (self.require_client_id or self.client_ids):
            raise ConfigurationError(
                "Issuer.client_id_claims: empty, so that no token names its client and "
                "all are refused; name a claim, or switch off require_client_id and "
                "leave out client_ids"
            )

    def _check_first_party_clients(self) -> None:
        if self.first_party_clients is None:
            return
        key = "Issuer.first_party_clients"
        clients = _checked_names(self.first_party_clients, key)
        replace_setting(self, "first_party_clients", clients)
        if callable(self.identity):
            raise ConfigurationError(
                f"{key}: Issuer.identity is a function, which says by itself who acts; "
                "leave one of them out"
            )
        if not self.client_id_claims:
            raise ConfigurationError(
                f"{key}: Issuer.client_id_claims is empty, so that no token names its "
                "client; name a claim"
            )

    def _check_durations(self) -> None:
        check_range(self.timeout, "Issuer.timeout", 0.001, 60)
        check_range(self.max_key_age, "Issuer.max_key_age", 600, 10 * 365 * 86_400)
        if self.leeway is not None:
            check_range(self.leeway, "Issuer.leeway", 0, 300)
        if self.max_token_age is not None:
            check_range(self.max_token_age, "Issuer.max_token_age", 1, 2**31 - 1)

    def _check_agents(self) -> None:
        key = "Issuer.max_chain"
        check_range(self.max_chain, key, 1, 20, whole=True, unit="actors")
        namespaces = (self.issuer, *self.actor_issuers)
        if self.agents is not None:
            agents = checked_agents(self.agents, namespaces)
            replace_setting(self, "agents", agents)
        ceilings = checked_ceilings(self.agent_scopes, self.agents, namespaces)
        replace_setting(self, "agent_scopes", ceilings)

    def _check_opaque_tokens(self) -> None:
        if self.introspection is not None:
            _check_introspection(self.introspection)
        prefixes = _checked_names(self.opaque_prefixes, "Issuer.opaque_prefixes")
        for prefix in prefixes:
            if not _TOKEN68.fullmatch(prefix):
                raise ConfigurationError(
                    f"Issuer.opaque_prefixes: no token can begin with {prefix!r} "
                    "(RFC 6750 §2.1)"
                )
            self._check_is_of_no_jwt(prefix)
        if prefixes and self.introspection is None:
            raise ConfigurationError(
                "Issuer.opaque_prefixes: it would be unclear whether such a token is "
                "good; add introspection"
            )
        replace_setting(self, "opaque_prefixes", prefixes)

    def _check_is_of_no_jwt(self, prefix: str) -> None:
        for beginning in _JWT_BEGINNINGS:
            if prefix.startswith(beginning) or beginning.startswith(prefix):
                common = min(prefix, beginning, key=len)
                raise ConfigurationError(
                    f"Issuer.opaque_prefixes: JWTs begin with {common!r} too, and "
                    f"would all be shown to {self.issuer}; write another prefix"
                )

    @cached_property
    def keys_url(self) -> str | None:
        """The URL of its keys, if the settings name one; a ``file`` URL for a file."""
        if self.jwks_file is not None:
            return Path(self.jwks_file).absolute().as_uri()
        return self.jwks_uri


def check_issuer(issuer: Issuer, *, insecure_loopback: bool) -> None:
    """Refuse an *issuer* with a URL that cannot be right.

    Raises:
        ConfigurationError: names the URL, its fault and the fix.
    """
    asked = issuer.introspection
    check_url(issuer.issuer, "Issuer.issuer", insecure_loopback=insecure_loopback)
    urls = {
        "Issuer.jwks_uri": issuer.jwks_uri,
        "Introspection.endpoint": asked.endpoint if asked is not None else None,
    }
    for key, url in urls.items():
        if url is not None:
            check_url(url, key, insecure_loopback=insecure_loopback)
    for name in issuer.actor_issuers:
        check_url(name, "Issuer.actor_issuers", insecure_loopback=insecure_loopback)
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


def _check_identity(identity: object) -> None:
    dialects: tuple[str, ...] = get_args(IdentityDialect)
    if callable(identity):
        check_plain_function(identity, "Issuer.identity")
    elif identity not in dialects:
        raise ConfigurationError(
            f"Issuer.identity: {identity!r} is not one of {', '.join(dialects)}; "
            "choose one of them, or write a function from claims to Identity"
        )


def _check_introspection(introspection: object) -> None:
    if not isinstance(introspection, Introspection):
        raise ConfigurationError(
            f"Issuer.introspection: {shown(introspection)} is no Introspection; write "
            "Introspection(client_id, client_secret=...)"
        )


def _check_path(path: object, key: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(
            f"{key}: {shown(path)} is no path; keys themselves are Issuer.jwks"
        )
    if not path:
        raise ConfigurationError(f"{key}: empty; write the path of a file, or None")
    if isinstance(path, str) and "://" in path:
        raise ConfigurationError(
            f"{key}: {path!r} is a URL; that is Issuer.jwks_uri, and a file is named "
            "by its path alone"
        )


def _checked_names(names: Sequence[str], key: str) -> tuple[str, ...]:
    checked = checked_items(names, str, key)
    if not all(checked):
        raise ConfigurationError(f"{key}: has an empty string; remove it")
    return tuple(dict.fromkeys(checked))


def _checked_types(types: Iterable[object]) -> tuple[str | None, ...]:
    key = "Issuer.token_types"
    if isinstance(types, str) or not hasattr(types, "__iter__"):
        raise ConfigurationError(
            f'{key}: {types!r} is no list; write ["at+jwt", "JWT"]'
        )
    checked: list[str | None] = []
    for name in types:
        kind = name.lower() if isinstance(name, str) else None
        kind = kind and kind.removeprefix("application/")
        if kind not in ("at+jwt", "jwt") and name is not None:
            raise ConfigurationError(
                f"{key}: {name!r} is no type of access token; at+jwt, JWT and None are"
            )
        checked.append(kind)
    if not checked:
        raise ConfigurationError(f'{key}: empty; write at least "at+jwt"')
    return tuple(checked)


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    checked = checked_items(algorithms, str, "Issuer.algorithms")
    if not checked:
        raise ConfigurationError("Issuer.algorithms: empty; write at least one")
    for algorithm in checked:
        if algorithm not in KNOWN_ALGORITHMS:
            raise ConfigurationError(
                f"Issuer.algorithms: {algorithm!r} is not one of "
                f"{', '.join(KNOWN_ALGORITHMS)}"
            )
    return checked


def _checked_audience(audience: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if audience is None:
        return None
    values = (audience,) if isinstance(audience, str) else audience
    values = checked_items(values, str, "Issuer.audience")
    if not values or not all(values):
        raise ConfigurationError("Issuer.audience: write one or several strings")
    return values


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
