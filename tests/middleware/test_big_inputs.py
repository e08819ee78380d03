"""Requests with megabytes in their header or query, which some servers pass on.

How long an answer takes is compared with one look at the same bytes, so that the
machine does not matter: whatever searches them, splits them or decodes them takes
longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import anyio
import pytest

from agentauth_middleware import ResourceServer, Route, asgi, wsgi
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    bearer,
    environ,
    http_scope,
    request,
    serve,
)

BYTES = 2 * 2**20
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def server(unauthenticated: Literal["challenge", "pass"]) -> ResourceServer:
    return ResourceServer(
        RESOURCE,
        issuers=[ISSUER.trust()],
        routes=[Route("/optional", optional=True)],
        unauthenticated=unauthenticated,
    )


Ask = Callable[..., int]


def ask_asgi(
    settings: ResourceServer, path: str, name: str, value: bytes, query: bytes
) -> int:
    middleware = asgi.AgentAuthMiddleware(_never_asgi, settings)
    scope = http_scope(path, query_string=query)
    scope["headers"] = [(name.encode(), value)]
    return answered_fast(
        lambda: anyio.run(request, middleware, scope).status, value + query
    )


def ask_wsgi(
    settings: ResourceServer, path: str, name: str, value: bytes, query: bytes
) -> int:
    middleware = wsgi.AgentAuthMiddleware(_never_wsgi, settings)
    field = "HTTP_" + name.upper().replace("-", "_")
    members = {field: value.decode("latin-1"), "QUERY_STRING": query.decode("latin-1")}
    given = environ(path, **members)
    return answered_fast(lambda: serve(middleware, given).status, value + query)


async def _never_asgi(*_: object) -> None:
    raise AssertionError("let in")


def _never_wsgi(*_: object) -> list[bytes]:
    raise AssertionError("let in")


def answered_fast(ask: Callable[[], int], given: bytes) -> int:
    """The status, once the fastest answer of three took no longer than a few looks."""
    status = ask()  # What is made once is not counted.
    seconds = min(_seconds(ask) for _ in range(3))
    assert seconds < 3 * _seconds(lambda: _look_at(given)) + 0.01
    return status


def _look_at(given: bytes) -> None:
    """As PEP 3333 has it: a server decodes, an application encodes."""
    sha256(given.decode("latin-1").encode("latin-1")).digest()


def _seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.fixture(params=[ask_asgi, ask_wsgi], ids=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


def many(piece: bytes) -> bytes:
    return piece * (BYTES // len(piece))


CREDENTIALS = {
    "one word": many(b"x"),
    "Bearer": b"Bearer " + many(b"x"),
    "Bearer over and over": many(b"bearer "),
    "commas": many(b", "),
    "spaces": many(b" "),
    "JWTs": many(b".eyJpc3MiOiJodHRwczovL3gifQ."),
    "an agent's at the end": many(b"Key x, ") + bearer().encode(),
    "another scheme": b"Negotiate " + many(b"x"),
}


@pytest.mark.parametrize("value", CREDENTIALS.values(), ids=CREDENTIALS)
@pytest.mark.parametrize("mode", ["challenge", "pass"])
def test_authorization_of_megabytes_is_refused_unread(
    mode: Literal["challenge", "pass"], value: bytes, ask: Ask
) -> None:
    """In pass mode as well, because it might hide an agent's token."""
    assert ask(server(mode), "/optional", "authorization", value, b"") == 400


@pytest.mark.parametrize("piece", [b"&", b"%61", b"a=b&", b"x"])
def test_query_of_megabytes_beside_a_token_is_refused_unread(
    piece: bytes, ask: Ask
) -> None:
    value, query = bearer().encode(), many(piece)

    assert ask(server("challenge"), "/notes", "authorization", value, query) == 400


@pytest.mark.parametrize("piece", [b",", b'"x",', b"W/", b" "])
def test_condition_of_megabytes_is_met_by_the_document(piece: bytes, ask: Ask) -> None:
    settings = server("challenge")

    assert ask(settings, WELL_KNOWN, "if-none-match", many(piece), b"") == 200


@pytest.mark.parametrize("name", ["origin", "cookie", "access-control-request-method"])
def test_other_fields_of_megabytes_are_not_read(name: str, ask: Ask) -> None:
    assert ask(server("challenge"), "/notes", name, many(b"x, "), b"") == 401
