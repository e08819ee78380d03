"""Values that hold a token do not show it: tracebacks end up in logs and services."""

from __future__ import annotations

from agentauth_middleware._core.issuers.introspector import Question
from agentauth_middleware._core.tokens.jose import parse_compact
from tests.support.tokens import token


def test_parsed_token_is_not_shown() -> None:
    jws = parse_compact(token())
    shown = f"{jws!r} {jws}"

    assert jws.signature.hex() not in shown
    assert repr(jws.signature) not in shown
    assert repr(jws.signing_input) not in shown


def test_question_about_a_token_does_not_show_it() -> None:
    question = Question(b"an-opaque-token", b"digest", "192.0.2.1")

    assert "an-opaque-token" not in f"{question!r} {question}"
