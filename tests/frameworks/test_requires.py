"""``requires`` on every kind of handler."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from agentauth_middleware import (
    ConfigurationError,
    InsufficientScopeError,
    current_access,
)
from agentauth_middleware import flask as for_flask
from agentauth_middleware import starlette as for_starlette
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.starlette import requires
from tests.frameworks.notes_server import SERVER, bearer

Get = Callable[[str, Mapping[str, str]], tuple[int, str, str]]
"""Status, body and challenge of the answer to a GET."""

BOTH = ("notes.read", "notes.write")


def agent_name() -> str:
    access = current_access()
    return access.agent.subject if access and access.agent else "nobody"


@requires(*BOTH)
async def asynchronous(request: Request) -> Response:
    return PlainTextResponse(agent_name())


@requires(*BOTH)
def in_a_thread(request: Request) -> Response:
    return PlainTextResponse(agent_name())


class Methods(HTTPEndpoint):
    @requires(*BOTH)
    async def get(self, request: Request) -> Response:
        return PlainTextResponse(agent_name())


def behind_the_middleware(*routes: BaseRoute) -> TestClient:
    app = Starlette(routes=routes)
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return TestClient(app)


def getting(client: TestClient) -> Get:
    def get(path: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
        response = client.get(path, headers=headers)
        challenge = response.headers.get("www-authenticate", "")
        return response.status_code, response.text, challenge

    return get


def starlette_async() -> Get:
    return getting(behind_the_middleware(Route("/optional", asynchronous)))


def starlette_thread() -> Get:
    return getting(behind_the_middleware(Route("/optional", in_a_thread)))


def starlette_method() -> Get:
    return getting(behind_the_middleware(Route("/optional", Methods)))


def fastapi_function() -> Get:
    app = FastAPI()

    @app.get("/optional", response_class=PlainTextResponse)
    @requires(*BOTH)
    def endpoint(shout: bool = False) -> str:
        return agent_name().upper() if shout else agent_name()

    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return getting(TestClient(app))


def flask_app(register: Callable[[Flask], None]) -> Get:
    app = Flask(__name__)
    register(app)
    FlaskAgentAuth(SERVER).init_app(app)

    def get(path: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
        response = app.test_client().get(path, headers=dict(headers))
        challenge = response.headers.get("WWW-Authenticate", "")
        return response.status_code, response.text, challenge

    return get


def flask_function() -> Get:
    def register(app: Flask) -> None:
        app.get("/optional")(for_flask.requires(*BOTH)(agent_name))

    return flask_app(register)


def flask_method() -> Get:
    class Notes(MethodView):
        @for_flask.requires(*BOTH)
        def get(self) -> str:
            return agent_name()

    def register(app: Flask) -> None:
        app.add_url_rule("/optional", view_func=Notes.as_view("notes"))

    return flask_app(register)


HANDLERS = [
    starlette_async,
    starlette_thread,
    starlette_method,
    fastapi_function,
    flask_function,
    flask_method,
]


@pytest.mark.parametrize("make", HANDLERS)
def test_requires_lets_through_whoever_has_all_scopes(make: Callable[[], Get]) -> None:
    status, body, _ = make()("/optional", bearer("notes.read", "notes.write", "x"))

    assert (status, body) == (200, "agent-1")


@pytest.mark.parametrize("make", HANDLERS)
@pytest.mark.parametrize(
    "scopes", [(), ("notes.read",), ("notes.write",)], ids=["none", "one", "other"]
)
def test_requires_refuses_a_missing_scope_and_names_all(
    make: Callable[[], Get], scopes: tuple[str, ...]
) -> None:
    status, body, challenge = make()("/optional", bearer(*scopes))

    assert status == 403
    assert "agent-1" not in body
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="notes.read notes.write"' in challenge


@pytest.mark.parametrize("make", HANDLERS)
def test_requires_without_access_answers_as_without_credentials(
    make: Callable[[], Get],
) -> None:
    """On a route that lets such requests through."""
    status, _, challenge = make()("/optional", {})

    assert status == 401
    assert "error" not in challenge
    assert 'scope="notes.read notes.write"' in challenge


def test_requires_without_scopes_demands_an_access() -> None:
    @requires()
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(agent_name())

    get = getting(behind_the_middleware(Route("/optional", endpoint)))

    assert get("/optional", bearer())[0] == 200
    assert get("/optional", {})[0] == 401


def test_requires_guards_a_websocket() -> None:
    @requires("notes.read")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(agent_name())
        await websocket.close()

    client = behind_the_middleware(WebSocketRoute("/live", endpoint))
    with client.websocket_connect("/live", headers=bearer("notes.read")) as websocket:
        greeting = websocket.receive_text()
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/live", headers=bearer()),
    ):
        pass

    assert greeting == "agent-1"
    assert denied.value.status_code == 403


def test_requires_leaves_the_handler_what_it_was() -> None:
    """Frameworks read name, parameters and kind of a handler."""

    def plain(number: int, *, word: str = "") -> str:
        """Docs."""
        return f"{number}{word}"

    guarded = requires("notes.read")(plain)

    assert guarded.__name__ == "plain"
    assert guarded.__doc__ == "Docs."
    assert inspect.signature(guarded) == inspect.signature(plain)
    assert not inspect.iscoroutinefunction(guarded)
    assert inspect.iscoroutinefunction(asynchronous)


@pytest.mark.parametrize("scope", ["notes.read notes.write", "", 'a"b'])
def test_requires_refuses_what_is_no_scope(scope: str) -> None:
    with pytest.raises(ConfigurationError, match="requires"):
        requires(scope)


def test_requires_without_parentheses_says_so() -> None:
    """And not that a function is no scope."""
    bare: Any = requires

    with pytest.raises(ConfigurationError, match=r"write @requires\(\.\.\.\)"):
        bare(agent_name)


@pytest.mark.parametrize("kind", [list, tuple])
def test_requires_shows_how_to_write_several_scopes(kind: type) -> None:
    scopes: Any = kind(BOTH)

    with pytest.raises(
        ConfigurationError, match=r'write requires\("notes.read", "notes.write"\)'
    ):
        requires(scopes)


def test_requires_is_the_same_for_all_frameworks() -> None:
    assert for_flask.requires is for_starlette.requires


def test_requires_without_a_middleware_is_the_developers_fault() -> None:
    """A forgotten ``install`` must not look like a caller without a token."""
    client = TestClient(Starlette(routes=[Route("/", asynchronous)]))

    with pytest.raises(ConfigurationError, match="install the middleware"):
        client.get("/", headers=bearer(*BOTH))


def test_requires_checks_a_generator_when_it_is_called() -> None:
    """And not with its first step, when a response may have begun."""

    @requires("notes.read")
    async def lines() -> AsyncIterator[str]:
        yield agent_name()

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(lines())

    get = getting(behind_the_middleware(Route("/notes", endpoint)))

    assert get("/notes", bearer("notes.read"))[:2] == (200, "agent-1")
    assert get("/notes", bearer())[0] == 403


def test_requires_leaves_no_way_around_a_generator() -> None:
    @requires("notes.read")
    def lines() -> Iterator[str]:
        yield agent_name()

    @requires("notes.read")
    async def async_lines() -> AsyncIterator[str]:
        yield agent_name()

    called: Any = lines
    called_async: Any = async_lines

    async def endpoint(request: Request) -> Response:
        with pytest.raises(InsufficientScopeError):
            next(called.__call__())
        with pytest.raises(InsufficientScopeError):
            await anext(called_async.__call__())
        return PlainTextResponse("")

    get = getting(behind_the_middleware(Route("/notes", endpoint)))

    assert get("/notes", bearer())[0] == 200
