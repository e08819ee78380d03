"""Whatever comes in, a verdict comes out: nothing else is raised, and nothing gets in.

"Nothing else" includes what Python raises by itself for odd text and odd numbers: at a
middleware that would be a 500. Tokens that somebody signed are in ``tests/hostile``.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.tokens.jose import parse_key_set
from agentauth_middleware.access import Access
from tests.support.deciding import decide_at_once, request, state_for
from tests.support.tokens import ISSUER, NOW, RESOURCE, key, sign
from tests.support.tokens import token as good_token

STATE: MiddlewareState = state_for()
GOOD = good_token()

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([RESOURCE, ISSUER, "user-1", NOW, NOW + 300, "", 2**53, -1]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


def verdict(presented: bytes) -> Refusal | Access:
    """What becomes of a request with this token; never an exception."""
    decision = decide_at_once(STATE, request(presented))
    assert isinstance(decision, Refusal | Access)
    return decision


def is_refused(presented: bytes) -> bool:
    decision = verdict(presented)
    if isinstance(decision, Refusal):
        assert (decision.status, decision.error) in (
            (400, "invalid_request"),
            (401, "invalid_token"),
        )
        return True
    return False


@settings(max_examples=200)
@given(st.binary(max_size=200).filter(lambda line: line.strip(b" \t")))
@example(b"=")
@example(b"..")
@example(b"\x00" * 100)
def test_garbage_is_refused(presented: bytes) -> None:
    assert is_refused(presented)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100))
def test_segments_of_garbage_are_refused(one: bytes, two: bytes, three: bytes) -> None:
    assert is_refused(sign(two, key(), one) + three)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=3), st.binary(max_size=60))
@example([b"Bearer " + GOOD], b"token=\xff&%ff=%c3")
def test_headers_and_queries_of_any_kind_get_a_verdict(
    lines: list[bytes], query: bytes
) -> None:
    decide_at_once(STATE, request(authorization=lines, query=query))


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(
            ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]
        ),
        JSON
        | st.sampled_from(["EC", "RSA", "OKP", "P-256", "Ed25519", "AQAB", "A" * 43]),
    )
)
def test_keys_of_any_kind_are_read_or_passed_over(changes: dict[str, Any]) -> None:
    parse_key_set({"keys": [{**key().jwk, **changes}]})
    parse_key_set({"keys": [changes]})


def test_good_token_of_this_file_is_good() -> None:
    assert isinstance(verdict(GOOD), Access)
