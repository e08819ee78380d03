"""What an ID-JAG is limited to limits all that is got for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authorization_server.embedded import (
    ISSUER,
    RESOURCE,
    SCOPES,
    Embedded,
    claims_of,
    embed,
    resource_server,
)

BANK = "https://bank.example.com"
OPEN = "https://open.example.com"
"""A resource without scopes: a token for it opens all of it."""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Embedded]:
    """A server that has tokens for notes and for a bank."""
    with embed(
        tmp_path,
        resources=[
            resource_server(),
            resource_server(resource=BANK, scopes={"bank.pay": "Pay"}),
            resource_server(resource=OPEN, scopes={}),
        ],
    ) as running:
        yield running


def outcome(embedded: Embedded, assertion: str, **form: str) -> tuple[str, str | None]:
    """Resource and scope of the token that is got; or the refusal."""
    answer = embedded.exchange(assertion, **form)
    body = answer.json()
    if answer.status_code != 200:
        return "refused", body["error"]
    claims = claims_of(body["access_token"])
    assert claims.get("scope") == body.get("scope")
    return claims["aud"], claims.get("scope")


@pytest.mark.parametrize(
    ("claims", "form", "expected"),
    [
        pytest.param(
            {"resource": RESOURCE, "scope": "notes.read"},
            {"resource": BANK, "scope": "bank.pay"},
            ("refused", "invalid_target"),
            id="another resource",
        ),
        pytest.param(
            {"resource": RESOURCE, "scope": "notes.read"},
            {},
            (RESOURCE, "notes.read"),
            id="what the assertion says",
        ),
        pytest.param(
            {"resource": RESOURCE, "scope": "notes.read"},
            {"scope": "notes.write"},
            ("refused", "invalid_scope"),
            id="another scope",
        ),
        pytest.param(
            {"resource": RESOURCE, "scope": "notes.read"},
            {"scope": "notes.write notes.read"},
            (RESOURCE, "notes.read"),
            id="more than the assertion says",
        ),
        pytest.param(
            {"resource": [RESOURCE, BANK], "scope": "notes.read bank.pay"},
            {"resource": BANK},
            (BANK, "bank.pay"),
            id="one of two resources",
        ),
        pytest.param(
            {"resource": [RESOURCE, BANK]},
            {},
            ("refused", "invalid_target"),
            id="two resources, none chosen",
        ),
        pytest.param(
            {"resource": [RESOURCE, BANK], "scope": "notes.read"},
            {"resource": BANK},
            ("refused", "invalid_scope"),
            id="no scope of this resource",
        ),
        pytest.param(
            {"resource": [RESOURCE, OPEN], "scope": "notes.read"},
            {"resource": OPEN},
            ("refused", "invalid_scope"),
            id="limited to a scope, and a resource without any",
        ),
        pytest.param(
            {"scope": "notes.read"},
            {"resource": RESOURCE},
            (RESOURCE, "notes.read"),
            id="a scope alone",
        ),
        pytest.param(
            {"resource": RESOURCE},
            {},
            (RESOURCE, "notes.read notes.write"),
            id="a resource alone",
        ),
        pytest.param(
            {"resource": RESOURCE},
            {"scope": "notes.write"},
            (RESOURCE, "notes.write"),
            id="a resource alone, narrowed",
        ),
        pytest.param(
            {"scope": "notes.read other"},
            {"resource": RESOURCE, "scope": "other"},
            ("refused", "invalid_scope"),
            id="a scope that is none of ours",
        ),
        pytest.param({}, {"resource": OPEN}, (OPEN, None), id="no limits, no scopes"),
    ],
)
def test_token_reaches_no_further_than_the_id_jag(
    two: Embedded,
    claims: dict[str, Any],
    form: dict[str, str],
    expected: tuple[str, str | None],
) -> None:
    assert outcome(two, two.identity_assertion(**claims), **form) == expected


def test_registration_says_which_scopes_are_left(two: Embedded) -> None:
    limited = two.register(resource=[RESOURCE, BANK], scope="notes.read other")

    assert limited.json()["scopes"] == ["notes.read"]
    assert two.register().json()["scopes"] == [*SCOPES, "bank.pay"]


def test_statements_for_one_agent_do_not_widen_each_other(two: Embedded) -> None:
    """They are one registration, but each keeps to what its statement says."""
    narrow = two.identity_assertion(resource=RESOURCE, scope="notes.read")
    wide = two.identity_assertion(resource=BANK)
    narrow_again = two.identity_assertion(resource=RESOURCE, scope="notes.write")

    assert len({claims_of(one)["sub"] for one in (narrow, wide, narrow_again)}) == 1
    assert outcome(two, narrow) == (RESOURCE, "notes.read")
    assert outcome(two, wide) == (BANK, "bank.pay")
    assert outcome(two, narrow_again) == (RESOURCE, "notes.write")


def test_user_who_is_another_one_here_uses_up_no_statement(two: Embedded) -> None:
    token_id = "the-same"
    wrong = two.register(jti=token_id, aud_sub="user-ben")
    right = two.register(jti=token_id, aud_sub="user-ana")

    assert wrong.json()["error"] == "invalid_request"
    assert right.status_code == 200


def test_user_named_in_our_words_is_no_link(two: Embedded) -> None:
    """The provider is trusted to speak of its own users, not to choose among ours."""
    answer = two.register(subject="stranger", aud_sub="user-ana")

    assert answer.status_code == 401
    assert answer.json()["error"] == "interaction_required"


def test_issuer_with_a_path_is_an_audience_to_the_letter(tmp_path: Path) -> None:
    issuer = f"{ISSUER}/agents"
    with embed(tmp_path, issuer=issuer) as embedded:
        answers = [
            embedded.register(embedded.provider.id_jag(audience))
            for audience in (issuer, f"{issuer}/", ISSUER, f"{issuer}/oauth2/token")
        ]

    assert [answer.status_code for answer in answers] == [200, 400, 400, 400]
