"""The order of checks, what is remembered, and how fresh the log must be.

Every test steps ``decide`` by hand and names all that it asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.issuers.keys import FetchedKeys
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import (
    AppendLog,
    Fetch,
    LogPage,
    ReadLog,
    Start,
)
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware._core.tokens.jose import parse_key_set
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from tests.support.deciding import (
    Decided,
    decide_at_once,
    deciding,
    push_out,
    request,
    state_for,
)
from tests.support.stepping import Clock, Stepper, json_reply, play
from tests.support.tokens import (
    ISSUER,
    NOW,
    Key,
    claims,
    header,
    issuer,
    jwks,
    key,
    server,
    sign,
    token,
)

A, B = key("ES256", "a"), key("ES256", "b")
KEYS = f"{ISSUER}/keys"
EMPTY = LogPage(0, ())
BROKEN = UnavailableError("store_unreachable", retry_after=5)


def revoked(*, at: float = NOW, position: int = 1, **target: Any) -> LogPage:
    """A page with one revocation, of all tokens unless *target* says less."""
    return LogPage(position, (Revocation(ISSUER, at, **target).entry,))


def step(
    state: MiddlewareState, clock: Clock, presented: bytes | None = None
) -> Stepper[Decided]:
    return Stepper(deciding(state, request(presented or token()), clock))


def reads(step: Stepper[Decided]) -> bool:
    return step.asks == ReadLog(0)


def refused(decision: object) -> tuple[int, str]:
    assert isinstance(decision, Refusal)
    return decision.status, decision.reason


# The order of checks


@pytest.mark.parametrize("method", ["TRACE", "trace", "Trace"])
@pytest.mark.parametrize("path", ["/notes", "/health"])
@pytest.mark.parametrize("unauthenticated", ["challenge", "pass"])
def test_trace_is_never_passed_on(method: str, path: str, unauthenticated: Any) -> None:
    """Its answer would carry the credential."""
    routes = [Route("/health", public=True)]
    state = state_for(server(issuer(), routes=routes, unauthenticated=unauthenticated))

    decision = decide_at_once(state, request(method=method, path=path))

    assert refused(decision) == (400, "trace_method")


def test_transcript_of_a_first_request() -> None:
    """Metadata, keys, log: and then the same token asks for nothing."""
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER)))
    metadata_url = f"{ISSUER}/.well-known/oauth-authorization-server"
    limits = (5.0, 512 * 1024)
    access = play(
        deciding(state, request(token(A)), clock),
        [
            (
                Fetch(
                    metadata_url, f"{ISSUER}: {metadata_url}#0", *limits, issuer=ISSUER
                ),
                json_reply({"issuer": ISSUER, "jwks_uri": KEYS}),
            ),
            (
                Fetch(
                    KEYS,
                    f"{ISSUER}: {KEYS}#0",
                    *limits,
                    issuer=ISSUER,
                    accept="application/json, application/jwk-set+json",
                ),
                json_reply(jwks(A)),
            ),
            (ReadLog(0), EMPTY),
        ],
    )

    assert isinstance(access, Access)
    assert access.subject == "user-1"
    assert decide_at_once(state, request(token(A)), clock) == access


def test_own_documents_need_no_credentials_and_mind_none() -> None:
    state = state_for()
    for asked in (
        request(path="/.well-known/oauth-protected-resource"),
        request(path="/auth.md", authorization=[b"Bearer a", b"Bearer b"]),
    ):
        decision = decide_at_once(state, asked)

        assert isinstance(decision, Response)
        assert decision.status == 200


def routes(*routes: Route, **settings: Any) -> MiddlewareState:
    return state_for(server(routes=routes, **settings))


def test_public_route_looks_at_no_credentials() -> None:
    state = routes(Route("/notes", public=True))
    for asked in (
        request(),
        request(token()),
        request(b"not a token"),
        request(authorization=[b"Bearer a", b"Bearer b"]),
    ):
        assert decide_at_once(state, asked) == Anonymous()


def test_optional_route_lets_nobody_pass_without_an_access() -> None:
    state = routes(Route("/notes", optional=True))

    assert decide_at_once(state, request()) == Anonymous()
    assert decide_at_once(state, request(authorization=[b"Basic abc"])) == Anonymous()
    assert isinstance(decide_at_once(state, request(token())), Access)


@pytest.mark.parametrize(
    ("authorization", "verdict"),
    [
        ([b"Bearer abc"], (401, "malformed")),
        ([b"Bearer ="], (400, "malformed_credential")),
        ([b"Bearer a", b"Bearer b"], (400, "duplicate_authorization")),
    ],
)
def test_optional_route_refuses_bad_credentials(
    authorization: list[bytes], verdict: tuple[int, str]
) -> None:
    state = routes(Route("/notes", optional=True))

    assert (
        refused(decide_at_once(state, request(authorization=authorization))) == verdict
    )


def test_request_without_credentials_is_told_which_scopes_it_will_need() -> None:
    state = routes(Route("/notes", scopes=["notes.read"]))
    decision = decide_at_once(state, request())

    assert refused(decision) == (401, "no_credentials")
    assert decision.error is None
    assert decision.scopes == ("notes.read",)


def test_other_scheme_is_no_credentials() -> None:
    decision = decide_at_once(state_for(), request(authorization=[b"Basic abc"]))

    assert refused(decision) == (401, "no_credentials")


def test_token_in_the_query_alone_is_no_credentials() -> None:
    decision = decide_at_once(state_for(), request(query=b"access_token=" + token()))

    assert refused(decision) == (401, "no_credentials")


def test_token_in_the_query_and_in_the_header_is_refused() -> None:
    asked = request(token(), query=b"access_token=abc")

    assert refused(decide_at_once(state_for(), asked)) == (400, "two_methods")


def test_token_in_the_query_may_be_a_name_of_the_application() -> None:
    state = state_for(server(ignore_query_token=True))
    asked = request(token(), query=b"access_token=abc")

    assert isinstance(decide_at_once(state, asked), Access)


@pytest.mark.parametrize("query", [b"q=caf%C3%A9", b"token=\xff"])
def test_query_may_be_anything_else(query: bytes) -> None:
    assert isinstance(
        decide_at_once(state_for(), request(token(), query=query)), Access
    )


def test_unmatched_path_is_authenticated_or_refused() -> None:
    assert isinstance(decide_at_once(routes(Route("/x")), request(token())), Access)
    state = routes(Route("/x"), unmatched="refuse")

    assert refused(decide_at_once(state, request(token()))) == (403, "unmatched_path")


def test_middleware_for_one_resource_refuses_tokens_for_another() -> None:
    """Two resources may stand in one process and trust one issuer."""
    mail = state_for(ResourceServer("https://mail.example.com", issuers=[issuer()]))
    notes = state_for()
    for_mail, for_notes = token(aud="https://mail.example.com"), token()

    assert isinstance(decide_at_once(mail, request(for_mail)), Access)
    assert isinstance(decide_at_once(notes, request(for_notes)), Access)
    assert refused(decide_at_once(mail, request(for_notes))) == (401, "wrong_audience")
    assert refused(decide_at_once(notes, request(for_mail))) == (401, "wrong_audience")


def test_two_issuers_are_told_apart_though_their_keys_have_one_name() -> None:
    other = "https://idp.example.net"
    theirs = Key("a", "ES256", B.private)
    state = state_for(server(issuer(A), issuer(theirs, name=other)))
    ours = decide_at_once(state, request(token(A)))
    foreign = decide_at_once(state, request(token(theirs, iss=other)))

    assert (ours.issuer, foreign.issuer) == (ISSUER, other)
    assert refused(decide_at_once(state, request(token(theirs)))) == (
        401,
        "bad_signature",
    )
    assert refused(decide_at_once(state, request(token(A, iss=other)))) == (
        401,
        "bad_signature",
    )


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (token(A, iss="https://evil.example"), "unknown_issuer"),
        (token(Key("a", "RS384", key("RS256").private)), "alg_not_allowed"),
        (b"junk", "malformed"),
    ],
)
def test_junk_makes_nobody_ask_for_anything(presented: bytes, reason: str) -> None:
    """Not even for keys, on a middleware that has none yet."""
    state = MiddlewareState(server(Issuer(ISSUER)))

    assert refused(decide_at_once(state, request(presented))) == (401, reason)


def test_log_is_not_read_for_a_token_that_is_not_good() -> None:
    state = MiddlewareState(server(issuer(A)))

    assert refused(decide_at_once(state, request(token(A, exp=0)))) == (401, "expired")


@pytest.mark.parametrize("confirmation", [{"jkt": "x"}, {}, None], ids=repr)
def test_token_bound_to_a_key_is_no_bearer_token(confirmation: object) -> None:
    """It was issued so that a thief cannot use it; the second time as well."""
    state = state_for()
    asked = request(token(cnf=confirmation))

    for _ in range(2):
        assert refused(decide_at_once(state, asked)) == (401, "sender_constrained")


def test_revoked_comes_before_bound() -> None:
    state = MiddlewareState(server())
    asked = step(state, Clock(), token(cnf={"jkt": "x"}))
    asked.answer(revoked())

    assert refused(asked.result) == (401, "revoked")


def test_refusal_of_a_good_token_tells_the_log_whose_it_is() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    bound = decide_at_once(state, request(token(cnf={"jkt": "x"})), clock)
    decide_at_once(state, request(token()), clock)
    state.revocations.apply(revoked(token_id="token-1"), clock())
    withdrawn = decide_at_once(state, request(token()), clock)
    clock.tick(1000.0)
    expired = decide_at_once(state, request(token()), clock)

    assert refused(bound) == (401, "sender_constrained")
    assert refused(withdrawn) == (401, "revoked")
    assert refused(expired) == (401, "expired")
    for decision in (bound, withdrawn, expired):
        assert decision.access is not None
        assert decision.access.subject == "user-1"


def test_expired_comes_before_revoked() -> None:
    """And asks for nothing: whoever keeps an old token must not make us read."""
    clock = Clock()
    state = state_for(clock=clock)
    decide_at_once(state, request(token()), clock)
    clock.tick(1000.0)

    assert refused(decide_at_once(state, request(token()), clock)) == (401, "expired")


def test_token_may_list_what_its_holder_may_do_in_many_places() -> None:
    """Some issuers name every client of the realm, each with an object of its own."""
    access = {f"client-{number}": {"roles": ["r"]} for number in range(200)}
    decision = decide_at_once(state_for(), request(token(resource_access=access)))

    assert isinstance(decision, Access)
    assert len(decision.claims["resource_access"]) == 200


# Policy


@pytest.mark.parametrize(
    ("demand", "claims"),
    [
        pytest.param({"scopes": ["a"]}, {"scope": "b a"}, id="scope"),
        pytest.param({"scopes": ["a", "b"]}, {"scope": "b a c"}, id="scopes"),
        pytest.param({"user": "required"}, {"act": {"sub": "x"}}, id="user"),
        pytest.param({"agent": "required"}, {"act": {"sub": "x"}}, id="agent"),
        pytest.param({"agent": "forbidden"}, {}, id="no agent"),
        pytest.param({"acr_values": ["phr", "mfa"]}, {"acr": "mfa"}, id="acr"),
        pytest.param({"max_age": 300}, {"auth_time": NOW - 300}, id="age"),
        pytest.param({"max_age": 300}, {"auth_time": NOW - 360}, id="age and leeway"),
        pytest.param({"max_age": 0}, {"auth_time": NOW - 60}, id="just now"),
        pytest.param({"max_age": 0}, {"auth_time": NOW + 5}, id="clock ahead"),
        pytest.param({"max_age": 0}, {"auth_time": NOW + 60}, id="ahead by leeway"),
    ],
)
def test_demand_is_met(demand: dict[str, Any], claims: dict[str, Any]) -> None:
    state = routes(Route("/notes", **demand))

    assert isinstance(decide_at_once(state, request(token(**claims))), Access)


STEP_UP = (401, "step_up_required")
SCOPE = (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("demand", "claims", "verdict"),
    [
        pytest.param({"scopes": ["a"]}, {}, SCOPE, id="no scope"),
        pytest.param({"scopes": ["a"]}, {"scope": "A ab b"}, SCOPE, id="similar scope"),
        pytest.param({"scopes": ["a", "b"]}, {"scope": "a"}, SCOPE, id="one of two"),
        pytest.param({"user": "required"}, {}, (403, "user_required"), id="no user"),
        pytest.param(
            {"user": "required"},
            {"sub": "client-1", "act": {"sub": "x"}},
            (403, "user_required"),
            id="agent of a service",
        ),
        pytest.param({"agent": "required"}, {}, (403, "agent_required"), id="no agent"),
        pytest.param(
            {"agent": "forbidden"},
            {"act": {"sub": "x"}},
            (403, "agent_forbidden"),
            id="agent",
        ),
        pytest.param(
            {"agent": "forbidden"},
            {"sub_profile": "ai_agent"},
            (403, "agent_forbidden"),
            id="agent alone",
        ),
        pytest.param({"acr_values": ["phr"]}, {}, STEP_UP, id="no acr"),
        pytest.param({"acr_values": ["phr"]}, {"acr": "pwd"}, STEP_UP, id="weak acr"),
        pytest.param({"acr_values": ["phr"]}, {"acr": "phrx"}, STEP_UP, id="other acr"),
        pytest.param({"max_age": 300}, {}, STEP_UP, id="no auth_time"),
        pytest.param({"max_age": 300}, {"auth_time": NOW - 361}, STEP_UP, id="too old"),
        pytest.param(
            {"max_age": 0}, {"auth_time": NOW - 61}, STEP_UP, id="not just now"
        ),
        pytest.param(
            {"max_age": 300}, {"auth_time": NOW + 61}, STEP_UP, id="in the future"
        ),
        pytest.param(
            {"max_age": 300}, {"auth_time": NOW * 2}, STEP_UP, id="far in the future"
        ),
        pytest.param(
            {"max_age": 300, "acr_values": ["phr"]},
            {"acr": "phr", "auth_time": NOW - 361},
            STEP_UP,
            id="strong but old",
        ),
        pytest.param(
            {"max_age": 300, "acr_values": ["phr"]},
            {"acr": "pwd", "auth_time": NOW},
            STEP_UP,
            id="fresh but weak",
        ),
        # Several at once: step-up comes before scope, and scope before who it is.
        pytest.param({"scopes": ["a"], "acr_values": ["phr"]}, {}, STEP_UP, id="1, 2"),
        pytest.param(
            {"acr_values": ["phr"], "user": "required"}, {}, STEP_UP, id="1, 3"
        ),
        pytest.param({"scopes": ["a"], "user": "required"}, {}, SCOPE, id="2, 3"),
        pytest.param(
            {"scopes": ["a"], "agent": "forbidden"},
            {"act": {"sub": "x"}},
            SCOPE,
            id="2, 4",
        ),
        pytest.param(
            {"user": "required", "agent": "required"},
            {},
            (403, "user_required"),
            id="3, 4",
        ),
    ],
)
def test_demand_is_not_met(
    demand: dict[str, Any], claims: dict[str, Any], verdict: tuple[int, str]
) -> None:
    state = routes(Route("/notes", **demand))
    decision = decide_at_once(state, request(token(**claims)))

    assert refused(decision) == verdict
    assert decision.access is not None  # for the log: the token was good


def test_step_up_tells_all_that_is_needed() -> None:
    state = routes(Route("/notes", scopes=["a"], acr_values=["phr"], max_age=300))
    without_scope = decide_at_once(state, request(token()))
    with_scope = decide_at_once(state, request(token(scope="a")))

    assert (without_scope.acr_values, without_scope.max_age) == (("phr",), 300)
    assert without_scope.scopes == ("a",)  # saves the client a second round
    assert with_scope.scopes == ()


def test_missing_scope_tells_all_that_are_needed() -> None:
    state = routes(Route("/notes", scopes=["a", "b"]))

    assert decide_at_once(state, request(token(scope="a"))).scopes == ("a", "b")


def test_policy_is_checked_for_a_remembered_token_as_well() -> None:
    state = routes(Route("/notes", scopes=["a"]), Route("/other"))
    presented = token()

    assert isinstance(decide_at_once(state, request(presented, path="/other")), Access)
    assert refused(decide_at_once(state, request(presented))) == SCOPE


def test_age_of_the_sign_in_is_checked_for_a_remembered_token_as_well() -> None:
    clock = Clock()
    state = state_for(server(routes=[Route("/notes", max_age=100)]), clock)
    presented = token(auth_time=NOW)
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    clock.tick(161.0)
    state.revocations.apply(LogPage(0, ()), clock())

    assert refused(decide_at_once(state, request(presented), clock)) == STEP_UP


# What is remembered


def test_remembered_token_is_the_same_access() -> None:
    state = state_for()
    presented = token()
    first = decide_at_once(state, request(presented))

    assert decide_at_once(state, request(presented)) is first


def test_token_that_differs_in_its_signature_alone_is_another() -> None:
    state = state_for()
    decide_at_once(state, request(token()))
    head, payload, _ = token().split(b".")
    forged = b".".join([head, payload, b"A" * 86])

    assert refused(decide_at_once(state, request(forged))) == (401, "bad_signature")


def test_refused_token_is_not_remembered() -> None:
    """It may be good later: a clock that is behind, a key that comes."""
    clock = Clock()
    state = state_for(clock=clock)
    presented = token(nbf=NOW + 61)
    assert refused(decide_at_once(state, request(presented), clock)) == (
        401,
        "not_yet_valid",
    )
    clock.tick(1.0)
    state.revocations.apply(LogPage(0, ()), clock())

    assert isinstance(decide_at_once(state, request(presented), clock), Access)


@pytest.mark.parametrize("leeway", [0, 60])
def test_remembered_token_expires(leeway: int) -> None:
    clock = Clock()
    state = state_for(server(leeway=leeway), clock)
    presented = token(exp=NOW + 100)
    decide_at_once(state, request(presented), clock)
    clock.tick(100.0 + leeway - 1)
    state.revocations.apply(LogPage(0, ()), clock())
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    clock.tick(1.0)
    state.revocations.apply(LogPage(0, ()), clock())

    assert refused(decide_at_once(state, request(presented), clock)) == (401, "expired")


def discovered(clock: Clock, *keys: Key) -> MiddlewareState:
    """A state that has just fetched *keys*, and remembers A's token."""
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    asked = step(state, clock, token(A))
    asked.answer(json_reply(jwks(*keys)))
    asked.answer(EMPTY)
    assert isinstance(asked.result, Access)
    return state


def read_nothing(state: MiddlewareState, clock: Clock) -> None:
    """The log has just been read, and there was no news."""
    state.revocations.apply(LogPage(0, ()), clock())


def test_remembered_token_is_forgotten_with_its_key() -> None:
    clock = Clock()
    state = discovered(clock, A, B)
    clock.tick(100.0)
    rotated = step(state, clock, token(key("ES256", "c")))
    rotated.answer(json_reply(jwks(B, key("ES256", "c"))))
    clock.tick(12.0)
    read_nothing(state, clock)
    asked = step(state, clock, token(A))
    while asked.asks is not None:  # the issuer may be asked once more
        asked.answer(json_reply(jwks(B)))

    assert refused(asked.result) == (401, "unknown_kid")


def test_remembered_token_is_kept_while_keys_are_added() -> None:
    clock = Clock()
    state = discovered(clock, A)
    before = decide_at_once(state, request(token(A)), clock)
    clock.tick(100.0)
    step(state, clock, token(B)).answer(json_reply(jwks(A, B)))
    read_nothing(state, clock)

    assert decide_at_once(state, request(token(A)), clock) is before


def test_token_verified_while_its_key_was_dropped_is_not_remembered() -> None:
    """It was verified with the old set, and a refresh came in between."""
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    slow, fast = step(state, clock, token(A)), step(state, clock, token(B))
    fast.answer(json_reply(jwks(A, B)))
    clock.tick(100.0)
    third = step(state, clock, token(key("ES256", "c")))
    third.answer(json_reply(jwks(B, key("ES256", "c"))))
    slow.answer(json_reply(jwks(A, B)))  # the first attempt's, and not taken
    assert refused(slow.result) == (401, "unknown_kid")


class Interrupted(Clock):
    """A clock at one of whose readings something else happens, as in a thread."""

    def __init__(self, reading: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self._left = reading
        self._happens = happens

    def __call__(self) -> float:
        self._left -= 1
        if self._left == 0:
            self._happens()
        return super().__call__()


@pytest.mark.parametrize("reading", range(1, 9))
def test_token_is_forgotten_with_its_key_whenever_that_is_dropped(reading: int) -> None:
    """Threads may refresh the set at any moment of a verification."""
    state = discovered(Clock(), A, B)
    keys = state.trust.find(ISSUER, NOW).keys
    rest = FetchedKeys(parse_key_set(jwks(B)))

    def refresh() -> None:
        keys.adopt(9, rest, asked_at=NOW, now=NOW, lifetime=3600.0)

    step(state, Interrupted(reading, refresh), token(A, jti="another"))
    refresh()
    refused_now = decide_at_once(state, request(token(A, jti="another")))

    assert refused(refused_now) == (401, "unknown_kid")


def test_token_verified_while_a_key_was_dropped_is_verified_again() -> None:
    """Nobody knows with which of the sets it was."""
    clock = Clock()
    state = discovered(clock, A, B)
    clock.tick(100.0)
    read_nothing(state, clock)
    presented = token(key("ES256", "c"))
    asked = step(state, clock, presented)
    asked.answer(json_reply(jwks(B, key("ES256", "c"))))
    again = decide_at_once(state, request(presented), clock)

    assert again == asked.result
    assert again is not asked.result
    assert decide_at_once(state, request(presented), clock) is again


def test_remembered_token_starts_a_refresh_when_the_clock_was_set_back() -> None:
    """Nobody knows how old the keys are."""
    clock = Clock()
    state = discovered(clock, A)
    clock.tick(-7200.0)
    state.revocations.read_at = clock.now

    assert isinstance(step(state, clock, token(A)).asks, Start)


def test_remembered_token_starts_a_refresh_that_is_due() -> None:
    clock = Clock()
    state = discovered(clock, A)
    clock.tick(3599.75)
    read_nothing(state, clock)
    assert isinstance(
        decide_at_once(state, request(token(A, exp=NOW + 9e4)), clock), Access
    )
    clock.tick(0.25)
    read_nothing(state, clock)
    presented = token(A, exp=NOW + 90_000)
    first = step(state, clock, presented)
    assert isinstance(first.asks, Start)
    first.answer(None)
    assert isinstance(first.result, Access)
    again = step(state, clock, presented)
    assert isinstance(again.asks, Start)
    again.answer(None)

    assert again.result is first.result


def test_remembered_token_is_refused_nothing_while_keys_are_out_of_reach() -> None:
    """It is our trouble: accepted for a day, then 503, and never 401."""
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    presented = token(A, exp=NOW + 200_000)
    asked = step(state, clock, presented)
    asked.answer(json_reply(jwks(A)))
    asked.answer(EMPTY)
    clock.tick(86_338.0)
    read_nothing(state, clock)
    assert isinstance(step(state, clock, presented).asks, Start)
    clock.tick(61.0)
    read_nothing(state, clock)
    asked = step(state, clock, presented)
    assert isinstance(asked.asks, Fetch)
    asked.answer(UnavailableError("upstream_timeout"))
    assert isinstance(asked.result, Access)
    clock.tick(1.0)
    read_nothing(state, clock)
    for _ in range(2):  # the first that finds them unusable, and those after it
        decision = refused_without_keys(state, clock, presented)

        assert decision.status == 503
        assert decision.retry_after == 5
        clock.tick(1.0)
        read_nothing(state, clock)


def refused_without_keys(
    state: MiddlewareState, clock: Clock, presented: bytes
) -> Refusal:
    asked = step(state, clock, presented)
    while asked.asks is not None:
        begun = isinstance(asked.asks, Start)
        assert begun or isinstance(asked.asks, Fetch)
        asked.answer(None if begun else UnavailableError("upstream_timeout"))
    assert isinstance(asked.result, Refusal)
    return asked.result


def digest(presented: bytes) -> bytes:
    return sha256(presented).digest()


def test_store_of_tokens_is_bounded() -> None:
    state = state_for(server(max_remembered_tokens=2))
    tokens = [token(jti=str(number)) for number in range(5)]
    for presented in tokens:
        decide_at_once(state, request(presented))
    kept = [state.tokens.was_verified(digest(presented)) for presented in tokens]

    assert kept[-1]
    assert kept.count(True) <= 2


# What was verified and is no longer at hand


def recalled(state: MiddlewareState, presented: bytes) -> Request:
    """A request with a token that others have pushed out since it was verified."""
    push_out(state, presented)
    return request(presented)


def test_recalled_token_gives_the_same_access() -> None:
    state = state_for(server(issuer(A, subjects="users")))
    presented = token(A, scope="a b", act={"sub": "agent-1"}, acr="phr", email="e")
    first = decide_at_once(state, request(presented))
    again = decide_at_once(state, recalled(state, presented))

    assert again == first
    assert again.user.email == first.user.email == "e"
    assert again.claims == first.claims
    assert decide_at_once(state, request(presented)) is again


def test_recalled_token_needs_no_second_check_of_its_signature() -> None:
    """This one would not pass it: now so many keys fit that it would have to name its
    own. That is no ground to take back what was granted."""
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    unnamed = sign(claims(), A, header(A, without=["kid"]))
    asked = step(state, clock, unnamed)
    asked.answer(json_reply(jwks(A)))
    asked.answer(EMPTY)
    clock.tick(100.0)
    many = [key("ES256", f"k{number}") for number in range(10)]
    step(state, clock, token(many[0])).answer(json_reply(jwks(A, *many)))
    read_nothing(state, clock)

    assert isinstance(decide_at_once(state, request(unnamed), clock), Access)
    assert isinstance(decide_at_once(state, recalled(state, unnamed), clock), Access)
    another = sign(claims(jti="2"), A, header(A, without=["kid"]))
    clock.tick(12.0)
    judged = step(state, clock, another)
    judged.answer(json_reply(jwks(A, *many)))
    assert refused(judged.result) == (401, "unknown_kid")


def test_recalled_token_is_still_bound_to_its_key() -> None:
    state = state_for()
    presented = token(cnf={"jkt": "x"})
    decide_at_once(state, request(presented))

    assert refused(decide_at_once(state, recalled(state, presented))) == (
        401,
        "sender_constrained",
    )


def test_recalled_token_expires() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    presented = token(exp=NOW + 100)
    decide_at_once(state, request(presented), clock)
    clock.tick(159.0)
    read_nothing(state, clock)
    assert isinstance(decide_at_once(state, recalled(state, presented), clock), Access)
    clock.tick(1.0)
    read_nothing(state, clock)

    assert refused(decide_at_once(state, recalled(state, presented), clock)) == (
        401,
        "expired",
    )


def test_recalled_token_is_refused_once_revoked() -> None:
    state = state_for()
    presented = token()
    decide_at_once(state, request(presented))
    state.revocations.apply(LogPage(1, revoked().entries), NOW)

    assert refused(decide_at_once(state, recalled(state, presented))) == (
        401,
        "revoked",
    )


def test_recalled_token_is_forgotten_with_its_key() -> None:
    clock = Clock()
    state = discovered(clock, A, B)
    clock.tick(100.0)
    step(state, clock, token(key("ES256", "c"))).answer(
        json_reply(jwks(B, key("ES256", "c")))
    )
    read_nothing(state, clock)

    assert refused(decide_at_once(state, recalled(state, token(A)), clock)) == (
        401,
        "unknown_kid",
    )


def test_recalled_token_starts_a_refresh_that_is_due() -> None:
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    presented = token(A, exp=NOW + 90_000)
    asked = step(state, clock, presented)
    asked.answer(json_reply(jwks(A)))
    asked.answer(EMPTY)
    clock.tick(3600.0)
    read_nothing(state, clock)

    assert isinstance(
        Stepper(deciding(state, recalled(state, presented), clock)).asks, Start
    )


def test_recalled_token_is_not_accepted_with_keys_that_may_no_longer_be_used() -> None:
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    presented = token(A, exp=NOW + 200_000)
    asked = step(state, clock, presented)
    asked.answer(json_reply(jwks(A)))
    asked.answer(EMPTY)
    clock.tick(86_400.0)
    read_nothing(state, clock)
    asked = Stepper(deciding(state, recalled(state, presented), clock))
    assert isinstance(asked.asks, Fetch)
    asked.answer(UnavailableError("upstream_timeout"))

    assert refused(asked.result) == (503, "upstream_timeout")


# Revocation, and the log of it


def test_revoked_token_is_refused() -> None:
    state = MiddlewareState(server(issuer(A)))
    asked = step(state, Clock(), token(A))
    assert asked.asks == ReadLog(0)
    asked.answer(revoked(subject="user-1"))

    assert refused(asked.result) == (401, "revoked")


def test_remembered_token_is_refused_once_revoked() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    assert isinstance(decide_at_once(state, request(token()), clock), Access)
    clock.tick(0.25)
    asked = step(state, clock)
    assert asked.asks == ReadLog(0)
    asked.answer(revoked(token_id="token-1", position=7))
    assert refused(asked.result) == (401, "revoked")
    assert refused(decide_at_once(state, request(token()), clock)) == (401, "revoked")
    clock.tick(0.25)
    asked = step(state, clock)
    assert asked.asks == ReadLog(7)
    asked.answer(LogPage(7, ()))

    assert refused(asked.result) == (401, "revoked")


def test_revocation_of_another_leaves_a_remembered_token_alone() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    before = decide_at_once(state, request(token()), clock)
    clock.tick(0.25)
    asked = step(state, clock)
    asked.answer(revoked(subject="user-2"))

    assert asked.result is before


def test_token_issued_after_a_revocation_is_good_again() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    state.revocations.apply(LogPage(1, revoked(subject="user-1").entries), clock())

    for issued_at, is_good in ((NOW - 1, False), (NOW, False), (NOW + 1, True)):
        decision = decide_at_once(state, request(token(iat=issued_at)), clock)
        assert isinstance(decision, Access) is is_good


def test_first_request_reads_the_log_whatever_the_clock_says() -> None:
    for now in (0.0, 0.5, NOW):
        clock = Clock(now)
        state = MiddlewareState(server())

        assert step(state, clock, token(iat=0)).asks == ReadLog(0)


@pytest.mark.parametrize(
    ("age", "reads"), [(0.0, False), (0.2, False), (0.25, True), (100.0, True)]
)
def test_log_is_read_on_when_the_view_is_a_quarter_second_old(
    age: float, reads: bool
) -> None:
    clock = Clock()
    state = state_for(clock=clock)
    decide_at_once(state, request(token()), clock)
    clock.tick(age)

    assert step(state, clock).asks == (ReadLog(0) if reads else None)


def test_log_is_read_when_the_clock_was_set_back() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(-3600.0)

    assert step(state, clock, token(iat=NOW - 7200)).asks == ReadLog(0)


def test_view_read_before_the_clock_was_set_back_is_not_fresh_once_that_comes() -> None:
    """Nobody knows what was revoked in between: it counts as never read."""
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(-3600.0)
    asked = step(state, clock, token(iat=NOW - 7200))
    asked.answer(EMPTY)
    assert isinstance(asked.result, Access)
    clock.tick(3600.125)

    assert reads(step(state, clock, token(iat=NOW - 7200)))


@pytest.mark.parametrize("max_log_age", [0.75, 10, 1e9])
def test_store_out_of_reach_after_the_clock_was_set_back_lets_nobody_in(
    max_log_age: float,
) -> None:
    clock = Clock()
    state = state_for(server(max_log_age=max_log_age), clock)
    clock.tick(-1.0)
    presented = token(iat=NOW - 7200)
    asked = step(state, clock, presented)
    asked.answer(BROKEN)
    assert refused(asked.result) == (503, "store_unreachable")
    clock.tick(1.125)  # the clock says again what it said when the log was read
    asked = step(state, clock, presented)
    asked.answer(BROKEN)

    assert refused(asked.result) == (503, "store_unreachable")


def test_reader_that_takes_long_does_not_shut_the_middleware_after_a_step_back() -> (
    None
):
    """The view is brought up to date on the new time, and serves from then on."""
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(-3600.0)
    first, second = (step(state, clock, token(iat=NOW - 7200)) for _ in range(2))
    for asked in (first, second):
        asked.answer(EMPTY)

    assert isinstance(first.result, Access)
    assert isinstance(second.result, Access)
    clock.tick(0.125)
    assert isinstance(
        decide_at_once(state, request(token(iat=NOW - 7200)), clock), Access
    )


def test_log_is_read_on_to_its_end() -> None:
    """A page that is not the last says nothing about how fresh the view is."""
    clock = Clock()
    state = MiddlewareState(server())
    asked = step(state, clock)
    assert asked.asks == ReadLog(0)
    asked.answer(LogPage(2000, revoked(subject="user-2").entries, is_last=False))
    assert asked.asks == ReadLog(2000)
    assert state.revocations.read_at == -math.inf
    asked.answer(LogPage(2001, revoked(subject="user-1").entries))

    assert refused(asked.result) == (401, "revoked")


def test_page_that_others_asked_for_is_as_old_as_their_question() -> None:
    """Whoever joins a read under way must not take its page for news of their own."""
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(0.625)
    asked_at = clock()
    clock.tick(0.125)
    asked = step(state, clock)
    assert asked.asks == ReadLog(0)
    asked.answer(LogPage(0, (), asked_at=asked_at))
    assert isinstance(asked.result, Access)
    clock.tick(0.125)  # a quarter of a second after the question

    assert reads(step(state, clock))


def test_page_of_a_question_too_long_ago_is_read_on_from() -> None:
    """The request has joined a read that was begun long before it came."""
    clock = Clock()
    state = MiddlewareState(server())
    asked = step(state, clock)
    asked.answer(LogPage(0, (), asked_at=clock() - 0.75))
    assert asked.asks == ReadLog(0)
    asked.answer(LogPage(0, (), asked_at=clock()))

    assert isinstance(asked.result, Access)


def test_question_carries_its_time_and_is_compared_without_it() -> None:
    clock = Clock(NOW + 3)
    asked = step(MiddlewareState(server()), clock)

    assert asked.asks == ReadLog(0)
    assert isinstance(asked.asks, ReadLog)
    assert asked.asks.asked_at == NOW + 3


def test_others_go_on_while_one_reads_and_the_view_is_young() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(0.25)
    reader = step(state, clock)
    assert reader.asks == ReadLog(0)
    clock.tick(0.25)
    assert isinstance(decide_at_once(state, request(token()), clock), Access)
    clock.tick(0.125)
    assert isinstance(decide_at_once(state, request(token()), clock), Access)
    clock.tick(0.125)
    waiting = step(state, clock)

    assert waiting.asks == ReadLog(0)  # the view is 0.75 seconds old by now


def test_nobody_goes_on_before_the_log_was_read_for_the_first_time() -> None:
    state, clock = MiddlewareState(server()), Clock()

    assert [step(state, clock).asks for _ in range(3)] == [ReadLog(0)] * 3


def test_who_read_because_the_view_was_too_old_makes_room_for_nobody() -> None:
    """Only the one whose turn it was does."""
    clock = Clock()
    state = MiddlewareState(server())
    for asked in [step(state, clock) for _ in range(3)]:
        asked.answer(EMPTY)
    clock.tick(0.25)
    reader = step(state, clock)

    assert reads(reader)
    assert isinstance(decide_at_once(state, request(token()), clock), Access)


@pytest.mark.parametrize("end", ["answered", "failed", "abandoned"])
def test_reader_makes_room_for_the_next_however_it_ends(end: str) -> None:
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(0.25)
    reader = step(state, clock)
    match end:
        case "answered":
            reader.answer(EMPTY)
            clock.tick(0.25)
        case "failed":
            reader.answer(BROKEN)
        case _:
            reader.close()

    assert step(state, clock).asks == ReadLog(0)


def test_view_is_as_old_as_the_question_and_not_as_the_answer() -> None:
    """What was revoked while the store was reading may not be in the page."""
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(0.25)
    reader = step(state, clock)
    clock.tick(0.25)
    reader.answer(EMPTY)
    assert isinstance(reader.result, Access)

    assert step(state, clock).asks == ReadLog(0)


def test_log_that_takes_long_to_read_is_read_on_and_refuses_nobody() -> None:
    """A long log takes seconds at first, and what comes meanwhile a moment."""
    clock = Clock()
    state = MiddlewareState(server())
    reader = step(state, clock)
    clock.tick(9)
    reader.answer(LogPage(7, ()))
    assert reader.asks == ReadLog(7)
    clock.tick(0.5)
    reader.answer(LogPage(7, ()))

    assert isinstance(reader.result, Access)


def test_log_that_always_takes_long_is_no_ground_to_refuse() -> None:
    clock = Clock()
    state = MiddlewareState(server())
    reader = step(state, clock)
    for _ in range(3):
        assert reader.asks == ReadLog(0)
        clock.tick(1.5)
        reader.answer(EMPTY)

    assert isinstance(reader.result, Access)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(LogPage(9, (), epoch="another"), id="another log"),
        pytest.param(LogPage(3, (), epoch="first"), id="older copy"),
    ],
)
def test_log_that_takes_the_place_of_another_is_told_what_is_known(
    other: LogPage,
) -> None:
    clock = Clock()
    state = MiddlewareState(server())
    known = Revocation(ISSUER, NOW, "user-9")
    reader = step(state, clock)
    reader.answer(LogPage(7, (known.entry,), epoch="first"))
    assert isinstance(reader.result, Access)
    clock.tick(0.25)

    reader = step(state, clock)
    assert reader.asks == ReadLog(7)
    reader.answer(other)
    assert isinstance(reader.asks, AppendLog)
    assert [(one.key, one.at) for one in reader.asks.entries] == [known.entry]
    reader.answer(None)
    assert reader.asks == ReadLog(0)
    revoked_there = Revocation(ISSUER, NOW, "user-1").entry
    reader.answer(LogPage(9, (revoked_there,), epoch=other.epoch))

    assert refused(reader.result) == (401, "revoked")


def test_view_that_grew_old_while_keys_were_fetched_is_refreshed() -> None:
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    read_nothing(state, clock)
    asked = step(state, clock, token(A))
    assert isinstance(asked.asks, Fetch)
    clock.tick(3.0)
    asked.answer(json_reply(jwks(A)))

    assert reads(asked)


def test_view_that_grew_old_while_keys_were_refreshed_is_refreshed() -> None:
    """The same for a remembered token, whose keys are past their time."""
    clock = Clock()
    state = discovered(clock, A)
    presented = token(A, exp=NOW + 200_000)
    remembered = step(state, clock, presented)
    assert isinstance(remembered.result, Access)
    clock.tick(90_000.0)
    read_nothing(state, clock)
    asked = step(state, clock, presented)
    assert isinstance(asked.asks, Fetch)
    clock.tick(3.0)
    asked.answer(json_reply(jwks(A)))

    assert reads(asked)


# A store in trouble


@pytest.mark.parametrize(
    ("age", "max_log_age", "goes_on"),
    [
        pytest.param(0.25, 0.75, True, id="young"),
        pytest.param(0.625, 0.75, True, id="just young enough"),
        pytest.param(0.75, 0.75, False, id="too old"),
        pytest.param(100.0, 0.75, False, id="much too old"),
        pytest.param(9.75, 10, True, id="young for this operator"),
        pytest.param(10.0, 10, False, id="too old for this operator"),
        pytest.param(1e6, math.inf, True, id="never too old"),
    ],
)
def test_log_that_cannot_be_read_refuses_after_the_operators_bound(
    age: float, max_log_age: float, goes_on: bool
) -> None:
    clock = Clock()
    state = state_for(server(max_log_age=max_log_age), clock)
    presented = token(exp=NOW + 10_000_000)
    decide_at_once(state, request(presented), clock)
    clock.tick(age)
    asked = step(state, clock, presented)
    asked.answer(BROKEN)

    if goes_on:
        assert isinstance(asked.result, Access)
    else:
        assert refused(asked.result) == (503, "store_unreachable")


def test_time_that_a_failed_read_took_counts() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(0.25)
    asked = step(state, clock)
    clock.tick(0.5)
    asked.answer(BROKEN)

    assert refused(asked.result) == (503, "store_unreachable")


def test_process_that_has_never_read_the_log_lets_nobody_in() -> None:
    state = MiddlewareState(server(max_log_age=1e9))
    asked = step(state, Clock())
    asked.answer(BROKEN)

    assert refused(asked.result) == (503, "store_unreachable")


def test_process_that_has_never_read_the_log_goes_on_where_it_never_refuses() -> None:
    state = MiddlewareState(server(max_log_age=math.inf))
    asked = step(state, Clock())
    asked.answer(BROKEN)

    assert isinstance(asked.result, Access)


def test_trouble_is_never_told_as_a_verdict() -> None:
    """An agent that is told 401 throws its token away."""
    state = MiddlewareState(server(Issuer(ISSUER, jwks_uri=KEYS)))
    asked = step(state, Clock(), token(A))
    asked.answer(UnavailableError("upstream_timeout", retry_after=7))
    decision = asked.result

    assert isinstance(decision, Refusal)
    assert (decision.status, decision.error) == (503, "temporarily_unavailable")
    assert (decision.reason, decision.retry_after) == ("upstream_timeout", 7)


def test_gate_knows_whether_anything_may_have_to_be_fetched() -> None:
    given, found = issuer(A), Issuer("https://idp.example.net")

    assert not MiddlewareState(server(given)).fetches
    assert MiddlewareState(server(found)).fetches
    assert MiddlewareState(server(given, found)).fetches


def test_remembered_token_dies_of_age() -> None:
    clock = Clock()
    state = state_for(server(issuer(A, max_token_age=30)), clock)
    presented = token(A, iat=NOW, exp=NOW + 3600)
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    clock.tick(89.0)
    state.revocations.read_at = clock.now
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    clock.tick(1.0)
    state.revocations.read_at = clock.now

    assert refused(decide_at_once(state, request(presented), clock)) == (401, "expired")
