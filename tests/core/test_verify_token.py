"""A token by itself meets what it would meet in a request."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth_middleware._core.decide import verify_token
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Fetch, LogPage, ReadLog
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware._core.tokens.credential import MAX_CREDENTIAL_BYTES
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.route import Route
from tests.support.deciding import decide_at_once, request, state_for
from tests.support.stepping import Clock, Stepper, json_reply, play
from tests.support.tokens import (
    ISSUER,
    NOW,
    claims,
    header,
    issuer,
    jwks,
    key,
    server,
    sign,
    token,
)

A, FORGER = key("ES256", "a"), key("ES256", "forger")
KEYS = f"{ISSUER}/keys"
EMPTY = LogPage(0, ())


def verify_at_once(
    state: MiddlewareState, presented: bytes, clock: Clock | None = None
) -> Access:
    """What *presented* gives, which must need no operation."""
    return play(verify_token(state, presented, clock or Clock()), [])


def test_transcript_of_a_first_token() -> None:
    """Metadata, keys, log: and then the same token asks for nothing."""
    clock = Clock()
    state = MiddlewareState(server(Issuer(ISSUER)))
    metadata_url = f"{ISSUER}/.well-known/oauth-authorization-server"
    limits = (5.0, 512 * 1024)
    access = play(
        verify_token(state, token(A), clock),
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

    assert access.subject == "user-1"
    assert verify_at_once(state, token(A), clock) is access


def test_token_is_remembered_for_requests_and_the_other_way_round() -> None:
    state = state_for()

    assert decide_at_once(state, request(token())) is verify_at_once(state, token())


@pytest.mark.parametrize(
    "presented",
    [
        pytest.param(token(exp=NOW - 61), id="expired"),
        pytest.param(token(aud="https://other.example.com"), id="for another"),
        pytest.param(token(iss="https://stranger.example.net"), id="of a stranger"),
        pytest.param(sign(claims(), FORGER, header(key())), id="forged"),
        pytest.param(token(cnf={"jkt": "x"}), id="bound to a key"),
        pytest.param(token(jti="revoked"), id="revoked"),
        pytest.param(b"=", id="only padding"),
        pytest.param(b"two words", id="no token68"),
        pytest.param(b"opaque", id="opaque"),
        pytest.param(b"a" * (MAX_CREDENTIAL_BYTES + 1), id="too long"),
    ],
)
def test_refusal_is_that_of_a_request(presented: bytes) -> None:
    state = state_for()
    revoked = Revocation(ISSUER, NOW, token_id="revoked").entry
    state.revocations.apply(LogPage(1, (revoked,)), NOW)
    decision = decide_at_once(state, request(presented))

    assert isinstance(decision, Refusal)
    with pytest.raises(RequestRefusedError) as refused:
        verify_at_once(state, presented)
    assert refused.value.reason == decision.reason
    assert refused.value.status == decision.status


def test_longest_credential_is_read() -> None:
    with pytest.raises(InvalidTokenError):
        verify_at_once(state_for(), b"a" * MAX_CREDENTIAL_BYTES)
    with pytest.raises(InvalidRequestError, match="too_long"):
        verify_at_once(state_for(), b"a" * (MAX_CREDENTIAL_BYTES + 1))


@pytest.mark.parametrize("change", ["expired", "revoked"])
def test_remembered_token_is_refused_when_that_changes(change: str) -> None:
    clock = Clock()
    state = state_for(clock=clock)
    verify_at_once(state, token(), clock)
    page: Any = EMPTY
    if change == "revoked":
        page = LogPage(1, (Revocation(ISSUER, NOW).entry,))
    clock.tick(360 if change == "expired" else 1)
    state.revocations.apply(page, clock())

    with pytest.raises(InvalidTokenError) as refused:
        verify_at_once(state, token(), clock)
    assert refused.value.reason == change


def test_nothing_is_granted_while_the_log_cannot_be_read() -> None:
    clock = Clock()
    state = state_for(clock=clock)
    clock.tick(1)
    step = Stepper(verify_token(state, token(), clock))

    assert step.asks == ReadLog(0)
    with pytest.raises(UnavailableError, match="store_unreachable"):
        step.answer(UnavailableError("store_unreachable"))


def test_routes_say_nothing_about_a_token_by_itself() -> None:
    demanding = server(issuer(), routes=[Route("/*", agent="required")])

    assert verify_at_once(state_for(demanding), token()).agent is None
