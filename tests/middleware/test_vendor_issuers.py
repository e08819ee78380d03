"""The ``Issuer`` that the documentation shows for each vendor, and the vendor's tokens.

Header and envelope are what the vendor writes by default. Who is behind a token is in
``tests/support/identity_payloads.py``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any, NamedTuple

import pytest

from agentauth_middleware import Access, Issuer, ResourceServer
from agentauth_middleware.access import Identity
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.testing import FakeIssuer
from agentauth_middleware.verifier import Verifier
from tests.support.identities import written
from tests.support.identity_payloads import PAYLOADS
from tests.test_docs import ROOT, run

API = "https://api.example.com"
ENTRA_API = "7d3c2b1a-90ab-4cde-8f01-23456789abcd"
WORKOS_ENVIRONMENT = "client_01JABCDEFGHJKMNPQRSTVWXYZ0"


class Token(NamedTuple):
    vendor: str
    typ: str | None
    payload: Mapping[str, Any]


def token(vendor: str, typ: str | None, *parts: Mapping[str, Any]) -> Token:
    """A vendor's token: its envelope and the claims that say who is calling."""
    return Token(vendor, typ, {name: part[name] for part in parts for name in part})


def who(name: str) -> Mapping[str, Any]:
    return PAYLOADS[name].claims


ENTRA = {
    "aud": ENTRA_API,
    "aio": "ATQAy/8TAAAA",
    "azpacr": "1",
    "rh": "0.AXoA",
    "uti": "sAvkP0aVxkWQyBbd1uUAAA",
    "ver": "2.0",
}
ENTRA_PERSON = {**ENTRA, "name": "Ana", "preferred_username": "ana@example.com"}
AUTH0 = {
    "aud": [API, "https://notes.eu.auth0.com/userinfo"],
    "azp": "m2m-1",
    "scope": "openid notes.read",
}
AUTH0_CLIENT = {**AUTH0, "aud": API, "gty": "client-credentials"}
AUTH0_RFC_9068 = {
    "aud": API,
    "client_id": "m2m-1",
    "jti": "j-1",
    "scope": "openid notes.read",
}
OKTA = {
    "ver": 1,
    "jti": "AT.k1",
    "aud": "api://default",
    "cid": "0oa1",
    "scp": ["openid", "notes.read"],
}
KEYCLOAK = {
    "jti": "onrtac:1",
    "aud": ["notes-api", "account"],
    "typ": "Bearer",
    "acr": "1",
    "realm_access": {"roles": ["offline_access"]},
    "scope": "profile email notes.read",
    "email_verified": True,
}
WORKOS = {"jti": "01J1", "aud": WORKOS_ENVIRONMENT, "client_id": "client_02"}

TOKENS: Mapping[str, Token] = {
    "Entra person": token("entra", "JWT", ENTRA_PERSON, who("entra delegated")),
    "Entra alone": token("entra", "JWT", ENTRA, who("entra alone")),
    "Entra account": token("entra", "JWT", ENTRA, who("entra account")),
    "Auth0 person": token("auth0", "JWT", AUTH0, who("auth0 delegated")),
    "Auth0 alone": token("auth0", "JWT", AUTH0_CLIENT, who("auth0 alone")),
    "Auth0 client": token("auth0", "JWT", AUTH0_CLIENT, {"sub": "m2m-1@clients"}),
    "Auth0 RFC 9068": token("auth0", "at+jwt", AUTH0_RFC_9068, who("auth0 delegated")),
    "Okta": token("okta", None, OKTA, who("okta")),
    "Okta typed": token("okta", "JWT", OKTA, who("okta")),
    "Keycloak person": token("keycloak", "JWT", KEYCLOAK, who("keycloak person")),
    "Keycloak service": token("keycloak", "JWT", KEYCLOAK, who("keycloak service")),
    "WorkOS": token("workos", "at+jwt", WORKOS, who("workos delegated")),
}
FOUND = {
    "Entra person": "delegated: user-oid by agent-app may Orders.Read",
    "Entra alone": "agent: by agent-app may",
    "Entra account": "agent_user_account: by agent-app may Orders.Read",
    "Auth0 person": "delegated: auth0|u9 by agt_4 after spa-1 may notes.read openid",
    "Auth0 alone": "agent: by agt_4 may notes.read openid",
    "Auth0 client": "service: may notes.read openid",
    "Auth0 RFC 9068": "delegated: auth0|u9 by agt_4 after spa-1 may notes.read openid",
    "Okta": "delegated: 00u5 by wlp2 after wlp1 may notes.read openid",
    "Okta typed": "delegated: 00u5 by wlp2 after wlp1 may notes.read openid",
    "Keycloak person": "user: uuid-1 may email notes.read profile",
    "Keycloak service": "service: may email notes.read profile",
    "WorkOS": "delegated: user_1 by agent_instance_1 may crm:read",
}

ANA = {"sub": "ana", "name": "Ana"}
ID_TOKENS: Mapping[str, Token] = {
    "entra": token("entra", "JWT", ENTRA_PERSON, {"sub": "s", "oid": "o", "tid": "T"}),
    "auth0": token("auth0", "JWT", {"aud": API, "azp": API, **ANA}),
    "okta": token("okta", None, {"aud": "api://default", "jti": "ID.1", **ANA}),
    "keycloak": token(
        "keycloak", "JWT", {"aud": "notes-api", "jti": "j", "typ": "ID", **ANA}
    ),
    "workos": token("workos", "JWT", {"aud": WORKOS_ENVIRONMENT, **ANA}),
}


@cache
def shown() -> Mapping[str, Any]:
    """The names that the page about issuers defines."""
    return run(ROOT / "docs" / "issuers.md")


@cache
def signer() -> FakeIssuer:
    return FakeIssuer(algorithm="RS256")


def verified(shape: Token, issuer: Issuer) -> Access:
    now = int(time.time())
    dates = {"iss": issuer.issuer, "iat": now, "nbf": now, "exp": now + 3600}
    signed = signer().sign({**shape.payload, **dates}, {"typ": shape.typ})
    server = ResourceServer(API, issuers=[replace(issuer, jwks=signer().jwks)])
    verifier = Verifier(server)
    try:
        return verifier.verify_blocking(signed)
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
