"""Settings of the embedded authorization server, checked when built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, cast

from agentauth_middleware._core.urls import check_url
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.resource_server import ALGORITHMS, Issuer, ResourceServer
from agentauth_middleware.stores import Store

__all__ = [
    "ALGORITHM",
    "AgentProvider",
    "check_providers",
    "check_resources",
    "check_seconds",
    "check_store",
]

ALGORITHM = "ES256"
"""What this server signs with."""
_LONGEST = 365 * 86_400


@dataclass(frozen=True)
class AgentProvider:
    """Who vouches for agents' users: an identity provider that signs ID-JAGs.

    Trust in one is trust in all it says of its own users, and of nobody else's.
    """

    issuer: str
    """Byte for byte as in the ``iss`` of its assertions."""
    _: KW_ONLY
    name: str
    """What people call it. Shown to them, and never taken from an assertion."""
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


def check_resources(issuer: str, resources: Sequence[ResourceServer]) -> None:
    key = "AuthorizationServer.resources"
    _check_items(resources, ResourceServer, key)
    if not resources:
        raise ConfigurationError(
            f"{key}: empty; name the ResourceServer that tokens are for"
        )
    _check_different((server.resource for server in resources), key, "resource")
    for server in resources:
        _check_trust(issuer, server, key)


def _check_trust(issuer: str, server: ResourceServer, key: str) -> None:
    """Whether the doors of *server* take what *issuer* mints for them."""
    trusted = server.find_issuer(issuer)
    if trusted is None:
        raise ConfigurationError(
            f"{key}: {server.resource} does not trust {issuer}; add "
            f"Issuer({issuer!r}) to its issuers, to the letter"
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
    _check_items(providers, AgentProvider, key)
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
            "doors of the resources use, or they never hear of revocations"
        )


def check_seconds(name: str, seconds: object) -> None:
    if type(seconds) is not int or not 0 < seconds <= _LONGEST:
        raise ConfigurationError(
            f"AuthorizationServer.{name}: {seconds!r} is not a whole number between 1 "
            f"and {_LONGEST} (seconds)"
        )


def _check_items(values: object, kind: type, key: str) -> None:
    if not isinstance(values, Sequence) or not all(
        isinstance(value, kind) for value in cast("Sequence[object]", values)
    ):
        raise ConfigurationError(f"{key}: write a list of {kind.__name__}(...)")


def _check_different(names: Iterable[str], key: str, what: str) -> None:
    listed = list(names)
    if len(set(listed)) != len(listed):
        raise ConfigurationError(f"{key}: the same {what} twice; keep one of them")
