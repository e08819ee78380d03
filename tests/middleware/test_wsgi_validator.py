"""The standard library's referee of WSGI, in front of the middleware and behind it."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from agentauth_middleware.errors import InsufficientScopeError
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import SERVER, bearer, environ, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

METADATA = "/.well-known/oauth-protected-resource"
GOOD = {"HTTP_AUTHORIZATION": bearer()}
PREFLIGHT = {
    "HTTP_ORIGIN": "https://app.example",
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST",
}


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """One of each kind of body, by path."""
    if environ["PATH_INFO"] == "/raised":
        raise InsufficientScopeError(["mail.send"])
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    headers = [("Content-Type", "text/plain")]
    if environ["PATH_INFO"] == "/raised/late":
        start_response("200 OK", headers)
        return refused()
    write = start_response("200 OK", headers)
    if environ["PATH_INFO"] == "/written":
        write(b"written ")
    if environ["PATH_INFO"] == "/stream":
        return iter([b"one ", b"", b"two ", body])
    return [body]


def refused() -> Iterator[bytes]:
    yield refuse()


def refuse() -> bytes:
    raise InsufficientScopeError(["mail.send"])


REQUESTS = [
    pytest.param("GET", "/", GOOD, 200, id="granted"),
    pytest.param("HEAD", "/", GOOD, 200, id="granted HEAD"),
    pytest.param("POST", "/", GOOD, 200, id="granted POST"),
    pytest.param("POST", "/stream", GOOD, 200, id="stream"),
    pytest.param("POST", "/written", GOOD, 200, id="written"),
    pytest.param("GET", "/public", {}, 200, id="public"),
    pytest.param("OPTIONS", "/", PREFLIGHT, 401, id="preflight"),
    pytest.param("GET", "/", {}, 401, id="no credentials"),
    pytest.param("HEAD", "/", {}, 401, id="no credentials HEAD"),
    pytest.param("GET", "/", {"HTTP_AUTHORIZATION": "Bearer !"}, 400, id="malformed"),
    pytest.param("GET", "/sent", GOOD, 403, id="scope missing"),
    pytest.param("GET", "/raised", GOOD, 403, id="raised"),
    pytest.param("GET", "/raised/late", GOOD, 403, id="raised while streaming"),
    pytest.param("HEAD", "/raised/late", GOOD, 403, id="raised while streaming HEAD"),
    pytest.param("GET", METADATA, {}, 200, id="metadata"),
    pytest.param("HEAD", METADATA, {}, 200, id="metadata HEAD"),
    pytest.param("OPTIONS", METADATA, {}, 204, id="metadata OPTIONS"),
    pytest.param(
        "GET", METADATA, {"HTTP_IF_NONE_MATCH": "*"}, 304, id="metadata unchanged"
    ),
    pytest.param("DELETE", METADATA, {}, 405, id="metadata DELETE"),
    pytest.param("GET", f"{METADATA}/other", {}, 200, id="another's metadata"),
    pytest.param("GET", "/auth.md", {}, 200, id="auth.md"),
]


@pytest.mark.parametrize(("method", "path", "members", "status"), REQUESTS)
def test_wsgi_middleware_keeps_the_rules_on_both_sides(
    method: str,
    path: str,
    members: dict[str, Any],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    middleware = validator(AgentAuthMiddleware(validator(application), SERVER))
    body = "three" if method == "POST" else ""
    answer = serve(middleware, environ(path, method=method, body=body, **members))
    gc.collect()

    assert answer.raised is None
    assert answer.status == status
    assert capsys.readouterr().err == "", "a body was not closed"
