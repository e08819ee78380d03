"""The resources and scopes to which a provider limits an agent.

The limits of a statement are those of what is got for it: they stand in the assertion
that this server signs in return, not in the registration. So an agent that is let into
two APIs by two statements keeps the two apart, and neither widens the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentauth_middleware._syntax.members import text, texts
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["Limits", "limits_to_claims", "read_limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one statement. They never widen what the resources have."""

    resources: tuple[str, ...]
    """At least one, by the names that they have here."""
    scopes: tuple[str, ...] | None
    """``None``: the provider leaves them to us."""

    def of(self, server: ResourceServer) -> tuple[str, ...]:
        """The scopes of *server* within the limits, in its order."""
        return tuple(
            scope
            for scope in server.scopes
            if self.scopes is None or scope in self.scopes
        )

    def gives(self, server: ResourceServer) -> bool:
        """Whether a token for *server* can be had.

        A token without scopes opens everything at a resource that declares none, so it
        is not given to an agent with a limit.
        """
        is_served = server.resource in self.resources
        return is_served and (self.scopes is None or bool(self.of(server)))


def limits_to_claims(limits: Limits) -> dict[str, Any]:
    """*limits* as members of an assertion."""
    claims: dict[str, Any] = {"resource": list(limits.resources)}
    if limits.scopes is not None:
        claims["scope"] = " ".join(limits.scopes)
    return claims


def read_limits(claims: Mapping[str, Any]) -> Limits:
    """The limits in an assertion of ours.

    Raises:
        ValueError: there are none: it is from before they were kept.
    """
    resources = texts(claims, "resource")
    if not resources:
        raise ValueError("resource is missing")
    scopes = tuple(text(claims, "scope").split(" ")) if "scope" in claims else None
    return Limits(resources, scopes)
