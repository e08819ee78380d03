"""Who is calling, at every place where an ASGI application may look for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    SimpleUser,
    UnauthenticatedUser,
    requires,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Endpoint
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from agentauth_middleware import Access, ResourceServer, Route, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from tests.support.server_side import (
    FORWARDING,
    ISSUER,
    RESOURCE,
    SERVER,
    bearer,
    exchange,
    http_scope,
    request,
    websocket_scope,
)

pytestmark = pytest.mark.anyio


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def noting(seen: list[Scope]) -> ASGIApp:
    """An application behind a middleware; *seen* gets the scope of each request."""

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({**scope, "current": current_access()})
        await answer(scope, receive, send)

    return AgentAuthMiddleware(note, FORWARDING)


async def test_asgi_access_stands_at_every_place() -> None:
    seen: list[Scope] = []
    token = bearer(subject="alice", agent="agent-1", scopes=["b", "a"])
    await request(noting(seen), http_scope(headers=[("Authorization", token)]))
    access = seen[0]["agentauth.access"]

    assert isinstance(access, Access)
    assert access.subject == "alice"
    assert seen[0]["current"] is access
    assert seen[0]["user"].access is access
    assert seen[0]["auth"].scopes == ["a", "b", "authenticated"]


def append_scope(scope: Scope) -> None:
    scope["auth"].scopes.append("admin")


def replace_scopes(scope: Scope) -> None:
    scope["auth"].scopes = []


def add_attribute(scope: Scope) -> None:
    scope["user"].role = "admin"


def replace_access(scope: Scope) -> None:
    scope["user"].access = None


@pytest.mark.parametrize(
    "write", [append_scope, replace_scopes, add_attribute, replace_access]
)
async def test_asgi_inner_layer_cannot_change_what_requests_share(
    write: Callable[[Scope], object],
) -> None:
    """A role that one request is given would otherwise be that of all others with the
    same token."""

    async def promote(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises((AttributeError, TypeError), match=r"request\.state"):
            write(scope)
        assert scope["auth"].scopes == ["a", "authenticated"]
        await answer(scope, receive, send)

    middleware = AgentAuthMiddleware(promote, SERVER)
    token = bearer(subject="alice", scopes=["a"])
    answered = await request(middleware, http_scope(headers=[("Authorization", token)]))

    assert answered.status == 204


async def test_asgi_anonymous_requests_share_nothing() -> None:
    seen: list[Scope] = []

    async def promote(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({**scope, "scopes": list(scope["auth"].scopes)})
        scope["auth"].scopes.append("admin")
        await answer(scope, receive, send)

    middleware = AgentAuthMiddleware(promote, SERVER)
    for _ in range(2):
        await request(middleware, http_scope("/public"))

    assert [scope["scopes"] for scope in seen] == [[], []]
    assert seen[0]["user"] is not seen[1]["user"]


PREFLIGHT = [
    ("Origin", "https://app.example"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "authorization"),
]
NOBODY = [
    pytest.param("GET", "/public", [], id="public"),
    pytest.param("GET", "/public", [("Authorization", "good")], id="public with token"),
    pytest.param("GET", "/optional", [], id="optional"),
    pytest.param("OPTIONS", "/", PREFLIGHT, id="preflight"),
    pytest.param(
        "OPTIONS", "/", [*PREFLIGHT, ("Authorization", "good")], id="preflight, token"
    ),
]


def with_token(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, bearer() if value == "good" else value) for name, value in headers]


@pytest.mark.parametrize(("method", "path", "headers"), NOBODY)
async def test_asgi_request_without_access_has_none_anywhere(
    method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    seen: list[Scope] = []
    await request(noting(seen), http_scope(path, with_token(headers), method=method))

    assert "agentauth.access" not in seen[0]
    assert seen[0]["current"] is None
    assert isinstance(seen[0]["user"], UnauthenticatedUser)
    assert seen[0]["auth"].scopes == []


@pytest.mark.parametrize(("method", "path", "headers"), NOBODY)
async def test_asgi_access_from_outside_is_removed(
    method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    """Whoever put it there, it is not this middleware's word."""
    seen: list[Scope] = []
    scope = http_scope(path, with_token(headers), method=method)
    scope["agentauth.access"] = Access("https://evil.example", "root")
    await request(noting(seen), scope)

    assert "agentauth.access" not in seen[0]


async def test_asgi_access_from_outside_is_replaced() -> None:
    seen: list[Scope] = []
    scope = http_scope(headers=[("Authorization", bearer())])
    scope["agentauth.access"] = Access("https://evil.example", "root")
    await request(noting(seen), scope)

    assert seen[0]["agentauth.access"].subject == "user-1"


async def test_asgi_access_of_an_outer_middleware_ends_at_an_inner_one() -> None:
    """An API mounted in another: what one lets pass is nobody to the other."""
    seen: list[Scope] = []
    outer = ResourceServer("https://outer.example", issuers=[ISSUER.trust()])
    token = f"Bearer {ISSUER.token(outer.resource, subject='alice')}"
    await request(
        AgentAuthMiddleware(noting(seen), outer),
        http_scope("/public", [("Authorization", token)]),
    )

    assert "agentauth.access" not in seen[0]
    assert seen[0]["current"] is None
    assert not seen[0]["user"].is_authenticated
    assert seen[0]["auth"].scopes == []


async def test_asgi_user_of_an_outer_layer_stays_without_access() -> None:
    """A session of the application's own, say, on a route that needs no token."""
    seen: list[Scope] = []
    user, credentials = SimpleUser("carol"), AuthCredentials(["session"])
    await request(noting(seen), http_scope("/public", user=user, auth=credentials))

    assert seen[0]["user"] is user
    assert seen[0]["auth"] is credentials


IDENTITY_HEADERS = [
    ("X-User", "root"),
    ("X-Forwarded-User", "root"),
    ("X-Remote-User", "root"),
    ("Remote-User", "root"),
    ("X-Authenticated-Userid", "root"),
    ("agentauth.access", "root"),
    ("agentauth-access", "root"),
    ("Cookie", "user=root"),
]


@pytest.mark.parametrize("header", IDENTITY_HEADERS, ids=lambda header: str(header[0]))
async def test_asgi_header_is_never_identity(header: tuple[str, str]) -> None:
    seen: list[Scope] = []
    app = noting(seen)
    await request(app, http_scope("/optional", [header]))
    await request(app, http_scope("/", [header, ("Authorization", bearer())]))
    refused = await request(app, http_scope("/", [header]))

    assert seen[0]["current"] is None
    assert not seen[0]["user"].is_authenticated
    assert seen[1]["current"].subject == "user-1"
    assert seen[1]["user"].identity == "user-1"
    assert refused.status == 401


async def test_asgi_preflight_loses_its_authorization() -> None:
    """Nobody has looked at it, so nobody may take it for a good one."""
    seen: list[Scope] = []
    headers = [*PREFLIGHT, ("Authorization", bearer()), ("AUTHORIZATION", "Basic x")]
    scope = http_scope("/", headers, method="OPTIONS")
    await request(noting(seen), scope)

    assert seen[0]["headers"] == [
        (name.lower().encode(), value.encode()) for name, value in PREFLIGHT
    ]
    assert len(scope["headers"]) == len(headers), "the server's own list is changed"


async def test_asgi_public_route_keeps_its_authorization() -> None:
    """It may be meant for the application."""
    seen: list[Scope] = []
    await request(
        noting(seen), http_scope("/public", [("Authorization", "Basic dTpw")])
    )

    assert (b"authorization", b"Basic dTpw") in seen[0]["headers"]


# Starlette


async def who(request: Request) -> Response:
    return JSONResponse(
        {
            "authenticated": request.user.is_authenticated,
            "name": request.user.display_name,
            "scopes": sorted(request.auth.scopes),
        }
    )


@requires("authenticated")
async def members_only(request: Request) -> Response:
    return JSONResponse(request.user.identity)


@requires(["mail.read", "mail.send"])
def senders_only(request: Request) -> Response:
    return JSONResponse(request.user.identity)


@requires("mail.send")
async def send_over_websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.identity)
    await websocket.close()


def starlette() -> ASGIApp:
    server = ResourceServer(
        RESOURCE,
        issuers=[ISSUER.trust(subjects="users")],
        routes=[Route("/*", optional=True)],
    )
    app = Starlette(
        routes=[
            Endpoint("/who", who),
            Endpoint("/members", members_only),
            Endpoint("/senders", senders_only),
            WebSocketRoute("/ws", send_over_websocket),
        ]
    )
    app.add_middleware(AgentAuthMiddleware, resource_server=server)
    return app


def starlette_scope(path: str, **token: Any) -> Scope:
    return http_scope(path, [("Authorization", bearer(**token))] if token else [])


@pytest.mark.parametrize(
    ("token", "told"),
    [
        pytest.param(
            {}, {"authenticated": False, "name": "", "scopes": []}, id="nobody"
        ),
        pytest.param(
            {"subject": "alice", "scopes": ["mail.read"]},
            {
                "authenticated": True,
                "name": "alice",
                "scopes": ["authenticated", "mail.read"],
            },
            id="user",
        ),
        pytest.param(
            {"subject": "alice", "name": "Alice Adams", "agent": "agent-1"},
            {"authenticated": True, "name": "Alice Adams", "scopes": ["authenticated"]},
            id="user with a name",
        ),
        pytest.param(
            {"subject": "client-1", "name": "Nightly Job"},
            {"authenticated": True, "name": "client-1", "scopes": ["authenticated"]},
            id="service",
        ),
    ],
)
async def test_starlette_request_knows_user_and_scopes(
    token: dict[str, Any], told: dict[str, Any]
) -> None:
    talk = await request(starlette(), starlette_scope("/who", **token))

    assert talk.json == told


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        pytest.param("/members", {}, 403, id="nobody"),
        pytest.param("/members", {"subject": "alice"}, 200, id="anybody"),
        pytest.param("/senders", {"scopes": ["mail.send"]}, 403, id="one of two"),
        pytest.param(
            "/senders", {"scopes": ["mail.read", "mail.send"]}, 200, id="both"
        ),
    ],
)
async def test_starlette_requires_works(
    path: str, token: dict[str, Any], status: int
) -> None:
    """Its own decorator, which answers 403 by itself."""
    talk = await request(starlette(), starlette_scope(path, **token))

    assert talk.status == status


@pytest.mark.parametrize(
    ("token", "first"),
    [
        pytest.param({"scopes": ["mail.send"]}, "websocket.accept", id="enough"),
        pytest.param({"scopes": ["mail.read"]}, "websocket.close", id="not enough"),
    ],
)
async def test_starlette_requires_works_for_websockets(
    token: dict[str, Any], first: str
) -> None:
    scope = websocket_scope("/ws", [("Authorization", bearer(**token))])
    async with exchange(starlette(), scope) as talk:
        await talk.deliver({"type": "websocket.connect"})

    assert talk.sent[0]["type"] == first
