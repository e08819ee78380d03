"""Servers, workers and proxies that held good clients up."""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from agentauth_middleware import ConfigurationError, Issuer, asgi, wsgi
from agentauth_middleware._io.clients import BlockingHTTPClient
from agentauth_middleware._io.outgoing import OutgoingRequest, pin
from agentauth_middleware._io.proxies import find_proxy
from tests.reports.asking import ISSUER, MIDDLEWARES, ask, bearer, server
from tests.support.application import asgi_application, wsgi_application
from tests.support.server_side import environ, http_scope, request

BLOCKING = (
    queue.Queue,
    queue.SimpleQueue,
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Event,
    threading.Thread,
)
FUNCTIONS = {
    id(function)
    for function in (
        *BLOCKING,
        threading.Lock,
        threading.RLock,
        time.sleep,
        socket.create_connection,
        socket.getaddrinfo,
    )
}


def _module_members() -> Iterator[tuple[str, Any]]:
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == "agentauth_middleware":
            for member, value in vars(module).items():
                yield f"{name}.{member}", value


def test_gevent_patches_after_the_import() -> None:
    """A worker that gevent patched after its imports hung at the first background
    refresh, because the queue was bound at import."""
    bound = [
        name
        for name, value in _module_members()
        if isinstance(value, BLOCKING) or id(value) in FUNCTIONS
    ]

    assert bound == []


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def test_no_proxy_names_a_network(environment: pytest.MonkeyPatch) -> None:
    """With a network in NO_PROXY, uvicorn skipped the application's lifespan and
    every request was 500."""
    environment.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    environment.setenv("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64")

    assert find_proxy("https", "[fd07:b51a:cc66:f0::1]:8443") is None
    assert find_proxy("https", "as.example.com") == "http://proxy.invalid:1"
    BlockingHTTPClient().close()


def test_proxy_that_cannot_be_used_is_named(environment: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy without the extra of httpx ended in an error of httpx that names
    no variable."""
    environment.setenv("ALL_PROXY", "gopher://proxy.invalid:1")

    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        wsgi.AgentAuthMiddleware(
            wsgi_application([]), server(issuers=[Issuer("https://as.example.com")])
        )


SIZE = 5_000_000


def test_refusal_of_a_large_body_on_asgi() -> None:
    """The 401 to a POST of 5 MB was a 502 of nginx, because the server closed the
    connection with most of the body unread."""
    piece = {"type": "http.request", "body": b"x" * 65536, "more_body": True}
    pieces = [piece] * (SIZE // 65536) + [{**piece, "more_body": False}]
    length = ("Content-Length", str(65536 * len(pieces)))
    middleware = asgi.AgentAuthMiddleware(asgi_application([]), server())

    async def post() -> Any:
        return await request(
            middleware, http_scope("/notes", [length], method="POST"), *pieces
        )

    talk = anyio.run(post)
    assert talk.sent[0]["status"] == 401
    assert talk.taken == pieces


def test_refusal_of_a_large_body_on_wsgi() -> None:
    """The same under gunicorn, where the middleware has to read before the server
    closes."""
    given = environ("/notes", method="POST", body="x" * SIZE)
    given["wsgi.multithread"] = True
    statuses: list[str] = []
    middleware = wsgi.AgentAuthMiddleware(wsgi_application([]), server())
    body = middleware(given, lambda status, *_: statuses.append(status))  # type: ignore[arg-type]
    assert b"".join(body)
    getattr(body, "close", lambda: None)()

    assert statuses[0].startswith("401")
    assert given["wsgi.input"].read() == b""


def test_time_is_divided_over_addresses() -> None:
    """A name with a dead first address cost a blocking middleware the whole timeout,
    and was 503 for ever."""
    sent = OutgoingRequest("https://as.example.com", {}, None, 3.0, {}, False)
    url = httpx.URL(str(sent.url))
    pinned = pin(sent, url, ["192.0.2.1", "192.0.2.2", "2001:db8::1"])

    assert [request.connect_timeout for request in pinned] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_client_of_either_library(kind: str, library: Any) -> None:
    """A client of httpx2, to which the MCP SDK and Starlette have moved, was refused
    as ``http_client``."""
    keys = "https://as.example.com/keys"
    issuer = Issuer(ISSUER.issuer, jwks_uri=keys)
    settings = server(issuers=[issuer])
    answer = ask(
        kind, settings, bearer(), documents={keys: ISSUER.jwks}, library=library
    )

    assert answer.status == 200
