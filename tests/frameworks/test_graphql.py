"""Refusals of GraphQL resolvers, which executors catch: the recipe of the docs."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from agentauth_middleware.asgi import AgentAuthMiddleware
from tests.frameworks.notes_server import SERVER, bearer
from tests.test_docs import ROOT, run


@pytest.fixture
def client() -> TestClient:
    endpoint = run(ROOT / "docs" / "frameworks.md")["endpoint"]
    app = Starlette(routes=[Route("/graphql", endpoint, methods=["POST"])])
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return TestClient(app)


def test_resolver_answers_who_has_the_scope(client: TestClient) -> None:
    answer = client.post(
        "/graphql", json={"query": "{ notes }"}, headers=bearer("notes.read")
    )

    assert answer.status_code == 200
    assert answer.json() == {"data": {"notes": "milk"}}


def test_refusal_of_a_resolver_is_a_refusal(client: TestClient) -> None:
    answer = client.post(
        "/graphql", json={"query": "{ notes }"}, headers=bearer("other")
    )

    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="notes.read"' in answer.headers["www-authenticate"]


def test_other_errors_stay_errors_of_the_query(client: TestClient) -> None:
    answer = client.post(
        "/graphql", json={"query": "{ unknown }"}, headers=bearer("notes.read")
    )

    assert answer.status_code == 200
    assert answer.json()["errors"]
