"""Refusals raised in handlers come out as the middleware's own, in every set-up."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask, Response, stream_with_context
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentauth_middleware import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InsufficientScopeError,
    InvalidRequestError,
    RequestRefusedError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.starlette import answer_refusals
from tests.frameworks.notes_server import RESOURCE, SERVER, bearer

Failure = RequestRefusedError | UnavailableError
Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[[str, str], Answer]
"""Send a request with this method and path, and a good token."""


def asking_asgi(app: ASGIApp) -> Ask:
    client = TestClient(app, raise_server_exceptions=False)

    def ask(method: str, path: str) -> Answer:
        response = client.request(method, path, headers=bearer("notes.read"))
        return response.status_code, dict(response.headers), response.content

    return ask


def asking_wsgi(app: Flask) -> Ask:
    # Flask's own client does not let an application replace an answer it has begun.
    transport = httpx.WSGITransport(app, raise_app_exceptions=False)
    client = httpx.Client(transport=transport, base_url=RESOURCE)

    def ask(method: str, path: str) -> Answer:
        response = client.request(method, path, headers=bearer())
        return response.status_code, dict(response.headers), response.content

    return ask


def plain(failure: Failure) -> Ask:
    """The middleware around an application that is nothing but the handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise failure

    return asking_asgi(AgentAuthMiddleware(app, SERVER))


def starlette_app(failure: Failure) -> Starlette:
    async def endpoint(request: Request) -> NoReturn:
        raise failure

    inside = Mount("/inner", routes=[Route("/{id}", endpoint)])
    return Starlette(routes=[Route("/notes", endpoint), inside])


def starlette_with_middleware(failure: Failure) -> Ask:
    app = starlette_app(failure)
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return asking_asgi(app)


def starlette_wrapped(failure: Failure) -> Ask:
    app = starlette_app(failure)
    answer_refusals(app, SERVER)
    return asking_asgi(AgentAuthMiddleware(app, SERVER))


def starlette_mounted(failure: Failure) -> Ask:
    inner = starlette_app(failure)
    answer_refusals(inner, SERVER)
    app = Starlette(routes=[Mount("/", inner)])
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return asking_asgi(app)


def fastapi_installed(failure: Failure) -> Ask:
    app = FastAPI()

    @app.api_route("/notes", methods=["GET", "HEAD"])
    @app.get("/inner/{name}")
    def endpoint() -> None:
        raise failure

    AgentAuth(SERVER).install(app)
    return asking_asgi(app)


def flask_initialized(failure: Failure) -> Ask:
    app = Flask(__name__)

    @app.get("/notes")
    @app.get("/inner/<name>")
    def endpoint(name: str = "") -> NoReturn:
        raise failure

    FlaskAgentAuth(SERVER).init_app(app)
    return asking_wsgi(app)


def flask_streaming(failure: Failure) -> Ask:
    """A generator runs no line before the server asks for the first piece."""
    app = Flask(__name__)

    @app.get("/notes")
    @app.get("/inner/<name>")
    def endpoint(name: str = "") -> Response:
        def lines() -> Iterator[str]:
            raise failure
            yield

        return Response(stream_with_context(lines()))

    FlaskAgentAuth(SERVER).init_app(app)
    return asking_wsgi(app)


CALLED_AT_ONCE = [
    starlette_with_middleware,
    starlette_wrapped,
    starlette_mounted,
    fastapi_installed,
    flask_initialized,
]
SET_UPS = [*CALLED_AT_ONCE, flask_streaming]

FAILURES: list[Failure] = [
    InvalidRequestError("odd_cursor"),
    AuthenticationRequiredError(["notes.write"]),
    StepUpRequiredError(acr_values=["mfa"], max_age=60),
    InsufficientScopeError(["notes.read", "notes.write"]),
    ActorRefusedError("not_their_note"),
    TooManyRequestsError("budget", retry_after=3),
    UnavailableError("disk_full", retry_after=7),
]

SAME = ("content-type", "content-length", "cache-control")
WHERE_SENT = ("www-authenticate", "retry-after")


@pytest.mark.parametrize(
    "failure", FAILURES, ids=lambda failure: type(failure).__name__
)
@pytest.mark.parametrize("set_up", SET_UPS)
def test_raised_refusal_is_answered_as_by_the_middleware(
    set_up: Callable[[Failure], Ask], failure: Failure
) -> None:
    status, headers, body = set_up(failure)("GET", "/notes")
    middleware_status, middleware_headers, middleware_body = plain(failure)(
        "GET", "/notes"
    )

    assert status == middleware_status == failure.status
    assert body == middleware_body
    for name in SAME:
        assert headers[name] == middleware_headers[name]
    for name in WHERE_SENT:
        assert headers.get(name) == middleware_headers.get(name)


@pytest.mark.parametrize("set_up", CALLED_AT_ONCE)
def test_raised_refusal_of_a_head_request_has_no_body(
    set_up: Callable[[Failure], Ask],
) -> None:
    status, headers, body = set_up(ActorRefusedError("not_today"))("HEAD", "/notes")

    assert status == 403
    assert "actor_unauthorized" in headers["www-authenticate"]
    assert body == b""


@pytest.mark.parametrize("set_up", [plain, *SET_UPS])
@pytest.mark.parametrize(
    ("path", "route"), [("/notes", "/*"), ("/inner/7", "/inner/*")]
)
def test_raised_refusal_leaves_one_audit_record(
    set_up: Callable[[Failure], Ask],
    path: str,
    route: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask = set_up(ActorRefusedError("not_their_note", "the note is another's"))
    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        ask("GET", path)
    (record,) = caplog.records
    members: dict[str, Any] = record.agentauth  # type: ignore[attr-defined]

    assert members["outcome"] == "refused"
    assert members["reason"] == "not_their_note"
    assert members["detail"] == "the note is another's"
    assert members["status"] == 403
    assert members["method"] == "GET"
    assert members["route"] == route
    assert members["agent"] == "https://as.example.com agent-1"
    assert members["client_id"] == "client-1"


# What the set-ups are needed for


def bare_wrap() -> ASGIApp:
    app = starlette_app(ActorRefusedError("not_today"))
    return AgentAuthMiddleware(app, SERVER)


def bare_mount() -> ASGIApp:
    inner = starlette_app(ActorRefusedError("not_today"))
    app = Starlette(routes=[Mount("/", inner)])
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return app


@pytest.mark.parametrize("app", [bare_wrap(), bare_mount()], ids=["wrap", "mount"])
def test_starlette_answers_500_before_a_middleware_outside_of_it_can(
    app: ASGIApp,
) -> None:
    """Which is what ``answer_refusals`` is for."""
    status, _, _ = asking_asgi(app)("GET", "/notes")

    assert status == 500


def test_middleware_inside_the_middleware_sees_an_answer_not_an_exception() -> None:
    seen: list[int] = []

    async def watch(
        request: Request, call_next: RequestResponseEndpoint
    ) -> StarletteResponse:
        response = await call_next(request)
        seen.append(response.status_code)
        return response

    app = FastAPI()
    app.add_middleware(BaseHTTPMiddleware, dispatch=watch)
    AgentAuth(SERVER).install(app)

    @app.get("/notes")
    def endpoint() -> None:
        raise ActorRefusedError("not_today")

    status, _, _ = asking_asgi(app)("GET", "/notes")

    assert seen == [status] == [403]


def test_refusal_raised_after_the_response_has_begun_is_an_error() -> None:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise ActorRefusedError("not_today")

    async def endpoint(request: Request) -> StarletteResponse:
        return StreamingResponse(stream())

    app = Starlette(routes=[Route("/notes", endpoint)])
    answer_refusals(app, SERVER)
    client = TestClient(AgentAuthMiddleware(app, SERVER))

    with pytest.raises(RuntimeError, match="response already started"):
        client.get("/notes", headers=bearer())


# Websockets


def with_websocket(*, accept: bool) -> ASGIApp:
    async def endpoint(websocket: WebSocket) -> None:
        if accept:
            await websocket.accept()
        raise ActorRefusedError("not_today")

    app = Starlette(routes=[WebSocketRoute("/live", endpoint)])
    answer_refusals(app, SERVER)
    return AgentAuthMiddleware(app, SERVER)


def test_refusal_raised_before_a_websocket_is_accepted_denies_it() -> None:
    client = TestClient(with_websocket(accept=False))
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/live", headers=bearer()),
    ):
        pass

    assert denied.value.status_code == 403
    assert denied.value.json()["error"] == "actor_unauthorized"


def test_refusal_raised_after_a_websocket_is_accepted_closes_it() -> None:
    client = TestClient(with_websocket(accept=True))
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        client.websocket_connect("/live", headers=bearer()) as websocket,
    ):
        websocket.receive_text()

    assert closed.value.code == 1008
