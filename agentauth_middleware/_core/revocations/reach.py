"""Whether a revocation can match any token at all.

A button that says "disconnected" and does nothing is worse than one that fails.
"""

from __future__ import annotations

from collections.abc import Collection

from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware._syntax.urls import other_by_slash
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer

_OWN_NAMESPACE = ("entra", "workos_blueprint")
"""Dialects whose agents are always of the issuer's own namespace."""
_LISTED_NAMESPACES = ("actor_profile", "authmd")
"""Dialects that refuse agents of namespaces that are not listed."""


def fault_of_agent(issuer: Issuer, agent: tuple[str, str]) -> str | None:
    """Why no token of *issuer* can name *agent*, if that is so.

    *agent* is its namespace and its subject.
    """
    knows_clients = issuer.first_party_clients is not None
    if issuer.identity == "client_only" and not knows_clients:
        return (
            f"no token of {issuer.issuer} names an agent: its identity is "
            '"client_only"; revoke by subject, or by token_id'
        )
    namespaces = [issuer.issuer]
    if issuer.identity in _LISTED_NAMESPACES:
        namespaces += issuer.actor_issuers
    elif issuer.identity not in (*_OWN_NAMESPACE, "client_only"):
        return None
    if agent[0] in namespaces:
        return None
    return (
        f"no token of {issuer.issuer} names an agent of {quoted(agent[0])}; expected "
        f"{one_of(namespaces)}, which Principal.issuer is"
    )


def misspelling_of_issuer(name: str, servers: Collection[ResourceServer]) -> str | None:
    """Why no token of *servers* can be from the issuer *name*, if *name* is
    misspelt."""
    listed = {issuer.issuer for server in servers for issuer in server.listed_issuers}
    other = other_by_slash(name)
    if name in listed or other not in listed or any(_has_tenants(s) for s in servers):
        return None
    return (
        f"the issuer is {name!r}; expected {other!r}, which differs by the slash at "
        "its end"
    )


def doubt_about_issuer(name: str, servers: Collection[ResourceServer]) -> str | None:
    """The warning about a revocation for an issuer that *servers* do not accept."""
    listed = {issuer.issuer for server in servers for issuer in server.listed_issuers}
    if not servers or name in listed or any(_has_tenants(s) for s in servers):
        return None
    return (
        f"tokens of {quoted(name)} were revoked in a store whose users in this process "
        f"accept only those of {one_of(sorted(listed))}"
    )


def settings_of(name: str, servers: Collection[ResourceServer]) -> list[Issuer]:
    """The settings with which *servers* accept the tokens of the issuer *name*."""
    issuers = (issuer for server in servers for issuer in server.listed_issuers)
    return [issuer for issuer in issuers if issuer.issuer == name]


def _has_tenants(server: ResourceServer) -> bool:
    return callable(server.issuers)
