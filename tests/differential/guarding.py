"""The middleware in front of the applications, and tokens for it."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import pytest

from agentauth_middleware import asgi, wsgi
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.testing import FakeIssuer
from tests.differential.applications import DEPLOYMENTS, App, Deployment, Protect
from tests.differential.gateways import GATEWAYS
from tests.differential.targets import PREFIX, routes

ISSUER = FakeIssuer()
BARE = "https://api.example.com"
WITH_PREFIX = BARE + PREFIX


def guard(
    deployment: Deployment, prefix: str, *, catch_all: bool, resource: str
) -> Protect:
    """Puts the middleware in front; its patterns begin with *prefix*."""
    server = ResourceServer(
        resource,
        issuers=[ISSUER.trust()],
        routes=routes(prefix, catch_all=catch_all),
        scopes={name: name for name in "abc"},
    )
    middleware: App = {
        "asgi": asgi.AgentAuthMiddleware,
        "wsgi": wsgi.AgentAuthMiddleware,
    }[deployment.kind]
    return lambda app: middleware(app, server)


@cache
def authorization(resource: str, scopes: str) -> str:
    """The header of a good token with *scopes* and no others."""
    return f"Bearer {ISSUER.token(resource, scopes=scopes.split())}"


def _cells(servers: Collection[str]) -> list[Any]:
    """Each deployment with each of the *servers* that can run it."""
    return [
        pytest.param(name, server, id=f"{name}, {server}")
        for name, deployment in DEPLOYMENTS.items()
        for server in GATEWAYS[deployment.kind]
        if server in servers
    ]


ALL_CELLS = _cells({server for servers in GATEWAYS.values() for server in servers})
SOME_CELLS = _cells({"uvicorn-h11", "hypercorn", "waitress"})
"""Those servers that refuse the least, and tell of a mount in different ways."""
