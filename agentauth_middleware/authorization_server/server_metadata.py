"""What the embedded server publishes about itself (RFC 8414 §2, auth.md §3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.authorization_server.settings import (
    ALGORITHM,
    CLIENT_ALGORITHMS,
    IntrospectionClient,
)
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = [
    "ID_JAG",
    "JWT_BEARER",
    "REVOKED_EVENT",
    "REVOKED_EVENT_ALIAS",
    "all_scopes",
    "metadata",
    "publish_keys",
    "publish_metadata",
]

_PUBLIC = {"cache-control": "public, max-age=300"}

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
REVOKED_EVENT = (
    "https://schemas.workos.com/events/agent/auth/identity/assertion/revoked"
)
REVOKED_EVENT_ALIAS = (
    "https://schemas.workos.com/events/agent/identity/assertion/revoked"
)
"""Its name in an early draft; accepted and never sent."""


def all_scopes(resources: Iterable[ResourceServer]) -> list[str]:
    """The scopes of all *resources*, each once."""
    return list(dict.fromkeys(scope for server in resources for scope in server.scopes))


def metadata(service: Service) -> dict[str, Any]:
    """The members: of implemented features only."""
    issuer, resources = service.issuer, service.resources
    scopes = all_scopes(resources)
    base = issuer.rstrip("/")
    members: dict[str, Any] = {
        "issuer": issuer,
        "token_endpoint": f"{base}/oauth2/token",
        "revocation_endpoint": f"{base}/oauth2/revoke",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": [JWT_BEARER],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "protected_resources": [server.resource for server in resources],
        "agent_auth": {
            "skill": resources[0].auth_md_url,
            "identity_endpoint": f"{base}/agent/identity",
            "events_endpoint": f"{base}/agent/event/notify",
            "identity_types_supported": ["identity_assertion"],
            "identity_assertion": {"assertion_types_supported": [ID_JAG]},
            "events_supported": [REVOKED_EVENT],
        },
    }
    if scopes:
        members["scopes_supported"] = scopes
    if service.introspection_clients:
        members |= _introspection(
            service.introspection_endpoint, service.introspection_clients.values()
        )
    return members


def _introspection(
    endpoint: str, clients: Iterable[IntrospectionClient]
) -> dict[str, Any]:
    """How resource servers may ask, as far as any of *clients* can (RFC 9701 §7)."""
    methods: list[str] = []
    members: dict[str, Any] = {
        "introspection_endpoint": endpoint,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_signing_alg_values_supported": [ALGORITHM],
    }
    proofs = {"keys" if client.jwks else "secret" for client in clients}
    if "secret" in proofs:
        methods += ["client_secret_basic", "client_secret_post"]
    if "keys" in proofs:
        methods.append("private_key_jwt")
        members["introspection_endpoint_auth_signing_alg_values_supported"] = list(
            CLIENT_ALGORITHMS
        )
    return members


async def publish_metadata(
    service: Service, request: Request, record: AuditRecord
) -> Response:
    document = metadata(service)
    return JSONResponse(document, headers=_PUBLIC)


async def publish_keys(
    service: Service, request: Request, record: AuditRecord
) -> Response:
    signer = await anyio.to_thread.run_sync(lambda: service.signer)
    return JSONResponse(signer.jwks, headers=_PUBLIC)
