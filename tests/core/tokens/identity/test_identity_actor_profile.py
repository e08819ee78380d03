"""Actors named in full, by issuers that may speak for them; and auth.md's tokens."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth_middleware.access import IdentityDialect
from agentauth_middleware.errors import InvalidTokenError
from tests.support.identities import AGENTS, identity, verdict, who
from tests.support.tokens import ISSUER

both = pytest.mark.parametrize("dialect", ["actor_profile", "authmd"])

USER = {"sub": "ana", "sub_profile": "user"}
ACT = {"iss": ISSUER, "sub": "agent-1", "sub_profile": "ai_agent"}
FOREIGN = {"iss": AGENTS, "sub": "agent-1", "sub_profile": "ai_agent"}


@both
@pytest.mark.parametrize(
    "act",
    [
        {"sub": "agent-1"},
        {**ACT, "act": {"sub": "agent-2"}},
        {**ACT, "act": {**ACT, "act": {"sub": "agent-2"}}},
    ],
    ids=["the immediate one", "an earlier one", "the first"],
)
def test_actor_without_a_namespace_is_refused(
    dialect: IdentityDialect, act: dict[str, Any]
) -> None:
    assert verdict({**USER, "act": act}, dialect) == "401 malformed"


@both
@pytest.mark.parametrize("namespace", [AGENTS, ISSUER + "/", ISSUER.upper()])
def test_issuer_may_not_speak_for_any_namespace(
    dialect: IdentityDialect, namespace: str
) -> None:
    """Its signature says who wrote the token, and not whose agents it may name."""
    with pytest.raises(InvalidTokenError) as refused:
        identity({**USER, "act": {**ACT, "iss": namespace}}, dialect)

    assert refused.value.reason == "unknown_actor_issuer"


@both
def test_issuer_may_speak_for_a_namespace_that_the_operator_lists(
    dialect: IdentityDialect,
) -> None:
    found = identity({**USER, "act": FOREIGN}, dialect, actor_issuers=[AGENTS])

    assert (who(found.agent), found.mode) == ((AGENTS, "agent-1"), "delegated")
    assert found.agent is not None
    assert found.agent.profile == "ai_agent"


@both
def test_earlier_actor_of_another_namespace_is_unclassified(
    dialect: IdentityDialect,
) -> None:
    """It decides nothing, so nobody has to vouch for it."""
    found = identity({**USER, "act": {**ACT, "act": FOREIGN}}, dialect)

    assert [who(actor) for actor in found.chain] == [(AGENTS, "agent-1")]
    assert found.chain[0].profile is None


@both
def test_agents_with_one_name_in_two_namespaces_are_two(
    dialect: IdentityDialect,
) -> None:
    mine = identity({**USER, "act": ACT}, dialect)
    theirs = identity({**USER, "act": FOREIGN}, dialect, actor_issuers=[AGENTS])

    assert mine.agent != theirs.agent


@both
@pytest.mark.parametrize(
    ("subject", "found"),
    [
        ({"iss": ISSUER, "sub": "ana"}, "user: ana"),
        ({"iss": AGENTS, "sub": "ana"}, "delegated: ana by ana"),
    ],
    ids=["oneself", "a namesake"],
)
def test_nobody_acts_for_themselves(
    dialect: IdentityDialect, subject: dict[str, str], found: str
) -> None:
    """To compare the names alone would take a namesake for the user."""
    claims = {**USER, "act": subject}

    assert verdict(claims, dialect, actor_issuers=[AGENTS]) == found


@both
@pytest.mark.parametrize(
    ("depth", "found"),
    [
        (1, "delegated: ana by 0"),
        (5, "delegated: ana by 0 after 1 2 3 4"),
        (6, "401 malformed"),
    ],
)
def test_chain_has_a_limit(dialect: IdentityDialect, depth: int, found: str) -> None:
    act: dict[str, Any] | None = None
    for number in reversed(range(depth)):
        act = {"iss": ISSUER, "sub": str(number)} | ({"act": act} if act else {})

    assert verdict({**USER, "act": act}, dialect) == found


@both
@pytest.mark.parametrize("namespace", [1, None, "", ["x"], {}], ids=repr)
def test_malformed_namespace_is_refused(
    dialect: IdentityDialect, namespace: object
) -> None:
    claims = {**USER, "act": {**ACT, "iss": namespace}}

    assert verdict(claims, dialect) == "401 malformed"


@both
def test_client_is_nobody_else(dialect: IdentityDialect) -> None:
    """Neither an actor by inference nor a part of the one that is named."""
    alone = verdict({**USER, "azp": "agent-1"}, dialect, client_id="agent-1")
    acting = verdict({**USER, "act": ACT, "azp": "x"}, dialect, client_id="x")
    inside = {**ACT, "client_id": "x", "client_profile": "user", "cnf": {"jkt": "x"}}

    assert alone == "user: ana"
    assert acting == "delegated: ana by agent-1"
    assert verdict({**USER, "act": inside}, dialect) == acting


@both
def test_subject_without_a_profile_is_a_user_where_somebody_acts_for_it(
    dialect: IdentityDialect,
) -> None:
    assert verdict({"sub": "ana", "act": ACT}, dialect) == "delegated: ana by agent-1"
    assert verdict({"sub": "ana"}, dialect) == "unknown:"
    assert verdict({"sub": "ana"}, dialect, users=True) == "user: ana"


@pytest.mark.parametrize(
    ("claims", "mode"),
    [
        pytest.param({}, "agent_unclaimed", id="anonymous"),
        pytest.param({"act": ACT}, "agent_unclaimed", id="with an actor"),
        pytest.param(USER, "user", id="a user's own session"),
        pytest.param({**USER, "act": ACT}, "delegated", id="claimed"),
        pytest.param({"sub_profile": "service"}, "service", id="service"),
    ],
)
def test_agent_is_claimed_where_it_acts_for_somebody(
    claims: dict[str, Any], mode: str
) -> None:
    found = identity({"sub": "reg-1", "sub_profile": "ai_agent", **claims}, "authmd")

    assert found.mode == mode
