"""The registration endpoint: its requests, its answers, and whom it connects."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Message, Scope

from agentauth_middleware.authorization_server import requests
from agentauth_middleware.authorization_server.requests import MAX_BYTES
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.testing import FakeProvider
from tests.authorization_server.embedded import (
    ANA,
    ID_JAG,
    ISSUER,
    PROVIDER,
    Embedded,
    claims_of,
    embed,
    header_of,
    is_not_stored,
    registration,
    trusted,
)

PATH = "/agent/identity"


def test_registration_answers_with_what_the_agent_exchanges(
    embedded: Embedded,
) -> None:
    answer = embedded.register()
    body = answer.json()

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {
        "registration_id",
        "registration_type",
        "identity_assertion",
        "assertion_expires",
        "scopes",
    }
    assert body["registration_type"] == "identity_assertion"
    assert body["scopes"] == ["notes.read", "notes.write"]
    assertion = body["identity_assertion"]
    claims = claims_of(assertion)
    assert header_of(assertion)["typ"] == "oauth-id-jag+jwt"
    assert claims["iss"] == claims["aud"] == ISSUER
    assert claims["sub"] == body["registration_id"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["client_id"] == PROVIDER
    assert claims["registration_type"] == "identity_assertion"
    assert claims["jti"]
    expires = datetime.fromisoformat(body["assertion_expires"])
    assert expires.timestamp() == claims["exp"]
    assert expires.tzinfo is not None


def test_agent_that_registers_again_keeps_its_registration(
    embedded: Embedded,
) -> None:
    one, other = embedded.register().json(), embedded.register().json()

    assert one["registration_id"] == other["registration_id"]
    assert one["identity_assertion"] != other["identity_assertion"]


def test_registering_again_leaves_earlier_assertions_good(embedded: Embedded) -> None:
    earlier = embedded.identity_assertion()
    embedded.register()

    assert embedded.exchange(earlier).status_code == 200


@pytest.mark.parametrize("email", ["ana@example.com", "ANA@Example.COM"])
def test_known_address_without_a_link_is_no_match(
    embedded: Embedded, email: str
) -> None:
    """Or any provider could take over an account by naming its e-mail address."""
    answer = embedded.register(subject="not-linked", email=email)

    assert answer.status_code == 401
    assert answer.json() == {
        "error": "interaction_required",
        "error_description": "the user has to confirm this agent here first",
        "message": "the user has to confirm this agent here first",
    }
    assert answer.headers["www-authenticate"] == (
        'AgentAuth error="interaction_required", '
        'error_description="the user has to confirm this agent here first"'
    )
    assert is_not_stored(answer)
    again = embedded.register(subject="not-linked", email=email)
    assert again.status_code == 401, "asking is no confirmation"


def test_address_is_known_in_whatever_letters_it_was_given(
    embedded: Embedded,
) -> None:
    embedded.server.state.add_user("user-bob", email="Bob@Example.com")
    answer = embedded.register(subject="not-linked", email="bob@example.COM")

    assert answer.json()["error"] == "interaction_required"


def test_user_whom_nobody_here_knows_is_refused(embedded: Embedded) -> None:
    answer = embedded.register(subject="not-linked", email="bob@example.com")

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def test_linked_subject_needs_no_known_address(embedded: Embedded) -> None:
    """The link counts, and not what the provider says about addresses."""
    answer = embedded.register(email="new-address@example.com")

    assert answer.status_code == 200


def test_phone_number_is_no_match_either(embedded: Embedded) -> None:
    answer = embedded.register(
        subject="not-linked",
        email=None,
        phone_number="+15550100",
        phone_number_verified=True,
    )

    assert answer.json()["error"] == "invalid_request"


def test_demanded_confirmation_uses_up_the_assertion(embedded: Embedded) -> None:
    assertion = embedded.provider.id_jag(ISSUER, subject="not-linked")
    first, second = embedded.register(assertion), embedded.register(assertion)

    assert first.json()["error"] == "interaction_required"
    assert second.json()["error"] == "replay_detected"


def test_maximum_age_of_the_sign_in_is_a_setting(tmp_path: Path) -> None:
    with embed(tmp_path, max_auth_age=100) as embedded:
        fresh = embedded.register()
        stale = embedded.register(auth_time=fresh_sign_in(embedded) - 100 - 61)

    assert fresh.status_code == 200
    assert stale.json()["max_age"] == 100


def fresh_sign_in(embedded: Embedded) -> int:
    return int(embedded.server.service.clock())


def test_subject_linked_to_another_user_leaves_the_first(embedded: Embedded) -> None:
    """What was issued for Ana must not become Bob's."""
    anas = embedded.identity_assertion()
    anas_token = embedded.exchange(anas).json()["access_token"]
    embedded.server.state.add_user("user-bob")
    embedded.server.link(PROVIDER, ANA, "user-bob")
    bobs = embedded.identity_assertion()
    bobs_token = embedded.exchange(bobs).json()["access_token"]

    assert embedded.exchange(anas).json()["error"] == "invalid_grant"
    assert claims_of(bobs_token)["sub"] == "user-bob"
    assert embedded.call_api(anas_token).status_code == 401
    assert embedded.call_api(bobs_token).json()["user"] == "user-bob"


def test_subject_linked_again_to_the_same_user_keeps_its_registration(
    embedded: Embedded,
) -> None:
    assertion = embedded.identity_assertion()
    embedded.relink()

    assert embedded.exchange(assertion).status_code == 200


def test_assertion_of_our_own_registers_nobody(embedded: Embedded) -> None:
    """It is of the same type as an ID-JAG, and good for its whole lifetime."""
    answer = embedded.register(embedded.identity_assertion())

    assert answer.status_code == 400
    assert answer.json()["error"] == "issuer_not_enabled"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="broken off"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="no members"),
        pytest.param(b"[" * 20_000, id="deep"),
        pytest.param(b'{"type":"claim"}', id="an unknown type"),
        pytest.param(b'{"type":["identity_assertion"]}', id="type is an array"),
        pytest.param(b'{"type":NaN}', id="NaN"),
        pytest.param(b'{"type":' + b"1" * 5000 + b"}", id="a long number"),
        pytest.param(b'{"type":"\\ud800"}', id="half a character"),
        pytest.param(b'{"type":"\xff"}', id="not UTF-8"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
    ],
)
def test_registration_that_is_none_is_refused(embedded: Embedded, body: bytes) -> None:
    answer = embedded.client.post(
        PATH, content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["message"] == answer.json()["error_description"]
    assert is_not_stored(answer)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": None}, id="no type"),
        pytest.param({"type": ""}, id="type is empty"),
        pytest.param({"assertion_type": None}, id="no assertion_type"),
        pytest.param({"assertion_type": "saml2"}, id="assertion_type"),
        pytest.param({"assertion_type": [ID_JAG]}, id="assertion_type is an array"),
        pytest.param({"assertion": None}, id="no assertion"),
        pytest.param({"assertion": ""}, id="assertion is empty"),
        pytest.param({"assertion": 7}, id="assertion is a number"),
        pytest.param({"assertion": ["x"]}, id="assertion is an array"),
    ],
)
def test_registration_with_a_wrong_member_is_refused(
    embedded: Embedded, change: dict[str, Any]
) -> None:
    members = registration(embedded.provider.id_jag(ISSUER)) | change
    answer = embedded.post_registration(
        {name: value for name, value in members.items() if value is not None}
    )

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("members", "error"),
    [
        pytest.param({"type": "anonymous"}, "anonymous_not_enabled", id="anonymous"),
        pytest.param(
            {"type": "service_auth", "login_hint": "ana@example.com"},
            "service_auth_not_enabled",
            id="service_auth",
        ),
        pytest.param(
            {
                "type": "identity_assertion",
                "assertion_type": "verified_email",
                "assertion": "ana@example.com",
            },
            "verified_email_not_enabled",
            id="verified_email",
        ),
    ],
)
def test_kind_of_registration_that_is_not_offered_is_named(
    embedded: Embedded, members: dict[str, str], error: str
) -> None:
    """An agent that knows the protocol goes on to the kinds that are."""
    answer = embedded.post_registration(members)

    assert answer.status_code == 400
    assert answer.json()["error"] == error


def test_registration_with_a_member_twice_is_refused(embedded: Embedded) -> None:
    members = registration(embedded.provider.id_jag(ISSUER))
    body = json.dumps(members)[:-1] + ', "assertion": "x"}'
    answer = embedded.client.post(
        PATH, content=body, headers={"content-type": "application/json"}
    )

    assert answer.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 400),
        ("application/x-www-form-urlencoded", 400),
        ("application/jsonx", 400),
        ("", 400),
    ],
)
def test_registration_is_json(
    embedded: Embedded, content_type: str, status: int
) -> None:
    """A page of another origin could send the other types without asking."""
    answer = embedded.client.post(
        PATH,
        content=json.dumps(registration(embedded.provider.id_jag(ISSUER))),
        headers={"content-type": content_type},
    )

    assert answer.status_code == status
    assert is_not_stored(answer)


def test_registration_of_any_length_is_not_read(embedded: Embedded) -> None:
    members = registration(embedded.provider.id_jag(ISSUER))
    fits = json.dumps(members).ljust(MAX_BYTES)
    headers = {"content-type": "application/json"}
    exact = embedded.client.post(PATH, content=fits, headers=headers)
    longer = embedded.client.post(PATH, content=fits + " ", headers=headers)

    assert exact.status_code == 200
    assert longer.status_code == 400
    assert longer.json()["error"] == "invalid_request"


@pytest.mark.anyio
async def test_registration_that_breaks_off_is_refused(embedded: Embedded) -> None:
    """And is no bug of ours that fills the log."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await embedded.server(scope, receive, send)

    assert sent[0]["status"] == 400


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        (PATH, "application/json"),
        ("/oauth2/token", "application/x-www-form-urlencoded"),
        ("/oauth2/revoke", "application/x-www-form-urlencoded"),
        ("/agent/event/notify", "application/secevent+jwt"),
    ],
)
async def test_body_that_does_not_come_is_not_waited_for(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str
) -> None:
    """Or a few idle clients could keep all connections."""
    monkeypatch.setattr(requests, "MAX_SECONDS", 0.01)
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"content-type", content_type.encode())],
    }

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError("for ever is over")

    async def send(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(5):
        await embedded.server(scope, receive, send)

    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_no_answer_about_a_registration_is_stored(embedded: Embedded) -> None:
    answers = [
        embedded.register(),
        embedded.register("x"),
        embedded.register(auth_time=None),
        embedded.client.get(PATH),
    ]

    assert [answer.status_code for answer in answers] == [200, 400, 401, 405]
    assert all(is_not_stored(answer) for answer in answers)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_registration_is_posted(embedded: Embedded, method: str) -> None:
    answer = embedded.client.request(method, PATH)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_state_out_of_reach_is_no_verdict(tmp_path: Path, embedded: Embedded) -> None:
    (tmp_path / "server.db").write_bytes(b"no database")
    answer = embedded.register()

    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert is_not_stored(answer)
    with pytest.raises(UnavailableError):
        embedded.server.state.add_user("user-bob")


def test_each_provider_of_a_user_has_a_registration_of_its_own(
    tmp_path: Path,
) -> None:
    one, other = FakeProvider(PROVIDER), FakeProvider("https://other.example")
    providers = [trusted(one), trusted(other)]
    with embed(tmp_path, provider=one, providers=providers) as embedded:
        embedded.server.state.link(other.issuer, "o-1", "user-ana")
        first = embedded.register()
        second = embedded.register(other.id_jag(ISSUER, subject="o-1"))

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["registration_id"] != second.json()["registration_id"]
