"""What may be revoked, and that nothing is where the call cannot be meant."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import pytest

from agentauth_middleware import Introspection, Issuer, Principal, ResourceServer
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware.revocation import revoke, revoke_blocking
from agentauth_middleware.stores import CutOff, MemoryStore, SQLiteStore, Store
from agentauth_middleware.verifier import Verifier
from tests.support.exchange import MIDDLEWARES, running_middleware

AS = "https://as.example.com"
ELSEWHERE = "https://agents.example.org"


@pytest.mark.parametrize(
    "target",
    [
        pytest.param({"token_id": "t", "agent": "a"}, id="a token and an agent"),
        pytest.param({"token_id": None}, id="the jti of a token without one"),
        pytest.param({"subject": None}, id="the subject of a token without one"),
        pytest.param({"agent": None}, id="the agent of a token without one"),
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
    assert store.read_log(0).entries == ()


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
    ((key, _),) = store.read_log(0).entries

    assert key == Revocation(AS, 0, "u", expected).key


@pytest.mark.anyio
async def test_revoke_awaits_the_store() -> None:
    store = MemoryStore()
    await revoke(store, AS, token_id="t")
    ((key, _),) = store.read_log(0).entries

    assert key == Revocation(AS, 0, token_id="t").key


# What can match no token


def used_by(kind: str, store: Store, *issuers: Issuer) -> object:
    """Middleware of *kind* that has *store*; to be kept while that is used."""
    server = ResourceServer("https://api.example.com", issuers=issuers)
    if kind == "verifier":
        return Verifier(server, store=store)
    return running_middleware(kind, server, store)


@pytest.mark.parametrize("kind", [*MIDDLEWARES, "verifier"])
@pytest.mark.parametrize(
    ("accepted", "revoked"), [(AS, f"{AS}/"), (f"{AS}/", AS)], ids=["more", "less"]
)
def test_revoke_of_an_issuer_that_differs_by_a_slash_says_so(
    accepted: str, revoked: str, kind: str
) -> None:
    store = MemoryStore()
    used_by(kind, store, Issuer(accepted))

    with pytest.raises(ValueError, match=f"expected '{accepted}', which differs by"):
        revoke_blocking(store, revoked, subject="u")
    assert store.read_log(0).entries == ()


NAMELESS = Issuer(AS, identity="client_only", subjects="users")
PROFILE = Issuer(AS, identity="actor_profile", actor_issuers=["https://a.example"])


@pytest.mark.parametrize(
    ("issuer", "agent", "message"),
    [
        pytest.param(NAMELESS, "a", "names an agent", id="agents have no names"),
        pytest.param(
            PROFILE,
            Principal(ELSEWHERE, "a"),
            "expected 'https://as.example.com' or 'https://a.example'",
            id="agents are of other namespaces",
        ),
        pytest.param(
            Issuer(AS, identity="entra"),
            Principal(ELSEWHERE, "a"),
            "expected 'https://as.example.com'",
            id="agents are of the issuer",
        ),
    ],
)
@pytest.mark.parametrize("given", ["settings", "name"])
def test_revoke_of_an_agent_that_no_token_names_says_so(
    given: str, issuer: Issuer, agent: Principal | str, message: str
) -> None:
    store = MemoryStore()
    used_by("wsgi", store, issuer)

    with pytest.raises(ValueError, match=message):
        revoke_blocking(store, issuer if given == "settings" else AS, agent=agent)
    assert store.read_log(0).entries == ()


@pytest.mark.parametrize(
    ("issuer", "agent"),
    [
        pytest.param(
            PROFILE, Principal("https://a.example", "a"), id="of a listed one"
        ),
        pytest.param(PROFILE, "a", id="of the issuer"),
        pytest.param(Issuer(AS), Principal(ELSEWHERE, "a"), id="of anybody"),
    ],
)
def test_revoke_of_an_agent_that_a_token_may_name_is_taken(
    issuer: Issuer, agent: Principal | str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    used_by("wsgi", store, issuer)

    revoke_blocking(store, AS, agent=agent)
    revoke_blocking(store, issuer, subject="u", agent=agent)

    assert len(store.read_log(0).entries) == 2
    assert caplog.messages == []


def test_revoke_takes_what_the_tokens_of_one_user_of_the_store_can_match() -> None:
    """Two resource servers may read the same issuer in different ways."""
    store = MemoryStore()
    used_by("wsgi", store, NAMELESS)
    used_by("wsgi", store, Issuer(AS))

    revoke_blocking(store, AS, agent="a")

    assert len(store.read_log(0).entries) == 1


def test_revoke_for_an_issuer_that_is_not_accepted_here_warns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another process that shares the store may accept it, so it is revoked."""
    store = MemoryStore()
    used_by("wsgi", store, Issuer(AS))

    revoke_blocking(store, "https://other.example.com", subject="u")

    assert len(store.read_log(0).entries) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "'https://other.example.com'" in caplog.text
    assert f"only those of '{AS}'" in caplog.text


def test_revoke_in_a_memory_store_that_is_not_used_warns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    revoke_blocking(MemoryStore(), AS, subject="u")

    assert "no middleware of this process uses" in caplog.text


@pytest.mark.parametrize("case", ["tenants", "another process"])
def test_revoke_says_nothing_of_what_it_cannot_know(
    case: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = SQLiteStore(tmp_path / "tokens.sqlite")
    if case == "tenants":
        server = ResourceServer(
            "https://api.example.com",
            issuers=lambda name: Issuer(name),
            authorization_servers=[],
        )
        running_middleware("wsgi", server, store)

    revoke_blocking(store, AS, subject="u", agent="a")

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("issuer", "seconds"),
    [
        pytest.param(Issuer(AS), 34_560_000, id="as the resource server says"),
        pytest.param(Issuer(AS, max_token_age=60), 60, id="as old as tokens may be"),
        pytest.param(
            Issuer(AS, introspection=Introspection("us", client_secret="s" * 32)),
            math.inf,
            id="tokens that may have no end",
        ),
    ],
)
def test_revocation_is_kept_as_long_as_a_token_may_live(
    issuer: Issuer, seconds: float
) -> None:
    store = KeptStore()
    used_by("wsgi", store, issuer)
    revoke_blocking(store, AS, subject="u")
    (kept,) = store.kept

    assert kept.forget_at == kept.at + seconds + 3900


class KeptStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[CutOff] = []

    def append_log(self, entries: Iterable[CutOff]) -> None:
        self.kept += entries
