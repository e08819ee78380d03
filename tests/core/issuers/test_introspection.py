"""Opaque tokens by transcript: when is their issuer asked, what is its answer worth?

Every test steps ``decide`` by hand and names all that it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware._core.issuers.introspector import block_of
from agentauth_middleware._core.issuers.keys import verify
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.tokens.jose import parse_compact
from agentauth_middleware.access import Access
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from tests.support.deciding import (
    Decided,
    deciding,
    push_out,
    request,
    state_for,
)
from tests.support.stepping import Clock, Stepper, json_reply
from tests.support.tokens import (
    ISSUER,
    NOW,
    RESOURCE,
    Key,
    base64url,
    claims,
    issuer,
    jwks,
    key,
    server,
    sign,
    token,
)

ENDPOINT, KEYS = f"{ISSUER}/introspect", f"{ISSUER}/keys"
OPAQUE = b"at_0123456789"
UNREACHABLE = UnavailableError("upstream_unreachable", "POST: ConnectError")
TIMEOUT = UnavailableError("upstream_timeout", "POST: TimeoutError")


def introspection(**settings: Any) -> Introspection:
    settings = {"client_secret": "a-secret", "endpoint": ENDPOINT, **settings}
    return Introspection("rs-1", **settings)


def asked(*routes: Route, **settings: Any) -> ResourceServer:
    """A resource whose only issuer can be asked."""
    return server(issuer(introspection=introspection(**settings)), routes=routes)


def active(without: tuple[str, ...] = (), /, **changes: Any) -> Reply:
    """What the issuer says about a good token, changed."""
    members = {"active": True, "scope": "notes.read", **claims(), **changes}
    return json_reply({k: v for k, v in members.items() if k not in without})


INACTIVE = json_reply({"active": False})


class Middleware:
    """A middleware_state, a clock that stands still, and requests one at a time."""

    def __init__(self, settings: ResourceServer | None = None) -> None:
        self.clock = Clock()
        self.middleware_state: MiddlewareState = state_for(
            settings or asked(), self.clock
        )

    def step(
        self, presented: bytes = OPAQUE, client: str | None = "192.0.2.1", **more: Any
    ) -> Stepper[Decided]:
        self.middleware_state.revocations.read_at = self.clock.now
        asked_for = request(presented, client=client, **more)
        return Stepper(deciding(self.middleware_state, asked_for, self.clock))

    def ask(self, answer: object, presented: bytes = OPAQUE, **more: Any) -> Decided:
        """The decision, with one question to the issuer."""
        step = self.step(presented, **more)
        assert isinstance(step.asks, Fetch)
        step.answer(answer)
        return step.result

    def at_once(self, presented: bytes = OPAQUE, **more: Any) -> Decided:
        """The decision, which must ask nobody."""
        step = self.step(presented, **more)
        assert step.asks is None
        return step.result


def outcome(decision: object) -> tuple[int, str]:
    assert isinstance(decision, Refusal)
    return decision.status, decision.reason


def test_transcript_of_an_opaque_token() -> None:
    middleware = Middleware()
    step = middleware.step()

    assert isinstance(step.asks, Fetch)
    assert step.asks.url == ENDPOINT
    assert step.asks.timeout == 2.0
    assert step.asks.form == (
        ("token", OPAQUE.decode()),
        ("token_type_hint", "access_token"),
    )
    introspection = middleware.middleware_state.server.listed_issuers[0].introspection
    assert introspection is not None
    assert step.asks.authentication == introspection.authentication(ISSUER)
    assert OPAQUE.decode() not in step.asks.flight
    assert not step.asks.public_only

    step.answer(active(act={"sub": "agent-1"}))
    access = step.result

    assert isinstance(access, Access)
    assert access.subject == "user-1"
    assert access.agent is not None
    assert access.agent.subject == "agent-1"
    assert access.scopes == {"notes.read"}
    assert access.audience == (RESOURCE,)
    assert access.claims["active"] is True
    assert middleware.at_once() is access


def test_other_parameters_are_sent_along() -> None:
    middleware = Middleware(asked(extra_parameters={"resource": RESOURCE}))
    step = middleware.step()

    assert isinstance(step.asks, Fetch)
    assert ("resource", RESOURCE) in step.asks.form


def test_endpoint_that_metadata_does_not_name_is_looked_for_again() -> None:
    """And not only a day later: whoever runs the issuer may just have added it."""
    middleware = Middleware(asked(endpoint=None))
    step = middleware.step()
    before = step.asks
    step.answer(json_reply({"issuer": ISSUER}))
    assert outcome(step.result) == (503, "metadata_unusable")
    again = middleware.step()

    assert isinstance(before, Fetch)
    assert isinstance(again.asks, Fetch)
    assert again.asks.url == before.url
    assert again.asks.flight != before.flight


def test_endpoint_is_discovered() -> None:
    middleware = Middleware(asked(endpoint=None))
    step = middleware.step()
    while isinstance(step.asks, Fetch) and not step.asks.form:
        step.answer(
            json_reply({"issuer": ISSUER, "introspection_endpoint": ENDPOINT + "/2"})
        )

    assert isinstance(step.asks, Fetch)
    assert step.asks.url == ENDPOINT + "/2"


@pytest.mark.parametrize(
    ("endpoint", "must_be_public"),
    [(ENDPOINT, False), ("https://elsewhere.example.net/introspect", True)],
    ids=["at the origin of the issuer", "elsewhere"],
)
def test_endpoint_elsewhere_must_be_at_a_public_address(
    endpoint: str, must_be_public: bool
) -> None:
    step = Middleware(asked(endpoint=None)).step()
    step.answer(json_reply({"issuer": ISSUER, "introspection_endpoint": endpoint}))

    assert isinstance(step.asks, Fetch)
    assert step.asks.public_only is must_be_public


def test_answer_counts_for_as_long_as_was_set() -> None:
    middleware = Middleware(asked(remember_for=20))
    assert isinstance(middleware.ask(active()), Access)
    middleware.clock.tick(19.9)
    assert isinstance(middleware.at_once(), Access)
    middleware.clock.tick(0.1)

    assert isinstance(middleware.ask(active()), Access)
    assert isinstance(middleware.at_once(), Access)


@pytest.mark.parametrize(
    ("cache_control", "counts_for"),
    [
        ("max-age=5", 5),
        ("private, max-age=5", 5),
        ("max-age=600", 30),
        ("no-store", 30),
        ("no-cache, no-store, max-age=0, must-revalidate", 30),
        ("max-age=x", 30),
    ],
)
def test_issuer_may_shorten_how_long_its_answer_counts(
    cache_control: str, counts_for: int
) -> None:
    middleware = Middleware()
    reply = active()
    headers = {**reply.headers, "cache-control": cache_control}
    middleware.ask(replace(reply, headers=headers))
    middleware.clock.tick(counts_for - 0.1)

    assert isinstance(middleware.at_once(), Access)

    middleware.clock.tick(0.2)

    assert middleware.step().asks is not None


def test_token_that_expires_earlier_is_not_remembered_longer() -> None:
    middleware = Middleware()
    middleware.ask(active(exp=NOW - 55))  # within the leeway of a minute
    middleware.clock.tick(5)

    assert outcome(middleware.at_once()) == (401, "expired")


def test_old_answer_is_never_used_when_the_issuer_cannot_be_asked() -> None:
    middleware = Middleware()
    middleware.ask(active())
    middleware.clock.tick(31)

    assert outcome(middleware.ask(TIMEOUT)) == (503, "upstream_timeout")


def test_token_revoked_meanwhile_is_refused_at_the_next_question() -> None:
    middleware = Middleware()
    middleware.ask(active())
    middleware.clock.tick(31)

    assert outcome(middleware.ask(INACTIVE)) == (401, "inactive_token")
    assert outcome(middleware.at_once()) == (401, "inactive_token")


def test_inactive_counts_for_ten_seconds() -> None:
    """It might become active: a token can be made for later."""
    middleware = Middleware()
    assert outcome(middleware.ask(INACTIVE)) == (401, "inactive_token")
    middleware.clock.tick(9.9)
    assert outcome(middleware.at_once()) == (401, "inactive_token")
    middleware.clock.tick(0.2)

    assert isinstance(middleware.ask(active()), Access)


def test_two_questions_about_one_token_are_one_exchange() -> None:
    middleware = Middleware()
    one, other = middleware.step(), middleware.step()

    assert one.asks == other.asks

    one.answer(active())
    other.answer(active())

    assert isinstance(one.result, Access)
    assert isinstance(other.result, Access)


@pytest.mark.parametrize(
    "first",
    [
        *(active(), INACTIVE, TIMEOUT),
        *(active(aud="https://other.example.com"), active(sub=1)),
    ],
    ids=["active", "inactive", "no answer", "another audience", "unreadable"],
)
def test_next_question_is_another_exchange(first: object) -> None:
    """An exchange that has ended must not answer later ones."""
    middleware = Middleware()
    before = middleware.step()
    asked_before = before.asks
    before.answer(first)
    middleware.clock.tick(31)
    again = middleware.step()

    assert isinstance(asked_before, Fetch)
    assert isinstance(again.asks, Fetch)
    assert asked_before.flight != again.asks.flight


BROKEN: dict[str, tuple[Reply, str]] = {
    "our credentials": (json_reply({"error": "x"}, 401), "introspection_refused_us"),
    "no such place": (json_reply({}, 404), "introspection_refused_us"),
    "no such method": (json_reply({}, 405), "introspection_refused_us"),
    "redirect": (Reply(302, {"location": "https://x"}, b""), "introspection_failed"),
    "in trouble": (json_reply({}, 500), "introspection_failed"),
    "HTML": (
        Reply(200, {"content-type": "text/html"}, b"<p>"),
        "introspection_unusable",
    ),
    "no media type": (Reply(200, {}, b'{"active": true}'), "introspection_unusable"),
    "cut off": (
        Reply(200, {"content-type": "application/json"}, b'{"active": tr'),
        "introspection_unusable",
    ),
    "array": (
        Reply(200, {"content-type": "application/json"}, b"[true]"),
        "introspection_unusable",
    ),
    "twice": (
        Reply(
            200,
            {"content-type": "application/json"},
            b'{"active": false, "active": true}',
        ),
        "introspection_unusable",
    ),
    "nothing": (json_reply({}), "introspection_unusable"),
    "text": (json_reply({"active": "true"}), "introspection_unusable"),
    "one": (json_reply({"active": 1}), "introspection_unusable"),
    "null": (json_reply({"active": None}), "introspection_unusable"),
}


@pytest.mark.parametrize(("reply", "reason"), BROKEN.values(), ids=BROKEN)
def test_answer_that_is_none_is_no_verdict(reply: Reply, reason: str) -> None:
    assert outcome(Middleware().ask(reply)) == (503, reason)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "introspection_bad_request"),
        (413, "introspection_bad_request"),
        (403, "introspection_forbidden"),
        (429, "introspection_throttled"),
    ],
)
def test_what_strangers_can_bring_about_is_neither_verdict_nor_trouble(
    status: int, reason: str
) -> None:
    assert outcome(Middleware().ask(json_reply({}, status))) == (429, reason)


NOT_GOOD: dict[str, tuple[Reply, str]] = {
    "another audience": (active(aud="https://other.example.com"), "wrong_audience"),
    "no audience": (active(("aud",)), "wrong_audience"),
    "another issuer": (active(iss="https://other.example.com"), "wrong_issuer"),
    "expired": (active(exp=NOW - 60), "expired"),
    "not yet": (active(nbf=NOW + 61), "not_yet_valid"),
    "issued in the future": (active(iat=NOW + 61), "not_yet_valid"),
    "refresh token": (active(token_type="refresh_token"), "wrong_token_type"),
    "refresh token by claim": (active(typ="Refresh"), "wrong_token_type"),
    "identity token by claim": (active(token_use="id"), "wrong_token_type"),
    "bound to a key": (active(cnf={"jkt": "x"}), "sender_constrained"),
    "bound by its type": (active(token_type="DPoP"), "sender_constrained"),
}


@pytest.mark.parametrize(("reply", "reason"), NOT_GOOD.values(), ids=NOT_GOOD)
def test_active_token_may_still_not_be_good(reply: Reply, reason: str) -> None:
    assert outcome(Middleware().ask(reply)) == (401, reason)


def test_verdict_about_an_active_token_is_remembered_a_while() -> None:
    middleware = Middleware()
    first = middleware.ask(active(aud="https://other.example.com"))
    again = middleware.at_once()

    assert outcome(again) == (401, "wrong_audience")
    assert isinstance(first, Refusal)
    assert isinstance(again, Refusal)
    assert again.detail == first.detail


DETAILS: dict[str, tuple[Reply, str]] = {
    "inactive": (INACTIVE, f"{ISSUER} says so to 'rs-1'"),
    "another issuer": (
        active(iss=f"{ISSUER}/"),
        f"iss of the answer is '{ISSUER}/'; expected '{ISSUER}'",
    ),
    "another audience": (
        active(aud="https://other.example.com"),
        "aud is ('https://other.example.com',); expected",
    ),
    "another kind": (
        active(token_type="N_A"),
        "token_type is 'N_A'; expected 'Bearer' or 'DPoP'",
    ),
    "another use": (
        active(token_use="id"),
        "token_use is 'id'; expected 'access' or 'access_token'",
    ),
}


@pytest.mark.parametrize(("reply", "detail"), DETAILS.values(), ids=DETAILS)
def test_verdict_says_what_was_found_and_expected(reply: Reply, detail: str) -> None:
    refusal = Middleware().ask(reply)

    assert isinstance(refusal, Refusal)
    assert refusal.detail.startswith(detail)


UNREADABLE: dict[str, Reply] = {
    "date as text": active(exp=str(NOW + 300)),
    "date a flag": active(iat=True),
    "scopes as a list": active(scope=["notes.read"]),
    "subject a number": active(sub=1),
}


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("always", [False, True], ids=["opaque", "JWT"])
def test_answer_that_cannot_be_read_is_no_verdict(reply: Reply, always: bool) -> None:
    """The issuer calls the token active, so what is wrong is not the token."""
    middleware, presented = Middleware(asked(always=always)), JWT if always else OPAQUE
    assert outcome(middleware.ask(reply, presented)) == (
        503,
        "introspection_unreadable",
    )


def test_what_an_answer_calls_null_is_not_said() -> None:
    """Some servers write that where they have nothing to say."""
    nothing = dict.fromkeys(["scope", "client_id", "token_type", "cnf", "nbf"])
    middleware = Middleware()
    access = middleware.ask(active(**nothing))

    assert isinstance(access, Access)
    assert (access.client_id, access.scopes) == (None, frozenset())
    assert "cnf" not in access.claims
    assert outcome(middleware.ask(active(aud=None), b"at_2")) == (401, "wrong_audience")


def test_actor_that_cannot_be_read_makes_the_token_no_good() -> None:
    assert outcome(Middleware().ask(active(act="agent-1"))) == (401, "malformed")
    answer = Middleware(asked(always=True)).ask(active(act="x"), JWT)
    assert outcome(answer) == (401, "malformed")


@pytest.mark.parametrize(
    "reply", [active(sub=1), active(act={"sub": ""})], ids=["subject", "actor"]
)
def test_what_cannot_be_read_of_one_token_stops_no_other(reply: Reply) -> None:
    middleware = Middleware()
    for number in range(8):
        middleware.ask(reply, b"at_%d" % number)

    assert isinstance(middleware.ask(active()), Access)


@pytest.mark.parametrize("act", [None, [], "agent-1", {"sub": 1}, {}], ids=repr)
def test_actor_that_is_none_is_never_passed_over(act: object) -> None:
    """The request of an agent would be taken for the user's own."""
    assert outcome(Middleware().ask(active(act=act))) == (401, "malformed")


@pytest.mark.parametrize("nothing", ["", []], ids=repr)
@pytest.mark.parametrize("aud", [RESOURCE, []], ids=repr)
def test_answer_can_take_all_scopes(nothing: object, aud: object) -> None:
    """Whatever else in it is not said."""
    trusted = issuer(introspection=introspection(always=True), scope_claims=["scp"])
    answer = active(("scope",), scp=nothing, aud=aud)
    access = Middleware(server(trusted)).ask(answer, token(scp="a"))

    assert isinstance(access, Access)
    assert access.scopes == frozenset()


def test_disowned_token_is_not_good_again_because_keys_changed() -> None:
    trusted = Issuer(ISSUER, jwks_uri=KEYS, introspection=introspection())
    middleware = Middleware(server(trusted, routes=[ALWAYS]))
    step = middleware.step(JWT)
    step.answer(json_reply(jwks(key(), key("ES256", "old"))))
    assert isinstance(step.result, Access)
    assert outcome(middleware.ask(INACTIVE, JWT, path="/admin/x"))[0] == 401
    middleware.clock.tick(100)
    step = middleware.step(token(key("ES256", "new")))
    step.answer(json_reply(jwks(key(), key("ES256", "new"))))  # without the old one

    assert outcome(middleware.ask(INACTIVE, JWT)) == (401, "inactive_token")


def test_claim_that_the_operator_requires_may_be_missing_from_a_token() -> None:
    trusted = issuer(introspection=introspection(), required_claims=["token_type"])
    middleware = Middleware(server(trusted))

    assert outcome(middleware.ask(active())) == (401, "malformed")
    assert isinstance(middleware.ask(active(token_type="Bearer"), b"at_other"), Access)


def test_server_may_be_trusted_to_know_whom_a_token_is_for() -> None:
    access = Middleware(asked(require_audience=False)).ask(active(("aud",)))

    assert isinstance(access, Access)
    assert access.audience == ()


def test_audience_that_is_named_counts_in_any_case() -> None:
    middleware = Middleware(asked(require_audience=False))

    assert outcome(middleware.ask(active(aud="https://other"))) == (
        401,
        "wrong_audience",
    )


def test_bare_answer_gives_nobody() -> None:
    """Neither a username nor a client is a user."""
    middleware = Middleware(asked(require_audience=False))
    access = middleware.ask(
        json_reply({"active": True, "username": "ana", "client_id": "c"})
    )

    assert isinstance(access, Access)
    assert (access.subject, access.user, access.agent) == (None, None, None)
    assert access.mode == "unknown"
    assert access.client_id == "c"
    assert access.expires_at is None


def test_token_without_expiry_is_asked_about_for_ever() -> None:
    middleware = Middleware()
    middleware.ask(active(("exp",)))
    middleware.clock.tick(29)
    assert isinstance(middleware.at_once(), Access)
    middleware.clock.tick(2)

    assert middleware.step().asks is not None


@pytest.mark.parametrize(
    "first", [UNREACHABLE, *(json_reply({}, status) for status in (502, 503, 504))]
)
def test_fault_on_the_way_is_tried_once_more(first: object) -> None:
    middleware = Middleware()
    step = middleware.step()
    flight = step.asks.flight if isinstance(step.asks, Fetch) else ""
    middleware.clock.tick(0.5)
    step.answer(first)

    assert isinstance(step.asks, Fetch)
    assert step.asks.flight != flight
    assert step.asks.timeout == 1.5

    middleware.middleware_state.revocations.read_at = middleware.clock.now
    step.answer(active())

    assert isinstance(step.result, Access)


@pytest.mark.parametrize("second", [UNREACHABLE, json_reply({}, 503)])
def test_fault_on_the_way_is_tried_no_third_time(second: object) -> None:
    step = Middleware().step()
    step.answer(UNREACHABLE)
    step.answer(second)

    assert step.asks is None
    assert outcome(step.result)[0] == 503


def test_second_attempt_has_no_time_of_its_own() -> None:
    middleware = Middleware()
    step = middleware.step()
    middleware.clock.tick(2)
    step.answer(UNREACHABLE)

    assert step.asks is None
    assert outcome(step.result) == (503, "upstream_timeout")


def fail(middleware: Middleware, times: int) -> None:
    for number in range(times):
        assert outcome(middleware.ask(json_reply({}, 500), b"at_%d" % number))[0] == 503


def test_after_five_failures_nobody_asks_for_five_seconds() -> None:
    middleware = Middleware()
    fail(middleware, 5)

    assert outcome(middleware.at_once()) == (503, "introspection_held_off")

    middleware.clock.tick(4.9)
    assert outcome(middleware.at_once()) == (503, "introspection_held_off")
    middleware.clock.tick(0.2)
    first, second = middleware.step(), middleware.step(b"at_other")

    assert isinstance(first.asks, Fetch)
    assert outcome(second.result) == (503, "introspection_held_off")

    first.answer(active())

    assert isinstance(first.result, Access)
    assert isinstance(middleware.ask(active(), b"at_other"), Access)


def test_probe_that_fails_holds_off_again() -> None:
    middleware = Middleware()
    fail(middleware, 5)
    middleware.clock.tick(5.1)
    middleware.ask(json_reply({}, 500))

    assert outcome(middleware.at_once()) == (503, "introspection_held_off")


def test_abandoned_probe_makes_room_for_the_next() -> None:
    middleware = Middleware()
    fail(middleware, 5)
    middleware.clock.tick(5.1)
    middleware.step().close()

    assert isinstance(middleware.step().asks, Fetch)


def test_failures_count_only_in_a_row_and_once_for_all_who_shared_one() -> None:
    middleware = Middleware()
    fail(middleware, 4)
    middleware.ask(INACTIVE, b"at_junk")
    fail(middleware, 4)
    steps = [middleware.step() for _ in range(10)]

    assert len({step.asks for step in steps}) == 1

    middleware = Middleware()
    steps = [middleware.step() for _ in range(10)]
    for step in steps:
        step.answer(json_reply({}, 500))

    assert isinstance(middleware.step().asks, Fetch)


@pytest.mark.parametrize(
    "between",
    [active(), INACTIVE, json_reply({}, 400)],
    ids=["active", "inactive", "about the token"],
)
def test_any_answer_ends_a_row_of_failures(between: Reply) -> None:
    middleware = Middleware()
    fail(middleware, 4)
    middleware.ask(between, b"at_between")
    fail(middleware, 4)

    assert isinstance(middleware.ask(active()), Access)


def test_server_that_is_not_asked_about_such_tokens_goes_on_being_asked() -> None:
    """Else whoever holds one such token could stop all others."""
    middleware = Middleware()
    for number in range(6):
        refused = middleware.ask(
            json_reply({"error": "unsupported_token_type"}, 400), b"at_%d" % number
        )

        assert isinstance(refused, Refusal)
        assert refused.detail.endswith("answered 400 unsupported_token_type")

    assert isinstance(middleware.ask(active()), Access)


@pytest.mark.parametrize(
    "body", [b'{"error": "<script>"}', b'{"error": "' + b"x" * 99 + b'"}', b"\xff", b""]
)
def test_what_a_server_says_is_logged_only_if_it_is_a_code(body: bytes) -> None:
    refused = Middleware().ask(Reply(400, {"content-type": "application/json"}, body))

    assert isinstance(refused, Refusal)
    assert refused.detail.endswith("answered 400")


def test_inactive_tokens_are_no_failures() -> None:
    middleware = Middleware()
    for number in range(20):
        middleware.ask(INACTIVE, b"at_%d" % number)

    assert isinstance(middleware.ask(active()), Access)


def test_remembered_tokens_go_on_while_nobody_asks() -> None:
    middleware = Middleware()
    access = middleware.ask(active())
    fail(middleware, 5)

    assert middleware.at_once() is access


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "7"}, 7), ({}, 1), ({"retry_after": "86400"}, 60)],
    ids=["told", "not told", "told too much"],
)
def test_issuer_that_has_enough_is_left_alone(
    headers: dict[str, str], seconds: int
) -> None:
    middleware = Middleware()
    refused = middleware.ask(json_reply({}, 429, **headers))

    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after) == (429, seconds)

    middleware.clock.tick(seconds - 0.1)
    assert outcome(middleware.at_once()) == (429, "introspection_held_off")
    middleware.clock.tick(0.2)
    assert isinstance(middleware.ask(active()), Access)


def test_only_so_many_exchanges_run_at_a_time() -> None:
    middleware = Middleware(asked(max_concurrent=2))
    first = middleware.step(b"at_1")
    _second = middleware.step(b"at_2", client="192.0.2.2")

    assert (
        outcome(middleware.at_once(b"at_3", client="192.0.2.3"))[1]
        == "introspection_busy"
    )
    assert middleware.step(b"at_1").asks == first.asks  # shares one that is under way

    first.answer(active())
    first_again = middleware.step(b"at_1")

    assert isinstance(first_again.result, Access)


def test_abandoned_exchange_makes_room_for_the_next() -> None:
    middleware = Middleware(asked(max_concurrent=1))
    middleware.step(b"at_1").close()

    assert isinstance(middleware.step(b"at_2").asks, Fetch)


def spend(middleware: Middleware, client: str | None, times: int = 60) -> None:
    for number in range(times):
        junk = b"junk%d" % number
        assert outcome(middleware.ask(INACTIVE, junk, client=client))[0] == 401


def test_junk_from_one_address_is_its_own_affair() -> None:
    """A thousand bad tokens leave a good one accepted that nobody has seen."""
    middleware = Middleware()
    known = middleware.ask(active(), b"at_known")
    spend(middleware, "192.0.2.1")
    for number in range(1000):
        refused = middleware.at_once(b"more%d" % number)
        assert outcome(refused) == (429, "too_many_inactive")

    assert isinstance(middleware.ask(active(), client="192.0.2.2"), Access)
    assert middleware.at_once(b"at_known") is known

    middleware.clock.tick(1)

    assert isinstance(middleware.ask(active(), b"at_other"), Access)


def test_refusal_for_too_much_junk_says_when_to_come_again() -> None:
    middleware = Middleware(asked(inactive_per_minute=2))
    spend(middleware, "192.0.2.1", 2)
    refused = middleware.at_once()

    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after) == (429, 30)

    middleware.clock.tick(30)

    assert middleware.step().asks is not None


def test_one_exchange_is_one_inactive_answer_for_all_who_shared_it() -> None:
    middleware = Middleware(asked(inactive_per_minute=2))
    steps = [middleware.step() for _ in range(5)]
    for step in steps:
        step.answer(INACTIVE)

    assert isinstance(middleware.step(b"at_next").asks, Fetch)


def test_good_tokens_cost_nothing() -> None:
    middleware = Middleware(asked(inactive_per_minute=1))
    for number in range(10):
        assert isinstance(middleware.ask(active(), b"at_%d" % number), Access)


def test_request_without_an_address_has_no_budget() -> None:
    middleware = Middleware(asked(inactive_per_minute=1))
    spend(middleware, None, 3)

    assert isinstance(middleware.ask(active(), client=None), Access)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_who_can_take_many_addresses_counts_once(
    one: str, other: str, same: bool
) -> None:
    assert (block_of(one) == block_of(other)) is same


def test_junk_does_not_push_out_what_is_known() -> None:
    middleware = Middleware(asked(inactive_per_minute=1_000_000))
    known = middleware.ask(active(exp=NOW + 3600))
    for number in range(12_000):
        middleware.ask(INACTIVE, b"junk%d" % number, client=None)

    assert middleware.at_once() is known


# JWTs that are asked about


JWT = token(scope="notes.read notes.write")
ALWAYS = Route("/admin/*", introspect=True)


def test_jwt_is_not_asked_about_unless_a_route_wants_it() -> None:
    middleware = Middleware(asked(ALWAYS))
    access = middleware.at_once(JWT)

    assert isinstance(access, Access)

    first = middleware.ask(active(("scope",)), JWT, path="/admin/x")
    second = middleware.ask(active(("scope",)), JWT, path="/admin/x")

    assert isinstance(first, Access)
    assert first.scopes == access.scopes
    assert isinstance(second, Access)
    assert isinstance(middleware.at_once(JWT), Access)


def test_route_asks_each_time_about_an_opaque_token_too() -> None:
    middleware = Middleware(asked(ALWAYS))
    middleware.ask(active())

    assert isinstance(middleware.ask(active(), path="/admin/x"), Access)
    assert outcome(middleware.ask(INACTIVE, path="/admin/x")) == (401, "inactive_token")


def test_route_asks_once_about_a_token_it_has_not_seen() -> None:
    middleware = Middleware(asked(ALWAYS))

    assert isinstance(middleware.ask(active(), path="/admin/x"), Access)


def test_bad_jwt_is_not_asked_about() -> None:
    middleware = Middleware(asked(ALWAYS))
    expired = token(exp=NOW - 61)

    assert outcome(middleware.at_once(expired, path="/admin/x")) == (401, "expired")


def test_jwt_that_its_issuer_disowns_is_refused() -> None:
    middleware = Middleware(asked(ALWAYS))

    assert outcome(middleware.ask(INACTIVE, JWT, path="/admin/x")) == (
        401,
        "inactive_token",
    )


def test_jwt_is_503_where_nobody_can_tell() -> None:
    middleware = Middleware(asked(ALWAYS))
    middleware.at_once(JWT)

    assert outcome(middleware.ask(TIMEOUT, JWT, path="/admin/x"))[0] == 503


@pytest.mark.parametrize(
    ("reply", "scopes"),
    [
        (active(scope="notes.read"), {"notes.read"}),
        (active(scope="notes.read admin"), {"notes.read"}),
        (active(scope=""), frozenset[str]()),
        (active(("scope",)), {"notes.read", "notes.write"}),
    ],
    ids=["fewer", "others", "none", "not stated"],
)
def test_answer_can_take_scopes_from_a_jwt_and_add_none(
    reply: Reply, scopes: set[str] | frozenset[str]
) -> None:
    access = Middleware(asked(always=True)).ask(reply, JWT)

    assert isinstance(access, Access)
    assert access.scopes == scopes


def test_answer_without_the_actor_leaves_the_one_that_was_signed() -> None:
    jwt = token(act={"sub": "agent-1"})
    access = Middleware(asked(always=True)).ask(active(), jwt)

    assert isinstance(access, Access)
    assert access.agent is not None


BY_AGENT = {"act": {"sub": "agent-1"}, "sub_profile": "user"}
EARLY, LATE = NOW - 500, NOW - 100
CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "an actor only in the answer": (
        {"sub_profile": "user"},
        {"act": {"sub": "agent-1"}},
        {"mode": "delegated", "agent": "agent-1", "user": "user-1"},
    ),
    "an actor only in the token": (
        BY_AGENT,
        {"sub_profile": "user"},
        {"mode": "delegated", "agent": "agent-1", "user": "user-1"},
    ),
    "the same actor in both": (
        BY_AGENT,
        {"act": {"sub": "agent-1"}},
        {"mode": "delegated", "agent": "agent-1", "user": "user-1"},
    ),
    "an earlier actor only in the answer": (
        BY_AGENT,
        {"act": {"sub": "agent-1", "act": {"sub": "agent-0"}}},
        {"mode": "delegated", "agent": "agent-1", "user": "user-1", "chain": 1},
    ),
    "no person, by the answer": (
        {"sub_profile": "user"},
        {"sub_profile": "ai_agent"},
        {"mode": "agent", "user": None},
    ),
    "no person, by the token": (
        {"sub_profile": "ai_agent"},
        {"sub_profile": "user"},
        {"mode": "agent", "user": None},
    ),
    "a service, by the answer": (
        {"sub_profile": "user"},
        {"sub_profile": "service"},
        {"user": None},
    ),
    "nothing, in many ways": (
        {**BY_AGENT, "acr": "phr", "auth_time": LATE},
        {"act": None, "sub_profile": "", "acr": None, "auth_time": None},
        {"mode": "delegated", "agent": "agent-1", "acr": "phr", "auth_time": LATE},
    ),
    "another acr": ({"acr": "phr"}, {"acr": "pwd"}, {"acr": None}),
    "acr only in the answer": ({}, {"acr": "phr"}, {"acr": None}),
    "acr in both": ({"acr": "phr"}, {"acr": "phr"}, {"acr": "phr"}),
    "an earlier sign-in": (
        {"auth_time": LATE},
        {"auth_time": EARLY},
        {"auth_time": EARLY},
    ),
    "a later sign-in": (
        {"auth_time": EARLY},
        {"auth_time": LATE},
        {"auth_time": EARLY},
    ),
    "a sign-in only in the answer": ({}, {"auth_time": LATE}, {"auth_time": None}),
}


@pytest.mark.parametrize(
    ("signed", "told", "expected"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_stricter_of_token_and_answer_counts(
    signed: dict[str, Any], told: dict[str, Any], expected: dict[str, Any]
) -> None:
    access = Middleware(asked(always=True)).ask(active(**told), token(**signed))

    assert isinstance(access, Access)
    found = {
        "mode": access.mode,
        "user": access.user and access.user.subject,
        "agent": access.agent and access.agent.subject,
        "chain": len(access.chain),
        "acr": access.acr,
        "auth_time": access.auth_time,
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("signed", "told"),
    [
        pytest.param(BY_AGENT, {"act": {"sub": "agent-2"}}, id="another actor"),
        pytest.param({}, {"act": {"sub": 7}}, id="an actor that cannot be read"),
        pytest.param({}, {"act": ["agent-1"]}, id="actors in a list"),
    ],
)
def test_who_acts_is_refused_where_token_and_answer_cannot_both_be_true(
    signed: dict[str, Any], told: dict[str, Any]
) -> None:
    answer = Middleware(asked(always=True)).ask(active(**told), token(**signed))

    assert outcome(answer)[0] == 401


def test_policy_meets_the_agent_that_only_the_answer_names() -> None:
    people = Route("/people/*", agent="forbidden")
    told = active(act={"sub": "agent-1"}, sub_profile="user")
    middleware = Middleware(asked(people, always=True))

    answer = middleware.ask(told, token(sub_profile="user"), path="/people/x")

    assert outcome(answer) == (403, "agent_forbidden")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (active(sub="user-2"), "introspection_mismatch"),
        (active(client_id="client-2"), "introspection_mismatch"),
        (active(jti="token-2"), "introspection_mismatch"),
        (active(iss="https://other.example.com"), "wrong_issuer"),
        (active(aud="https://other.example.com"), "wrong_audience"),
        (active(exp=NOW - 61), "expired"),
        (active(cnf={"jkt": "x"}), "sender_constrained"),
    ],
)
def test_answer_about_a_jwt_must_be_about_that(reply: Reply, reason: str) -> None:
    assert outcome(Middleware(asked(always=True)).ask(reply, JWT)) == (401, reason)


def test_jwt_that_is_always_asked_about_is_so_on_every_path() -> None:
    middleware = Middleware(asked(always=True))
    assert isinstance(middleware.ask(active(), JWT), Access)
    assert isinstance(middleware.at_once(JWT), Access)
    middleware.clock.tick(31)

    assert outcome(middleware.ask(INACTIVE, JWT)) == (401, "inactive_token")


# Signed answers


def signed(**changes: Any) -> Reply:
    """A signed answer about a good token, the envelope changed."""
    body = json.loads(active().body)
    envelope = {
        "iss": ISSUER,
        "aud": "rs-1",
        "iat": NOW,
        "token_introspection": body,
        **changes,
    }
    head = {"typ": "token-introspection+jwt", "alg": "ES256", "kid": "key-1"}
    present = {name: value for name, value in envelope.items() if value is not None}
    return in_envelope(sign(present, key(), head))


def in_envelope(body: bytes, kind: str = "token-introspection+jwt") -> Reply:
    return Reply(200, {"content-type": f"application/{kind}"}, body)


def test_signed_answer_is_demanded_and_used() -> None:
    middleware = Middleware(asked(signed=True))
    step = middleware.step()

    assert isinstance(step.asks, Fetch)
    assert step.asks.accept == "application/token-introspection+jwt"

    step.answer(signed())
    access = step.result

    assert isinstance(access, Access)
    assert access.subject == "user-1"
    assert "iss" in access.claims


def test_signed_answer_that_it_is_inactive_is_a_verdict() -> None:
    middleware = Middleware(asked(signed=True))
    reply = signed(token_introspection={"active": False})

    assert outcome(middleware.ask(reply)) == (401, "inactive_token")


def unsigned() -> Reply:
    head = base64url(b'{"typ":"token-introspection+jwt","alg":"none"}')
    body = {
        "iss": ISSUER,
        "aud": "rs-1",
        "iat": NOW,
        "token_introspection": {"active": True},
    }
    return in_envelope(head + b"." + base64url(json.dumps(body).encode()) + b".")


FORGED: dict[str, Callable[[], Reply]] = {
    "plain": active,
    "plain in its clothes": lambda: in_envelope(active().body),
    "of another kind": lambda: in_envelope(signed().body, "jwt"),
    "an access token": lambda: in_envelope(token()),
    "not signed": unsigned,
    "of another issuer": lambda: signed(iss="https://other.example.com"),
    "for another": lambda: signed(aud="rs-2"),
    "for nobody": lambda: signed(aud=None),
    "of old": lambda: signed(iat=NOW - 121),
    "of the future": lambda: signed(iat=NOW + 121),
    "undated": lambda: signed(iat=None),
    "active outside": lambda: signed(token_introspection=None, active=True),
    "no object": lambda: signed(token_introspection=[True]),
    "signed by nobody known": lambda: in_envelope(
        sign(
            {"iss": ISSUER, "aud": "rs-1", "iat": NOW},
            key("ES256", "mine"),
            {"typ": "token-introspection+jwt", "alg": "ES256", "kid": "key-1"},
        )
    ),
    "unknown key": lambda: in_envelope(
        sign(
            {"iss": ISSUER, "aud": "rs-1", "iat": NOW},
            key("ES256", "mine"),
            {"typ": "token-introspection+jwt", "alg": "ES256", "kid": "mine"},
        )
    ),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_answer_that_is_not_signed_as_demanded_is_no_verdict(
    forge: Callable[[], Reply],
) -> None:
    assert outcome(Middleware(asked(signed=True)).ask(forge())) == (
        503,
        "introspection_unusable",
    )


def test_answer_about_a_jwt_need_not_repeat_what_was_signed() -> None:
    """``active`` alone is an answer (RFC 7662 §2.2)."""
    trusted = issuer(
        introspection=introspection(always=True),
        client_ids=["client-1"],
        max_token_age=3600,
        required_claims=["jti"],
    )

    assert isinstance(
        Middleware(server(trusted)).ask(json_reply({"active": True}), JWT), Access
    )


@pytest.mark.parametrize(
    "swapped",
    [{"sub": "client-1"}, {"sub": "token-1"}, {"client_id": "token-1"}],
    ids=repr,
)
def test_names_in_an_answer_are_compared_each_with_its_own(
    swapped: dict[str, str],
) -> None:
    answer = Middleware(asked(always=True)).ask(active(**swapped), JWT)

    assert outcome(answer) == (401, "introspection_mismatch")


def test_issuer_that_wants_to_be_left_alone_for_ever_is_not() -> None:
    refused = Middleware().ask(json_reply({}, 429, retry_after="9" * 5000))

    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after) == (429, 1)


# What stays good, and what does not


@pytest.mark.parametrize("presented", [OPAQUE, JWT], ids=["opaque", "JWT"])
def test_token_that_its_issuer_disowned_is_refused_on_all_routes(
    presented: bytes,
) -> None:
    middleware = Middleware(asked(ALWAYS, remember_for=3000))
    step = middleware.step(presented)
    if step.asks is not None:
        step.answer(active())
    assert isinstance(step.result, Access)
    assert outcome(middleware.ask(INACTIVE, presented, path="/admin/x"))[0] == 401

    assert outcome(middleware.at_once(presented)) == (401, "inactive_token")

    middleware.clock.tick(11)  # the verdict is old: but so is what was known before it

    assert outcome(middleware.ask(INACTIVE, presented)) == (401, "inactive_token")

    middleware.clock.tick(11)

    assert isinstance(middleware.ask(active(), presented), Access)
    assert isinstance(middleware.at_once(presented), Access)


def test_token_that_was_disowned_is_not_recalled() -> None:
    middleware = Middleware(asked(ALWAYS))
    assert isinstance(middleware.at_once(JWT), Access)
    middleware.ask(INACTIVE, JWT, path="/admin/x")
    push_out(middleware.middleware_state, JWT)
    middleware.clock.tick(11)

    assert outcome(middleware.ask(INACTIVE, JWT)) == (401, "inactive_token")


def test_recalled_token_is_asked_about_when_its_answer_is_old() -> None:
    middleware = Middleware()
    middleware.ask(active(exp=NOW + 3600))
    push_out(middleware.middleware_state, OPAQUE)
    assert isinstance(middleware.at_once(), Access)
    push_out(middleware.middleware_state, OPAQUE)
    middleware.clock.tick(31)

    assert outcome(middleware.ask(INACTIVE)) == (401, "inactive_token")


def test_answer_with_a_byte_order_mark_is_kept_without_it() -> None:
    """Its claims are read again when the token is recalled, and by handlers."""
    middleware, answer = Middleware(), active(exp=NOW + 3600)
    middleware.ask(replace(answer, body=b"\xef\xbb\xbf" + answer.body))
    push_out(middleware.middleware_state, OPAQUE)
    recalled = middleware.at_once()

    assert isinstance(recalled, Access)
    assert recalled.claims["active"] is True


@pytest.mark.parametrize("presented", [OPAQUE, JWT], ids=["opaque", "JWT"])
@pytest.mark.parametrize("empty", [None, "", []], ids=repr)
def test_what_an_answer_leaves_empty_is_not_said(
    empty: object, presented: bytes
) -> None:
    nothing = dict.fromkeys(["client_id", "jti", "acr", "nbf", "auth_time"], empty)
    middleware = Middleware(asked(always=presented == JWT))

    assert isinstance(middleware.ask(active(**nothing), presented), Access)


def test_empty_list_of_scopes_in_an_answer_takes_all_away() -> None:
    trusted = issuer(introspection=introspection(always=True), scope_claims=["roles"])
    access = Middleware(server(trusted)).ask(
        active(("scope",), roles=[]), token(roles=["notes.read"])
    )

    assert isinstance(access, Access)
    assert access.scopes == frozenset()


@pytest.mark.parametrize("presented", [OPAQUE, JWT], ids=["opaque", "JWT"])
def test_answer_may_list_scopes_in_an_array_where_the_issuer_is_allowed_that(
    presented: bytes,
) -> None:
    asks = introspection(always=presented == JWT)
    trusted = issuer(introspection=asks, scope_as_array=True)
    middleware = Middleware(server(trusted))
    access = middleware.ask(active(scope=["notes.read", "other"]), presented)

    assert isinstance(access, Access)
    assert "notes.read" in access.scopes


def test_recalled_jwt_that_is_always_asked_about_is_asked_about() -> None:
    middleware = Middleware(asked(always=True))
    middleware.ask(active(), JWT)
    push_out(middleware.middleware_state, JWT)

    assert isinstance(middleware.step(JWT).asks, Fetch)


@pytest.mark.parametrize("presented", [OPAQUE, JWT], ids=["opaque", "JWT"])
def test_answer_does_not_outlive_a_clock_set_back(presented: bytes) -> None:
    middleware = Middleware(asked(always=True))
    middleware.ask(active(), presented)
    middleware.clock.tick(-7200)

    assert isinstance(middleware.step(presented).asks, Fetch)


def test_bound_token_stays_bound_whatever_the_answer_leaves_out() -> None:
    bound = token(cnf={"jkt": "x"})
    refused = Middleware(asked(always=True)).ask(active(), bound)

    assert outcome(refused) == (401, "sender_constrained")


def test_answer_may_end_a_jwt_earlier() -> None:
    middleware = Middleware(asked(always=True, remember_for=3000))
    access = middleware.ask(active(exp=NOW + 100), JWT)

    assert isinstance(access, Access)
    assert access.expires_at == NOW + 100

    middleware.clock.tick(161)

    assert outcome(middleware.at_once(JWT)) == (401, "expired")


def test_opaque_token_dies_of_age_though_it_is_remembered() -> None:
    trusted = issuer(introspection=introspection(remember_for=3000), max_token_age=30)
    middleware = Middleware(server(trusted))
    assert isinstance(middleware.ask(active(iat=NOW)), Access)
    middleware.clock.tick(90)

    assert outcome(middleware.at_once()) == (401, "expired")


def test_scope_of_an_answer_counts_wherever_the_jwt_has_its_own() -> None:
    trusted = issuer(introspection=introspection(always=True), scope_claims=["scp"])
    access = Middleware(server(trusted)).ask(active(scope="a"), token(scp="a admin"))

    assert isinstance(access, Access)
    assert access.scopes == {"a"}


def test_answer_of_a_key_for_other_algorithms_is_none() -> None:
    trusted = issuer(introspection=introspection(signed=True), algorithms=["RS256"])
    keys = jwks(key("ES256", "es"), key("RS256", "rs"))
    middleware = Middleware(server(replace(trusted, jwks=keys)))
    body = json.loads(active().body)
    envelope = {"iss": ISSUER, "aud": "rs-1", "iat": NOW, "token_introspection": body}
    head = {"typ": "token-introspection+jwt", "alg": "ES256", "kid": "es"}
    reply = in_envelope(sign(envelope, key("ES256", "es"), head))

    assert outcome(middleware.ask(reply)) == (503, "introspection_unusable")


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", None])
def test_answer_is_signed_as_one(typ: str | None) -> None:
    """Any other JWT of the issuer's for us would do, otherwise."""
    body = json.loads(active().body)
    envelope = {"iss": ISSUER, "aud": "rs-1", "iat": NOW, "token_introspection": body}
    head = {"alg": "ES256", "kid": "key-1", **({"typ": typ} if typ else {})}
    reply = in_envelope(sign(envelope, key(), head))

    assert (
        outcome(Middleware(asked(signed=True)).ask(reply))[1]
        == "introspection_unusable"
    )


# Levers


@pytest.mark.parametrize("status", [400, 403, 413, 414, 431])
def test_token_that_a_server_does_not_like_stops_no_other(status: int) -> None:
    middleware = Middleware()
    for number in range(8):
        refused = middleware.ask(json_reply({}, status), b"at_%d" % number)

        assert outcome(refused)[0] == 429

    assert isinstance(middleware.ask(active()), Access)


def test_server_that_dislikes_a_token_is_there() -> None:
    middleware = Middleware()
    fail(middleware, 5)
    middleware.clock.tick(5.1)
    middleware.ask(json_reply({}, 400))
    first, second = middleware.step(b"at_1"), middleware.step(b"at_2")

    assert isinstance(first.asks, Fetch)
    assert isinstance(second.asks, Fetch)


@pytest.mark.parametrize(
    "reply",
    [
        *(json_reply({}, 400), json_reply({}, 403)),
        *(active(aud="https://other.example.com"), active(sub=1)),
    ],
    ids=["400", "403", "another audience", "unreadable"],
)
def test_whatever_grants_nothing_is_charged_to_who_sent_it(reply: Reply) -> None:
    middleware = Middleware(asked(inactive_per_minute=5))
    for number in range(5):
        middleware.ask(reply, b"at_%d" % number)

    assert outcome(middleware.at_once()) == (429, "too_many_inactive")
    assert isinstance(middleware.ask(active(), client="192.0.2.2"), Access)


def test_trouble_of_the_server_is_charged_to_nobody() -> None:
    middleware = Middleware(asked(inactive_per_minute=2))
    fail(middleware, 4)

    assert isinstance(middleware.ask(active()), Access)


def test_budget_that_is_spent_is_not_for_ever_though_the_clock_is_set_back() -> None:
    middleware = Middleware(asked(inactive_per_minute=1))
    middleware.ask(INACTIVE, b"at_junk")
    middleware.clock.tick(-60)

    assert isinstance(middleware.ask(active()), Access)


def test_one_address_has_half_of_the_exchanges() -> None:
    middleware = Middleware(asked(max_concurrent=4))
    _waiting = [middleware.step(b"at_1"), middleware.step(b"at_2")]

    assert outcome(middleware.at_once(b"at_3")) == (429, "introspection_busy")
    assert isinstance(middleware.step(b"at_1").asks, Fetch)  # shares one of them
    assert isinstance(middleware.step(b"at_4", client="192.0.2.2").asks, Fetch)


def test_addresses_that_ask_for_much_leave_places_for_those_that_ask_for_little() -> (
    None
):
    middleware = Middleware(asked(max_concurrent=20))
    for number in range(30):
        for client in ("192.0.2.1", "192.0.2.2"):
            middleware.step(b"junk-%b-%d" % (client.encode(), number), client=client)
    others = [
        middleware.step(b"at_%d" % number, client=f"198.51.100.{number}")
        for number in range(9)
    ]

    assert all(isinstance(other.asks, Fetch) for other in others)


def test_questions_under_way_count_as_junk_until_they_are_answered() -> None:
    """Else a burst is through before its first answer is there."""
    middleware = Middleware(asked(max_concurrent=100, inactive_per_minute=5))
    waiting = [middleware.step(b"junk-%d" % number) for number in range(5)]

    assert outcome(middleware.at_once(b"at_1")) == (429, "too_many_inactive")
    assert isinstance(middleware.step(b"junk-1").asks, Fetch)  # shares one of them
    for step in waiting:
        step.answer(active())
    assert isinstance(middleware.ask(active(), b"at_1"), Access)


def test_failures_of_two_tokens_are_two_however_many_share_them() -> None:
    middleware = Middleware()
    steps = [middleware.step(b"at_%d" % (number % 2)) for number in range(6)]
    for step in steps:
        step.answer(json_reply({}, 500))

    assert isinstance(middleware.step().asks, Fetch)


# When it was asked


@pytest.mark.parametrize("presented", [OPAQUE, JWT], ids=["opaque", "JWT"])
def test_answer_counts_from_when_it_was_asked_for(presented: bytes) -> None:
    """It may have been true only then."""
    middleware = Middleware(asked(always=True))
    step = middleware.step(presented)
    middleware.clock.tick(1.5)
    step.answer(active())
    middleware.middleware_state.revocations.read_at = middleware.clock.now
    middleware.clock.tick(28.25)

    assert isinstance(middleware.at_once(presented), Access)

    middleware.clock.tick(0.25)

    assert isinstance(middleware.step(presented).asks, Fetch)


def test_issuer_may_shorten_how_long_its_answer_about_a_jwt_counts() -> None:
    middleware = Middleware(asked(always=True))
    reply = active()
    middleware.ask(
        replace(reply, headers={**reply.headers, "cache-control": "max-age=5"}), JWT
    )
    middleware.clock.tick(5)

    assert isinstance(middleware.step(JWT).asks, Fetch)


def test_refusal_does_not_outlive_a_clock_set_back() -> None:
    """Else a token could be refused for as long as the clock went back."""
    middleware = Middleware()
    middleware.ask(INACTIVE)
    middleware.clock.tick(-3600)

    assert isinstance(middleware.ask(active(("iat",))), Access)


def test_pause_that_an_issuer_asked_for_ends_with_a_clock_set_back() -> None:
    middleware = Middleware()
    middleware.ask(json_reply({}, 429, retry_after="60"))
    middleware.clock.tick(-3600)

    assert isinstance(middleware.ask(active(("iat",))), Access)


# What one answer leaves for the next


def test_each_answer_takes_from_what_was_signed_and_not_from_the_last_one() -> None:
    middleware = Middleware(asked(always=True))
    middleware.ask(active(scope="notes.read", exp=NOW + 100), JWT)
    middleware.clock.tick(31)
    access = middleware.ask(active(("scope", "exp")), JWT)

    assert isinstance(access, Access)
    assert access.scopes == {"notes.read", "notes.write"}
    assert access.expires_at == NOW + 300


def test_answer_does_not_prolong_a_jwt() -> None:
    middleware = Middleware(asked(always=True, remember_for=3000))
    access = middleware.ask(active(exp=NOW + 3000), JWT)

    assert isinstance(access, Access)
    assert access.expires_at == NOW + 300

    middleware.clock.tick(361)

    assert outcome(middleware.at_once(JWT)) == (401, "expired")


def test_jwt_that_its_issuer_stands_by_again_is_recalled_without_a_question() -> None:
    middleware = Middleware(asked(ALWAYS))
    middleware.at_once(JWT)
    middleware.ask(INACTIVE, JWT, path="/admin/x")
    middleware.clock.tick(11)
    assert isinstance(middleware.ask(active(), JWT), Access)
    push_out(middleware.middleware_state, JWT)

    assert isinstance(middleware.at_once(JWT), Access)


def test_empty_list_in_an_answer_is_not_said() -> None:
    """Some servers write that where they have nothing to say."""
    middleware = Middleware(asked(always=True))

    assert isinstance(middleware.ask(active(aud=[]), JWT), Access)


def test_answer_about_a_jwt_says_as_well_for_what_it_is() -> None:
    refused = Middleware(asked(always=True)).ask(active(token_use="id"), JWT)

    assert outcome(refused) == (401, "wrong_token_type")


@pytest.mark.parametrize("early", [{"nbf": NOW + 61}, {"iat": NOW + 61}], ids=repr)
def test_answer_about_a_jwt_may_say_that_it_is_too_early(early: dict[str, int]) -> None:
    refused = Middleware(asked(always=True)).ask(active(**early), JWT)

    assert outcome(refused) == (401, "not_yet_valid")


def test_answer_that_does_not_say_how_old_the_token_is_leaves_it_too_old() -> None:
    """Where its age is bounded, what has none has no end either."""
    trusted = issuer(introspection=introspection(), max_token_age=3600)

    assert outcome(Middleware(server(trusted)).ask(active(("iat",)))) == (
        401,
        "expired",
    )


def test_opaque_token_that_ends_before_it_is_too_old_ends_then() -> None:
    trusted = issuer(introspection=introspection(remember_for=3000), max_token_age=3600)
    middleware = Middleware(server(trusted))
    assert isinstance(middleware.ask(active(exp=NOW + 100)), Access)
    middleware.clock.tick(160)

    assert outcome(middleware.at_once()) == (401, "expired")


def keys_reach(middleware: Middleware, *keys: Key) -> None:
    """A refresh brings the issuer's set, which now is *keys*."""
    (trusted,) = middleware.middleware_state.server.listed_issuers
    state = middleware.middleware_state.trust.find(
        trusted.issuer, middleware.clock()
    ).keys
    by_new = parse_compact(sign({}, key("ES256", "new")))
    refresh = Stepper(verify(state, by_new, middleware.clock))
    assert isinstance(refresh.asks, Fetch)
    refresh.answer(json_reply(jwks(*keys)))


def test_jwt_whose_key_was_dropped_while_its_issuer_was_asked_is_forgotten() -> None:
    """The answer is about the token, and says nothing for its signature."""
    trusted = Issuer(
        ISSUER, jwks_uri=f"{ISSUER}/keys", introspection=introspection(always=True)
    )
    middleware = Middleware(server(trusted))
    step = middleware.step(JWT)
    step.answer(json_reply(jwks(key())))
    assert isinstance(step.asks, Fetch)
    assert step.asks.url == ENDPOINT
    middleware.clock.tick(1)
    keys_reach(middleware, key("ES256", "new"))
    step.answer(active())
    step = middleware.step(JWT)
    while step.asks is not None:
        step.answer(active())

    assert outcome(step.result) == (401, "unknown_kid")
