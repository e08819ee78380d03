"""Who stands behind a token with plain RFC 8693 claims."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from agentauth_middleware._core.tokens.identity import read_identity
from agentauth_middleware._syntax.members import freeze, parse_object
from agentauth_middleware.access import (
    Access,
    Identity,
    IdentityDialect,
    Mode,
    Principal,
)
from agentauth_middleware.errors import InvalidTokenError
from tests.support import identities
from tests.support.identities import AGENTS, who
from tests.support.tokens import ISSUER


def identity(
    claims: dict[str, Any],
    *,
    client_id: str | None = "client-1",
    users: bool = False,
    actor_issuers: Collection[str] = (),
) -> Identity:
    return identities.identity(
        {"sub": "user-1", **claims},
        client_id=client_id,
        users=users,
        actor_issuers=actor_issuers,
    )


def shown(principal: Principal | None) -> tuple[object, ...]:
    """All that a principal shows."""
    assert principal is not None
    return (
        principal.issuer,
        principal.subject,
        principal.profile,
        principal.email,
        principal.email_verified,
        principal.name,
    )


USER, AGENT = (ISSUER, "user-1"), (ISSUER, "agent-1")
ACT = {"sub": "agent-1"}


@pytest.mark.parametrize(
    ("claims", "users", "user", "agent", "mode"),
    [
        # Nobody says that the subject is a person.
        pytest.param({}, False, None, None, "unknown", id="subject alone"),
        pytest.param({}, True, USER, None, "user", id="subjects are users"),
        pytest.param(
            {"sub_profile": "user"}, False, USER, None, "user", id="profile says user"
        ),
        pytest.param(
            {"sub_profile": "browser_app"}, False, None, None, "unknown", id="unknown"
        ),
        pytest.param(
            {"sub_profile": "superuser"},
            True,
            None,
            None,
            "unknown",
            id="unknown word, users",
        ),
        pytest.param(
            {"sub_profile": "robot", "act": ACT},
            True,
            None,
            AGENT,
            "unknown",
            id="actor for an unknown word",
        ),
        pytest.param(
            {"sub_profile": "employee user"},
            False,
            USER,
            None,
            "user",
            id="user beside an unknown word",
        ),
        pytest.param(
            {"sub_profile": "Service"}, True, None, None, "service", id="Service"
        ),
        pytest.param(
            {"sub_profile": "user AI_Agent"},
            True,
            None,
            USER,
            "agent",
            id="AI_Agent in a list",
        ),
        pytest.param(
            {"sub_profile": "user Native_App"},
            True,
            None,
            None,
            "unknown",
            id="Native_App in a list",
        ),
        # A program without a user stays one, whatever is said of subjects in general.
        pytest.param(
            {"sub_profile": "browser_app"},
            True,
            None,
            None,
            "unknown",
            id="browser_app, users",
        ),
        pytest.param(
            {"sub_profile": "native_app"},
            True,
            None,
            None,
            "unknown",
            id="native_app, users",
        ),
        pytest.param(
            {"sub_profile": "x native_app"},
            True,
            None,
            None,
            "unknown",
            id="native_app in a list, users",
        ),
        pytest.param(
            {"sub_profile": "browser_app", "act": ACT},
            False,
            None,
            AGENT,
            "unknown",
            id="actor for a browser_app",
        ),
        pytest.param(
            {"sub_profile": "native_app", "act": ACT},
            True,
            None,
            AGENT,
            "unknown",
            id="actor for a native_app, users",
        ),
        pytest.param(
            {"sub_profile": "superuser"},
            False,
            None,
            None,
            "unknown",
            id="part of a word",
        ),
        # Somebody acts for the subject.
        pytest.param({"act": ACT}, False, USER, AGENT, "delegated", id="actor"),
        pytest.param({"act": ACT}, True, USER, AGENT, "delegated", id="actor, users"),
        pytest.param(
            {"act": {"sub": "agent-1", "iss": ISSUER}},
            False,
            USER,
            AGENT,
            "delegated",
            id="actor of the issuer itself",
        ),
        pytest.param(
            {"act": {"sub": "agent-1", "iss": AGENTS}},
            False,
            USER,
            (AGENTS, "agent-1"),
            "delegated",
            id="actor of another namespace",
        ),
        pytest.param(
            {
                "sub_profile": "user",
                "act": {"sub": "agent-1", "sub_profile": "ai_agent"},
            },
            False,
            USER,
            AGENT,
            "delegated",
            id="both classified",
        ),
        pytest.param(
            {"sub_profile": "user", "act": {"sub": "admin", "sub_profile": "user"}},
            False,
            USER,
            (ISSUER, "admin"),
            "delegated",
            id="a person acts for a person",
        ),
        # An agent on its own.
        pytest.param(
            {"sub_profile": "ai_agent"}, False, None, USER, "agent", id="agent alone"
        ),
        pytest.param(
            {"sub_profile": "ai_agent"}, True, None, USER, "agent", id="agent, users"
        ),
        pytest.param(
            {"sub_profile": "service  ai_agent"}, True, None, USER, "agent", id="list"
        ),
        pytest.param(
            {"sub_profile": "ai_agent", "act": ACT},
            True,
            None,
            AGENT,
            "agent",
            id="an agent acts for an agent",
        ),
        pytest.param(
            {"sub_profile": "ai_agent", "act": {"sub": "s", "sub_profile": "service"}},
            True,
            None,
            (ISSUER, "s"),
            "agent",
            id="a service acts for an agent",
        ),
        # A service.
        pytest.param(
            {"sub_profile": "service"}, True, None, None, "service", id="service"
        ),
        pytest.param(
            {"sub_profile": "service", "act": ACT},
            True,
            None,
            AGENT,
            "service",
            id="an agent acts for a service",
        ),
        pytest.param(
            {"sub": "client-1"}, True, None, None, "service", id="the client itself"
        ),
        pytest.param(
            {"sub": "client-1", "sub_profile": "user"},
            True,
            None,
            None,
            "service",
            id="a client that calls itself a user",
        ),
        pytest.param(
            {"sub": "client-1", "act": ACT},
            True,
            None,
            AGENT,
            "service",
            id="an agent acts for the client",
        ),
        pytest.param(
            {"sub": "client-1", "sub_profile": "ai_agent"},
            True,
            None,
            (ISSUER, "client-1"),
            "agent",
            id="an agent that is the client",
        ),
        pytest.param(
            {"sub_profile": "user ai_agent"},
            True,
            None,
            USER,
            "agent",
            id="a person and an agent is no person",
        ),
        # Acting for oneself.
        pytest.param(
            {"act": {"sub": "user-1"}}, False, None, None, "unknown", id="for itself"
        ),
        pytest.param(
            {"act": {"sub": "user-1", "iss": ISSUER}},
            True,
            USER,
            None,
            "user",
            id="self",
        ),
        pytest.param(
            {"act": {"sub": "user-1", "iss": AGENTS}},
            False,
            USER,
            (AGENTS, "user-1"),
            "delegated",
            id="a namesake of another namespace",
        ),
        # What proves nothing.
        pytest.param(
            {"may_act": ACT}, True, USER, None, "user", id="who may act does not act"
        ),
        pytest.param(
            {"azp": "agent-1", "actor": "agent-1", "agent_id": "agent-1"},
            False,
            None,
            None,
            "unknown",
            id="claims that nobody defined",
        ),
        pytest.param(
            {"username": "user-1", "email": "user@example.com"},
            False,
            None,
            None,
            "unknown",
            id="an address is no proof of a person",
        ),
    ],
)
def test_identity(
    claims: dict[str, Any],
    users: bool,
    user: tuple[str, str] | None,
    agent: tuple[str, str] | None,
    mode: Mode,
) -> None:
    found = identity(claims, users=users)

    assert (who(found.user), who(found.agent), found.mode) == (user, agent, mode)
    assert found.chain == ()


def nested(*subjects: str) -> dict[str, Any]:
    """``act`` with *subjects*, the immediate actor first."""
    act: dict[str, Any] = {}
    for subject in reversed(subjects):
        act = {"sub": subject} | ({"act": act} if act else {})
    return act


def test_chain_has_the_most_recent_actor_first() -> None:
    found = identity({"act": nested("tool", "agent", "assistant")})

    assert who(found.agent) == (ISSUER, "tool")
    assert [who(actor) for actor in found.chain] == [
        (ISSUER, "agent"),
        (ISSUER, "assistant"),
    ]


def test_each_actor_of_a_chain_has_its_own_namespace() -> None:
    act = {"sub": "tool", "act": {"sub": "agent", "iss": AGENTS}}
    found = identity({"act": act})

    assert who(found.agent) == (ISSUER, "tool")
    assert [who(actor) for actor in found.chain] == [(AGENTS, "agent")]


@pytest.mark.parametrize(
    ("namespace", "profile"),
    [
        pytest.param({}, "ai_agent", id="no namespace"),
        pytest.param({"iss": ISSUER}, "ai_agent", id="the issuer's"),
        pytest.param({"iss": AGENTS}, None, id="another's"),
        pytest.param({"iss": ISSUER + "/"}, None, id="nearly the issuer's"),
    ],
)
def test_actor_has_a_profile_of_the_issuer_of_its_name_alone(
    namespace: dict[str, str], profile: str | None
) -> None:
    """What a stranger's agent is, our issuer does not know."""
    actor = {"sub": "agent", "sub_profile": "ai_agent", **namespace}
    found = identity({"act": {**actor, "act": actor}})

    assert found.agent is not None
    assert found.agent.profile == profile
    assert found.chain[0].profile == profile


def test_issuer_is_believed_about_the_namespaces_that_the_operator_lists() -> None:
    actor = {"sub": "agent", "sub_profile": "ai_agent", "iss": AGENTS}
    found = identity({"act": {**actor, "act": actor}}, actor_issuers=[AGENTS])

    assert found.agent is not None
    assert found.agent.profile == "ai_agent"
    assert found.chain[0].profile == "ai_agent"


def test_chain_may_have_five_actors() -> None:
    found = identity({"act": nested("1", "2", "3", "4", "5")})

    assert [actor.subject for actor in found.chain] == ["2", "3", "4", "5"]


@pytest.mark.parametrize("depth", [6, 7, 100])
def test_deeper_chain_is_refused_and_not_cut_off(depth: int) -> None:
    with pytest.raises(ValueError, match="5 actors"):
        identity({"act": nested(*(str(n) for n in range(depth)))})


def test_chain_may_name_the_same_actor_twice() -> None:
    found = identity({"act": nested("agent", "tool", "agent")})

    assert len(found.chain) == 2


def test_claims_inside_an_actor_other_than_its_name_do_not_count() -> None:
    act: dict[str, Any] = {
        "sub": "agent-1",
        "exp": 0,
        "nbf": 2**60,
        "aud": "x",
        "cnf": {},
        "scope": 1,
    }
    found = identity({"act": act})

    assert shown(found.agent) == (ISSUER, "agent-1", None, None, None, None)


@pytest.mark.parametrize(
    "act",
    [
        *(None, [], ["agent-1"], "agent-1", 1, True, {}),
        *({"sub": ""}, {"sub": None}, {"sub": 1}, {"sub": ["a"]}),
        *({"sub": "a", "iss": ""}, {"sub": "a", "iss": None}, {"sub": "a", "iss": 1}),
        *({"sub": "a", "sub_profile": ["user"]}, {"sub": "a", "sub_profile": ""}),
        *({"sub": "a", "act": None}, {"sub": "a", "act": []}, {"sub": "a", "act": {}}),
        {"sub": "user-1", "act": "history counts as well"},
    ],
    ids=repr,
)
def test_malformed_actor_is_refused(act: object) -> None:
    """And not passed over: the token would be taken for the user's own."""
    with pytest.raises(ValueError, match=r"."):
        identity({"act": act}, users=True)


@pytest.mark.parametrize("profile", [["user"], "", None, 1, {}], ids=repr)
def test_malformed_profile_is_refused(profile: object) -> None:
    with pytest.raises(ValueError, match="sub_profile"):
        identity({"sub_profile": profile})


@pytest.mark.parametrize(
    "mine",
    [
        *("ai_agent", "service ai_agent", "service", "browser_app", "native_app"),
        *("user ai_agent", "superuser", None),
    ],
)
@pytest.mark.parametrize("acts", ["user", "user admin", "ai_agent user"])
@pytest.mark.parametrize("namespace", [{}, {"iss": ISSUER}, {"iss": AGENTS}], ids=repr)
@pytest.mark.parametrize("users", [False, True], ids=["", "subjects are users"])
def test_roles_that_are_swapped_are_refused(
    mine: str | None, acts: str, namespace: dict[str, str], users: bool
) -> None:
    """Some issuers put the agent in ``sub`` and the user in ``act``. Read as RFC 8693
    says, the agent would have the user's rights."""
    profile = {} if mine is None else {"sub_profile": mine}
    act = {"sub": "u", "sub_profile": acts, **namespace}
    with pytest.raises(InvalidTokenError) as refused:
        identity({**profile, "act": act}, users=users)

    assert refused.value.reason == "contradictory_profiles"


def test_earlier_actor_may_be_a_person() -> None:
    """They decide nothing, and so contradict nothing."""
    act = {"sub": "agent-1", "act": {"sub": "ana", "sub_profile": "user"}}
    found = identity({"sub_profile": "user", "act": act})

    assert (who(found.user), who(found.agent)) == (USER, AGENT)


def test_user_carries_what_is_for_display() -> None:
    found = identity(
        {
            "sub_profile": "user",
            "email": "ana@example.com",
            "email_verified": True,
            "name": "Ana",
        }
    )

    assert shown(found.user) == (
        ISSUER,
        "user-1",
        "user",
        "ana@example.com",
        True,
        "Ana",
    )


def test_display_claims_of_the_wrong_type_are_left_out() -> None:
    """They decide nothing, so they cost nobody the request."""
    found = identity(
        {"email": 1, "email_verified": "true", "name": ["Ana"]}, users=True
    )

    assert shown(found.user) == (ISSUER, "user-1", None, None, None, None)


def test_display_claims_are_the_users_and_not_the_agents() -> None:
    found = identity({"act": ACT, "email": "ana@example.com", "name": "Ana"})

    assert shown(found.user)[3:] == ("ana@example.com", None, "Ana")
    assert shown(found.agent)[3:] == (None, None, None)


def test_namesakes_of_two_issuers_are_two_people() -> None:
    claims = {"sub": "1", "act": {"sub": "1", "iss": AGENTS}}
    one = read_identity(claims, ISSUER, "c", subjects_are_users=True)
    other = read_identity(
        claims, "https://idp.example.net", "c", subjects_are_users=True
    )

    assert one.user != other.user
    assert one.agent == other.agent is not None


# What an answer about an opaque token may leave out


@pytest.mark.parametrize(
    ("claims", "agent", "mode"),
    [
        pytest.param({}, None, "unknown", id="nothing"),
        pytest.param({"sub_profile": "user"}, None, "unknown", id="a user"),
        pytest.param({"sub_profile": "ai_agent"}, None, "unknown", id="an agent"),
        pytest.param({"sub_profile": "service"}, None, "service", id="a service"),
        pytest.param({"act": ACT}, AGENT, "unknown", id="an actor"),
    ],
)
@pytest.mark.parametrize("client_id", [None, "client-1"])
def test_token_without_a_subject_has_no_user(
    claims: dict[str, Any],
    agent: tuple[str, str] | None,
    mode: Mode,
    client_id: str | None,
) -> None:
    found = identities.identity(claims, client_id=client_id, users=True)

    assert (found.user, who(found.agent), found.mode) == (None, agent, mode)


def test_subject_may_be_the_client_where_that_is_not_named() -> None:
    """So that the setting, which speaks of other subjects, does not apply."""
    found = identity({}, client_id=None, users=True)

    assert (found.user, found.mode) == (None, "unknown")


@pytest.mark.parametrize(
    ("claims", "mode"),
    [
        ({"sub_profile": "user"}, "user"),
        ({"sub_profile": "user", "act": ACT}, "delegated"),
    ],
    ids=["alone", "acted for"],
)
def test_profile_that_says_user_needs_no_client(
    claims: dict[str, Any], mode: Mode
) -> None:
    found = identity(claims, client_id=None)

    assert (who(found.user), found.mode) == (USER, mode)


PLAIN: list[IdentityDialect] = ["rfc8693", "actor_profile", "authmd", "auth0", "okta"]


@pytest.mark.parametrize("dialect", [*PLAIN, "keycloak"])
@pytest.mark.parametrize("users", [False, True])
def test_actor_alone_does_not_make_a_user_where_no_client_is_named(
    users: bool, dialect: IdentityDialect
) -> None:
    """The subject that it acts for might be the client."""
    claims = {"sub": "user|1", "act": {"sub": "agent-1", "iss": ISSUER}}
    one = identities.identity(claims, dialect, client_id=None, users=users)
    other = identities.identity(claims, dialect, users=users)

    assert (one.user, who(one.agent), one.mode) == (None, AGENT, "unknown")
    assert (who(other.user), other.mode) == ((ISSUER, "user|1"), "delegated")


@pytest.mark.parametrize("dialect", [*PLAIN, "keycloak", "client_only"])
@pytest.mark.parametrize("profile", ["robot", "user_agent", "iot device", "user,x"])
def test_unknown_profile_is_no_person_in_any_dialect(
    profile: str, dialect: IdentityDialect
) -> None:
    claims = {
        "sub": "user|1",
        "sub_profile": profile,
        "preferred_username": "ana",
    }

    assert identities.identity(claims, dialect, users=True).user is None
    del claims["sub_profile"]
    assert identities.identity(claims, dialect, users=True).user is not None


def test_same_claims_give_the_same_identity_however_they_came() -> None:
    """In a token or, frozen, in an answer about one."""
    claims = {"sub_profile": "user", "email": "a@example.com", "act": nested("1", "2")}

    assert identity(claims) == identity(freeze(claims))


def test_nesting_without_end_is_no_json_for_us() -> None:
    with pytest.raises(ValueError, match="nested"):
        parse_object(b'{"sub":"s","act":' * 10_000 + b"{}" + b"}" * 10_000)


def test_actors_of_many_tokens_are_shared() -> None:
    """There are few of them, and many tokens are remembered."""
    one, other = identity({"act": nested("a", "b")}), identity({"act": nested("a")})

    assert one.agent is other.agent


@pytest.mark.parametrize("dialect", ["rfc8693", "okta", "keycloak", "actor_profile"])
def test_agent_is_not_forgotten_because_its_user_acted_since(dialect: Any) -> None:
    """One exchange by the user for themselves must not launder the agent's token."""
    act = {"sub": "evil", "iss": ISSUER, "sub_profile": "ai_agent"}
    claims = {
        "sub_profile": "user",
        "act": {"sub": "user-1", "iss": ISSUER, "act": act},
    }
    found = identities.identity({"sub": "user-1", **claims}, dialect)

    assert (found.user, found.agent) == (Principal(ISSUER, "user-1"), None)
    assert [actor.subject for actor in found.chain] == ["evil"]
    assert Access(ISSUER, user=found.user, chain=found.chain, mode="user").is_by_agent
