"""Facets: who is an agent, and whose account only looks like a user's."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth_middleware.access import Access, Principal
from agentauth_middleware.errors import ActorRefusedError
from tests.support.identities import identity, verdict
from tests.support.tokens import ISSUER

TOKEN = {"sub": "pairwise", "tid": "T", "oid": "oid", "azp": "app"}
NOBODY_KNOWS = "401 contradictory_profiles"


def entra(**changes: Any) -> dict[str, Any]:
    """Claims of an Entra token; ``None`` leaves one out."""
    claims = {**TOKEN, **changes}
    return {name: value for name, value in claims.items() if value is not None}


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        # A person.
        pytest.param({"xms_act_fct": "3 11", "xms_sub_fct": "2"}, "agent", id="agent"),
        pytest.param({"xms_act_fct": "11", "xms_sub_fct": "2"}, "agent", id="only 11"),
        pytest.param({"xms_act_fct": "13 11", "xms_sub_fct": "2"}, "agent", id="13 11"),
        pytest.param({"xms_act_fct": "110", "xms_sub_fct": "2"}, "user", id="110"),
        pytest.param({"xms_act_fct": "1 1", "xms_sub_fct": "2"}, "user", id="1 1"),
        pytest.param({"xms_act_fct": "3", "xms_sub_fct": "2"}, "user", id="3"),
        pytest.param(
            {"xms_act_fct": "3  11 ", "xms_sub_fct": "2"}, "agent", id="double spaces"
        ),
        pytest.param({"xms_sub_fct": "130 2"}, "user", id="subject 130"),
        pytest.param({}, "user", id="no facets"),
        pytest.param(
            {"xms_par_app_azp": "bp-1", "xms_sub_fct": "2"}, "agent", id="blueprint"
        ),
        # Perhaps a person.
        pytest.param({"xms_act_fct": "11"}, "unknown: by app", id="half the facets"),
        pytest.param(
            {"xms_par_app_azp": "bp-1"}, "unknown: by app", id="blueprint only"
        ),
        # No person.
        pytest.param(
            {"xms_act_fct": "11", "xms_sub_fct": "13"},
            "agent_user_account: by app",
            id="account",
        ),
        pytest.param(
            {"xms_act_fct": "11", "xms_sub_fct": "2 13 11"},
            "agent_user_account: by app",
            id="account among others",
        ),
        pytest.param(
            {"xms_sub_fct": "13"}, "agent_user_account:", id="account without agent"
        ),
        pytest.param({"xms_sub_fct": "11"}, NOBODY_KNOWS, id="an agent as a user"),
        # Malformed.
        pytest.param({"xms_act_fct": 11}, "401 malformed", id="number"),
        pytest.param({"xms_act_fct": ["11"]}, "401 malformed", id="array"),
        pytest.param({"xms_sub_fct": 13}, "401 malformed", id="subject number"),
        pytest.param({"xms_sub_fct": ""}, "401 malformed", id="empty"),
        pytest.param({"tid": None}, "401 malformed", id="no tid"),
        pytest.param({"oid": None}, "401 malformed", id="no oid"),
        pytest.param({"oid": 1}, "401 malformed", id="oid number"),
        pytest.param(
            {"azp": None, "xms_act_fct": "11", "xms_sub_fct": "2"},
            "401 malformed",
            id="an agent without a name",
        ),
    ],
)
def test_entra_account_is_a_persons_or_an_agents(
    claims: dict[str, Any], found: str
) -> None:
    long = {"agent": "delegated: oid by app", "user": "user: oid"}

    assert verdict(entra(idtyp="user", **claims), "entra") == long.get(found, found)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        pytest.param(
            {"xms_act_fct": "9 11 3", "xms_sub_fct": "11 3 9"}, "agent", id="agent"
        ),
        pytest.param({"xms_sub_fct": "11"}, "agent", id="subject"),
        pytest.param({"xms_act_fct": "11"}, "agent", id="actor"),
        pytest.param({"xms_par_app_azp": "bp-1"}, "agent", id="blueprint"),
        pytest.param({"xms_sub_fct": "110", "xms_act_fct": "1"}, "service:", id="110"),
        pytest.param({}, "service:", id="no facets"),
        pytest.param({"scp": "/", "roles": ["A"]}, "service:", id="scp and roles"),
        pytest.param({"xms_sub_fct": "13"}, NOBODY_KNOWS, id="account as application"),
        pytest.param({"xms_sub_fct": "11", "azp": None}, "401 malformed", id="no name"),
        pytest.param({"xms_sub_fct": "11", "azp": 1}, "401 malformed", id="number"),
    ],
)
def test_entra_application_is_an_agent_or_a_service(
    claims: dict[str, Any], found: str
) -> None:
    long = {"agent": "agent: by app"}

    assert verdict(entra(idtyp="app", **claims), "entra") == long.get(found, found)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        pytest.param({}, "unknown:", id="absent"),
        pytest.param({"scp": "Orders.Read"}, "unknown:", id="with scp"),
        pytest.param({"scp": "/"}, "unknown:", id="scp of nothing"),
        pytest.param({"idtyp": "device"}, "unknown:", id="device"),
        pytest.param({"idtyp": "User"}, "unknown:", id="upper case"),
        pytest.param({"idtyp": 1}, "401 malformed", id="number"),
        pytest.param({"xms_act_fct": "11"}, "unknown: by app", id="agent"),
        pytest.param({"xms_sub_fct": "11"}, "unknown: by app", id="agent for itself"),
        pytest.param(
            {"xms_sub_fct": "13"}, "agent_user_account:", id="agent's account"
        ),
    ],
)
def test_entra_without_a_kind_proves_no_user(
    claims: dict[str, Any], found: str
) -> None:
    """Whatever is said of subjects: applications have an ``oid`` too."""
    assert verdict(entra(**claims), "entra", users=True) == found


def test_entra_agent_has_one_name_in_all_its_tokens() -> None:
    """In those of both versions, with a user and without."""
    facets = {"xms_act_fct": "11", "xms_sub_fct": "2"}
    found = [
        identity(entra(idtyp="user", **facets), "entra"),
        identity(entra(idtyp="user", azp=None, appid="app", **facets), "entra"),
        identity(entra(idtyp="app", xms_act_fct="11", sub="x"), "entra"),
        identity(entra(idtyp="user", **facets, xms_par_app_azp="bp-1"), "entra"),
    ]

    assert {one.agent for one in found} == {Principal(ISSUER, "app")}


def test_entra_agents_of_one_blueprint_are_not_one() -> None:
    claims = {"idtyp": "app", "xms_par_app_azp": "bp-1"}
    one = identity(entra(**claims, azp="app-1"), "entra").agent
    other = identity(entra(**claims, azp="app-2"), "entra").agent

    assert one is not None
    assert other is not None
    assert one != other
    assert one.extra == other.extra == {"blueprint": "bp-1"}


def test_entra_user_is_the_same_for_every_application() -> None:
    one = identity(entra(idtyp="user", sub="for app 1"), "entra")
    other = identity(entra(idtyp="user", sub="for app 2"), "entra")

    assert one.user == other.user == Principal(ISSUER, "oid", tenant="T")


def test_entra_user_is_one_of_a_directory() -> None:
    one = identity(entra(idtyp="user"), "entra")
    other = identity(entra(idtyp="user", tid="T2"), "entra")

    assert one.user != other.user


def test_entra_shows_its_user() -> None:
    claims = entra(idtyp="user", email="ana@example.com", name="Ana", upn="root")
    user = identity(claims, "entra").user

    assert user is not None
    assert (user.email, user.name, user.profile) == ("ana@example.com", "Ana", "user")


def test_entra_agents_account_is_no_user_and_is_shown_with_its_agent() -> None:
    facets = {"xms_act_fct": "11", "xms_sub_fct": "13", "xms_par_app_azp": "bp-1"}
    found = identity(entra(idtyp="user", **facets), "entra")
    access = Access(ISSUER, "pairwise", found.user, found.agent, mode=found.mode)

    assert found.agent is not None
    assert found.agent.extra == {"blueprint": "bp-1", "account": "oid"}
    for guard in (access.require_user, access.require_delegation, access.forbid_agents):
        with pytest.raises(ActorRefusedError):
            guard()


def test_entra_agent_is_shared_by_its_tokens() -> None:
    claims = entra(idtyp="app", xms_par_app_azp="bp-1")

    assert identity(claims, "entra").agent is identity(claims, "entra").agent
