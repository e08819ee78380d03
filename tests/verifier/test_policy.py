"""A token by itself meets the policy that is about tokens and agents."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from agentauth_middleware import ResourceServer, Route
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ActorRefusedError,
    InsufficientScopeError,
    RequestRefusedError,
)
from agentauth_middleware.testing import FakeIssuer
from agentauth_middleware.verifier import Verifier

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer()
SERVER = ResourceServer(
    RESOURCE,
    issuers=[
        ISSUER.trust(
            agents=["agent-1", "reader"], agent_scopes={"reader": ["notes.read"]}
        )
    ],
    implied_scopes={"notes.admin": ["notes.write"], "notes.write": ["notes.read"]},
    routes=[Route("/*", scopes=["mail.send"], agent="forbidden")],
)


def verify(how: str, token: str, scopes: list[str]) -> Access:
    verifier = Verifier(SERVER)
    if how == "blocking":
        return verifier.verify_blocking(token, scopes=scopes)

    async def awaited() -> Access:
        return await verifier.verify(token, scopes=scopes)

    return anyio.run(awaited, backend=how)


WAYS = pytest.mark.parametrize("how", ["asyncio", "trio", "blocking"])


@WAYS
def test_implied_scopes_count(how: str) -> None:
    """And what routes demand does not: they are about requests."""
    token = ISSUER.token(RESOURCE, scopes=["notes.admin"], agent="agent-1")
    access = verify(how, token, ["notes.read", "notes.write"])

    assert access.scopes == {"notes.admin", "notes.write", "notes.read"}


@WAYS
@pytest.mark.parametrize(
    ("carried", "agent", "needed", "refusal"),
    [
        pytest.param(
            ["notes.read"],
            "agent-1",
            ["notes.read", "notes.write"],
            InsufficientScopeError(["notes.read", "notes.write"]),
            id="missing",
        ),
        pytest.param(
            ["notes.write"],
            "reader",
            ["notes.write"],
            ActorRefusedError("scope_withheld"),
            id="withheld",
        ),
        pytest.param(
            ["notes.read"],
            "reader",
            ["notes.read", "notes.write"],
            ActorRefusedError("scope_withheld"),
            id="missing, and would be withheld",
        ),
        pytest.param(
            ["mail.send"],
            "reader",
            ["notes.read"],
            InsufficientScopeError(["notes.read"]),
            id="missing, and may be had",
        ),
        pytest.param(
            ["notes.read"],
            "agent-2",
            ["notes.read"],
            ActorRefusedError("agent_not_allowed"),
            id="of an agent that is not listed",
        ),
    ],
)
def test_refusal_says_whether_another_token_would_do(
    how: str,
    carried: list[str],
    agent: str,
    needed: list[str],
    refusal: RequestRefusedError,
) -> None:
    token = ISSUER.token(RESOURCE, scopes=carried, agent=agent)
    with pytest.raises(type(refusal)) as refused:
        verify(how, token, needed)

    raised: Any = refused.value
    assert raised.reason == refusal.reason
    assert getattr(raised, "scopes", None) == getattr(refusal, "scopes", None)
