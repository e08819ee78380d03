"""A refusal reaches the client, however large the request is that it answers.

Bug reports of proxies and of servers call it "502 instead of 401" or "broken pipe":
closing a connection with unread bytes in it destroys the answer on its way.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nginx import HTTP_1_1, UNBUFFERED, nginx
from tests.support.scenarios import Issuers, Token
from tests.support.served import settings
from tests.support.servers import COMMANDS, Server, serving

LARGE = 5 * 2**20
TRIES = 5
QUICK = ("uvicorn-h11", "gunicorn-sync")
"""Those that the default tests start."""
SERVERS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.system)
    for name in COMMANDS
    if name != "hypercorn-http2"
]
BEHIND = {"HTTP/1.0": "", "HTTP/1.1": HTTP_1_1, "unbuffered": UNBUFFERED}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest,
    issuers: Issuers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("large")
    told = settings(issuers, str(folder / "store.db"))
    with serving(request.param, told, folder / "server.log") as server:
        yield server


REFUSED = {
    "no token": ("POST", "/notes", None, 401),
    "bad token": ("POST", "/notes", "bad", 401),
    "malformed": ("PUT", "/notes", "a b", 400),
    "out of reach": ("POST", "/notes", "unreachable", 503),
    "lacks a scope": ("POST", "/notes", "good", 403),
    "raised 403": ("POST", "/raises/scope", "good", 403),
    "raised 429": ("PUT", "/raises/too-many", "good", 429),
    "raised 503": ("POST", "/raises/unavailable", "good", 503),
    "own URL": ("POST", "/auth.md", None, 405),
    "preflight with a body": ("OPTIONS", "/notes", None, 401),
}


def fields_for(token: str | None, issuers: Issuers) -> dict[str, str]:
    if token is None:
        return {}
    made = {
        "good": Token(scopes=()).mint(issuers),
        "unreachable": Token(issuer="unreachable").mint(issuers),
    }
    return {"Authorization": f"Bearer {made.get(token, token)}"}


def say(server: Server, head: str, *pieces: bytes) -> tuple[int, bytes]:
    """Status and body of the answer, to its end, for exactly these bytes."""
    with server.connect() as connection:
        connection.sendall(head.encode() + b"\r\n\r\n")
        for piece in pieces:
            connection.sendall(piece)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_refusals_of_large_requests_arrive(
    refused: tuple[str, str, str | None, int], server: Server, issuers: Issuers
) -> None:
    """At clients that send everything before they read anything, as most do."""
    method, path, token, status = refused
    fields = {"Connection": "close", **fields_for(token, issuers)}

    for _ in range(TRIES):
        assert upload(server.address[1], method, path, fields) == status


@pytest.mark.system
def test_a_refusal_of_32_megabytes_arrives(server: Server) -> None:
    fields = {"Connection": "close"}

    assert upload(server.address[1], "POST", "/notes", fields, size=32 * 10**6) == 401


@pytest.mark.parametrize("last", ["", "\r\nConnection: close"])
def test_refusals_of_large_requests_in_chunks_arrive(last: str, server: Server) -> None:
    head = f"POST /notes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked{last}"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    status, body = say(server, head, *[chunk] * 80, b"0\r\n\r\n")

    assert status == 401
    assert b"resource_metadata" in body


def test_the_answer_does_not_wait_for_the_body(server: Server) -> None:
    """A client that reads early need not send megabytes in vain."""
    if server.name == "waitress":
        pytest.skip("reads all before it calls the application")
    head = f"POST /notes HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}"

    assert say(server, head, b"x")[0] == 401


def test_a_client_that_stops_sending_keeps_no_worker(server: Server) -> None:
    """Not the only one of gunicorn, whose own patience is two seconds."""
    head = f"POST /notes HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\nx"
    began = time.monotonic()
    with server.connect() as stopped:
        stopped.sendall(head.encode())
        if server.name != "waitress":
            assert stopped.recv(12) == b"HTTP/1.1 401"

        assert say(server, "GET /health HTTP/1.1\r\nHost: a")[0] == 200
    assert time.monotonic() - began < 6


def upload(
    port: int, method: str, path: str, fields: dict[str, str], size: int = LARGE
) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request(method, path, body=b"x" * size, headers=fields)
        answer = client.getresponse()
        body = answer.read()
    assert len(body) == int(answer.headers["Content-Length"])
    return answer.status


@pytest.mark.system
@pytest.mark.parametrize("options", BEHIND.values(), ids=BEHIND)
def test_refusals_of_large_requests_pass_a_proxy(
    options: str, server: Server, issuers: Issuers, tmp_path: Path
) -> None:
    with nginx(server.address[1], tmp_path / "nginx", options) as port:
        for name, (method, path, token, status) in REFUSED.items():
            fields = fields_for(token, issuers)
            for _ in range(TRIES):
                assert upload(port, method, path, fields) == status, name
