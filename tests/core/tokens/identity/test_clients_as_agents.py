"""Issuers whose tokens name the agent as their OAuth client."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth_middleware.access import Principal
from agentauth_middleware.settings.issuer import Issuer
from tests.support.identities import identity, verdict
from tests.support.tokens import ISSUER

ANA = {"sub": "ana"}
AT_AUTH0 = {"sub": "auth0|ana"}
AT_KEYCLOAK = {"sub": "f3a1", "preferred_username": "ana"}
ROBOT = {"sub": "f3a2", "preferred_username": "service-account-robot"}
AT_ENTRA = {"sub": "s", "oid": "o", "tid": "t", "idtyp": "user", "azp": "client-1"}
APP_AT_ENTRA = {"sub": "s", "oid": "s", "tid": "t", "idtyp": "app", "azp": "client-1"}


@pytest.mark.parametrize(
    ("dialect", "claims", "client", "found"),
    [
        ("rfc8693", ANA, "own-app", "user: ana"),
        ("rfc8693", ANA, "client-1", "delegated: ana by client-1"),
        ("rfc8693", ANA, None, "unknown:"),
        ("rfc8693", {**ANA, "sub_profile": "user"}, None, "unknown:"),
        ("rfc8693", {}, "client-1", "service:"),
        ("rfc8693", {}, None, "service:"),
        ("rfc8693", {"sub": "client-1"}, "client-1", "service:"),
        ("rfc8693", {"sub": "own-app"}, "own-app", "service:"),
        ("rfc8693", {**ANA, "sub_profile": "service"}, "client-1", "service:"),
        ("rfc8693", {**ANA, "sub_profile": "ai_agent"}, "own-app", "agent: by ana"),
        ("rfc8693", {**ANA, "sub_profile": "robot"}, "own-app", "unknown:"),
        ("rfc8693", {**ANA, "sub_profile": "robot"}, "c", "unknown: by c"),
        ("rfc8693", {**ANA, "act": {"sub": "t"}}, "own-app", "delegated: ana by t"),
        ("rfc8693", {**ANA, "act": {"sub": "t"}}, "client-1", "delegated: ana by t"),
        ("rfc8693", {**ANA, "act": None}, "own-app", "401 malformed"),
        ("auth0", AT_AUTH0, "own-app", "user: auth0|ana"),
        ("auth0", AT_AUTH0, "client-1", "delegated: auth0|ana by client-1"),
        ("auth0", {"sub": "client-1@clients"}, "client-1", "service:"),
        ("auth0", {"sub": "nobody"}, "own-app", "unknown:"),
        ("auth0", {"sub": "nobody"}, "client-1", "unknown: by client-1"),
        ("keycloak", AT_KEYCLOAK, "own-app", "user: f3a1"),
        ("keycloak", AT_KEYCLOAK, "client-1", "delegated: f3a1 by client-1"),
        ("keycloak", ROBOT, "client-1", "service:"),
        ("okta", ANA, "own-app", "user: ana"),
        ("okta", ANA, "client-1", "delegated: ana by client-1"),
        ("entra", AT_ENTRA, "own-app", "user: o"),
        ("entra", AT_ENTRA, "client-1", "delegated: o by client-1"),
        ("entra", APP_AT_ENTRA, "client-1", "service:"),
        ("client_only", ANA, "own-app", "user: ana"),
        ("client_only", ANA, "client-1", "delegated: ana by client-1"),
    ],
)
def test_clients_that_are_not_on_the_list_are_agents(
    dialect: Any, claims: dict[str, Any], client: str | None, found: str
) -> None:
    said = verdict(claims, dialect, client_id=client, first_party=("own-app",))

    assert said == found


def test_with_an_empty_list_every_client_is_an_agent() -> None:
    found = identity(ANA, client_id="own-app", first_party=())

    assert found.agent == Principal(ISSUER, "own-app")
    assert found.mode == "delegated"


def test_without_the_setting_clients_are_no_agents() -> None:
    assert Issuer(ISSUER).first_party_clients is None
    assert verdict(ANA, "rfc8693", users=True) == "user: ana"
    assert verdict(ANA, "rfc8693") == "unknown:"
