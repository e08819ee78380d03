"""The protected resource metadata, as a function of the settings (RFC 9728 §2)."""

from __future__ import annotations

from typing import Any

from agentauth_middleware._syntax.members import is_array, is_object
from agentauth_middleware.settings.resource_server import ResourceServer


def metadata(server: ResourceServer) -> dict[str, Any]:
    """The members to publish. Empty ones are left out (§3.2)."""
    members: dict[str, Any] = {
        "resource": server.resource,
        "authorization_servers": list(server.authorization_servers or ()),
        "scopes_supported": list(server.scopes_for_clients(server.scopes)),
        "bearer_methods_supported": ["header"],
        "resource_name": server.name,
        "resource_documentation": server.documentation_uri,
        "resource_policy_uri": server.policy_uri,
        "resource_tos_uri": server.tos_uri,
        "resource_logo_uri": server.logo_uri,
        **{name: thaw(value) for name, value in server.extra_metadata.items()},
    }
    return {name: value for name, value in members.items() if value not in (None, [])}


def thaw(value: Any) -> Any:
    """Frozen settings as plain values of JSON."""
    if is_object(value):
        return {name: thaw(item) for name, item in value.items()}
    if is_array(value):
        return [thaw(item) for item in value]
    return value
