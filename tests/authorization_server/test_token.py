"""The token endpoint: what it exchanges, and what the tokens say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.authorization_server.requests import MAX_BYTES
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    JWT_BEARER,
    PROVIDER,
    RESOURCE,
    SCOPES,
    Embedded,
    claims_of,
    embed,
    encoded,
    header_of,
    is_not_stored,
    resource_server,
)

PATH = "/oauth2/token"
OTHER_RESOURCE = "https://files.example.com/v1"


def test_token_answer_is_that_of_oauth(embedded: Embedded) -> None:
    answer = embedded.exchange(embedded.identity_assertion())
    body = answer.json()

    assert answer.status_code == 200
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert body["scope"] == "notes.read notes.write"
    assert is_not_stored(answer)


def test_token_names_user_and_agent(embedded: Embedded) -> None:
    now = int(time.time())
    registered = embedded.register(
        amr=["pwd", "otp"],
        auth_time=now - 100,
        agent_platform="platform-1",
        agent_context_id="context-1",
    ).json()
    token = embedded.exchange(registered["identity_assertion"]).json()["access_token"]
    header, claims = header_of(token), claims_of(token)

    assert header["typ"] == "at+jwt"
    assert header["alg"] == "ES256"
    assert now <= claims.pop("iat") <= now + 2
    assert now + 3600 <= claims.pop("exp") <= now + 3602
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "sub": "user-ana",
        "sub_profile": "user",
        "aud": RESOURCE,
        "client_id": PROVIDER,
        "act": {
            "iss": ISSUER,
            "sub": registered["registration_id"],
            "sub_profile": "ai_agent",
        },
        "scope": "notes.read notes.write",
        "auth_time": now - 100,
        "amr": ["pwd", "otp"],
        "agent_platform": "platform-1",
        "agent_context_id": "context-1",
    }


def test_token_leaves_out_what_the_provider_did_not_say(embedded: Embedded) -> None:
    claims = claims_of(embedded.access_token())

    assert claims.keys().isdisjoint({"amr", "agent_platform", "agent_context_id"})


def test_token_opens_the_api(embedded: Embedded) -> None:
    registered = embedded.register().json()
    token = embedded.exchange(registered["identity_assertion"]).json()["access_token"]
    answer = embedded.call_api(token)

    assert answer.status_code == 200
    assert answer.json() == {
        "user": "user-ana",
        "agent": registered["registration_id"],
        "scopes": ["notes.read", "notes.write"],
    }


@pytest.mark.parametrize("kind", ["service assertion", "ID-JAG", "event"])
def test_nothing_but_a_token_opens_the_api(embedded: Embedded, kind: str) -> None:
    makers: dict[str, Callable[[], str]] = {
        "service assertion": embedded.identity_assertion,
        "ID-JAG": lambda: embedded.provider.id_jag(ISSUER),
        "event": lambda: embedded.provider.revoked_event(ISSUER),
    }
    answer = embedded.call_api(makers[kind]())

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_assertion_is_good_as_often_as_the_agent_likes(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion()
    tokens = [embedded.exchange(assertion).json()["access_token"] for _ in range(3)]

    assert len({claims_of(token)["jti"] for token in tokens}) == 3


def test_assertion_expires(tmp_path: Path) -> None:
    with embed(tmp_path, assertion_lifetime=100) as embedded:
        assertion = embedded.identity_assertion()
        now = embedded.server.service.clock()
        embedded.server.service.clock = lambda: now + 98
        before = embedded.exchange(assertion)
        embedded.server.service.clock = lambda: now + 101
        after = embedded.exchange(assertion)

    assert before.status_code == 200
    assert after.json()["error"] == "invalid_grant"


def test_lifetime_of_tokens_is_a_setting(tmp_path: Path) -> None:
    with embed(tmp_path, access_token_lifetime=60) as embedded:
        body = embedded.exchange(embedded.identity_assertion()).json()
    claims = claims_of(body["access_token"])

    assert body["expires_in"] == 60
    assert claims["exp"] - claims["iat"] == 60


def test_id_jag_of_a_provider_is_no_grant_here(embedded: Embedded) -> None:
    answer = embedded.exchange(embedded.provider.id_jag(ISSUER))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"


def sign(embedded: Embedded, token_type: str, **change: Any) -> str:
    """A service assertion with *change* in it, signed with the server's own key."""
    claims = claims_of(embedded.identity_assertion()) | change
    kept = {name: value for name, value in claims.items() if value is not None}
    return embedded.server.service.signer.sign(kept, token_type)


@pytest.mark.parametrize(
    ("token_type", "change"),
    [
        pytest.param("at+jwt", {}, id="an access token"),
        pytest.param("JWT", {}, id="typ JWT"),
        pytest.param("oauth-id-jag+jwt", {"iss": PROVIDER}, id="issuer"),
        pytest.param("oauth-id-jag+jwt", {"aud": RESOURCE}, id="audience"),
        pytest.param("oauth-id-jag+jwt", {"aud": [ISSUER]}, id="audience in an array"),
        pytest.param("oauth-id-jag+jwt", {"exp": 1}, id="expired"),
        pytest.param("oauth-id-jag+jwt", {"exp": None}, id="no expiry"),
        pytest.param("oauth-id-jag+jwt", {"exp": "x"}, id="expiry is text"),
        pytest.param("oauth-id-jag+jwt", {"sub": "agent_x"}, id="no registration"),
        pytest.param("oauth-id-jag+jwt", {"sub": None}, id="no subject"),
        pytest.param("oauth-id-jag+jwt", {"resource": None}, id="no limits recorded"),
        pytest.param("oauth-id-jag+jwt", {"resource": []}, id="for no resource"),
        pytest.param("oauth-id-jag+jwt", {"scope": ""}, id="for no scope"),
    ],
)
def test_assertion_with_a_fault_is_refused(
    embedded: Embedded, token_type: str, change: dict[str, Any]
) -> None:
    answer = embedded.exchange(sign(embedded, token_type, **change))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    assert is_not_stored(answer)


def test_assertion_made_like_these_is_good(embedded: Embedded) -> None:
    """So that the faults above are why the others are refused."""
    answer = embedded.exchange(sign(embedded, "oauth-id-jag+jwt"))

    assert answer.status_code == 200


def test_assertion_signed_by_another_is_refused(embedded: Embedded) -> None:
    claims = claims_of(embedded.identity_assertion())
    forged = Signer([new_key()]).sign(claims, "oauth-id-jag+jwt")
    header, payload, _ = embedded.identity_assertion().split(".")
    _, _, signature = forged.split(".")

    assert embedded.exchange(forged).json()["error"] == "invalid_grant"
    borrowed = embedded.exchange(f"{header}.{payload}.{signature}")
    assert borrowed.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "assertion",
    [
        pytest.param("x", id="a letter"),
        pytest.param("..", id="empty segments"),
        pytest.param("é.é.é", id="not ASCII"),
        pytest.param("\x00", id="zero"),
        pytest.param(f"{encoded({'alg': 'none'})}.e30.", id="unsigned"),
        pytest.param("a." * 20_000, id="long"),
    ],
)
def test_what_is_no_assertion_is_refused(embedded: Embedded, assertion: str) -> None:
    answer = embedded.exchange(assertion)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"grant_type": None}, "invalid_request", id="no grant_type"),
        pytest.param({"grant_type": ""}, "invalid_request", id="empty grant_type"),
        pytest.param(
            {"grant_type": "client_credentials"}, "unsupported_grant_type", id="another"
        ),
        pytest.param(
            {"grant_type": "urn:workos:agent-auth:grant-type:claim"},
            "unsupported_grant_type",
            id="claim",
        ),
        pytest.param(
            {"grant_type": "client_credentials", "assertion": None},
            "unsupported_grant_type",
            id="another, which needs no assertion",
        ),
        pytest.param({"assertion": None}, "invalid_request", id="no assertion"),
        pytest.param({"assertion": ""}, "invalid_request", id="empty assertion"),
        pytest.param({"scope": "admin"}, "invalid_scope", id="unknown scope"),
        pytest.param(
            {"scope": "notes.read admin"}, "invalid_scope", id="one unknown scope"
        ),
        pytest.param({"scope": "notes.read  x"}, "invalid_scope", id="two spaces"),
        pytest.param({"scope": " "}, "invalid_scope", id="a space"),
        pytest.param({"resource": ISSUER}, "invalid_target", id="another resource"),
        pytest.param({"resource": "x"}, "invalid_target", id="resource is no URL"),
        pytest.param({"resource": "http://[x"}, "invalid_target", id="broken URL"),
        pytest.param(
            {"resource": f"{RESOURCE}/notes"}, "invalid_target", id="below resource"
        ),
    ],
)
def test_token_request_with_a_fault_is_refused(
    embedded: Embedded, change: dict[str, str | None], error: str
) -> None:
    form: dict[str, str | None] = {
        "grant_type": JWT_BEARER,
        "assertion": embedded.identity_assertion(),
    }
    kept = {name: value for name, value in (form | change).items() if value is not None}
    answer = embedded.post_form(PATH, kept)

    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.json()["error"] == error
    assert is_not_stored(answer)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("notes.read", "notes.read"),
        ("notes.write notes.read", "notes.write notes.read"),
        ("notes.read notes.read", "notes.read"),
        ("", "notes.read notes.write"),
    ],
)
def test_token_has_the_scopes_asked_for(
    embedded: Embedded, asked: str, granted: str
) -> None:
    body = embedded.exchange(embedded.identity_assertion(), scope=asked).json()

    assert body["scope"] == granted
    assert claims_of(body["access_token"])["scope"] == granted


def test_token_for_a_resource_without_scopes_opens_it(tmp_path: Path) -> None:
    """A ``scope`` of no words at all would be none."""
    with embed(tmp_path, resources=[resource_server(scopes={})]) as embedded:
        answer = embedded.exchange(embedded.identity_assertion())
        token = answer.json()["access_token"]
        opened = embedded.call_api(token)
        asked = embedded.exchange(embedded.identity_assertion(), scope="notes.read")

    assert "scope" not in answer.json()
    assert "scope" not in claims_of(token)
    assert opened.status_code == 200
    assert asked.json()["error"] == "invalid_scope"


@pytest.mark.parametrize("resource", [RESOURCE, f"{RESOURCE}/"])
def test_resource_may_be_named(embedded: Embedded, resource: str) -> None:
    token = embedded.access_token(resource=resource)

    assert claims_of(token)["aud"] == RESOURCE


def test_of_two_resources_one_is_chosen(tmp_path: Path) -> None:
    resources = [
        resource_server(),
        resource_server(resource=OTHER_RESOURCE, scopes={"files": "Read your files"}),
    ]
    with embed(tmp_path, resources=resources) as embedded:
        registered = embedded.register().json()
        assertion = registered["identity_assertion"]
        token = embedded.exchange(assertion, resource=OTHER_RESOURCE).json()
        unnamed = embedded.exchange(assertion)
        foreign = embedded.exchange(assertion, resource=RESOURCE, scope="files")
        slash = embedded.exchange(assertion, resource=f"{OTHER_RESOURCE}/")
        opened = embedded.call_api(token["access_token"])

    assert registered["scopes"] == [*SCOPES, "files"]
    assert claims_of(token["access_token"])["aud"] == OTHER_RESOURCE
    assert token["scope"] == "files"
    assert unnamed.json()["error"] == "invalid_target"
    assert OTHER_RESOURCE in unnamed.json()["error_description"]
    assert foreign.json()["error"] == "invalid_scope"
    assert slash.json()["error"] == "invalid_target"
    assert opened.status_code == 401, "a token for one resource opened the other"


@pytest.mark.parametrize("repeated", ["grant_type", "assertion", "scope", "resource"])
def test_repeated_parameter_is_refused(embedded: Embedded, repeated: str) -> None:
    form = {
        "grant_type": JWT_BEARER,
        "assertion": embedded.identity_assertion(),
        "scope": "notes.read",
        "resource": RESOURCE,
    }
    answer = post(embedded, urlencode([*form.items(), (repeated, form[repeated])]))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def post(embedded: Embedded, body: str | bytes, content_type: str = "") -> Any:
    return embedded.client.post(
        PATH,
        content=body,
        headers={"content-type": content_type or "application/x-www-form-urlencoded"},
    )


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"\xff=\xff", "", id="not ASCII"),
        pytest.param(b"grant_type=%ff", "", id="not UTF-8"),
        pytest.param(b"assertion=%ud800&%=%", "", id="odd escapes"),
        pytest.param(b"&" * 1000, "", id="ampersands"),
        pytest.param(b"a=" * 1000, "", id="equals signs"),
        pytest.param(b"a" * (MAX_BYTES + 1), "", id="too long"),
        pytest.param(b"{}", "application/json", id="JSON"),
        pytest.param(b"grant_type=x", "text/plain", id="plain text"),
        pytest.param(b"--x--", "multipart/form-data; boundary=x", id="multipart"),
    ],
)
def test_what_is_no_form_is_refused(
    embedded: Embedded, body: bytes, content_type: str
) -> None:
    answer = post(embedded, body, content_type)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert is_not_stored(answer)


def test_parameters_in_the_url_count_for_nothing(embedded: Embedded) -> None:
    form = {"grant_type": JWT_BEARER, "assertion": embedded.identity_assertion()}
    answer = embedded.client.post(f"{PATH}?{urlencode(form)}", data={"a": "b"})

    assert answer.status_code == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS"])
def test_token_request_is_posted(embedded: Embedded, method: str) -> None:
    answer = embedded.client.request(method, PATH)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert is_not_stored(answer)


def revoke_user(embedded: Embedded) -> None:
    revoke_blocking(embedded.store, ISSUER, subject="user-ana")


def revoke_agent(embedded: Embedded) -> None:
    agent = claims_of(embedded.identity_assertion())["sub"]
    revoke_blocking(embedded.store, ISSUER, subject="user-ana", agent=agent)


def revoke_everything(embedded: Embedded) -> None:
    revoke_blocking(embedded.store, ISSUER)


@pytest.mark.parametrize("revoke", [revoke_user, revoke_agent, revoke_everything])
def test_token_that_leaves_after_a_revocation_is_good(
    embedded: Embedded, revoke: Callable[[Embedded], None]
) -> None:
    """Middlewares refuse what was issued in the second of the revocation, or before."""
    old = embedded.access_token()
    revoke(embedded)
    new = embedded.access_token()

    assert embedded.call_api(old).status_code == 401
    assert embedded.call_api(new).status_code == 200


def test_token_is_never_dated_later_than_it_leaves(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion()
    revoke_user(embedded)
    revoked_at = time.time()
    token = embedded.exchange(assertion).json()["access_token"]

    assert int(revoked_at) < claims_of(token)["iat"] <= time.time()


def test_token_after_a_revocation_ends_with_the_next_one(embedded: Embedded) -> None:
    """It must not be dated behind the cut-off of a disconnection soon after."""
    revoke_user(embedded)
    token = embedded.access_token()
    embedded.push()

    assert embedded.call_api(token).status_code == 401


def test_registration_revoked_while_its_token_is_held_gets_none(
    embedded: Embedded,
) -> None:
    service, assertion = embedded.server.service, embedded.identity_assertion()
    revoke_user(embedded)
    next_second = int(time.time()) + 1
    disconnected: list[int] = []

    def clock() -> float:
        """Ana disconnects in the moment when the wait is over."""
        now = time.time()
        if now >= next_second and not disconnected:
            disconnected.append(1)
            disconnect_ana(embedded)
        return now

    service.clock = clock
    answer = embedded.exchange(assertion)

    assert disconnected
    assert answer.json()["error"] == "invalid_grant"


def test_cutoff_in_the_future_is_not_waited_for(embedded: Embedded) -> None:
    """Nor is the token dated behind it, by which it would be good for no middleware."""
    at = time.time() + 30
    embedded.store.append_log([Revocation(ISSUER, at, "user-ana").to_cut_off()])
    answer = embedded.exchange(embedded.identity_assertion())

    assert answer.status_code == 503
    assert 25 < int(answer.headers["retry-after"]) <= 31


def test_cutoff_by_a_clock_that_is_hours_ahead_holds_up_nobody(
    embedded: Embedded,
) -> None:
    at = time.time() + 10_000
    embedded.store.append_log([Revocation(ISSUER, at, "user-ana").to_cut_off()])
    answer = embedded.exchange(embedded.identity_assertion())

    assert answer.status_code == 200


class PagedStore(MemoryStore):
    """Gives its log record by record."""

    def read_log(self, after: int) -> LogPage:
        page = super().read_log(after)
        if len(page.entries) <= 1:
            return page
        return LogPage(after + 1, page.entries[:1], is_last=False)


def test_token_after_a_revocation_far_behind_in_the_log_is_good(
    tmp_path: Path,
) -> None:
    with embed(tmp_path, store=PagedStore()) as embedded:
        old = embedded.access_token()
        for user in ("user-bob", "user-eve", "user-ana"):
            revoke_blocking(embedded.store, ISSUER, subject=user)
        new = embedded.access_token()

        assert embedded.call_api(old).status_code == 401
        assert embedded.call_api(new).status_code == 200


def test_token_after_the_revocation_of_others_has_the_time_of_day(
    embedded: Embedded,
) -> None:
    revoke_blocking(embedded.store, ISSUER, subject="user-bob")
    revoke_blocking(embedded.store, "https://other.example")
    revoke_blocking(embedded.store, ISSUER, subject="user-ana", agent="agent_x")

    assert claims_of(embedded.access_token())["iat"] <= time.time()


def test_revocation_long_ago_changes_nothing(tmp_path: Path) -> None:
    with embed(tmp_path) as embedded:
        revoke_user(embedded)
        now = embedded.server.service.clock()
        embedded.server.service.clock = lambda: now + 10
        token = embedded.access_token()

    assert claims_of(token)["iat"] == int(now + 10)


class UnreadableStore(MemoryStore):
    """A store that can be written to only."""

    def read_log(self, after: int) -> Any:
        raise UnavailableError("store_unreachable", retry_after=7)


def test_unreadable_log_is_no_verdict(tmp_path: Path) -> None:
    """Nobody could say whether the token would be good."""
    with embed(tmp_path, store=UnreadableStore()) as embedded:
        answer = embedded.exchange(embedded.identity_assertion())

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert is_not_stored(answer)


def disconnect_ana(embedded: Embedded) -> None:
    """In the state alone; no middleware has heard of it yet."""
    now = time.time()
    embedded.server.state.disconnect(
        PROVIDER,
        ANA,
        vouched_until=now,
        event_id="e",
        now=now,
        seen_until=now + 60,
    )


class DisconnectingStore(MemoryStore):
    """A store that is being read just when the user disconnects."""

    def __init__(self) -> None:
        super().__init__()
        self.disconnect: Callable[[], object] | None = None

    def read_log(self, after: int) -> Any:
        if self.disconnect is not None:
            disconnect, self.disconnect = self.disconnect, None
            disconnect()
        return super().read_log(after)


def test_no_token_slips_past_a_disconnection(tmp_path: Path) -> None:
    """Dated behind the cut-off, it would be good although the user has disconnected."""
    store = DisconnectingStore()
    with embed(tmp_path, store=store) as embedded:
        assertion = embedded.identity_assertion()
        agent = claims_of(assertion)["sub"]

        def disconnect() -> None:
            disconnect_ana(embedded)
            revoke_blocking(store, ISSUER, subject="user-ana", agent=agent)

        store.disconnect = disconnect
        answer = embedded.exchange(assertion)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
