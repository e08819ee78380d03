"""The table of refusals over real sockets, in front of real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import SQLiteStore
from tests.support.deadlines import try_within
from tests.support.exchange import HTTPRequest
from tests.support.scenarios import (
    GOOD,
    SCENARIOS,
    Issuers,
    Scenario,
    Token,
    granted,
    invalid_token,
    revoke_some,
)
from tests.support.served import settings
from tests.support.servers import COMMANDS, Server, read_answer, serving, written

QUICK = ("uvicorn-h11", "waitress")
"""Those that the default tests start."""

_NUL = {"malformed: NUL in the token", "malformed: NUL after the scheme"}
_CONTROL = {"malformed: DEL", "malformed: control character"}
_LONG = {
    "malformed: longer than 16 KiB",
    "well formed: just under 16 KiB",
    "2 before 3: Negotiate with a ticket over 16 KiB",
}
# HTTP/2 has no white space around values (RFC 9113 §8.2.1).
_AROUND = {
    "no credentials: only spaces",
    "malformed: no token after the space",
    "well formed: white space around",
    "no credentials: Bearer and spaces",
    "no credentials: Bearer and a tab",
    "no credentials: Bearer alone, beside a token in the query",
}
REFUSED_BY_THE_SERVER = {
    "uvicorn-h11": _NUL,
    "uvicorn-httptools": _NUL | _CONTROL,
    "hypercorn": _NUL,
    "hypercorn-http2": _NUL | _AROUND,
    "gunicorn-sync": _NUL | _CONTROL | _LONG,
    "gunicorn-gthread": _NUL | _CONTROL | _LONG,
    "gunicorn-gevent": _NUL | _CONTROL | _LONG,
    "waitress": _NUL | _CONTROL,
}
"""Scenarios that never reach the middleware."""


def breaks_lines(scenario: Scenario) -> bool:
    """Whether it cannot be sent, since the second half would be a field of its own."""
    return any(set("\r\n") & set(value) for value in scenario.authorization)


SENT = [scenario for scenario in SCENARIOS if not breaks_lines(scenario)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in QUICK else pytest.mark.system)
        for name in COMMANDS
    ],
)
def server(
    request: pytest.FixtureRequest, issuers: Issuers, store_path: Path
) -> Iterator[Server]:
    log = store_path.with_name(f"{request.param}.log")
    with serving(request.param, settings(issuers, str(store_path)), log) as server:
        yield server


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory, issuers: Issuers) -> Path:
    """A store that the servers share with the tests; some tokens have been revoked."""
    path = tmp_path_factory.mktemp("middlewares") / "store.db"
    revoke_some(SQLiteStore(path), issuers)
    return path


@pytest.mark.parametrize("scenario", SENT, ids=lambda scenario: scenario.name)
def test_table_of_refusals_holds_over_sockets(
    scenario: Scenario, server: Server, issuers: Issuers
) -> None:
    request = scenario.request(issuers)

    if scenario.name not in REFUSED_BY_THE_SERVER[server.name]:
        scenario.expected.check(server.ask(request))
    elif server.name == "hypercorn-http2":
        with pytest.raises(ConnectionResetError):
            server.ask(request)
    else:
        assert server.ask(request).status in (400, 431)


MALFORMED = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.9": b"GET / HTTP/1.9\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "method of other bytes": b"G\xffT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute target": b"GET http://evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no slash": b"GET notes HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the path": b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded NUL in the path": b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n",
    "other bytes in the path": b"GET /\xff\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded bytes in the path": b"GET /%ff%e9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "half an encoding": b"GET /%zz%f HTTP/1.1\r\nHost: a\r\n\r\n",
    "dots": b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "slashes": b"GET " + b"/" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded slashes": b"GET /" + b"%2f" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "long path": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes in the query": b"GET /?q=\xff HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n",
    "encoded query": b"GET /?%ff=%00&token HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n x\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization : x\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization\r\n\r\n",
    "line feed in a value": b"GET / HTTP/1.1\r\nHost: a\r\n{token}\nX: y\r\n\r\n",
    "return in a value": b"GET / HTTP/1.1\r\nHost: a\r\n{token}\rX: y\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "length of none": b"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "signed length": b"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
    "two lengths": (
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\n"
        b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello"
    ),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_nothing_malformed_is_our_fault(
    data: bytes, server: Server, issuers: Issuers
) -> None:
    """Nor is there a stack trace, which stopping the server looks for."""
    token = f"Authorization: Bearer {GOOD.mint(issuers)}"
    answer = server.send(data.replace(b"{token}", token.encode()))

    assert answer.status < 500


def test_answers_end_where_the_next_one_begins(server: Server) -> None:
    """Whoever sends a body where there is none spoils the connection."""
    metadata = "/.well-known/oauth-protected-resource"
    origin = (("Host", "a"), ("Origin", "https://app.example.org"))
    preflight = (*origin, ("Access-Control-Request-Method", "GET"))
    body = b"x" * 100
    requests = [
        (HTTPRequest("HEAD", "/notes", origin), b"", 401),
        (HTTPRequest("HEAD", metadata, origin), b"", 200),
        (
            HTTPRequest("GET", metadata, (*origin, ("If-None-Match", "*"))),
            b"",
            304,
        ),
        (HTTPRequest("OPTIONS", metadata, preflight), b"", 204),
        (HTTPRequest("GET", f"{metadata[:-1]}%65", origin), b"", 404),
        (HTTPRequest("PUT", metadata, (*origin, ("Content-Length", "100"))), body, 405),
        (HTTPRequest("POST", "/x", (*origin, ("Content-Length", "100"))), body, 401),
        (HTTPRequest("GET", "/health", origin), b"", 200),
    ]
    connection = server.connect()
    for request, content, status in requests:
        connection.sendall(written(request, content))
        answer = read_answer(connection, request.method)

        assert answer.status == status
        if answer.field("connection") == "close":
            assert connection.recv(1) == b""
            connection.close()
            connection = server.connect()
    connection.close()


def test_a_token_revoked_elsewhere_is_refused_within_a_second(
    server: Server, issuers: Issuers, store_path: Path
) -> None:
    token = Token(subject=f"user of {server.name}")
    request = Scenario("", granted(), token).request(issuers)
    assert server.ask(request).status == 200

    revoke_blocking(SQLiteStore(store_path), issuers.main.issuer, subject=token.subject)
    answer = try_within(
        1, lambda: server.ask(request), until=lambda late: late.status != 200
    )

    invalid_token("revoked").check(answer)
