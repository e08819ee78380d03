"""Refusals that handlers raise, as the ASGI middleware answers them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Endpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import Access, ResourceServer, Route, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    ConfigurationError,
    StepUpRequiredError,
)
from tests.support.raised_refusals import GUARDS, RAISED, Demand, Expected, Make
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    SERVER,
    bearer,
    http_scope,
    request,
)

pytestmark = pytest.mark.anyio


def authorized(path: str = "/", **members: Any) -> dict[str, Any]:
    return http_scope(path, [("Authorization", bearer())], **members)


def plain(make: Make) -> ASGIApp:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise make()

    return AgentAuthMiddleware(handler, SERVER)


def starlette(make: Make) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        raise make()

    return in_starlette(endpoint)


def starlette_in_a_thread(make: Make) -> ASGIApp:
    def endpoint(request: Request) -> Response:
        raise make()

    return in_starlette(endpoint)


def starlette_below_middleware(make: Make) -> ASGIApp:
    """Between handler and middleware stands one that runs what is inside as a task."""

    async def endpoint(request: Request) -> Response:
        raise make()

    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    return in_starlette(endpoint, Middleware(BaseHTTPMiddleware, dispatch=pass_on))


def in_starlette(endpoint: Any, *middleware: Middleware) -> ASGIApp:
    app = Starlette(routes=[Endpoint("/", endpoint)], middleware=middleware)
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    return app


@pytest.mark.parametrize(
    "set_up", [plain, starlette, starlette_in_a_thread, starlette_below_middleware]
)
@pytest.mark.parametrize(("make", "expected"), RAISED)
async def test_asgi_raised_refusal_is_answered(
    set_up: Any, make: Make, expected: Expected
) -> None:
    talk = await request(set_up(make), authorized())

    assert talk.raised is None
    expected.check(talk.status, talk.headers, talk.body)


@pytest.mark.parametrize(("token", "demand", "expected"), GUARDS)
async def test_asgi_guard_is_answered(
    token: dict[str, Any], demand: Demand, expected: Expected
) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        demand(scope["agentauth.access"])

    scope = http_scope(headers=[("Authorization", bearer(**token))])
    talk = await request(AgentAuthMiddleware(handler, SERVER), scope)

    assert talk.raised is None
    expected.check(talk.status, talk.headers, talk.body)


def demand_scopes(access: Access) -> None:
    access.require_scopes("a", "b")


def demand_step_up(access: Access) -> None:
    raise StepUpRequiredError(max_age=60, acr_values=["mfa"])


@pytest.mark.parametrize(
    ("route", "demand"),
    [
        pytest.param(Route("/route", scopes=("a", "b")), demand_scopes, id="scopes"),
        pytest.param(
            Route("/route", agent="required"), Access.require_agent, id="agent"
        ),
        pytest.param(
            Route("/route", max_age=60, acr_values=("mfa",)),
            demand_step_up,
            id="step-up",
        ),
    ],
)
async def test_asgi_raised_refusal_is_what_a_route_answers(
    route: Route, demand: Demand
) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        demand(scope["agentauth.access"])

    server = ResourceServer(RESOURCE, issuers=[ISSUER.trust()], routes=[route])
    app = AgentAuthMiddleware(handler, server)
    by_route = await request(app, authorized("/route"))
    by_handler = await request(app, authorized("/handler"))

    assert by_handler.sent == by_route.sent


async def test_asgi_guard_without_access_answers_as_without_credentials() -> None:
    """On an optional route a handler may insist after all."""

    async def insist(scope: Scope, receive: Receive, send: Send) -> None:
        if current_access() is None:
            raise AuthenticationRequiredError

    app = AgentAuthMiddleware(insist, SERVER)
    by_handler = await request(app, http_scope("/optional"))
    by_middleware = await request(app, http_scope("/"))

    assert by_handler.sent == by_middleware.sent


async def test_asgi_raised_refusal_of_a_head_request_has_no_body() -> None:
    app = plain(lambda: ActorRefusedError("not_today"))
    talk = await request(app, authorized(method="HEAD"))

    assert talk.status == 403
    assert talk.body == b""
    assert int(talk.headers["content-length"]) > 0


# Too late


def begun(make: Make) -> ASGIApp:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise make()

    return AgentAuthMiddleware(handler, SERVER)


def streaming(make: Make) -> ASGIApp:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise make()

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(stream())

    return in_starlette(endpoint)


def in_the_background(make: Make) -> ASGIApp:
    def work() -> None:
        raise make()

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("accepted", background=BackgroundTask(work))

    return in_starlette(endpoint)


@pytest.mark.parametrize("set_up", [begun, streaming, in_the_background])
@pytest.mark.parametrize(("make", "expected"), RAISED)
async def test_asgi_refusal_raised_after_the_start_propagates(
    set_up: Any, make: Make, expected: Expected
) -> None:
    talk = await request(set_up(make), authorized())

    assert type(talk.raised) is type(make())
    assert talk.status == 200
    assert [message["type"] for message in talk.sent].count("http.response.start") == 1


@pytest.mark.parametrize(
    "failure", [KeyError("note"), ConfigurationError("wrong"), OSError("disk")]
)
async def test_asgi_other_errors_propagate(failure: Exception) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise failure

    talk = await request(AgentAuthMiddleware(handler, SERVER), authorized())

    assert talk.raised is failure
    assert talk.sent == []
