"""The ``Issuer`` that the documentation shows for each vendor, and the vendor's tokens.

What is asked of a whole API built by its recipe is in
``tests/frameworks/test_vendor_recipes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any

import pytest

from agentauth_middleware import Access, Issuer, ResourceServer
from agentauth_middleware.access import Identity
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.verifier import Verifier
from tests.support.identities import written
from tests.support.vendor_tokens import (
    AGENT_AT_ENTRA,
    API,
    ID_TOKENS,
    TOKENS,
    Token,
    signer,
)
from tests.test_docs import ROOT, run

ANA_AT_AUTH0 = "auth0|507f1f77bcf86cd799439011"

FOUND = {
    "Entra person": f"delegated: ana-oid by {AGENT_AT_ENTRA} may notes.read",
    "Entra own application": "user: ana-oid may notes.read",
    "Entra application": "service: may",
    "Entra agent identity": "delegated: user-oid by agent-app may Orders.Read",
    "Entra agent alone": "agent: by agent-app may",
    "Entra account": "agent_user_account: by agent-app may Orders.Read",
    "Auth0 person": f"delegated: {ANA_AT_AUTH0} by m2m-1 may notes.read openid",
    "Auth0 own application": f"user: {ANA_AT_AUTH0} may notes.read openid",
    "Auth0 client": "service: may notes.read openid",
    "Auth0 on behalf": "delegated: auth0|u9 by agt_4 after spa-1 may notes.read openid",
    "Auth0 agent alone": "agent: by agt_4 may notes.read openid",
    "Auth0 RFC 9068": f"delegated: {ANA_AT_AUTH0} by m2m-1 may notes.read openid",
    "Okta person": "delegated: ana@example.com by 0oa1 may notes.read openid",
    "Okta own application": "user: ana@example.com may notes.read openid",
    "Okta client": "service: may notes.read openid",
    "Okta on behalf": "delegated: 00u5 by wlp2 after wlp1 may notes.read openid",
    "Okta typed": "delegated: ana@example.com by 0oa1 may notes.read openid",
    "Keycloak person": "delegated: uuid-1 by client-1 may email notes.read profile",
    "Keycloak own application": "user: uuid-1 may email notes.read profile",
    "Keycloak service": "service: may email notes.read profile",
    "WorkOS": "delegated: user_1 by agent_instance_1 may notes.read",
}


@cache
def shown() -> Mapping[str, Any]:
    """The names that the page about issuers defines."""
    return run(ROOT / "docs" / "issuers.md")


def verified(shape: Token, issuer: Issuer) -> Access:
    server = ResourceServer(API, issuers=[replace(issuer, jwks=signer().jwks)])
    verifier = Verifier(server)
    try:
        return verifier.verify_blocking(shape.signed(issuer.issuer))
    finally:
        verifier.close()


def verdict(shape: Token, issuer: Issuer) -> str:
    """Such as ``delegated: ana by agent may notes.read``, or why it is refused."""
    try:
        access = verified(shape, issuer)
    except InvalidTokenError as refused:
        return f"401 {refused.reason}"
    who_it_is = Identity(access.mode, access.user, access.agent, access.chain)
    return " ".join([written(who_it_is), "may", *sorted(access.scopes)])


@pytest.mark.parametrize("name", TOKENS)
def test_token_of_a_vendor_is_read_as_the_page_says(name: str) -> None:
    shape = TOKENS[name]

    assert verdict(shape, shown()[shape.vendor]) == FOUND[name]


@pytest.mark.parametrize("vendor", ID_TOKENS)
def test_id_token_of_a_vendor_is_refused(vendor: str) -> None:
    """Even one that is for the API, which is a client of its own there."""
    found = verdict(ID_TOKENS[vendor], shown()[vendor])

    assert found == "401 wrong_token_type"


def without_each_setting(issuer: Issuer) -> Mapping[str, Issuer]:
    """*issuer* with the default in place of one thing that the page says."""
    changed: dict[str, Issuer] = {}
    for setting in fields(Issuer):
        is_said = getattr(issuer, setting.name) != setting.default
        if setting.default is not MISSING and setting.init and is_said:
            changed[setting.name] = replace(issuer, **{setting.name: setting.default})
    return changed


@pytest.mark.parametrize("vendor", ID_TOKENS)
def test_page_shows_no_more_than_a_vendor_needs(vendor: str) -> None:
    """Each setting, taken away, has a token refused or read in another way."""
    names = [name for name, shape in TOKENS.items() if shape.vendor == vendor]
    changed = without_each_setting(shown()[vendor])
    idle = [
        setting
        for setting, issuer in changed.items()
        if all(verdict(TOKENS[name], issuer) == FOUND[name] for name in names)
    ]

    assert "identity" in changed
    assert idle == []


PEOPLE = {
    "Entra": ("", "user: ana-oid may notes.read"),
    "Auth0": ("users", f"user: {ANA_AT_AUTH0} may notes.read openid"),
    "Okta": ("users", "user: ana@example.com may notes.read openid"),
    "Keycloak": ("", "user: uuid-1 may email notes.read profile"),
}
"""Where clients are no agents: the ``subjects`` that is needed, and who is found."""


@pytest.mark.parametrize("vendor", PEOPLE)
def test_people_are_known_without_clients_as_agents_as_the_page_says(
    vendor: str,
) -> None:
    subjects, found = PEOPLE[vendor]
    shape = TOKENS[f"{vendor} person"]
    plain = replace(shown()[shape.vendor], first_party_clients=None)
    users = replace(plain, subjects="users")

    assert verdict(shape, users) == found
    assert (verdict(shape, plain) == found) == (subjects == "")


def test_person_at_keycloak_without_a_name_needs_subjects() -> None:
    shape = TOKENS["Keycloak person"]
    nameless = {**shape.payload}
    del nameless["preferred_username"]
    light = shape._replace(payload=nameless)
    plain = replace(shown()["keycloak"], first_party_clients=None)

    assert verdict(light, plain).startswith("unknown:")
    assert verdict(light, replace(plain, subjects="users")).startswith("user: uuid-1")


def test_person_at_entra_needs_the_claim_that_marks_people() -> None:
    shape = TOKENS["Entra own application"]
    unmarked = {**shape.payload}
    del unmarked["idtyp"]

    assert verdict(shape._replace(payload=unmarked), shown()["entra"]).startswith(
        "unknown:"
    )
