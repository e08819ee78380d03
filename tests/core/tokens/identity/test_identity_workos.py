"""The dialect that turns user and agent around."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.identities import AGENTS, identity, verdict, who
from tests.support.identity_payloads import PAYLOADS
from tests.support.tokens import ISSUER

DELEGATED = PAYLOADS["workos delegated"].claims
USER = {"sub": "user_1", "sub_profile": "user"}
CONTRADICTION = "401 contradictory_profiles"


def blueprint(**changes: Any) -> dict[str, Any]:
    """Claims of a delegated token; ``None`` leaves one out."""
    claims = {**DELEGATED, **changes}
    return {name: value for name, value in claims.items() if value is not None}


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(blueprint(sub_profile=None), id="unclassified subject"),
        pytest.param(blueprint(sub_profile="service"), id="service"),
        pytest.param(blueprint(sub_profile="user"), id="subject is a user"),
        pytest.param(blueprint(sub_profile="user ai_agent"), id="subject is both"),
        pytest.param(blueprint(sub_profile="superai_agent"), id="part of a word"),
        pytest.param(blueprint(sub=None), id="no subject"),
        pytest.param(blueprint(act={"sub": "user_1"}), id="unclassified actor"),
        pytest.param(
            blueprint(act={**USER, "sub_profile": "ai_agent"}), id="agent as actor"
        ),
        pytest.param(
            blueprint(act={**USER, "sub_profile": "user ai_agent"}), id="actor is both"
        ),
        pytest.param(blueprint(act={**USER, "iss": AGENTS}), id="a stranger's user"),
        pytest.param(blueprint(sub="user_1"), id="for itself"),
        pytest.param({"sub": "u", "sub_profile": "user"}, id="a user alone"),
        pytest.param(
            {"sub": "u", "act": {"sub": "a", "sub_profile": "ai_agent"}}, id="rfc8693"
        ),
        pytest.param({"sub": "u", "act": {"sub": "a"}}, id="plain rfc8693"),
    ],
)
def test_blueprint_roles_must_be_said_in_both_places(claims: dict[str, Any]) -> None:
    """Anything less may be a token of the usual kind, and the user's rights go to
    whoever is taken for the user."""
    assert verdict(claims, "workos_blueprint", users=True) == CONTRADICTION


@pytest.mark.parametrize(
    "act",
    [
        {"sub_profile": "user"},
        {**USER, "sub": 1},
        {**USER, "iss": 1},
        {**USER, "act": {"sub": "x"}},
        {**USER, "act": None},
    ],
    ids=repr,
)
def test_blueprint_with_a_malformed_user_is_refused(act: dict[str, Any]) -> None:
    assert verdict(blueprint(act=act), "workos_blueprint") == "401 malformed"


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"sub": "a", "sub_profile": "ai_agent"}, "agent: by a"),
        ({"sub": "a", "sub_profile": "service ai_agent"}, "agent: by a"),
        ({"sub": "a", "sub_profile": "service"}, "service:"),
        ({"sub": "client-1"}, "service:"),
        ({"sub": "a"}, "unknown:"),
    ],
    ids=repr,
)
def test_blueprint_without_a_user(claims: dict[str, Any], found: str) -> None:
    assert verdict(claims, "workos_blueprint", users=True) == found


def test_blueprint_shows_session_and_intent_of_the_agent() -> None:
    found = identity(DELEGATED, "workos_blueprint")

    assert found.agent is not None
    assert found.agent.extra == {
        "session": "agent_session_1",
        "organization": "org_1",
        "intent": "weekly report",
    }
    assert found.agent == identity(blueprint(sid="other"), "workos_blueprint").agent


@pytest.mark.parametrize("intent", [None, "text", {}, {"text": 1}, []], ids=repr)
def test_blueprint_intent_may_be_anything(intent: object) -> None:
    """It is the caller's own word and decides nothing."""
    found = identity({**DELEGATED, "intent": intent, "sid": 1}, "workos_blueprint")

    assert found.agent is not None
    assert found.agent.extra == {"organization": "org_1"}


def test_blueprint_user_may_be_of_a_namespace_that_the_operator_lists() -> None:
    claims = blueprint(act={**USER, "iss": AGENTS})
    found = identity(claims, "workos_blueprint", actor_issuers=[AGENTS])

    assert who(found.user) == (AGENTS, "user_1")
    assert who(found.agent) == (ISSUER, "agent_instance_1")


def test_blueprint_mail_address_is_not_said_to_be_the_users() -> None:
    """It stands beside the agent's name."""
    found = identity(blueprint(email="ana@example.com"), "workos_blueprint")

    assert found.user is not None
    assert found.user.email is None


# Registrations
