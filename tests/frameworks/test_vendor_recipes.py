"""The recipe of each vendor, run from its first line to the 200.

Recipe and handlers are taken from the documentation as they stand; tokens are of the
vendor's shape. Only the network is not the vendor's: the keys are given in the one
test, and metadata and keys come from a transport of the test's in the other.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, cast

import httpx
import pytest
from flask import Flask
from starlette.testclient import TestClient

from agentauth_middleware import ResourceServer, Route, asgi, wsgi
from agentauth_middleware.testing import assert_challenge
from tests.support.application import asgi_application, wsgi_application
from tests.support.exchange import (
    MIDDLEWARES,
    Answer,
    HTTPRequest,
    ask_asgi,
    ask_wsgi,
)
from tests.support.vendor_tokens import AGENT_AT_ENTRA, TOKENS, signer
from tests.test_docs import README, ROOT, blocks, blocks_in, section


class Vendor(NamedTuple):
    user: str
    agent: str
    asks_for: str
    """The scope ``notes.read``, as the vendor's clients ask for it."""
    metadata: str
    keys: str


_ENTRA = (
    "https://login.microsoftonline.com/5f1e9c1a-2f0b-4c5e-9d57-0a4b7c6d8e90{}/v2.0/{}"
)
VENDORS: Mapping[str, Vendor] = {
    "Auth0": Vendor(
        "auth0|507f1f77bcf86cd799439011",
        "m2m-1",
        "notes.read",
        "https://notes.eu.auth0.com/.well-known/openid-configuration",
        "https://notes.eu.auth0.com/.well-known/jwks.json",
    ),
    "Keycloak": Vendor(
        "uuid-1",
        "client-1",
        "notes.read",
        "https://sso.example.com/realms/notes/.well-known/openid-configuration",
        "https://sso.example.com/realms/notes/protocol/openid-connect/certs",
    ),
    "Okta": Vendor(
        "ana@example.com",
        "0oa1",
        "notes.read",
        "https://notes.okta.com/oauth2/default/.well-known/openid-configuration",
        "https://notes.okta.com/oauth2/default/v1/keys",
    ),
    "Entra": Vendor(
        "ana-oid",
        AGENT_AT_ENTRA,
        "api://7d3c2b1a-90ab-4cde-8f01-23456789abcd/notes.read",
        _ENTRA.format("", ".well-known/openid-configuration"),
        _ENTRA.format("/discovery", "keys"),
    ),
    "WorkOS": Vendor(
        "user_1",
        "agent_instance_1",
        "notes.read",
        "https://notes.authkit.app/.well-known/oauth-authorization-server",
        "https://notes.authkit.app/oauth2/jwks",
    ),
}


@cache
def recipe(vendor: str) -> ResourceServer:
    """What the recipe of *vendor* builds, alone on an empty page."""
    text = section(ROOT / "docs" / "issuers.md", f"### {vendor}")
    (block,) = blocks_in(text, "python")
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - our own page
    return cast(ResourceServer, names["server"])


def offline(server: ResourceServer) -> ResourceServer:
    """*server*, whose issuer's keys are given."""
    (issuer,) = server.listed_issuers
    return replace(server, issuers=[replace(issuer, jwks=signer().jwks)])


def bearer(name: str, server: ResourceServer) -> dict[str, str]:
    (issuer,) = server.listed_issuers
    return {"Authorization": f"Bearer {TOKENS[name].signed(issuer.issuer)}"}


def agents_token(vendor: str) -> str:
    """The name of the token of a person's agent."""
    return "WorkOS" if vendor == "WorkOS" else f"{vendor} person"


# The README's handlers


def readme_app(number: int, server: ResourceServer) -> Mapping[str, Any]:
    """The names that a block of the README defines, with *server* for its own."""
    module = ast.parse(blocks(README, "python")[number])
    module.body = [node for node in module.body if not _is_server(node)]
    names: dict[str, Any] = {"__name__": "readme", "server": server}
    exec(compile(module, "README.md", "exec"), names)  # noqa: S102 - our own page
    return names


def _is_server(node: ast.stmt) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="server")]):
            return True
        case _:
            return False


def fastapi_client(server: ResourceServer) -> TestClient:
    return TestClient(readme_app(0, server)["app"])


def flask_client(server: ResourceServer) -> httpx.Client:
    app: Flask = readme_app(1, server)["flask_app"]
    transport = httpx.WSGITransport(app)
    return httpx.Client(transport=transport, base_url="https://api.example.com")


CLIENTS: Mapping[str, Callable[[ResourceServer], httpx.Client | TestClient]] = {
    "FastAPI": fastapi_client,
    "Flask": flask_client,
}


@pytest.mark.parametrize("framework", CLIENTS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_handler_of_the_readme_answers_the_agents_of_a_vendor(
    vendor: str, framework: str
) -> None:
    server, expected = offline(recipe(vendor)), VENDORS[vendor]
    client = CLIENTS[framework](server)

    assert_challenge(client.get("/notes"), 401, scope=expected.asks_for)
    answer = client.get("/notes", headers=bearer(agents_token(vendor), server))
    assert answer.status_code == 200
    assert answer.json() == {"user": expected.user, "agent": expected.agent}


@pytest.mark.parametrize("framework", CLIENTS)
@pytest.mark.parametrize("vendor", ["Auth0", "Keycloak", "Okta", "Entra"])
def test_handler_of_the_readme_is_for_agents_and_not_for_own_applications(
    vendor: str, framework: str
) -> None:
    """It demands delegation: with the operator's own application nobody acts for a
    person."""
    server = offline(recipe(vendor))
    client = CLIENTS[framework](server)
    own = bearer(f"{vendor} own application", server)

    assert_challenge(client.get("/notes", headers=own), 403, "actor_unauthorized")


# Both middlewares, from the vendor's metadata


def published(vendor: str) -> httpx.MockTransport:
    """What *vendor* publishes where its servers do, and nothing else."""
    places = VENDORS[vendor]
    (issuer,) = recipe(vendor).listed_issuers
    documents = {
        places.metadata: {"issuer": issuer.issuer, "jwks_uri": places.keys},
        places.keys: signer().jwks,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        document = documents.get(str(request.url))
        return httpx.Response(404 if document is None else 200, json=document)

    return httpx.MockTransport(answer)


def asked(kind: str, vendor: str, token: str, **settings: Any) -> Answer:
    """The answer to a request with *token* in front of an application that tells what
    it sees, in a middleware that has fetched nothing yet."""
    server, transport = replace(recipe(vendor), **settings), published(vendor)
    request = HTTPRequest("GET", "/notes", tuple(bearer(token, server).items()))
    if kind == "wsgi":
        with httpx.Client(transport=transport) as client:
            blocking = wsgi.AgentAuthMiddleware(
                wsgi_application([]), server, http_client=client
            )
            return ask_wsgi(blocking, request)
    awaiting = asgi.AgentAuthMiddleware(
        asgi_application([]),
        server,
        http_client=httpx.AsyncClient(transport=transport),
    )
    return ask_asgi(awaiting, kind.removeprefix("asgi-"), request)


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("vendor", VENDORS)
def test_recipe_finds_the_keys_where_the_vendor_publishes_them(
    vendor: str, kind: str
) -> None:
    answer = asked(kind, vendor, agents_token(vendor))

    assert answer.status == 200
    assert answer.json()["access"]["mode"] == "delegated"


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("vendor", ["Auth0", "Keycloak", "Okta", "Entra"])
@pytest.mark.parametrize(
    ("agent", "token", "status"),
    [
        ("forbidden", "person", 403),
        ("forbidden", "own application", 200),
        ("required", "person", 200),
        ("required", "own application", 403),
    ],
)
def test_clients_of_a_vendor_are_agents_for_a_route(
    agent: Any, token: str, status: int, vendor: str, kind: str
) -> None:
    routes = [Route("/notes", agent=agent, scopes=["notes.read"])]

    assert asked(kind, vendor, f"{vendor} {token}", routes=routes).status == status
