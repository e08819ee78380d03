"""Refusals that task groups raise, which come in an ``ExceptionGroup``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from agentauth_middleware import InsufficientScopeError
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from tests.frameworks.notes_server import SERVER, bearer

LACK = InsufficientScopeError(["notes.write"])
Ask = Callable[[Exception], int]


def bare(failure: Exception) -> int:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise failure

    return status(TestClient(AgentAuthMiddleware(app, SERVER)))


def fastapi(failure: Exception) -> int:
    app = FastAPI()

    @app.get("/notes")
    async def endpoint() -> None:
        raise failure

    AgentAuth(SERVER).install(app)
    return status(TestClient(app))


def status(client: TestClient) -> int:
    return client.get("/notes", headers=bearer("notes.read")).status_code


def flask(failure: Exception) -> int:
    app = Flask(__name__)
    app.testing = True

    @app.get("/notes")
    def endpoint() -> str:
        raise failure

    FlaskAgentAuth(SERVER).init_app(app)
    headers = bearer("notes.read")
    return app.test_client().get("/notes", headers=headers).status_code


@pytest.mark.parametrize("ask", [bare, fastapi, flask])
def test_group_of_refusals_is_answered_like_its_first(ask: Ask) -> None:
    assert ask(ExceptionGroup("tasks", [LACK])) == 403
    assert ask(ExceptionGroup("tasks", [ExceptionGroup("inner", [LACK]), LACK])) == 403


@pytest.mark.parametrize("ask", [bare, fastapi, flask])
def test_group_with_another_error_is_a_crash(ask: Ask) -> None:
    with pytest.raises(ExceptionGroup, match="tasks"):
        ask(ExceptionGroup("tasks", [LACK, KeyError("x")]))
