"""What Auth0, Okta and Keycloak write in their own way, and issuers without agents."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.identities import AGENTS, identity, verdict, who
from tests.support.identity_payloads import PAYLOADS
from tests.support.tokens import ISSUER

AGENT = {"sub": "agt_4", "sub_profile": "ai_agent"}


# Auth0


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        # The API has not asked for profiles.
        pytest.param({"sub": "auth0|u9"}, "user: auth0|u9", id="a person"),
        pytest.param({"sub": "agt_4"}, "unknown:", id="an agent"),
        pytest.param({"sub": "m2m-1@clients"}, "service:", id="a client"),
        pytest.param({"sub": "x|y@clients"}, "service:", id="a client with a bar"),
        pytest.param(
            {"sub": "auth0|u9", "act": {"sub": "agt_4"}},
            "delegated: auth0|u9 by agt_4",
            id="an agent for a person",
        ),
        pytest.param(
            {"sub": "agt_1", "act": {"sub": "agt_4"}},
            "unknown: by agt_4",
            id="an agent for an agent",
        ),
        pytest.param(
            {"sub": "m2m-1@clients", "act": {"sub": "agt_4"}},
            "service: by agt_4",
            id="an agent for a client",
        ),
        # Profiles say more than names.
        pytest.param({"sub": "u9", "sub_profile": "user"}, "user: u9", id="user"),
        pytest.param(
            {"sub": "x|y", "sub_profile": "ai_agent"}, "agent: by x|y", id="agent"
        ),
        pytest.param(
            {"sub": "x|y", "sub_profile": "service"}, "service:", id="service"
        ),
        # What a client is, is not what its subject is.
        pytest.param(
            {"sub": "auth0|u9", "client_profile": "service ai_agent"},
            "user: auth0|u9",
            id="the profile of a client",
        ),
    ],
)
def test_auth0_tells_users_by_profile_or_name(
    claims: dict[str, Any], found: str
) -> None:
    assert verdict(claims, "auth0", client_id="m2m-1", users=True) == found


def test_auth0_login_through_an_agents_client_is_delegated() -> None:
    claims = {"sub": "auth0|u9", "sub_profile": "user", "client_profile": "ai_agent"}

    assert verdict({**claims, "act": AGENT}, "auth0") == "delegated: auth0|u9 by agt_4"


# Okta

OKTA = PAYLOADS["okta"].claims


def okta(**changes: Any) -> dict[str, Any]:
    claims = {**OKTA, **changes}
    return {name: value for name, value in claims.items() if value is not None}


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        pytest.param(
            okta(delegated_through=None), "delegated: 00u5 by wlp2", id="first"
        ),
        pytest.param(
            okta(sub_profile=None),
            "delegated: 00u5 by wlp2 after wlp1",
            id="no profile",
        ),
        pytest.param(
            okta(sub_profile="service"), "service: by wlp2 after wlp1", id="service"
        ),
        pytest.param(
            okta(act=None, delegated_through=None), "user: 00u5", id="no resource"
        ),
        pytest.param(okta(act=None), "user: 00u5 after wlp1", id="earlier actors only"),
        pytest.param(
            okta(act=None, delegated_through=None, sub_profile=None),
            "unknown:",
            id="subject only",
        ),
        pytest.param(
            okta(delegated_through=[{"sub": "b"}, {"sub": "a"}]),
            "delegated: 00u5 by wlp2 after b a",
            id="in its own order",
        ),
        pytest.param(
            okta(act={"sub": "wlp2", "act": {"sub": "x"}}),
            "delegated: 00u5 by wlp2 after x wlp1",
            id="both kinds of history",
        ),
        pytest.param(
            okta(delegated_through=[{"sub": str(n)} for n in range(4)]),
            "delegated: 00u5 by wlp2 after 0 1 2 3",
            id="five actors",
        ),
        pytest.param(
            okta(delegated_through=[{"sub": str(n)} for n in range(5)]),
            "401 malformed",
            id="six actors",
        ),
    ],
)
def test_okta_lists_earlier_actors(claims: dict[str, Any], found: str) -> None:
    assert verdict(claims, "okta") == found


@pytest.mark.parametrize(
    "through",
    ["wlp1", {"sub": "wlp1"}, [None], ["wlp1"], [{}], [{"sub": 1}], 1, True],
    ids=repr,
)
def test_okta_malformed_history_is_refused(through: object) -> None:
    assert verdict(okta(delegated_through=through), "okta") == "401 malformed"


def test_okta_null_is_no_history_either() -> None:
    assert verdict({**OKTA, "delegated_through": None}, "okta") == "401 malformed"


def test_okta_earlier_actor_of_a_stranger_is_unclassified() -> None:
    actor = {"sub": "wlp1", "sub_profile": "ai_agent", "iss": AGENTS}
    found = identity(okta(delegated_through=[actor]), "okta")

    assert who(found.chain[0]) == (AGENTS, "wlp1")
    assert found.chain[0].profile is None


@pytest.mark.parametrize(
    ("origin", "extra"),
    [
        (
            {"sub": "0oa9", "sub_profile": "service"},
            {"origin": "0oa9", "origin_profile": "service"},
        ),
        ({"sub": "0oa9"}, {"origin": "0oa9"}),
        ({"sub": 1}, {}),
        ("0oa9", {}),
        (None, {}),
    ],
    ids=repr,
)
def test_okta_origin_is_shown(origin: object, extra: dict[str, str]) -> None:
    """It decides nothing, so a malformed one costs nobody the request."""
    found = identity({**OKTA, "origin": origin}, "okta")

    assert found.agent is not None
    assert found.agent.extra == extra


# Keycloak


@pytest.mark.parametrize(
    ("claims", "users", "found"),
    [
        ({"preferred_username": "ana"}, False, "user: id-1"),
        ({"preferred_username": "service-account-app"}, False, "service:"),
        ({"preferred_username": "service-account-app"}, True, "service:"),
        ({"preferred_username": "my-service-account-app"}, False, "user: id-1"),
        ({}, False, "unknown:"),
        ({}, True, "user: id-1"),
        ({"azp": "agent", "preferred_username": "ana"}, False, "user: id-1"),
        ({"act": {"sub": "a"}}, False, "delegated: id-1 by a"),
        (
            {"preferred_username": "service-account-app", "act": {"sub": "a"}},
            False,
            "service: by a",
        ),
        (
            {"preferred_username": "ana", "sub_profile": "ai_agent"},
            True,
            "agent: by id-1",
        ),
        ({"preferred_username": "ana", "sub_profile": "native_app"}, True, "unknown:"),
        ({"preferred_username": "ana", "sub": "client-1"}, True, "service:"),
        ({"preferred_username": None}, True, "401 malformed"),
        ({"preferred_username": ["ana"]}, True, "401 malformed"),
    ],
    ids=repr,
)
def test_keycloak_tells_service_accounts_by_their_names(
    claims: dict[str, Any], users: bool, found: str
) -> None:
    assert verdict({"sub": "id-1", **claims}, "keycloak", users=users) == found


def test_keycloak_username_is_no_key() -> None:
    found = identity({"sub": "id-1", "preferred_username": "ana"}, "keycloak")

    assert who(found.user) == (ISSUER, "id-1")


def test_keycloak_username_alone_is_nobody() -> None:
    assert verdict({"preferred_username": "ana"}, "keycloak", users=True) == "unknown:"


# No agents at all


@pytest.mark.parametrize(
    ("claims", "users", "found"),
    [
        ({"sub": "ana"}, True, "user: ana"),
        ({"sub": "ana"}, False, "unknown:"),
        ({"sub": "ana", "sub_profile": "user"}, False, "unknown:"),
        ({"sub": "client-1"}, True, "service:"),
        ({"sub": "client-1", "sub_profile": "user"}, True, "service:"),
        ({"sub": "ana", "sub_profile": "service"}, True, "service:"),
        ({"sub": "ana", "sub_profile": "native_app"}, True, "unknown:"),
        ({"sub": "ana", "sub_profile": "ai_agent"}, True, "401 contradictory_profiles"),
        ({"sub": "ana", "act": {"sub": "a"}}, True, "401 contradictory_profiles"),
        ({"sub": "ana", "azp": "a", "agent_id": "a"}, True, "user: ana"),
    ],
    ids=repr,
)
def test_client_only_knows_people_and_clients(
    claims: dict[str, Any], users: bool, found: str
) -> None:
    assert verdict(claims, "client_only", users=users) == found
