"""Settings of the embedded authorization server, checked when built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.resource_server import ALGORITHMS, Issuer

__all__ = ["AgentProvider"]


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
