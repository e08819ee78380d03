"""The demo's agent reads ``WWW-Authenticate`` as RFC 9110 §11.6.1 writes it."""

from __future__ import annotations

import pytest

from agentauth_middleware.cli._demo.challenges import read_challenges

NONE: dict[str, str] = {}
READ: dict[str, tuple[list[str], list[tuple[str, dict[str, str]]]]] = {
    "no field": ([], []),
    "a scheme alone": (["Bearer"], [("Bearer", NONE)]),
    "commas in quotes, spaces around =": (
        ['Bearer error="a, b=c", SCOPE = "x y"'],
        [("Bearer", {"error": "a, b=c", "scope": "x y"})],
    ),
    "escapes": (
        [r'Bearer realm="say \"hi\" \\"'],
        [("Bearer", {"realm": 'say "hi" \\'})],
    ),
    "three in one field": (
        ["Negotiate, Basic realm=x, charset=y, Bearer"],
        [
            ("Negotiate", NONE),
            ("Basic", {"realm": "x", "charset": "y"}),
            ("Bearer", NONE),
        ],
    ),
    "token68": (
        ["Negotiate YWJj/+==, Bearer a=b"],
        [("Negotiate", NONE), ("Bearer", {"a": "b"})],
    ),
    "two fields": (
        ["Bearer a=b", "DPoP algs=ES256"],
        [("Bearer", {"a": "b"}), ("DPoP", {"algs": "ES256"})],
    ),
    "empty parts": ([" ,, Bearer a=b ,"], [("Bearer", {"a": "b"})]),
}


@pytest.mark.parametrize(("fields", "challenges"), READ.values(), ids=READ)
def test_challenges_are_read(
    fields: list[str], challenges: list[tuple[str, dict[str, str]]]
) -> None:
    read = [(one.scheme, one.parameters) for one in read_challenges(fields)]

    assert read == challenges


@pytest.mark.parametrize("field", ['"', "=x", "Bearer a=b c=d", 'Bearer a="b'])
def test_what_is_no_challenge_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="not a challenge"):
        read_challenges([field])
