"""A user's own tests, with the types of what the pytest plugin hands out."""

from __future__ import annotations

from typing import assert_type

import httpx
from flask import Flask
from flask.testing import FlaskClient
from starlette.applications import Starlette
from starlette.testclient import TestClient

from agentauth_middleware import Issuer
from agentauth_middleware.testing import (
    ActAs,
    AgentTokens,
    FakeIssuer,
    TokenOptions,
    assert_challenge,
    trusting,
)

STARLETTE = Starlette()
FLASK = Flask("notes")
ANA: TokenOptions = {"user": "ana", "scopes": ["notes.read"]}


def test_clients_stay_what_they_are(act_as: ActAs) -> None:
    with act_as(TestClient(STARLETTE), user="ana", agent="assistant") as client:
        assert_type(client, TestClient)
        assert_challenge(client.get("/"), 403, "insufficient_scope", scope="a b")
    with act_as(FLASK.test_client(), scopes={"notes.read"}) as flask_client:
        assert_type(flask_client, FlaskClient)
        assert_challenge(flask_client.get("/"), 401, scope=["notes.read"])
    with act_as(httpx.Client(), **ANA) as httpx_client:
        assert_type(httpx_client, httpx.Client)
        found = assert_challenge(httpx_client.get("/"), 401, error="invalid_token")
        assert_type(found["resource_metadata"], str)


async def test_asynchronous_client(act_as: ActAs, agent_token: AgentTokens) -> None:
    async with httpx.AsyncClient() as client:
        with act_as.bearing(client, agent_token.expired(user=None)) as same:
            assert_type(same, httpx.AsyncClient)


def test_tokens(agent_token: AgentTokens, agentauth_issuer: FakeIssuer) -> None:
    assert_type(agent_token(user="ana", agent=None, claims={"acr": "high"}), str)
    assert_type(agent_token.revoked(**ANA), str)
    assert_type(agent_token.wrong_audience(resource="https://api.example.com"), str)
    assert_type(agent_token.wrong_issuer(issuer="https://as.example.com"), str)
    assert_type(agent_token.forged(), str)
    assert_type(agentauth_issuer.trust(audience="notes"), Issuer)


def test_fixture_of_ones_own() -> None:
    with trusting(STARLETTE, FakeIssuer(algorithm="EdDSA")) as tokens:
        assert_type(tokens, AgentTokens)


# What must not pass.


def test_mistakes(act_as: ActAs, agent_token: AgentTokens) -> None:
    act_as(STARLETTE, user="ana")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    act_as(TestClient(STARLETTE), scope=["notes.read"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    agent_token("ana")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    agent_token(user=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_challenge(httpx.Response(401), 200)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_challenge(401, 401)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
