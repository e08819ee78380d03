"""The documents of the server, their URLs, and who may read what in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentauth_middleware._core.tokens.jose import parse_key_set
from agentauth_middleware._syntax.urls import issuer_metadata_urls
from agentauth_middleware.authorization_server import AuthorizationServer
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeProvider
from tests.authorization_server.embedded import (
    ISSUER,
    PROVIDER,
    RESOURCE,
    Embedded,
    embed,
    header_of,
    resource_server,
    trusted,
)

METADATA = "/.well-known/oauth-authorization-server"
JWKS = "/.well-known/jwks.json"
DOCUMENTS = [METADATA, JWKS]
OPEN_ENDPOINTS = ["/agent/identity", "/oauth2/token", "/oauth2/revoke"]
EVENTS = "/agent/event/notify"
PAGE = {"origin": "https://page.example"}


def test_metadata_names_what_works_and_nothing_else(embedded: Embedded) -> None:
    answer = embedded.client.get(METADATA)

    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.json() == {
        "issuer": ISSUER,
        "token_endpoint": f"{ISSUER}/oauth2/token",
        "revocation_endpoint": f"{ISSUER}/oauth2/revoke",
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:jwt-bearer"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "protected_resources": [RESOURCE],
        "scopes_supported": ["notes.read", "notes.write"],
        "agent_auth": {
            "skill": f"{RESOURCE}/auth.md",
            "identity_endpoint": f"{ISSUER}/agent/identity",
            "events_endpoint": f"{ISSUER}/agent/event/notify",
            "identity_types_supported": ["identity_assertion"],
            "identity_assertion": {
                "assertion_types_supported": ["urn:ietf:params:oauth:token-type:id-jag"]
            },
            "events_supported": [
                "https://schemas.workos.com/events/agent/auth/identity/assertion/revoked"
            ],
        },
    }


def test_metadata_without_scopes_names_none(tmp_path: Path) -> None:
    with embed(tmp_path, resources=[resource_server(scopes={})]) as embedded:
        assert "scopes_supported" not in embedded.client.get(METADATA).json()


def test_metadata_names_all_resources_and_each_scope_once(tmp_path: Path) -> None:
    files = resource_server(
        resource="https://files.example.com",
        scopes={"files": "Read", "notes.read": "Read"},
    )
    with embed(tmp_path, resources=[resource_server(), files]) as embedded:
        members = embedded.client.get(METADATA).json()

    assert members["protected_resources"] == [RESOURCE, "https://files.example.com"]
    assert members["scopes_supported"] == ["notes.read", "notes.write", "files"]


@pytest.mark.parametrize(
    "issuer",
    [
        "https://as.example.com",
        "https://as.example.com/",
        "https://as.example.com/tenant",
        "https://as.example.com/tenant/",
        "https://as.example.com/a%20b",
    ],
)
def test_issuer_of_any_form_is_found_and_works(tmp_path: Path, issuer: str) -> None:
    """By every URL at which agents look, and by the URLs in what they find."""
    resources = [resource_server(issuer)]
    with embed(tmp_path, issuer=issuer, resources=resources) as embedded:
        urls = [issuer_metadata_urls(issuer)[0], issuer.rstrip("/") + METADATA]
        urls += [url + "/" for url in urls]
        found: list[Any] = [
            embedded.client.get(url, follow_redirects=False).json() for url in urls
        ]
        members = found[0]
        keys = embedded.client.get(members["jwks_uri"])
        registered = embedded.client.post(
            members["agent_auth"]["identity_endpoint"], json={}
        )
        granted = embedded.client.post(members["token_endpoint"], data={})
        revoked = embedded.client.post(members["revocation_endpoint"], data={})
        notified = embedded.client.post(members["agent_auth"]["events_endpoint"])
        token = embedded.access_token()

    assert all(one == found[0] for one in found)
    assert members["issuer"] == issuer
    assert keys.status_code == 200
    assert [registered.status_code, granted.status_code] == [400, 400]
    assert [revoked.status_code, notified.status_code] == [400, 415]
    assert header_of(token)["kid"] == keys.json()["keys"][0]["kid"]


def test_keys_are_public_and_verify(embedded: Embedded) -> None:
    answer = embedded.client.get(JWKS)
    (key,) = answer.json()["keys"]

    assert answer.headers["cache-control"] == "public, max-age=300"
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (key["kty"], key["crv"], key["alg"]) == ("EC", "P-256", "ES256")
    assert len(parse_key_set(answer.json()).identities) == 1
    assert header_of(embedded.access_token())["kid"] == key["kid"]


def test_documents_do_not_depend_on_what_the_request_calls_us(
    embedded: Embedded,
) -> None:
    answer = embedded.client.get(
        METADATA,
        headers={
            "host": "evil.example",
            "x-forwarded-host": "evil.example",
            "forwarded": "host=evil.example",
        },
    )

    assert answer.status_code == 200
    assert "evil" not in answer.text


@pytest.mark.parametrize("path", ["/oauth2/token/", f"{JWKS}/", "/", "//oauth2"])
def test_other_urls_lead_nowhere(embedded: Embedded, path: str) -> None:
    """Not by a redirect either, which would go where the Host header says."""
    answer = embedded.client.get(
        path, headers={"host": "evil.example"}, follow_redirects=False
    )

    assert answer.status_code == 404


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_are_read_only(embedded: Embedded, path: str) -> None:
    head = embedded.client.head(path)

    assert head.status_code == 200
    assert head.content == b""
    assert embedded.client.post(path).status_code == 405


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_may_be_read_by_any_page(embedded: Embedded, path: str) -> None:
    answer = embedded.client.get(path, headers=PAGE | {"cookie": "a=b"})

    assert answer.headers["access-control-allow-origin"] in ("*", PAGE["origin"])
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", OPEN_ENDPOINTS)
def test_endpoints_for_agents_may_be_called_by_any_page(
    embedded: Embedded, path: str
) -> None:
    """Errors as well, with the headers that say what to do."""
    answer = embedded.client.post(path, headers=PAGE)

    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers["access-control-expose-headers"]
    assert {"WWW-Authenticate", "Retry-After"} <= set(exposed.split(", "))


@pytest.mark.parametrize(
    ("path", "method"),
    [*((path, "GET") for path in DOCUMENTS), *((p, "POST") for p in OPEN_ENDPOINTS)],
)
def test_preflight_is_answered(embedded: Embedded, path: str, method: str) -> None:
    """For the media type and the headers that agents in browsers send."""
    answer = embedded.client.options(
        path,
        headers=PAGE
        | {
            "access-control-request-method": method,
            "access-control-request-headers": "content-type, mcp-protocol-version",
        },
    )

    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "content-type" in allowed
    assert "mcp-protocol-version" in allowed
    assert "access-control-allow-credentials" not in answer.headers


def test_events_are_not_for_pages(embedded: Embedded) -> None:
    posted = embedded.client.post(EVENTS, headers=PAGE)
    preflight = embedded.client.options(
        EVENTS, headers=PAGE | {"access-control-request-method": "POST"}
    )

    assert preflight.status_code == 405
    for answer in (posted, preflight):
        named = [name for name in answer.headers if name.startswith("access-control")]
        assert named == []


@pytest.mark.parametrize("path", [METADATA, JWKS, "/oauth2/token"])
def test_server_works_where_no_lifespan_is_announced(tmp_path: Path, path: str) -> None:
    """Some servers send none; the keys are then made by the first request."""
    server = AuthorizationServer(
        ISSUER,
        resources=[resource_server()],
        providers=[trusted(FakeProvider(PROVIDER))],
        database=tmp_path / "server.db",
        store=MemoryStore(),
    )
    client = TestClient(server, ISSUER)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "x",
    }
    answer = client.post(path, data=form) if "token" in path else client.get(path)

    assert answer.status_code == (400 if "token" in path else 200)


def test_keys_out_of_reach_are_told(tmp_path: Path) -> None:
    """A middleware that asks goes on with the keys it has, as long as this is no
    answer."""
    server = AuthorizationServer(
        ISSUER,
        resources=[resource_server()],
        providers=[trusted(FakeProvider(PROVIDER))],
        database=tmp_path / "server.db",
        store=MemoryStore(),
    )
    (tmp_path / "server.db").write_bytes(b"no database")
    answer = TestClient(server, ISSUER).get(JWKS)

    assert answer.status_code == 503
    assert "retry-after" in answer.headers
