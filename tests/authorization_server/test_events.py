"""The events endpoint: a provider says that a user has disconnected the agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware.authorization_server.requests import MAX_BYTES
from agentauth_middleware.authorization_server.server_metadata import (
    REVOKED_EVENT,
    REVOKED_EVENT_ALIAS,
)
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer, FakeProvider, ServedIssuer
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    PROVIDER,
    Embedded,
    claims_of,
    embed,
    encoded,
    trusted,
)
from tests.support.log import names_of
from tests.support.tokens import key

PATH = "/agent/event/notify"
OTHER = "https://other.example"
SECEVENT = {"content-type": "application/secevent+jwt"}


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({}, id="as it should be"),
        pytest.param({"events": {REVOKED_EVENT_ALIAS: {}}}, id="under its alias"),
        pytest.param(
            {"events": {REVOKED_EVENT: {}, REVOKED_EVENT_ALIAS: {}}}, id="both names"
        ),
        pytest.param(
            {"events": {"https://x.example/e": {}, REVOKED_EVENT: {"a": 1}}},
            id="beside an unknown one",
        ),
        pytest.param({"aud": ["https://b.example", ISSUER]}, id="two audiences"),
        pytest.param({"aud": f"{ISSUER}/"}, id="origin with its slash"),
        pytest.param(
            {"sub_id": {"format": "iss_sub", "iss": PROVIDER, "sub": ANA}}, id="sub_id"
        ),
    ],
)
def test_event_ends_all_that_the_agent_has(
    embedded: Embedded, claims: dict[str, Any]
) -> None:
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion).json()["access_token"]
    answer = embedded.push(**claims)

    assert answer.status_code == 202
    assert answer.content == b""
    assert embedded.call_api(token).status_code == 401
    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"
    assert embedded.register().json()["error"] == "interaction_required", "the link"


def test_event_of_a_clock_ahead_ends_all_that_the_agent_has(
    embedded: Embedded,
) -> None:
    test_event_ends_all_that_the_agent_has(embedded, {"iat": int(time.time()) + 50})


def test_event_ends_a_link_nobody_has_used(embedded: Embedded) -> None:
    embedded.push()

    assert embedded.register().json()["error"] == "interaction_required"


def test_event_leaves_other_users_and_agents_alone(embedded: Embedded) -> None:
    state = embedded.server.state
    state.add_user("user-bob")
    state.link(PROVIDER, "bob", "user-bob")
    state.link(PROVIDER, "ana-2", "user-ana")
    tokens: list[str] = []
    for subject in ("bob", "ana-2"):
        assertion = embedded.identity_assertion(subject=subject)
        tokens.append(embedded.exchange(assertion).json()["access_token"])
    embedded.access_token()
    embedded.push()

    assert [embedded.call_api(token).status_code for token in tokens] == [200, 200]


def test_event_in_the_second_of_the_registration_revokes_it(
    embedded: Embedded,
) -> None:
    """Instants count whole seconds; what happened last cannot be told from them."""
    now = int(time.time())
    assertion = embedded.identity_assertion(iat=now)
    embedded.push(iat=now)

    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"


def test_event_of_a_host_whose_clock_is_behind_has_its_effect(
    embedded: Embedded,
) -> None:
    now = int(time.time())
    assertion = embedded.identity_assertion(iat=now)
    embedded.push(iat=now - 30)

    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "skew", [pytest.param(-50, id="behind"), pytest.param(50, id="ahead")]
)
def test_provider_whose_clock_is_wrong_is_understood(
    embedded: Embedded, skew: int
) -> None:
    """Its instants are compared with its own, never with ours."""
    now = int(time.time()) + skew
    assertion = embedded.identity_assertion(iat=now, exp=now + 300)
    embedded.push(iat=now)

    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"


def test_agent_connected_again_is_good_at_once(embedded: Embedded) -> None:
    old_assertion = embedded.identity_assertion()
    old = embedded.exchange(old_assertion).json()["access_token"]
    embedded.push()
    embedded.relink()
    new = embedded.access_token()

    assert embedded.call_api(new).status_code == 200
    assert embedded.call_api(old).status_code == 401
    refused = embedded.exchange(old_assertion)
    assert refused.json()["error"] == "invalid_grant", "it came back to life"


def test_agent_may_be_disconnected_and_connected_many_times(
    embedded: Embedded,
) -> None:
    """All within one second or two, which is what instants are counted in."""
    ended: list[str] = []
    for _ in range(4):
        embedded.relink()
        token = embedded.access_token()
        assert embedded.call_api(token).status_code == 200
        assert embedded.push().status_code == 202
        ended.append(token)

    assert {embedded.call_api(token).status_code for token in ended} == {401}


def test_event_delivered_again_is_acknowledged_again(embedded: Embedded) -> None:
    event = embedded.provider.revoked_event(ISSUER)
    embedded.access_token()
    answers = [embedded.push(event) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len(names_of(embedded.store.read_log(0))) == 1, "its effect came again"


def test_event_delivered_again_does_not_end_a_new_connection(
    embedded: Embedded,
) -> None:
    event = embedded.provider.revoked_event(ISSUER)
    embedded.access_token()
    embedded.push(event)
    embedded.relink()
    token = embedded.access_token()
    answer = embedded.push(event)

    assert answer.status_code == 202
    assert embedded.call_api(token).status_code == 200
    assert embedded.register().status_code == 200, "the link"


def test_event_from_before_the_connection_has_no_effect(embedded: Embedded) -> None:
    """It may come late, or come again after it has been forgotten."""
    token = embedded.access_token()
    answer = embedded.push(iat=int(time.time()) - 3600)

    assert answer.status_code == 202
    assert embedded.call_api(token).status_code == 200
    assert embedded.register().status_code == 200, "the link"


def late_event(embedded: Embedded) -> str:
    """Ana disconnected two minutes ago, and her agent registered before and since."""
    now = int(time.time())
    embedded.register(iat=now - 240, exp=now + 60)
    embedded.register(iat=now)
    return embedded.provider.revoked_event(ISSUER, iat=now - 120)


def test_late_event_ends_what_was_there_before_it(embedded: Embedded) -> None:
    """Tokens from before it live on otherwise: they are of the same registration."""
    event = late_event(embedded)
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion).json()["access_token"]
    answer = embedded.push(event)

    assert answer.status_code == 202
    assert embedded.call_api(token).status_code == 401
    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("events", [1, 2])
def test_agent_connected_since_a_late_event_may_register_anew(
    embedded: Embedded, events: int
) -> None:
    event = late_event(embedded)
    before = claims_of(embedded.identity_assertion())["sub"]
    embedded.push(event)
    for _ in range(events - 1):
        embedded.push(iat=int(time.time()) - 120)
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion).json()["access_token"]

    assert claims_of(assertion)["sub"] != before
    assert embedded.call_api(token).status_code == 200


def test_event_about_a_stranger_is_acknowledged(embedded: Embedded) -> None:
    assert embedded.push(subject="nobody").status_code == 202


def test_unknown_event_has_no_effect(embedded: Embedded) -> None:
    token = embedded.access_token()
    answers = [
        embedded.push(events={"https://x.example/unknown": {}}),
        embedded.push(events={"https://x.example/unknown": {}}, sub=None),
        embedded.push(events={f"{REVOKED_EVENT}/": {}}),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert embedded.call_api(token).status_code == 200


def test_provider_cannot_disconnect_the_users_of_another(tmp_path: Path) -> None:
    one, other = FakeProvider(PROVIDER), FakeProvider(OTHER)
    providers = [trusted(one), trusted(other)]
    with embed(tmp_path, provider=one, providers=providers) as embedded:
        token = embedded.access_token()
        same_subject = embedded.push(other.revoked_event(ISSUER))
        in_its_name = embedded.push(other.revoked_event(ISSUER, iss=PROVIDER))
        sub_id = {"format": "iss_sub", "iss": PROVIDER, "sub": ANA}
        by_sub_id = embedded.push(other.revoked_event(ISSUER, sub_id=sub_id))
        still = embedded.call_api(token)

    assert same_subject.status_code == 202
    assert in_its_name.json()["err"] == "invalid_key"
    assert by_sub_id.json()["err"] == "access_denied"
    assert still.status_code == 200


def test_identifiers_of_different_providers_do_not_meet(tmp_path: Path) -> None:
    """Or one provider could have the events of another passed over."""
    one, other = FakeProvider(PROVIDER), FakeProvider(OTHER)
    providers = [trusted(one), trusted(other)]
    with embed(tmp_path, provider=one, providers=providers) as embedded:
        token = embedded.access_token()
        embedded.push(other.revoked_event(ISSUER, jti="same"))
        embedded.push(one.revoked_event(ISSUER, jti="same"))

        assert embedded.call_api(token).status_code == 401


def test_identifiers_of_assertions_and_events_do_not_meet(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion(jti="same")
    embedded.push(jti="same")

    assert embedded.exchange(assertion).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("header", "claims", "error"),
    [
        pytest.param({"typ": None}, {}, "invalid_request", id="no typ"),
        pytest.param({"typ": "JWT"}, {}, "invalid_request", id="typ JWT"),
        pytest.param({"typ": "at+jwt"}, {}, "invalid_request", id="access token"),
        pytest.param({"typ": "logout+jwt"}, {}, "invalid_request", id="logout token"),
        pytest.param({"typ": "oauth-id-jag+jwt"}, {}, "invalid_request", id="ID-JAG"),
        pytest.param({"crit": ["x"], "x": 1}, {}, "invalid_request", id="crit"),
        pytest.param({"kid": "unknown"}, {}, "invalid_key", id="unknown key"),
        pytest.param({}, {"iss": None}, "invalid_request", id="no issuer"),
        pytest.param({}, {"iss": OTHER}, "invalid_issuer", id="another issuer"),
        pytest.param({}, {"iss": ISSUER}, "invalid_issuer", id="ourselves"),
        pytest.param({}, {"aud": None}, "invalid_audience", id="no audience"),
        pytest.param({}, {"aud": OTHER}, "invalid_audience", id="another audience"),
        pytest.param({}, {"aud": 7}, "invalid_request", id="audience is a number"),
        pytest.param({}, {"iat": None}, "invalid_request", id="no iat"),
        pytest.param({}, {"iat": "x"}, "invalid_request", id="iat is text"),
        pytest.param({}, {"iat": 2**40}, "invalid_request", id="iat in the future"),
        pytest.param({}, {"jti": None}, "invalid_request", id="no jti"),
        pytest.param({}, {"jti": 7}, "invalid_request", id="jti is a number"),
        pytest.param({}, {"sub": None}, "invalid_request", id="no subject"),
        pytest.param({}, {"sub": ["x"]}, "invalid_request", id="subject is an array"),
        pytest.param({}, {"sub_id": "x"}, "access_denied", id="sub_id is text"),
        pytest.param({}, {"events": None}, "invalid_request", id="no events"),
        pytest.param({}, {"events": {}}, "invalid_request", id="empty events"),
        pytest.param(
            {}, {"events": [REVOKED_EVENT]}, "invalid_request", id="events is an array"
        ),
        pytest.param(
            {}, {"events": {REVOKED_EVENT: None}}, "invalid_request", id="event is null"
        ),
        pytest.param(
            {}, {"events": {REVOKED_EVENT: "x"}}, "invalid_request", id="event is text"
        ),
    ],
)
def test_event_with_a_fault_is_refused(
    embedded: Embedded, header: dict[str, Any], claims: dict[str, Any], error: str
) -> None:
    token = embedded.access_token()
    answer = embedded.push(header=header, **claims)

    assert answer.status_code == 400
    assert set(answer.json()) == {"err", "description"}
    assert answer.json()["err"] == error
    assert answer.headers["content-language"] == "en"
    assert answer.headers["content-type"] == "application/json"
    assert embedded.call_api(token).status_code == 200


def test_event_nobody_signed_is_refused(embedded: Embedded) -> None:
    _, payload, _ = embedded.provider.revoked_event(ISSUER).split(".")
    header = encoded({"alg": "none", "typ": "secevent+jwt"})
    unsigned = embedded.push(f"{header}.{payload}.")
    key_id = embedded.provider.jwks["keys"][0]["kid"]
    forged = FakeProvider(PROVIDER).revoked_event(ISSUER, header={"kid": key_id})

    assert unsigned.json()["err"] == "invalid_key"
    assert embedded.push(forged).json()["err"] == "authentication_failed"


def test_event_with_an_algorithm_not_allowed_is_refused(tmp_path: Path) -> None:
    provider = FakeProvider(PROVIDER)
    both = {"keys": [*provider.jwks["keys"], key("EdDSA", "another").jwk]}
    providers = [trusted(provider, jwks=both, algorithms=("EdDSA",))]
    with embed(tmp_path, provider=provider, providers=providers) as embedded:
        assert embedded.push().json()["err"] == "invalid_key"


def test_stranger_is_asked_nothing(embedded: Embedded, served: ServedIssuer) -> None:
    stranger = FakeProvider(served.issuer)
    jku = f"{served.issuer}/jwks.json"
    answer = embedded.push(stranger.revoked_event(ISSUER, header={"jku": jku}))

    assert answer.json()["err"] == "invalid_issuer"
    assert served.requests == []


@pytest.mark.parametrize("kind", ["access token", "service assertion", "ID-JAG"])
def test_other_tokens_are_no_events(embedded: Embedded, kind: str) -> None:
    makers: dict[str, Callable[[], str]] = {
        "access token": embedded.access_token,
        "service assertion": embedded.identity_assertion,
        "ID-JAG": lambda: embedded.provider.id_jag(ISSUER),
    }

    assert embedded.push(makers[kind]()).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="a letter"),
        pytest.param(b"..", id="empty segments"),
        pytest.param(b"\xff.\xff.\xff", id="not ASCII"),
        pytest.param(b"e30.W10.AA", id="an array"),
        pytest.param(b'{"a":1}', id="JSON"),
    ],
)
def test_what_is_no_event_is_refused(embedded: Embedded, body: bytes) -> None:
    answer = embedded.client.post(PATH, content=body, headers=SECEVENT)

    assert answer.status_code == 400
    assert answer.json()["err"] == "invalid_request"
    assert answer.headers["content-language"] == "en"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/secevent+jwt", 202),
        ("Application/SecEvent+JWT; charset=us-ascii", 202),
        ("application/logout+jwt", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json", 415),
        ("", 415),
    ],
)
def test_event_has_a_media_type_of_its_own(
    embedded: Embedded, content_type: str, status: int
) -> None:
    answer = embedded.client.post(
        PATH,
        content=embedded.provider.revoked_event(ISSUER),
        headers={"content-type": content_type},
    )

    assert answer.status_code == status
    assert status == 202 or answer.json()["err"] == "invalid_request"


def test_event_of_any_length_is_not_read(embedded: Embedded) -> None:
    answer = embedded.client.post(
        PATH, content=b"a" * (MAX_BYTES + 1), headers=SECEVENT
    )

    assert answer.status_code == 413
    assert answer.headers["content-language"] == "en"


def test_event_is_posted(embedded: Embedded) -> None:
    assert embedded.client.get(PATH).status_code == 405


class FailingStore(MemoryStore):
    """A store that takes nothing as long as it is told so."""

    fails = False

    def append_log(self, entries: Iterable[CutOff]) -> None:
        if self.fails:
            raise UnavailableError("store_unreachable", retry_after=3)
        super().append_log(entries)


def test_event_is_acknowledged_when_its_effect_is_durable(tmp_path: Path) -> None:
    store = FailingStore()
    with embed(tmp_path, store=store) as embedded:
        assertion = embedded.identity_assertion()
        token = embedded.exchange(assertion).json()["access_token"]
        event = embedded.provider.revoked_event(ISSUER)
        store.fails = True
        failed = embedded.push(event)
        meanwhile = embedded.exchange(assertion)
        store.fails = False
        again = embedded.push(event)
        refused = embedded.call_api(token)

    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "3"
    assert meanwhile.json()["error"] == "invalid_grant"
    assert again.status_code == 202
    assert refused.status_code == 401


def test_event_cut_off_half_way_is_finished_after_a_new_connection(
    tmp_path: Path,
) -> None:
    """The old tokens end, and the new ones do not."""
    store = FailingStore()
    with embed(tmp_path, store=store) as embedded:
        old = embedded.access_token()
        event = embedded.provider.revoked_event(ISSUER)
        store.fails = True
        embedded.push(event)
        embedded.server.state.relink(PROVIDER, ANA, "user-ana")
        assertion = embedded.provider.id_jag(ISSUER)
        too_early = embedded.register(assertion)
        store.fails = False
        registered = embedded.register(assertion).json()
        old_is_refused = embedded.call_api(old)
        new = embedded.exchange(registered["identity_assertion"]).json()
        again = embedded.push(event)
        new_is_good = embedded.call_api(new["access_token"])

    assert too_early.status_code == 503, "something new, while the old is still good"
    assert old_is_refused.status_code == 401
    assert again.status_code == 202
    assert new_is_good.status_code == 200


def test_event_is_finished_by_the_next_process(tmp_path: Path) -> None:
    """The first died before it could tell the resource servers."""
    store = FailingStore()
    provider = FakeProvider(PROVIDER)
    with embed(tmp_path, provider=provider, store=store) as embedded:
        token = embedded.access_token()
        event = provider.revoked_event(ISSUER)
        store.fails = True
        embedded.push(event)
    store.fails = False
    with embed(tmp_path, provider=provider, store=store) as embedded:
        answer = embedded.push(event)
        refused = embedded.call_api(token)

    assert answer.status_code == 202
    assert refused.status_code == 401


@pytest.mark.parametrize("status", [404, 500])
def test_keys_out_of_reach_are_no_verdict(
    tmp_path: Path, served: ServedIssuer, served_provider: FakeProvider, status: int
) -> None:
    served.replies["/jwks.json"] = (status, {}, b"")
    with embed(
        tmp_path,
        provider=served_provider,
        providers=[trusted(served_provider, jwks=None)],
        insecure_loopback=True,
    ) as embedded:
        answer = embedded.push()

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.anyio
async def test_event_delivered_many_times_at_once_is_acknowledged_each_time(
    embedded: Embedded,
) -> None:
    token = embedded.access_token()
    event = embedded.provider.revoked_event(ISSUER)
    statuses: list[int] = []

    async def deliver(client: httpx.AsyncClient) -> None:
        answer = await client.post(PATH, content=event, headers=SECEVENT)
        statuses.append(answer.status_code)

    transport = httpx.ASGITransport(embedded.server)
    async with (
        httpx.AsyncClient(transport=transport, base_url=ISSUER) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(6):
            tasks.start_soon(deliver, client)

    assert statuses == [202] * 6
    assert embedded.call_api(token).status_code == 401


def test_issuer_that_is_no_provider_has_no_say(embedded: Embedded) -> None:
    """Not even one whose access tokens the API takes."""
    claims = claims_of(embedded.provider.revoked_event(ISSUER))
    issuer = FakeIssuer("https://idp.example.net")
    event = issuer.sign(claims | {"iss": issuer.issuer}, {"typ": "secevent+jwt"})

    assert embedded.push(event).json()["err"] == "invalid_issuer"
