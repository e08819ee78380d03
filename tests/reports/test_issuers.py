"""Tokens, keys and answers of real authorization servers that were refused."""

from __future__ import annotations

import codecs
import json
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware import ConfigurationError, Issuer, ResourceServer, Route
from tests.reports.asking import (
    ISSUER,
    MIDDLEWARES,
    SCOPES,
    ask,
    bearer,
    introspecting,
    server,
)

pytestmark = pytest.mark.parametrize("kind", MIDDLEWARES)
READING = [Route("/notes", scopes=["notes.read"])]


def test_scope_as_an_array(kind: str) -> None:
    """Duende writes ``scope`` as an array by default, and its tokens were 401."""
    token = bearer(scope=["notes.read", "openid"])

    assert ask(kind, server(routes=READING), token).status == 401
    tolerant = server(routes=READING, trust={"scope_as_array": True})
    assert ask(kind, tolerant, token).status == 200


def test_scope_as_an_array_in_introspection(kind: str) -> None:
    """The same array in an introspection answer was a 503."""
    settings, url = introspecting()
    settings = replace(settings, routes=READING)
    answer = {
        "active": True,
        "iss": ISSUER.issuer,
        "aud": settings.resource,
        "sub": "user-1",
        "client_id": "client-1",
        "scope": ["notes.read"],
    }
    token = (("Authorization", "Bearer opaque-1"),)

    assert ask(kind, settings, token, documents={url: answer}).status == 200


def test_scopes_in_a_claim_of_another_name(kind: str) -> None:
    """A token beside words about a person counts as an access token, if the claim that
    ``scope_claims`` names is there."""
    token = bearer(
        scope=None,
        permissions=["notes.read"],
        name="Ana",
        email="ana@example.com",
        header={"typ": "JWT"},
    )
    trust = {"scope_claims": ["permissions"], "token_types": ["JWT"]}

    assert ask(kind, server(routes=READING, trust=trust), token).status == 200


def test_nonce_in_an_access_token(kind: str) -> None:
    """Old Keycloaks copy ``nonce`` into access tokens, which were taken for ID
    tokens."""
    token = bearer(nonce="n-1", header={"typ": "JWT"})
    trust = {"token_types": ["JWT"]}

    assert ask(kind, server(trust=trust), token).status == 401
    assert ask(kind, server(trust={**trust, "allow_nonce": True}), token).status == 200


@pytest.mark.parametrize(
    "members",
    [{"key_ops": []}, {"use": None}, {"use": ""}, {"x5c": []}, {"d": None}],
    ids=str,
)
def test_empty_member_of_a_key(kind: str, members: dict[str, Any]) -> None:
    """A key with an empty ``key_ops`` was passed over, and every token 401."""
    keys = {"keys": [{**key, **members} for key in ISSUER.jwks["keys"]]}
    settings = server(issuers=[Issuer(ISSUER.issuer, jwks=keys)])

    assert ask(kind, settings, bearer()).status == 200


def test_private_key_is_still_none_to_verify_with(kind: str) -> None:
    """A key whose private half was published by mistake disqualifies itself."""
    keys = {"keys": [{**key, "d": "AQAB"} for key in ISSUER.jwks["keys"]]}
    settings = server(issuers=[Issuer(ISSUER.issuer, jwks=keys)])

    with pytest.raises(ConfigurationError, match="no key in it can verify"):
        ask(kind, settings, bearer())


def test_chain_in_the_header_of_a_token(kind: str) -> None:
    """A certificate chain makes the header of a real token longer than 2,048
    characters."""
    token = bearer(header={"x5c": ["MIIC" + "A" * 2500]})

    assert ask(kind, server(), token).status == 200


def entra() -> ResourceServer:
    return server(scopes=SCOPES, routes=READING, client_scope_prefix="api://notes-id/")


def test_scope_has_a_name_for_clients_and_one_in_tokens(kind: str) -> None:
    """Clients of Entra must ask for ``api://notes-id/notes.read``, and its tokens say
    ``notes.read``."""
    challenge = ask(kind, entra()).field("www-authenticate")
    metadata = ask(kind, entra(), path="/.well-known/oauth-protected-resource").json()

    assert 'scope="api://notes-id/notes.read"' in (challenge or "")
    assert "api://notes-id/notes.read" in metadata["scopes_supported"]
    assert ask(kind, entra(), bearer(scopes=["notes.read"])).status == 200


@pytest.mark.parametrize(
    ("client", "forbidden", "required"),
    [("assistant", 403, 200), ("notes-web", 200, 403)],
    ids=["another client", "first-party client"],
)
def test_agent_is_the_oauth_client(
    kind: str, client: str, forbidden: int, required: int
) -> None:
    """Auth0 and Keycloak name the agent as the client and send no ``act``: an agent
    went through ``agent="forbidden"`` and no agent through ``"required"``."""
    routes = [Route("/people", agent="forbidden"), Route("/agents", agent="required")]
    trust = {"first_party_clients": ["notes-web"], "subjects": "users"}
    settings = server(routes=routes, trust=trust)
    token = bearer(subject="ana", client_id=client)

    assert ask(kind, settings, token, "/people").status == forbidden
    assert ask(kind, settings, token, "/agents").status == required


def test_metadata_as_a_static_host_serves_it(kind: str) -> None:
    """A key set saved with a byte order mark, of no media type, was not read."""
    keys = "https://as.example.com/keys"
    settings = server(issuers=[Issuer(ISSUER.issuer, jwks_uri=keys)])
    body = codecs.BOM_UTF8 + json.dumps(ISSUER.jwks).encode()

    assert ask(kind, settings, bearer(), documents={keys: body}).status == 200
