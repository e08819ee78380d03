"""Settings: whose tokens are accepted, and how far each issuer is trusted.

The defaults are what RFC 9068 asks for. Each deviation that a real server needs is a
setting of its own, for that server and no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from agentauth_middleware._core.claims import freeze, is_array, is_object
from agentauth_middleware._core.client_authentication import (
    AuthMethod,
    ClientAuthentication,
    load_private_key,
)
from agentauth_middleware._core.scopes import check_scopes
from agentauth_middleware._core.setting_checks import (
    check_flag,
    check_plain_function,
    check_range,
    check_secret,
    check_text,
    checked_items,
    replace_setting,
    shown,
)
from agentauth_middleware._core.urls import check_url
from agentauth_middleware.access import Identity, IdentityDialect, Principal
from agentauth_middleware.errors import ConfigurationError

__all__ = ["Introspection", "Issuer"]

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""What an ``Issuer`` may sign with unless told otherwise. ``Ed25519`` is RFC 9864's
name for ``EdDSA`` with that curve."""
_OTHER_ALGORITHMS = ("RS384", "RS512", "PS384", "PS512", "ES384", "ES512")

TYPES_OF_OTHER_TOKENS = frozenset(
    {
        "client-authentication+jwt",
        "dpop+jwt",
        "logout+jwt",
        "oauth-authz-req+jwt",
        "oauth-id-jag+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "token-introspection+jwt",
        "txntoken+jwt",
    }
)
AgentName: TypeAlias = str | tuple[str, str]
"""An agent: its subject at the issuer itself, or the namespace and the subject."""
_OWN_PARAMETERS = frozenset(
    {
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "token",
        "token_type_hint",
    }
)
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_JWT_BEGINNINGS = ("eyA", "eyB", "eyI", "eyJ", "ew0", "ewk", "ewo")
"""Base64url of a brace and what JSON lets follow: a quotation mark, or white space."""


@dataclass(frozen=True)
class Introspection:
    """How an issuer is asked about its tokens (RFC 7662): as whom, and how often.

    What it calls inactive is refused. While it cannot be asked, tokens it has not
    called active within *remember_for* are answered 503.
    """

    client_id: str
    """Who we are at the authorization server."""
    _: KW_ONLY
    client_secret: str | None = field(default=None, repr=False)
    private_key: str | bytes | None = field(default=None, repr=False)
    """In PEM: RSA, P-256 or Ed25519. It signs a fresh assertion for each question."""
    key_id: str | None = None
    """By which the server knows the key."""
    auth_method: AuthMethod | None = None
    """By default ``client_secret_basic``, or ``private_key_jwt`` with a key."""
    assertion_audience: str | None = None
    """``aud`` of the assertions; by default the issuer. Some want the endpoint."""
    endpoint: str | None = None
    """Where to ask, instead of what the issuer's metadata says."""
    extra_parameters: Mapping[str, str] = field(
        default_factory=dict[str, str], repr=False
    )
    """What else this server wants to be sent."""
    signed: bool = False
    """Demand signed answers (RFC 9701)."""
    always: bool = False
    """Also ask about its JWTs on all paths; ``Route(introspect=True)`` does on one."""
    require_audience: bool = True
    """Refuse answers without ``aud``. Switch it off for a server that calls tokens
    active only for whom they are meant."""
    remember_for: int = 30
    """Seconds for which an answer counts: a token revoked at a server that does not
    tell us lives that long. Answers that a token is inactive count 10 at most."""
    timeout: float = 2.0
    """Seconds for the whole exchange, a second attempt included."""
    max_concurrent: int = 10
    """Exchanges at a time, per process."""
    inactive_per_minute: int = 60
    """Answers that a token is inactive, per address of a client. Who had more gets a
    429 for tokens that would have to be asked about."""
    _authentication: ClientAuthentication = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_text(
            self.client_id,
            "Introspection.client_id",
            "write the name under which the authorization server knows this resource "
            "server",
        )
        self._check_credential()
        method = self._checked_method()
        replace_setting(self, "auth_method", method)
        replace_setting(self, "_authentication", self._build_authentication(method))
        for flag in ("signed", "always", "require_audience"):
            check_flag(getattr(self, flag), f"Introspection.{flag}")
        check_range(self.remember_for, "Introspection.remember_for", 0, 3600)
        check_range(self.timeout, "Introspection.timeout", 0.001, 60)
        check_range(
            self.max_concurrent,
            "Introspection.max_concurrent",
            1,
            1000,
            whole=True,
            unit="exchanges",
        )
        check_range(
            self.inactive_per_minute,
            "Introspection.inactive_per_minute",
            1,
            1_000_000,
            whole=True,
            unit="answers",
        )
        replace_setting(self, "extra_parameters", self._checked_parameters())

    def _check_credential(self) -> None:
        if self.client_secret is None and self.private_key is None:
            raise ConfigurationError(
                "Introspection: neither client_secret nor private_key; give one of "
                "them, and see whether the environment variable that it comes from is "
                "set"
            )
        if self.client_secret is not None and self.private_key is not None:
            raise ConfigurationError(
                "Introspection: client_secret and private_key exclude each other; keep "
                "the one that the authorization server knows"
            )
        if self.client_secret is not None:
            check_secret(self.client_secret, "Introspection.client_secret")
        for name in ("key_id", "assertion_audience"):
            if (value := getattr(self, name)) is not None:
                check_text(value, f"Introspection.{name}", "write a name, or None")
                self._check_is_sent(name)

    def _check_is_sent(self, name: str) -> None:
        if self.private_key is None:
            raise ConfigurationError(
                f"Introspection.{name}: is sent in assertions alone; give private_key, "
                "or remove it"
            )

    def _checked_method(self) -> AuthMethod:
        """How we authenticate: as said, or as what was given allows."""
        fitting: tuple[AuthMethod, ...] = ("private_key_jwt",)
        if self.private_key is None:
            fitting = ("client_secret_basic", "client_secret_post")
        method = fitting[0] if self.auth_method is None else self.auth_method
        if method not in get_args(AuthMethod):
            raise ConfigurationError(
                f"Introspection.auth_method: {method!r} is not one of "
                f"{', '.join(get_args(AuthMethod))}"
            )
        if method not in fitting:
            wanted = "client_secret" if self.client_secret is None else "private_key"
            raise ConfigurationError(
                f"Introspection.auth_method: {method} needs {wanted}; give that instead"
            )
        return method

    def _checked_parameters(self) -> Mapping[str, str]:
        key = "Introspection.extra_parameters"
        if not is_object(self.extra_parameters):
            raise ConfigurationError(f'{key}: no mapping; write {{"name": "x"}}')
        for name, value in self.extra_parameters.items():
            check_text(name, key, 'write {"name": "x"}')
            if name in _OWN_PARAMETERS:
                raise ConfigurationError(f"{key}[{name!r}]: is sent anyway; remove it")
            check_secret(value, f"{key}[{name!r}]")  # for it may well be one
        return MappingProxyType(dict(self.extra_parameters))

    def _build_authentication(self, method: AuthMethod) -> ClientAuthentication:
        """Who we are, as every issuer would be told."""
        private_key, algorithm = None, None
        if self.private_key is not None:
            try:
                private_key, algorithm = load_private_key(self.private_key)
            except ValueError as fault:
                key = "Introspection.private_key"
                raise ConfigurationError(f"{key}: {fault}") from None
        return ClientAuthentication(
            method,
            self.client_id,
            secret=self.client_secret,
            private_key=private_key,
            key_id=self.key_id,
            algorithm=algorithm,
            audience=self.assertion_audience,
        )

    def authentication(self, issuer: str) -> ClientAuthentication:
        """Who we are, as *issuer* wants to be told."""
        return replace(self._authentication, audience=self.assertion_audience or issuer)


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
    claims, such as ``scp`` or ``permissions``, may be arrays as well."""
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
    identity: IdentityDialect | Callable[[Mapping[str, Any]], Identity] = "rfc8693"
    """How its tokens say who is the user and who the agent; or a function of your own
    from claims to an ``Identity``. A ``ValueError`` there refuses the token."""
    actor_issuers: Sequence[str] = ()
    """Whose agents, besides its own, its tokens may name (``iss`` inside ``act``)."""
    max_chain: int = 5
    """Actors of a token, the immediate one included. Longer chains are refused."""
    agents: Sequence[AgentName] | None = None
    """Which agents may act; by default all. One of another namespace is a pair,
    ``(issuer, subject)``."""
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
                f'Issuer.subjects: {self.subjects!r} is neither "unknown" nor "users"'
            )
        _check_identity(self.identity)
        self._check_durations()
        for flag in ("require_audience", "require_client_id", "require_jti"):
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
                "Issuer.require_audience: tokens without aud are good for anybody; "
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
        """Refuse to look nowhere for what is needed."""
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
        if self.agents is not None:
            replace_setting(self, "agents", self._checked_agents(self.agents))
        key = "Issuer.agent_scopes"
        if not is_object(self.agent_scopes):
            raise ConfigurationError(f'{key}: no mapping; write {{"*": ["x.read"]}}')
        ceilings: dict[AgentName, tuple[str, ...]] = {}
        for name, scopes in self.agent_scopes.items():
            named = name if name == "*" else self._checked_agent(name, key)
            ceilings[named] = check_scopes(scopes, f"{key}[{name!r}]")
            if self.agents is not None and named not in (*self.agents, "*"):
                raise ConfigurationError(
                    f"{key}[{name!r}]: is not among Issuer.agents, so it never acts; "
                    "add it there"
                )
        replace_setting(self, "agent_scopes", MappingProxyType(ceilings))

    def _checked_agents(self, agents: Iterable[object]) -> tuple[AgentName, ...]:
        key = "Issuer.agents"
        if isinstance(agents, str) or not hasattr(agents, "__iter__"):
            raise ConfigurationError(
                f'{key}: {shown(agents)} is no list; write ["agent-1"]'
            )
        return tuple(self._checked_agent(name, key) for name in agents)

    def _checked_agent(self, name: object, key: str) -> tuple[str, str]:
        """*name* as namespace and subject."""
        parts = (self.issuer, name) if isinstance(name, str) else name
        match parts:
            case (str() as issuer, str() as subject) if issuer and subject:
                return issuer, subject
            case _:
                raise ConfigurationError(
                    f"{key}: {name!r} names no agent; write its subject, or "
                    "(issuer, subject)"
                )

    def allows_agent(self, agent: Principal) -> bool:
        """Whether *agent* may act, as far as *agents* say."""
        return self.agents is None or (agent.issuer, agent.subject) in self.agents

    def ceiling_of(self, agent: Principal) -> frozenset[str] | None:
        """The scopes that *agent* may use at most; ``None`` for no limit."""
        name = (agent.issuer, agent.subject)
        scopes = self.agent_scopes.get(name, self.agent_scopes.get("*"))
        return None if scopes is None else frozenset(scopes)

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
                "Issuer.opaque_prefixes: nobody could say whether such a token is "
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
        """Where its keys are, if that need not be asked; a ``file`` URL for a file."""
        if self.jwks_file is not None:
            return Path(self.jwks_file).absolute().as_uri()
        return self.jwks_uri


def check_issuer(issuer: Issuer, *, insecure_loopback: bool) -> None:
    """Refuse an *issuer* with a URL that cannot be right.

    Raises:
        ConfigurationError: names the URL, its fault and the mend.
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
            f'{key}: {types!r} is no list; write ("at+jwt", "JWT")'
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
