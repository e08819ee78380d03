"""The protected resource of these tests, and tokens for it."""

from __future__ import annotations

from typing import Any

from agentauth_middleware import ResourceServer, Route
from agentauth_middleware.testing import FakeIssuer

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer()
SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust()],
    scopes={"notes.read": "Read your notes", "notes.write": "Change your notes"},
    routes=[
        Route("/public", public=True),
        Route("/optional", optional=True),
        Route("/openapi.json", public=True),
        Route("/inner/*"),
        # What is left of a path in /inner once an application has taken that off.
        Route("/7", max_age=60),
    ],
)


def bearer(*scopes: str, **members: Any) -> dict[str, str]:
    """The header of a request that an agent makes for a user."""
    token = ISSUER.token(RESOURCE, agent="agent-1", scopes=scopes, **members)
    return {"Authorization": f"Bearer {token}"}
