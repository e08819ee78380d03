"""Who is calling, at every place where a WSGI application may look for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

from agentauth_middleware import Access, ResourceServer, current_access
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import FORWARDING, ISSUER, bearer, environ, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def noting(seen: list[WSGIEnvironment], **settings: Any) -> WSGIApplication:
    """An application behind a middleware; *seen* gets the environ of each request."""

    def note(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        seen.append({**environ, "current": current_access()})
        start_response("204 No Content", [])
        return []

    return AgentAuthMiddleware(note, FORWARDING, **settings)


def test_wsgi_access_stands_at_every_place() -> None:
    seen: list[WSGIEnvironment] = []
    token = bearer(subject="alice", agent="agent-1", scopes=["a"])
    serve(noting(seen), environ(HTTP_AUTHORIZATION=token))
    access = seen[0]["agentauth.access"]

    assert isinstance(access, Access)
    assert access.subject == "alice"
    assert seen[0]["current"] is access


PREFLIGHT = {
    "HTTP_ORIGIN": "https://app.example",
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST",
}
NOBODY = [
    pytest.param("GET", "/public", {}, id="public"),
    pytest.param(
        "GET", "/public", {"HTTP_AUTHORIZATION": bearer()}, id="public with token"
    ),
    pytest.param("GET", "/optional", {}, id="optional"),
    pytest.param("OPTIONS", "/", PREFLIGHT, id="preflight"),
    pytest.param(
        "OPTIONS",
        "/",
        {**PREFLIGHT, "HTTP_AUTHORIZATION": bearer()},
        id="preflight with token",
    ),
]


@pytest.mark.parametrize(("method", "path", "members"), NOBODY)
def test_wsgi_request_without_access_has_none_anywhere(
    method: str, path: str, members: dict[str, Any]
) -> None:
    seen: list[WSGIEnvironment] = []
    serve(noting(seen), environ(path, method=method, **members))

    assert "agentauth.access" not in seen[0]
    assert seen[0]["current"] is None


@pytest.mark.parametrize(("method", "path", "members"), NOBODY)
def test_wsgi_access_from_outside_is_removed(
    method: str, path: str, members: dict[str, Any]
) -> None:
    """Whoever put it there, it is not this middleware's word."""
    seen: list[WSGIEnvironment] = []
    given = environ(path, method=method, **members)
    given["agentauth.access"] = Access("https://evil.example", "root")
    serve(noting(seen), given)

    assert "agentauth.access" not in seen[0]


def test_wsgi_access_from_outside_is_replaced() -> None:
    seen: list[WSGIEnvironment] = []
    given = environ(HTTP_AUTHORIZATION=bearer())
    given["agentauth.access"] = Access("https://evil.example", "root")
    serve(noting(seen), given)

    assert seen[0]["agentauth.access"].subject == "user-1"


def test_wsgi_access_of_an_outer_middleware_ends_at_an_inner_one() -> None:
    """An API mounted in another: what one lets pass is nobody to the other."""
    seen: list[WSGIEnvironment] = []
    outer = ResourceServer("https://outer.example", issuers=[ISSUER.trust()])
    token = f"Bearer {ISSUER.token(outer.resource, subject='alice')}"
    serve(
        AgentAuthMiddleware(noting(seen), outer),
        environ("/public", HTTP_AUTHORIZATION=token),
    )

    assert "agentauth.access" not in seen[0]
    assert seen[0]["current"] is None


def test_wsgi_preflight_loses_its_authorization() -> None:
    """Nobody has looked at it, so nobody may take it for a good one."""
    seen: list[WSGIEnvironment] = []
    serve(
        noting(seen),
        environ(method="OPTIONS", **PREFLIGHT, HTTP_AUTHORIZATION=bearer()),
    )

    assert "HTTP_AUTHORIZATION" not in seen[0]


def test_wsgi_public_route_keeps_its_authorization() -> None:
    """It may be meant for the application."""
    seen: list[WSGIEnvironment] = []
    serve(noting(seen), environ("/public", HTTP_AUTHORIZATION="Basic dTpw"))

    assert seen[0]["HTTP_AUTHORIZATION"] == "Basic dTpw"


# REMOTE_USER


def by_issuer(access: Access) -> str:
    return f"somebody of {access.issuer}"


@pytest.mark.parametrize(("method", "path", "members"), NOBODY)
@pytest.mark.parametrize("remote_user", [None, by_issuer])
def test_remote_user_is_left_alone_without_access(
    method: str, path: str, members: dict[str, Any], remote_user: Any
) -> None:
    """It is the front server's word about a request that we say nothing about."""
    seen: list[WSGIEnvironment] = []
    app = noting(seen, remote_user=remote_user)
    serve(app, environ(path, method=method, **members, REMOTE_USER="carol"))
    serve(app, environ(path, method=method, **members))

    assert seen[0]["REMOTE_USER"] == "carol"
    assert "REMOTE_USER" not in seen[1]


def test_remote_user_is_removed_with_access() -> None:
    """The front server did not see this token, so it means somebody else."""
    seen: list[WSGIEnvironment] = []
    serve(noting(seen), environ(HTTP_AUTHORIZATION=bearer(), REMOTE_USER="carol"))

    assert "REMOTE_USER" not in seen[0]


def by_email(access: Access) -> str | None:
    return access.user.email if access.user else None


@pytest.mark.parametrize(
    ("token", "told"),
    [
        pytest.param(
            {"email": "a@b.example"}, {"REMOTE_USER": "a@b.example"}, id="name"
        ),
        pytest.param({}, {}, id="no name"),
    ],
)
@pytest.mark.parametrize("said_in_front", ["carol", None])
def test_remote_user_is_what_the_function_says(
    token: dict[str, Any], told: dict[str, str], said_in_front: str | None
) -> None:
    seen: list[WSGIEnvironment] = []
    given = environ(HTTP_AUTHORIZATION=bearer(**token))
    if said_in_front is not None:
        given["REMOTE_USER"] = said_in_front
    serve(noting(seen, remote_user=by_email), given)

    assert {key: seen[0][key] for key in seen[0] if key == "REMOTE_USER"} == told


# Over a socket: what a client can make of a header


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A test's output is not the place for an access log."""


@contextmanager
def listening(app: WSGIApplication) -> Generator[int, None, None]:
    """The standard library's server, on a free port."""
    with WSGIServer(("127.0.0.1", 0), _Quiet) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def send(port: int, path: str, *lines: str) -> bytes:
    """The status line that comes back for a GET with these header lines."""
    head = [f"GET {path} HTTP/1.0", "Host: api.example.com", *lines, "", ""]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall("\r\n".join(head).encode())
        with connection.makefile("rb") as answer:
            return answer.readline().strip()


SMUGGLED = [
    "agentauth.access: root",
    "agentauth-access: root",
    "agentauth_access: root",
    "HTTP_agentauth.access: root",
    "REMOTE_USER: root",
    "Remote-User: root",
    "X-Remote-User: root",
    "X-Forwarded-User: root",
    "X-User: root",
]


@pytest.mark.parametrize("line", SMUGGLED)
def test_wsgi_header_is_never_identity(line: str) -> None:
    seen: list[WSGIEnvironment] = []
    app: Callable[..., Any] = noting(seen)
    with listening(app) as port:
        send(port, "/optional", line)
        send(port, "/", line, f"Authorization: {bearer()}")
        refused = send(port, "/", line)

    assert "agentauth.access" not in seen[0]
    assert seen[0]["current"] is None
    assert not seen[0].get("REMOTE_USER")
    assert seen[1]["agentauth.access"].subject == "user-1"
    assert not seen[1].get("REMOTE_USER")
    assert refused.startswith(b"HTTP/1.0 401 ")
