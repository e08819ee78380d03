"""Streams, disconnects and websockets through the ASGI middleware and over sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.middleware.apps.starting import Command, Running, hypercorn, running, uvicorn
from tests.support.server_side import RESOURCE

APP = "streaming_asgi:app"
SERVERS = [
    pytest.param(uvicorn(APP), id="uvicorn"),
    pytest.param(hypercorn(APP, "--workers=0"), id="hypercorn"),
    pytest.param(
        hypercorn(APP, "--workers=0", "--worker-class=trio"), id="hypercorn on trio"
    ),
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[ServedIssuer]:
    with FakeIssuer.serve() as issuer:
        yield issuer


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest,
    issuer: ServedIssuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    command: Command = request.param
    log = tmp_path_factory.mktemp("server") / "log"
    with running(command, log, ISSUER=issuer.issuer) as server:
        yield server


@pytest.fixture
def credentials(issuer: ServedIssuer) -> dict[str, str]:
    return {"Authorization": f"Bearer {issuer.token(RESOURCE, subject='alice')}"}


def get(server: Running, path: str) -> bytes:
    with closing(server.connect()) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


@pytest.mark.parametrize("path", ["/stream", "/events"])
def test_stream_arrives_piece_by_piece(
    path: str, server: Running, credentials: dict[str, str]
) -> None:
    """The first piece is here while the application has not got the second."""
    with closing(server.connect()) as connection:
        connection.request("GET", path, headers=credentials)
        response = connection.getresponse()

        assert response.read1() == b"data: first\n\n"
        get(server, "/release")
        assert response.read() == b"data: last\n\n"


def test_upload_is_read_piece_by_piece(
    server: Running, credentials: dict[str, str]
) -> None:
    """Nobody collects the body on the way to the application."""
    with closing(server.connect()) as connection:
        connection.putrequest("POST", "/upload")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Authorization", credentials["Authorization"])
        connection.endheaders()
        connection.send(b"3\r\none\r\n")
        response = connection.getresponse()

        assert response.read1() == b"3 "
        connection.send(b"5\r\nthree\r\n0\r\n\r\n")
        assert response.read().startswith(b"5 ")


def test_refusal_arrives_though_the_body_does_not(server: Running) -> None:
    head = (
        b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 1000000\r\nConnection: close\r\n\r\n"
    )
    with server.connect_socket() as connection, connection.makefile("rb") as answer:
        connection.sendall(head)
        # To the end: where a client leaves before, Hypercorn on trio closes under its
        # own task that still sends, and logs a BusyResourceError.
        received = answer.read()

    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"resource_metadata" in received.partition(b"\r\n\r\n")[2]


def test_disconnect_is_seen_by_the_application(
    server: Running, credentials: dict[str, str]
) -> None:
    with closing(server.connect()) as connection:
        connection.request("GET", "/watched", headers=credentials)
        response = connection.getresponse()

        assert response.read1() == b"tick"

    response.close()
    assert get(server, "/left") == b"left"


# Websockets


def url(server: Running, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def test_websocket_with_a_good_token_talks_to_the_application(
    server: Running, credentials: dict[str, str]
) -> None:
    with connect(
        url(server, "/echo"), additional_headers=credentials, proxy=None
    ) as websocket:
        websocket.send("hello")
        assert websocket.recv(10) == "alice: hello"

    assert get(server, "/left") == b"left"


def test_websocket_with_a_good_token_passes_the_guard(
    server: Running, issuer: ServedIssuer
) -> None:
    token = issuer.token(RESOURCE, subject="alice", scopes=["mail.send"])
    with connect(
        url(server, "/guarded"),
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
    ) as websocket:
        websocket.send("hello")
        assert websocket.recv(10) == "alice: hello"

    assert get(server, "/left") == b"left"


@pytest.mark.parametrize(
    ("path", "token", "status", "error"),
    [
        pytest.param("/echo", None, 401, None, id="no token"),
        pytest.param("/echo", "e30.e30.e30", 401, "invalid_token", id="bad token"),
        pytest.param("/guarded", "good", 403, "insufficient_scope", id="guard"),
    ],
)
def test_websocket_is_refused_with_an_answer_that_teaches(
    path: str,
    token: str | None,
    status: int,
    error: str | None,
    server: Running,
    credentials: dict[str, str],
) -> None:
    """Over the handshake, as for any other request."""
    headers: dict[str, str] = {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if token == "good":
        headers = credentials
    with pytest.raises(InvalidStatus) as refused:
        connect(url(server, path), additional_headers=headers, proxy=None)
    response = refused.value.response

    assert response.status_code == status
    assert "resource_metadata=" in response.headers["WWW-Authenticate"]
    assert response.body is not None
    assert b"resource_metadata" in response.body
    assert (error or "detail").encode() in response.body
