"""Websockets at the ASGI middleware: refused before they are accepted, or not at
all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware.access import Access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import UnavailableError
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    SERVER,
    bearer,
    exchange,
    request,
    websocket_scope,
)

pytestmark = pytest.mark.anyio

DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
CONNECT: Message = {"type": "websocket.connect"}


def authorized(**members: Any) -> dict[str, Any]:
    return websocket_scope("/", [("Authorization", bearer())], **members)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("reached the application")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, and send each text back until the client leaves."""
    assert await receive() == CONNECT
    await send({"type": "websocket.accept", "subprotocol": "notes"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def test_websocket_with_a_good_token_reaches_the_application() -> None:
    scope = authorized()
    async with exchange(AgentAuthMiddleware(echo, SERVER), scope) as talk:
        await talk.deliver(CONNECT)
        accepted = await talk.next_sent()
        await talk.deliver({"type": "websocket.receive", "text": "hello"})
        answered = await talk.next_sent()
        await talk.deliver({"type": "websocket.disconnect", "code": 1000})

    assert accepted == {"type": "websocket.accept", "subprotocol": "notes"}
    assert answered == {"type": "websocket.send", "text": "hello"}
    assert scope["agentauth.access"].subject == "user-1"


async def test_websocket_of_a_public_route_needs_no_token() -> None:
    async with exchange(
        AgentAuthMiddleware(echo, SERVER), websocket_scope("/public")
    ) as talk:
        await talk.deliver(CONNECT, {"type": "websocket.disconnect", "code": 1000})

    assert [message["type"] for message in talk.sent] == ["websocket.accept"]


REFUSED = [
    pytest.param("/", None, 401, None, id="no credentials"),
    pytest.param("/", "Bearer !", 400, "invalid_request", id="malformed"),
    pytest.param("/", "Bearer e30.e30.e30", 401, "invalid_token", id="bad token"),
    pytest.param("/sent", "good", 403, "insufficient_scope", id="scope missing"),
]


def scope_with(path: str, authorization: str | None, **members: Any) -> Scope:
    if authorization == "good":
        authorization = bearer()
    headers = [("Authorization", authorization)] if authorization else []
    return websocket_scope(path, headers, **members)


@pytest.mark.parametrize(("path", "authorization", "status", "error"), REFUSED)
async def test_websocket_refusal_is_a_denial_response_where_there_is_one(
    path: str, authorization: str | None, status: int, error: str | None
) -> None:
    talk = await request(
        AgentAuthMiddleware(never, SERVER),
        scope_with(path, authorization, **DENIAL),
        CONNECT,
    )

    assert [message["type"] for message in talk.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert talk.status == status
    assert talk.headers["www-authenticate"].startswith("Bearer ")
    assert talk.headers["content-length"] == str(len(talk.body))
    assert talk.json.get("error") == error
    assert talk.json["resource_metadata"] == SERVER.metadata_url


@pytest.mark.parametrize(("path", "authorization", "status", "error"), REFUSED)
async def test_websocket_refusal_is_a_close_where_there_is_no_denial_response(
    path: str, authorization: str | None, status: int, error: str | None
) -> None:
    """Never accepted first: servers answer such a close with 403."""
    talk = await request(
        AgentAuthMiddleware(never, SERVER), scope_with(path, authorization), CONNECT
    )

    assert [message["type"] for message in talk.sent] == ["websocket.close"]


async def test_websocket_scope_without_extensions_is_refused_by_close() -> None:
    scope = websocket_scope()
    del scope["extensions"]
    talk = await request(AgentAuthMiddleware(never, SERVER), scope, CONNECT)

    assert [message["type"] for message in talk.sent] == ["websocket.close"]
    assert talk.sent[0]["code"] == 1008, "a violation of policy (RFC 6455 §7.4.1)"


def demanding(accept: bool, demand: Callable[[Access], object]) -> ASGIApp:
    """An application with a guard before or after it accepts."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accept:
            await send({"type": "websocket.accept"})
        demand(scope["agentauth.access"])

    return AgentAuthMiddleware(handler, SERVER)


def demand_scopes(access: Access) -> None:
    access.require_scopes("mail.send")


def be_unavailable(access: Access) -> None:
    raise UnavailableError("mailbox_unreachable", retry_after=7)


GUARDS = [
    pytest.param(demand_scopes, 403, id="require_scopes"),
    pytest.param(Access.require_agent, 403, id="require_agent"),
    pytest.param(be_unavailable, 503, id="unavailable"),
]


@pytest.mark.parametrize(("demand", "status"), GUARDS)
async def test_websocket_guard_before_accept_is_answered(
    demand: Callable[[Access], object], status: int
) -> None:
    talk = await request(
        demanding(accept=False, demand=demand), authorized(**DENIAL), CONNECT
    )

    assert talk.raised is None
    assert talk.sent[0]["type"] == "websocket.http.response.start"
    assert talk.status == status


@pytest.mark.parametrize(("demand", "status"), GUARDS)
async def test_websocket_guard_before_accept_closes_without_denial_responses(
    demand: Callable[[Access], object], status: int
) -> None:
    talk = await request(demanding(accept=False, demand=demand), authorized(), CONNECT)

    assert talk.raised is None
    assert [message["type"] for message in talk.sent] == ["websocket.close"]


@pytest.mark.parametrize(("demand", "status"), GUARDS)
async def test_websocket_guard_after_accept_propagates(
    demand: Callable[[Access], object], status: int
) -> None:
    """There is no status left to give; the server closes with 1011 or the like."""
    talk = await request(
        demanding(accept=True, demand=demand), authorized(**DENIAL), CONNECT
    )

    assert getattr(talk.raised, "status", None) == status
    assert [message["type"] for message in talk.sent] == ["websocket.accept"]


async def test_websocket_subprotocol_is_no_credential() -> None:
    """Some browsers' clients smuggle a token there; nobody here reads it."""
    scope = websocket_scope(
        headers=[("Sec-WebSocket-Protocol", f"bearer, {ISSUER.token(RESOURCE)}")],
        **DENIAL,
    )
    talk = await request(AgentAuthMiddleware(never, SERVER), scope, CONNECT)

    assert talk.status == 401
    assert "error" not in talk.json
