"""Links: who an agent's user is here, what withdraws one, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeProvider
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    PROVIDER,
    Embedded,
    claims_of,
    embed,
)


def seed(embedded: Embedded) -> None:
    """What an application does each time it starts."""
    embedded.server.add_user("user-ana", email="ana@example.com")
    embedded.server.link(PROVIDER, ANA, "user-ana")


def test_restart_does_not_undo_a_disconnection(tmp_path: Path) -> None:
    provider, store = FakeProvider(PROVIDER), MemoryStore()
    with embed(tmp_path, provider=provider, store=store) as embedded:
        seed(embedded)
        token = embedded.access_token()
        embedded.push()
    with embed(tmp_path, provider=provider, store=store) as embedded:
        seed(embedded)
        again = embedded.register()
        refused = embedded.call_api(token)
        embedded.server.relink(PROVIDER, ANA, "user-ana")
        let_in = embedded.call_api(embedded.access_token())

    assert again.json()["error"] == "interaction_required"
    assert refused.status_code == 401
    assert let_in.status_code == 200


def test_withdrawn_link_is_not_seeded_for_another_user(embedded: Embedded) -> None:
    embedded.push()
    embedded.server.add_user("user-bob")
    embedded.server.link(PROVIDER, ANA, "user-bob")

    assert embedded.register().json()["error"] == "interaction_required"


@pytest.mark.parametrize("method", ["link", "relink"])
def test_link_to_another_user_ends_the_tokens_of_the_first_at_once(
    embedded: Embedded, method: str
) -> None:
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion).json()["access_token"]
    embedded.server.add_user("user-bob")
    getattr(embedded.server, method)(PROVIDER, ANA, "user-bob")

    assert embedded.call_api(token).status_code == 401
    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"
    assert claims_of(embedded.access_token())["sub"] == "user-bob"


def test_start_tells_what_was_not_told(tmp_path: Path) -> None:
    """As after a crash between the two."""
    provider, store = FakeProvider(PROVIDER), MemoryStore()
    with embed(tmp_path, provider=provider, store=store) as embedded:
        token = embedded.access_token()
        embedded.server.state.add_user("user-bob")
        embedded.server.state.link(PROVIDER, ANA, "user-bob")
    with embed(tmp_path, provider=provider, store=store) as embedded:
        assert embedded.call_api(token).status_code == 401


class PickyStore(MemoryStore):
    """A store that takes nothing about some users, and all when it is opened."""

    about: bytes | None = None

    def append_log(self, entries: Iterable[CutOff]) -> None:
        entries = tuple(entries)
        about = self.about
        if about is not None and any(about in entry.record for entry in entries):
            raise UnavailableError("store_unreachable", retry_after=3)
        super().append_log(entries)


def test_revocation_that_cannot_be_told_holds_up_no_other(tmp_path: Path) -> None:
    store = PickyStore()
    store.about = b"user-bob"
    with embed(tmp_path, store=store) as embedded:
        embedded.server.add_user("user-bob")
        embedded.server.link(PROVIDER, "bob", "user-bob")
        bobs = embedded.exchange(embedded.identity_assertion(subject="bob")).json()
        anas = embedded.access_token()
        failed = embedded.push(subject="bob")
        of_another = embedded.register()
        told = embedded.push()
        anas_is_refused = embedded.call_api(anas)
        store.about = None
        fixed = embedded.push(subject="nobody")
        bobs_is_refused = embedded.call_api(bobs["access_token"])

    assert failed.status_code == 503
    assert (of_another.status_code, told.status_code) == (200, 202)
    assert anas_is_refused.status_code == 401
    assert fixed.status_code == 202
    assert bobs_is_refused.status_code == 401


def test_start_survives_what_cannot_be_told(tmp_path: Path) -> None:
    store, provider = PickyStore(), FakeProvider(PROVIDER)
    with embed(tmp_path, provider=provider, store=store) as embedded:
        embedded.access_token()
        store.about = b"user-ana"
        embedded.push()
    with embed(tmp_path, provider=provider, store=store) as embedded:
        answer = embedded.push(subject="nobody")

    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("provider", "subject", "user_id", "says"),
    [
        pytest.param(PROVIDER, "x", "user-eve", "call add_user first", id="user"),
        pytest.param(PROVIDER, "x", "", "call add_user first", id="no user"),
        pytest.param(PROVIDER, "", "user-ana", "both be named", id="no subject"),
        pytest.param("https://x.example", "x", "user-ana", PROVIDER, id="provider"),
        pytest.param("", "x", "user-ana", PROVIDER, id="no provider"),
        pytest.param(f"{PROVIDER}/", "x", "user-ana", PROVIDER, id="its slash"),
    ],
)
@pytest.mark.parametrize("method", ["link", "relink"])
def test_link_of_what_is_not_known_is_refused(
    embedded: Embedded,
    method: str,
    provider: str,
    subject: str,
    user_id: str,
    says: str,
) -> None:
    with pytest.raises(ValueError, match=says):
        getattr(embedded.server, method)(provider, subject, user_id)


@pytest.mark.parametrize("user_id", ["", " "])
def test_user_without_a_name_is_refused(embedded: Embedded, user_id: str) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        embedded.server.add_user(user_id)


def test_user_may_be_disconnected_here(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion).json()["access_token"]
    embedded.server.disconnect("user-ana")
    seed(embedded)

    assert embedded.call_api(token).status_code == 401
    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"
    assert embedded.register().json()["error"] == "interaction_required"


def test_one_agent_of_a_user_may_be_disconnected_here(embedded: Embedded) -> None:
    embedded.server.link(PROVIDER, "ana-2", "user-ana")
    one = embedded.identity_assertion()
    other = embedded.identity_assertion(subject="ana-2")
    embedded.server.disconnect("user-ana", claims_of(one)["sub"])

    assert embedded.exchange(one).json()["error"] == "invalid_grant"
    assert embedded.register().json()["error"] == "interaction_required"
    assert embedded.exchange(other).status_code == 200
    assert embedded.register(subject="ana-2").status_code == 200


def test_registration_that_was_replaced_disconnects_the_new_one(
    embedded: Embedded,
) -> None:
    """The page on which Ana presses the button may be an old one."""
    old = embedded.identity_assertion()
    embedded.push()
    embedded.relink()
    new = embedded.identity_assertion()
    embedded.server.disconnect("user-ana", claims_of(old)["sub"])

    assert embedded.exchange(new).json()["error"] == "invalid_grant"


def test_disconnection_of_what_is_not_known_is_refused(embedded: Embedded) -> None:
    registration_id = claims_of(embedded.identity_assertion())["sub"]
    embedded.server.add_user("user-bob")

    with pytest.raises(ValueError, match="no user"):
        embedded.server.disconnect("user-eve")
    with pytest.raises(ValueError, match="no registration"):
        embedded.server.disconnect("user-bob", registration_id)
    assert embedded.register().status_code == 200


def test_disconnection_that_was_not_told_is_told_by_the_next(tmp_path: Path) -> None:
    store = PickyStore()
    with embed(tmp_path, store=store) as embedded:
        token = embedded.access_token()
        store.about = ISSUER.encode()
        with pytest.raises(UnavailableError):
            embedded.server.disconnect("user-ana")
        store.about = None
        embedded.server.disconnect("user-ana")

        assert embedded.call_api(token).status_code == 401
