"""A provider that is no longer in the settings: trust ends where it is used."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentauth_middleware.authorization_server import IntrospectionClient
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeProvider, ServedIssuer
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    PROVIDER,
    RESOURCE,
    Embedded,
    embed,
    trusted,
)

FORMER = FakeProvider(PROVIDER)
OTHER = FakeProvider("https://other.example.org")
SECRET = "one-that-nobody-guesses"
GATEWAY = IntrospectionClient("gateway", resource=RESOURCE, client_secret=SECRET)


def is_active(embedded: Embedded, token: str) -> bool:
    answer = embedded.introspect(
        token, client_id=GATEWAY.client_id, client_secret=SECRET
    )
    found: bool = answer.json()["active"]
    return found


@pytest.mark.parametrize(
    "left",
    [
        pytest.param([trusted(OTHER)], id="the provider is removed"),
        pytest.param(
            [trusted(FORMER, client_ids=["https://other.example"])],
            id="its client is removed",
        ),
    ],
)
def test_agents_of_a_removed_provider_have_nothing(
    tmp_path: Path, left: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    with embed(tmp_path, provider=FORMER, store=store) as before:
        assertion = before.identity_assertion()
        token = before.exchange(assertion).json()["access_token"]
        assert before.call_api(token).status_code == 200
    with embed(
        tmp_path,
        provider=FORMER,
        store=store,
        providers=left,
        introspection_clients=[GATEWAY],
    ) as after:
        opened = after.call_api(token).status_code
        exchanged = after.exchange(assertion).json()
        registered = after.register().json()["error"]
        active = is_active(after, token)

    assert opened == 401, "its token is good"
    assert exchanged["error"] == "invalid_grant"
    assert registered in ("issuer_not_enabled", "invalid_client_id")
    assert not active
    assert "1 registrations were revoked" in caplog.text


def test_worker_with_new_settings_trusts_no_registration_of_an_old_one(
    tmp_path: Path,
) -> None:
    """During a rolling restart one still takes the provider, and others do not."""
    store = MemoryStore()
    with (
        embed(tmp_path, provider=FORMER, store=store) as old,
        embed(
            tmp_path,
            provider=FORMER,
            store=store,
            providers=[trusted(OTHER)],
            introspection_clients=[GATEWAY],
        ) as new,
    ):
        assertion = old.identity_assertion()
        token = old.exchange(assertion).json()["access_token"]

        assert new.exchange(assertion).json()["error"] == "invalid_grant"
        assert not is_active(new, token)


def test_agents_of_other_providers_keep_what_they_have(tmp_path: Path) -> None:
    store = MemoryStore()
    with embed(
        tmp_path,
        provider=FORMER,
        store=store,
        providers=[trusted(FORMER), trusted(OTHER)],
    ) as before:
        before.server.link(OTHER.issuer, ANA, "user-ana")
        before.identity_assertion()
        answer = before.register(OTHER.id_jag(ISSUER))
        assertion = answer.json()["identity_assertion"]
        token = before.exchange(assertion).json()["access_token"]
    with embed(tmp_path, store=store, providers=[trusted(OTHER)]) as after:
        assert after.call_api(token).status_code == 200
        assert after.exchange(assertion).status_code == 200


def test_events_of_a_removed_provider_are_taken(tmp_path: Path) -> None:
    """Also long after: a provider that returns finds its users as they left."""
    store = MemoryStore()
    with embed(tmp_path, provider=FORMER, store=store) as before:
        before.identity_assertion()
    without_it = [trusted(OTHER)]
    with embed(tmp_path, store=store, providers=without_it):
        pass
    with embed(tmp_path, provider=FORMER, store=store, providers=without_it) as without:
        answer = without.push()
        forged = without.push(FakeProvider(PROVIDER).revoked_event(ISSUER))
        stranger = without.push(
            FakeProvider("https://stranger.example").revoked_event(ISSUER)
        )
    with embed(tmp_path, provider=FORMER, store=store) as again:
        again.server.link(PROVIDER, ANA, "user-ana")
        registered = again.register()

    assert answer.status_code == 202
    assert forged.json()["err"] in ("authentication_failed", "invalid_key")
    assert stranger.json()["err"] == "invalid_issuer"
    assert registered.status_code == 401, "the link came back"


def test_provider_that_returns_registers_its_agents_anew(tmp_path: Path) -> None:
    store = MemoryStore()
    with embed(tmp_path, provider=FORMER, store=store) as before:
        assertion = before.identity_assertion()
        token = before.exchange(assertion).json()["access_token"]
    with embed(tmp_path, store=store, providers=[trusted(OTHER)]):
        pass
    with embed(tmp_path, provider=FORMER, store=store) as again:
        assert again.exchange(assertion).json()["error"] == "invalid_grant"
        assert again.call_api(token).status_code == 401
        assert again.call_api(again.access_token()).status_code == 200


def test_keys_of_a_removed_provider_are_fetched_for_its_events(
    tmp_path: Path, served: ServedIssuer, served_provider: FakeProvider
) -> None:
    keys = json.dumps(served_provider.jwks).encode()
    served.replies["/jwks.json"] = (200, {"content-type": "application/json"}, keys)
    uri = f"{served.issuer}/jwks.json"
    with embed(
        tmp_path,
        provider=served_provider,
        providers=[trusted(served_provider, jwks=None, jwks_uri=uri)],
        insecure_loopback=True,
    ):
        pass
    with embed(
        tmp_path,
        provider=served_provider,
        providers=[trusted(OTHER)],
        insecure_loopback=True,
    ) as embedded:
        assert embedded.push().status_code == 202


def test_provider_kept_in_words_of_another_release_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with embed(tmp_path, provider=FORMER) as before:
        before.server.state.remember_providers({OTHER.issuer: '{"color": 1}'})
    with embed(tmp_path, provider=FORMER) as after:
        stranger = after.push(OTHER.revoked_event(ISSUER))
        own = after.push()

    assert stranger.json()["err"] == "invalid_issuer"
    assert own.status_code == 202
    assert f"events of {OTHER.issuer}" in caplog.text


def test_file_from_before_providers_were_kept_works(tmp_path: Path) -> None:
    with embed(tmp_path, provider=FORMER) as before:
        assertion = before.identity_assertion()
        file = before.server.state.path
    with closing(sqlite3.connect(file)) as sql:
        sql.execute("DROP TABLE providers")
    with embed(tmp_path, provider=FORMER) as after:
        assert after.exchange(assertion).status_code == 200
        assert after.push().status_code == 202
