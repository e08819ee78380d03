"""Settings of the embedded authorization server, checked when built."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

from agentauth_middleware._core.tokens.jose import JOSEHeader, KeySet, parse_key_set
from agentauth_middleware._syntax.members import freeze, is_object, parse_object
from agentauth_middleware._syntax.urls import check_url, same_identifier
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import (
    check_secret,
    check_text,
    checked_items,
    replace_setting,
)
from agentauth_middleware.settings.issuer import ALGORITHMS, Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store

__all__ = [
    "ALGORITHM",
    "CLIENT_ALGORITHMS",
    "AgentProvider",
    "IntrospectionClient",
    "check_introspection_clients",
    "check_providers",
    "check_resources",
    "check_seconds",
    "check_store",
    "is_vouched_for",
    "provider_from_json",
    "provider_to_json",
]

ALGORITHM = "ES256"
"""What this server signs with."""
CLIENT_ALGORITHMS = (*ALGORITHMS, "ES384", "ES512")
"""What resource servers that ask may sign with. No HMAC: it would need their secret."""
_SHORTEST_SECRET = 16
_LONGEST = 365 * 86_400


@dataclass(frozen=True)
class AgentProvider:
    """An identity provider that signs ID-JAGs about its users. A trusted provider is
    believed about all of its own users, and about no others.
    """

    issuer: str
    """Byte for byte as in the ``iss`` of its assertions."""
    _: KW_ONLY
    name: str
    """Its name for people. Shown to them, and never taken from an assertion."""
    client_ids: Sequence[str] = ()
    """What its assertions may carry in ``client_id``; by default its issuer."""
    jwks_uri: str | None = None
    jwks: Mapping[str, Any] | None = None
    algorithms: Sequence[str] = ALGORITHMS
    timeout: float = 5.0
    """Seconds for one exchange with it."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigurationError("AgentProvider.name: empty; write what people say")
        if isinstance(self.client_ids, str):
            raise ConfigurationError("AgentProvider.client_ids: write a tuple")
        object.__setattr__(self, "client_ids", tuple(self.client_ids) or (self.issuer,))
        _ = self.keys  # An Issuer checks what the two have in common.

    @property
    def keys(self) -> Issuer:
        """Where its keys come from, in the terms of issuers in general."""
        return Issuer(
            self.issuer,
            jwks_uri=self.jwks_uri,
            jwks=self.jwks,
            algorithms=self.algorithms,
            timeout=self.timeout,
        )


def is_vouched_for(
    provider: str, client_id: str, providers: Mapping[str, AgentProvider]
) -> bool:
    """Whether *providers*, by issuer, still have who vouched for a registration."""
    trusted = providers.get(provider)
    return trusted is not None and client_id in trusted.client_ids


def provider_to_json(provider: AgentProvider) -> str:
    """As much of *provider* as is needed to check its events once it is removed."""
    kept = {
        "issuer": provider.issuer,
        "name": provider.name,
        "jwks_uri": provider.jwks_uri,
        "jwks": provider.jwks,
        "algorithms": list(provider.algorithms),
        "timeout": provider.timeout,
    }
    return json.dumps(kept, default=dict)


def provider_from_json(kept: str) -> AgentProvider:
    """What ``provider_to_json`` has kept.

    Raises:
        ConfigurationError: it is no longer accepted.
    """
    return AgentProvider(**parse_object(kept.encode()))


@dataclass(frozen=True)
class IntrospectionClient:
    """A resource server that may ask about tokens, and how it proves who it is."""

    client_id: str
    _: KW_ONLY
    resource: str
    """Which of the server's resources it is: it learns of tokens for this one only."""
    client_secret: str | None = field(default=None, repr=False)
    """For ``client_secret_basic`` and ``client_secret_post``; 16 characters or more."""
    jwks: Mapping[str, Any] | None = None
    """Its public keys (RFC 7517 §5), for ``private_key_jwt``."""

    def __post_init__(self) -> None:
        check_text(self.client_id, "IntrospectionClient.client_id", "write a name")
        key = f"IntrospectionClient({self.client_id!r})"
        check_text(self.resource, f"{key}.resource", "write a resource identifier")
        if self.client_secret is None and self.jwks is None:
            raise ConfigurationError(
                f"{key}: neither client_secret nor jwks; give one of them, and see "
                "whether the environment variable that it comes from is set"
            )
        if self.client_secret is not None and self.jwks is not None:
            raise ConfigurationError(
                f"{key}: client_secret and jwks exclude each other; keep jwks if the "
                "resource server can sign"
            )
        if self.client_secret is not None:
            _check_not_guessable(self.client_secret, f"{key}.client_secret")
            check_secret(self.client_secret, f"{key}.client_secret")
        if self.jwks is not None:
            replace_setting(self, "jwks", freeze(self.jwks))
            _check_client_keys(self, f"{key}.jwks")

    @cached_property
    def keys(self) -> KeySet:
        """The keys in *jwks*, ready to verify."""
        return KeySet(()) if self.jwks is None else parse_key_set(self.jwks)


def _check_not_guessable(secret: object, key: str) -> None:
    """The message must not tell it."""
    if isinstance(secret, str) and len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(
            f"{key}: shorter than {_SHORTEST_SECRET} characters, so it can be guessed; "
            "use what secrets.token_urlsafe(32) gives"
        )


def _check_client_keys(client: IntrospectionClient, key: str) -> None:
    if not is_object(client.jwks):
        raise ConfigurationError(f'{key}: not a JWK Set; write {{"keys": [...]}}')
    try:
        keys = client.keys
    except ValueError as fault:
        raise ConfigurationError(f'{key}: {fault}; write {{"keys": [...]}}') from None
    headers = (JOSEHeader(algorithm, None, None) for algorithm in CLIENT_ALGORITHMS)
    if not any(keys.knows(header) for header in headers):
        raise ConfigurationError(
            f"{key}: no key in it can verify; give public signing keys: RSA of 2048 "
            "bits or more, P-256, P-384, P-521 or Ed25519"
        )


def check_introspection_clients(
    clients: Sequence[IntrospectionClient], resources: Sequence[ResourceServer]
) -> None:
    key = "AuthorizationServer.introspection_clients"
    checked_items(clients, IntrospectionClient, key)
    _check_different((client.client_id for client in clients), key, "client_id")
    known = [server.resource for server in resources]
    for client in clients:
        if not any(same_identifier(client.resource, resource) for resource in known):
            raise ConfigurationError(
                f"{key}: {client.client_id!r} is for {client.resource!r}, which is "
                f"none of the resources; write one of {', '.join(known)}"
            )


def check_resources(issuer: str, resources: Sequence[ResourceServer]) -> None:
    key = "AuthorizationServer.resources"
    checked_items(resources, ResourceServer, key)
    if not resources:
        raise ConfigurationError(
            f"{key}: empty; name the ResourceServer that tokens are for"
        )
    _check_different((server.resource for server in resources), key, "resource")
    for server in resources:
        _check_trust(issuer, server, key)


def _check_trust(issuer: str, server: ResourceServer, key: str) -> None:
    """Refuse a *server* whose middleware would not accept the tokens of *issuer*."""
    trusted = server.find_issuer(issuer)
    if trusted is None:
        raise ConfigurationError(
            f"{key}: {server.resource} does not trust {issuer}; add "
            f"Issuer({issuer!r}) to its issuers, to the letter"
        )
    if server.client_scope_prefix:
        raise ConfigurationError(
            f"{key}: ResourceServer.client_scope_prefix of {server.resource} is for "
            f"servers that know scopes by other names than their tokens; {issuer} does "
            "not, so remove it"
        )
    if trusted.audience is not None and server.resource not in trusted.audience:
        raise ConfigurationError(
            f"{key}: {server.resource} wants tokens of {issuer} for another audience, "
            "but they carry the resource; leave out Issuer.audience"
        )
    if ALGORITHM not in trusted.algorithms:
        raise ConfigurationError(
            f"{key}: {server.resource} does not take {ALGORITHM} of {issuer}, which "
            "signs with it; add it to Issuer.algorithms"
        )


def check_providers(
    issuer: str, providers: Sequence[AgentProvider], *, insecure_loopback: bool
) -> None:
    key = "AuthorizationServer.providers"
    checked_items(providers, AgentProvider, key)
    if not providers:
        raise ConfigurationError(
            f"{key}: empty; name at least one AgentProvider, or no agent can ever "
            "register"
        )
    _check_different((provider.issuer for provider in providers), key, "issuer")
    for provider in providers:
        if provider.issuer == issuer:
            raise ConfigurationError(
                f"{key}: this server cannot vouch for itself; name who signs in the "
                "users of agents"
            )
        check_url(
            provider.issuer, "AgentProvider.issuer", insecure_loopback=insecure_loopback
        )
        if provider.jwks_uri is not None:
            check_url(
                provider.jwks_uri,
                "AgentProvider.jwks_uri",
                insecure_loopback=insecure_loopback,
            )


def check_store(store: Store) -> None:
    if not callable(getattr(store, "append_log", None)):
        raise ConfigurationError(
            f"AuthorizationServer.store: {store!r} is no store; give the one that the "
            "middlewares of the resources use, or they never hear of revocations"
        )


def check_seconds(name: str, seconds: object) -> None:
    if type(seconds) is not int or not 0 < seconds <= _LONGEST:
        raise ConfigurationError(
            f"AuthorizationServer.{name}: {seconds!r} is not a whole number between 1 "
            f"and {_LONGEST} (seconds)"
        )


def _check_different(names: Iterable[str], key: str, what: str) -> None:
    listed = list(names)
    if len(set(listed)) != len(listed):
        raise ConfigurationError(f"{key}: the same {what} twice; keep one of them")
