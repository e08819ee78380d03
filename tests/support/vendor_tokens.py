"""Access tokens as the vendors' authorization servers write them by default.

Header and envelope are the vendor's. Who is behind a token is in
``identity_payloads``, for those that name an agent by a claim of their own, and here
for the plain ones, which name it as the OAuth client.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from agentauth_middleware.testing import FakeIssuer
from tests.support.identity_payloads import PAYLOADS

API = "https://api.example.com"
ENTRA_API = "7d3c2b1a-90ab-4cde-8f01-23456789abcd"
WORKOS_ENVIRONMENT = "client_01JABCDEFGHJKMNPQRSTVWXYZ0"
AGENT_AT_ENTRA = "b6a5f4e3-d2c1-4b0a-8f1e-432598765cb0"


class Token(NamedTuple):
    vendor: str
    typ: str | None
    payload: Mapping[str, Any]

    def signed(self, issuer: str) -> str:
        """The token, of now, from *issuer*."""
        now = int(time.time())
        dates = {"iss": issuer, "iat": now, "nbf": now, "exp": now + 3600}
        return signer().sign({**self.payload, **dates}, {"typ": self.typ})


@cache
def signer() -> FakeIssuer:
    """Signs for every vendor, as they all do by default."""
    return FakeIssuer(algorithm="RS256")


def _token(vendor: str, typ: str | None, *parts: Mapping[str, Any]) -> Token:
    return Token(vendor, typ, {name: part[name] for part in parts for name in part})


def _who(name: str) -> Mapping[str, Any]:
    return PAYLOADS[name].claims


_ENTRA = {
    "aud": ENTRA_API,
    "aio": "ATQAy/8TAAAA",
    "azpacr": "1",
    "rh": "0.AXoA",
    "uti": "sAvkP0aVxkWQyBbd1uUAAA",
    "ver": "2.0",
}
_ENTRA_PERSON = {**_ENTRA, "name": "Ana", "preferred_username": "ana@example.com"}
_ENTRA_ANA = {
    "azp": AGENT_AT_ENTRA,
    "idtyp": "user",
    "oid": "ana-oid",
    "scp": "notes.read",
    "sid": "002f7e5c",
    "sub": "ana-pairwise",
    "tid": "5f1e9c1a-2f0b-4c5e-9d57-0a4b7c6d8e90",
}
_ENTRA_APPLICATION = {
    "azp": AGENT_AT_ENTRA,
    "idtyp": "app",
    "oid": "app-oid",
    "roles": ["Notes.Read.All"],
    "sub": "app-oid",
    "tid": "5f1e9c1a-2f0b-4c5e-9d57-0a4b7c6d8e90",
}
_AUTH0 = {
    "aud": [API, "https://notes.eu.auth0.com/userinfo"],
    "azp": "m2m-1",
    "scope": "openid notes.read",
}
_AUTH0_CLIENT = {**_AUTH0, "aud": API, "gty": "client-credentials"}
_AUTH0_RFC_9068 = {
    "aud": API,
    "client_id": "m2m-1",
    "jti": "j-1",
    "scope": "openid notes.read",
}
_AUTH0_ANA = {"sub": "auth0|507f1f77bcf86cd799439011"}
_OKTA = {
    "ver": 1,
    "jti": "AT.k1",
    "aud": "api://default",
    "cid": "0oa1",
    "scp": ["openid", "notes.read"],
}
_OKTA_ANA = {"uid": "00u5", "auth_time": 1_790_000_000, "sub": "ana@example.com"}
_KEYCLOAK = {
    "jti": "onrtac:1",
    "aud": ["notes-api", "account"],
    "typ": "Bearer",
    "sid": "9b1c",
    "acr": "1",
    "allowed-origins": ["https://notes.example.com"],
    "realm_access": {"roles": ["offline_access"]},
    "resource_access": {"account": {"roles": ["view-profile"]}},
    "scope": "profile email notes.read",
    "email_verified": True,
}
_WORKOS = {"jti": "01J1", "aud": WORKOS_ENVIRONMENT, "client_id": "client_02"}

TOKENS: Mapping[str, Token] = {
    "Entra person": _token(
        "entra", "JWT", _ENTRA_PERSON, _ENTRA_ANA, {"azp": AGENT_AT_ENTRA}
    ),
    "Entra own application": _token(
        "entra",
        "JWT",
        _ENTRA_PERSON,
        _ENTRA_ANA,
        {"azp": "0c9b8a76-5432-4e1f-8a0b-c1d2e3f4a5b6"},
    ),
    "Entra application": _token("entra", "JWT", _ENTRA, _ENTRA_APPLICATION),
    "Entra agent identity": _token(
        "entra", "JWT", _ENTRA_PERSON, _who("entra delegated")
    ),
    "Entra agent alone": _token("entra", "JWT", _ENTRA, _who("entra alone")),
    "Entra account": _token("entra", "JWT", _ENTRA, _who("entra account")),
    "Auth0 person": _token("auth0", "JWT", _AUTH0, _AUTH0_ANA),
    "Auth0 own application": _token(
        "auth0", "JWT", _AUTH0, _AUTH0_ANA, {"azp": "nWeb0aT5rQ2mB8cV4xK7"}
    ),
    "Auth0 client": _token("auth0", "JWT", _AUTH0_CLIENT, {"sub": "m2m-1@clients"}),
    "Auth0 on behalf": _token("auth0", "JWT", _AUTH0, _who("auth0 delegated")),
    "Auth0 agent alone": _token("auth0", "JWT", _AUTH0_CLIENT, _who("auth0 alone")),
    "Auth0 RFC 9068": _token("auth0", "at+jwt", _AUTH0_RFC_9068, _AUTH0_ANA),
    "Okta person": _token("okta", None, _OKTA, _OKTA_ANA),
    "Okta own application": _token(
        "okta", None, _OKTA, _OKTA_ANA, {"cid": "0oaweb1notes5d7"}
    ),
    "Okta client": _token("okta", None, _OKTA, {"sub": "0oa1"}),
    "Okta on behalf": _token("okta", None, _OKTA, _who("okta")),
    "Okta typed": _token("okta", "JWT", _OKTA, _OKTA_ANA),
    "Keycloak person": _token("keycloak", "JWT", _KEYCLOAK, _who("keycloak person")),
    "Keycloak own application": _token(
        "keycloak", "JWT", _KEYCLOAK, _who("keycloak person"), {"azp": "notes-web"}
    ),
    "Keycloak service": _token("keycloak", "JWT", _KEYCLOAK, _who("keycloak service")),
    "WorkOS": _token(
        "workos",
        "at+jwt",
        _WORKOS,
        _who("workos delegated"),
        {"permissions": ["notes.read"]},
    ),
}

_ANA = {"sub": "ana", "name": "Ana"}
ID_TOKENS: Mapping[str, Token] = {
    "entra": _token(
        "entra", "JWT", _ENTRA_PERSON, {"sub": "s", "oid": "o", "tid": "T"}
    ),
    "auth0": _token("auth0", "JWT", {"aud": API, "azp": API, **_ANA}),
    "okta": _token("okta", None, {"aud": "api://default", "jti": "ID.1", **_ANA}),
    "keycloak": _token(
        "keycloak", "JWT", {"aud": "notes-api", "jti": "j", "typ": "ID", **_ANA}
    ),
    "workos": _token("workos", "JWT", {"aud": WORKOS_ENVIRONMENT, **_ANA}),
}
