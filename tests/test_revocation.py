"""What may be revoked, and that nothing is where the call cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth_middleware import Principal
from agentauth_middleware._core.revocations.cut_offs import read_revocation
from agentauth_middleware.revocation import revoke, revoke_blocking
from agentauth_middleware.stores import MemoryStore

AS = "https://as.example.com"
ELSEWHERE = "https://agents.example.org"


@pytest.mark.parametrize(
    "target",
    [
        pytest.param({"agent": "a"}, id="an agent of nobody"),
        pytest.param({"token_id": "t", "subject": "u"}, id="a token and a subject"),
        pytest.param({"subject": ""}, id="empty subject"),
        pytest.param({"subject": "u", "agent": ""}, id="empty agent"),
        pytest.param({"token_id": ""}, id="empty token"),
    ],
)
def test_revoke_of_what_cannot_be_meant_revokes_nothing(target: dict[str, Any]) -> None:
    store = MemoryStore()

    with pytest.raises(ValueError, match="name"):
        revoke_blocking(store, AS, **target)
    assert store.read_log(0).records == ()


def test_revoke_of_no_issuer_revokes_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        revoke_blocking(MemoryStore(), "")


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        pytest.param("a", (AS, "a"), id="of the issuer"),
        pytest.param(Principal(ELSEWHERE, "a"), (ELSEWHERE, "a"), id="of another"),
    ],
)
def test_revoke_names_the_agent_with_its_issuer(
    agent: Principal | str, expected: tuple[str, str]
) -> None:
    store = MemoryStore()
    revoke_blocking(store, AS, subject="u", agent=agent)
    (record,) = store.read_log(0).records

    assert read_revocation(record).agent == expected


@pytest.mark.anyio
async def test_revoke_awaits_the_store() -> None:
    store = MemoryStore()
    await revoke(store, AS, token_id="t")
    (record,) = store.read_log(0).records

    assert read_revocation(record).token_id == "t"
