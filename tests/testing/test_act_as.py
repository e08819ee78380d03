"""Test clients that act for a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.testing import ActAs, AgentTokens
from tests.testing.notes_api import ISSUER, SERVER, flask_app, starlette_app

CLIENTS: dict[str, Callable[[], Any]] = {
    "TestClient": lambda: TestClient(starlette_app()),
    "Flask": lambda: flask_app().test_client(),
    "httpx": lambda: httpx.Client(
        transport=httpx.WSGITransport(flask_app()), base_url="https://api.example.com"
    ),
}
every_client = pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)


@every_client
def test_requests_act_for_the_user_in_the_name_of_the_real_issuer(
    make: Callable[[], Any], act_as: ActAs
) -> None:
    client = make()

    with act_as(client, user="ana", agent="assistant", scopes=["notes.read"]) as given:
        assert given is client
        assert client.get("/").text == (
            f"delegated: ana by assistant of {ISSUER} for 'notes.read'"
        )


@pytest.mark.anyio
async def test_asynchronous_client_acts_for_the_user(act_as: ActAs) -> None:
    transport = httpx.ASGITransport(starlette_app())
    async with httpx.AsyncClient(
        transport=transport, base_url="https://api.example.com"
    ) as client:
        with act_as(client, user="ana"):
            answer = await client.get("/")

    assert answer.text.startswith("delegated: ana by agent-1")


@every_client
def test_client_is_afterwards_as_it_was(make: Callable[[], Any], act_as: ActAs) -> None:
    client = make()
    with act_as(client):
        pass

    assert client.get("/").status_code == 401
    assert "error=" not in client.get("/").headers["WWW-Authenticate"]


def headers_of(client: Any) -> tuple[Any, str]:
    if hasattr(client, "environ_base"):
        return client.environ_base, "HTTP_AUTHORIZATION"
    return client.headers, "Authorization"


@every_client
def test_header_of_the_client_is_put_back(
    make: Callable[[], Any], act_as: ActAs
) -> None:
    client = make()
    headers, name = headers_of(client)
    headers[name] = "Basic YW5hOmFuYQ=="
    with act_as(client):
        assert headers[name].startswith("Bearer ")

    assert headers[name] == "Basic YW5hOmFuYQ=="


@every_client
def test_header_of_the_client_is_put_back_when_a_test_fails(
    make: Callable[[], Any], act_as: ActAs
) -> None:
    client = make()
    headers, name = headers_of(client)
    with pytest.raises(ZeroDivisionError), act_as(client):
        _ = 1 / 0

    assert name not in headers


def test_blocks_may_be_nested(act_as: ActAs) -> None:
    ana, bob = TestClient(app := starlette_app()), TestClient(app)
    with act_as(ana, user="ana"):
        with act_as(bob, user="bob"):
            assert ana.get("/").text.startswith("delegated: ana")
            assert bob.get("/").text.startswith("delegated: bob")
            with act_as(ana, user="carla"):
                assert ana.get("/").text.startswith("delegated: carla")

        assert ana.get("/").text.startswith("delegated: ana")


def test_websocket_acts_for_the_user(act_as: ActAs) -> None:
    app = FastAPI()
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.user.identity)
        await socket.close()

    with (
        act_as(TestClient(app), user="ana") as client,
        client.websocket_connect("/echo") as socket,
    ):
        assert socket.receive_text() == "ana"


def test_client_that_runs_the_lifespan_fetches_nothing(act_as: ActAs) -> None:
    with (
        TestClient(starlette_app()) as client,
        act_as(client, user="ana"),
    ):
        assert client.get("/").status_code == 200


class TestClientThatLeadsToNoApplication:
    @pytest.fixture
    def agentauth_app(self) -> object:
        return flask_app()

    def test_it_is_for_the_application_under_test(
        self, act_as: ActAs, agentauth_app: Any
    ) -> None:
        client = httpx.Client(base_url="https://elsewhere.example.com")
        with act_as(client, user="ana"):
            header = client.headers["Authorization"]
            answer = agentauth_app.test_client().get(
                "/", headers={"Authorization": header}
            )

        assert answer.text.startswith("delegated: ana")


class TestBearing:
    @pytest.fixture
    def app(self) -> object:
        return starlette_app()

    @every_client
    def test_token_is_sent_whatever_it_is_worth(
        self, make: Callable[[], Any], act_as: ActAs
    ) -> None:
        client = make()
        with act_as.bearing(client, "nonsense"):
            assert client.get("/").status_code == 401

        assert "error=" not in client.get("/").headers["WWW-Authenticate"]

    def test_token_may_be_one_of_the_fixture(
        self, app: Any, act_as: ActAs, agent_token: AgentTokens
    ) -> None:
        client = TestClient(app)
        with act_as.bearing(client, agent_token(user="ana")):
            assert client.get("/").text.startswith("delegated: ana")
        with act_as.bearing(client, agent_token.revoked()), act_as(client):
            assert client.get("/").status_code == 200
