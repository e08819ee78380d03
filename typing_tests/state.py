"""Stores, revocation, and the issuer for an application's own tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from agentauth_middleware import Access, Issuer, ResourceServer
from agentauth_middleware.revocation import revoke, revoke_blocking
from agentauth_middleware.stores import CutOff, MemoryStore, SQLiteStore, Store
from agentauth_middleware.testing import FakeIssuer, ServedIssuer

ISSUER = "https://as.example.com"

STORES: list[Store] = [
    MemoryStore(),
    MemoryStore(max_entries=1_000),
    SQLiteStore("agentauth.db"),
    SQLiteStore(Path("agentauth.db"), busy_timeout=1),
]


def remember(store: Store) -> None:
    assert_type(store.add_once("key", expires_at=1.5), bool)
    store.put("key", b"value", expires_at=1)
    assert_type(store.get("key"), bytes | None)
    store.append_log([CutOff(b"key", 1.5, 2.5, b"record")])
    page = store.read_log(0)
    assert_type(page.position, int)
    assert_type(page.entries, tuple[tuple[bytes, float], ...])


def disconnect(store: Store, access: Access) -> None:
    """What is behind the button of that name."""
    user, agent = access.require_delegation()
    revoke_blocking(store, user.issuer, subject=user.subject, agent=agent)
    revoke_blocking(store, user.issuer, subject=user.subject, agent="assistant")
    revoke_blocking(store, access.issuer, token_id=access.token_id)
    revoke_blocking(store, access.issuer)
    revoke_blocking(store, Issuer(access.issuer), agent=agent)


async def disconnect_in_an_event_loop(store: Store) -> None:
    await revoke(store, ISSUER, subject="ana")


def test_notes() -> None:
    """A test in somebody's application."""
    issuer = FakeIssuer(algorithm="EdDSA")
    server = ResourceServer("https://api.example.com", issuers=[issuer.trust()])
    assert_type(issuer.trust(subjects="users"), Issuer)
    assert_type(issuer.jwks, dict[str, Any])
    token = issuer.token(server.resource, agent="assistant", scopes=["notes.read"])
    assert_type(token, str)
    issuer.token(["one", "other"], subject="ana", expires_in=-1, acr="phr", jti=None)
    issuer.sign({"iss": issuer.issuer}, {"typ": "JWT"})
    issuer.rotate(keep_old=False)
    with FakeIssuer.serve(port=9000) as served:
        assert_type(served, ServedIssuer)
        assert_type(served.requests, list[str])
        served.replies["/jwks.json"] = (503, {}, b"")


class HalfAStore:
    """A middleware would find out what it lacks at the first revocation."""

    def add_once(self, key: str, *, expires_at: float) -> bool:
        return True


async def err(store: Store) -> None:
    """What must not pass."""
    revoke_blocking(HalfAStore(), ISSUER)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    revoke(store, ISSUER)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    revoke_blocking(store, ISSUER, "ana")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    store.put("key", "value", expires_at=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FakeIssuer(key="secret")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
