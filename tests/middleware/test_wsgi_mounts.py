"""A mount that swallows the start of a path opens nothing.

Servers split a path into ``SCRIPT_NAME`` and ``PATH_INFO`` as they are told, gunicorn
by a header. Frameworks route what the second says, with a slash put in front.
"""

from __future__ import annotations

import socket
from itertools import product
from pathlib import Path

import pytest

from agentauth_middleware import ResourceServer
from agentauth_middleware._middleware.wsgi_exchange import read_request
from agentauth_middleware.testing import FakeIssuer
from tests.middleware.apps.mounted_wsgi import ROUTES, flask
from tests.middleware.apps.starting import gunicorn, running
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    Answer,
    bearer,
    environ,
    serve,
)

APP = flask(ResourceServer(RESOURCE, issuers=[ISSUER.trust()], routes=ROUTES))
PIECES = (
    *("", "/", "//", "/assets", "/assets/", "assets", "assets/", "/assets//"),
    *("/assets/x", "/assets/admin", "/assets/admin/", "/admin", "admin", "admin/"),
    *("/admin/", "//admin", "/ad", "min", "../admin", "./admin", "/assets/..", "x"),
)


def get(mount: str, path: str, token: str | None = None) -> Answer:
    members = {} if token is None else {"HTTP_AUTHORIZATION": token}
    return serve(APP, environ(path, SCRIPT_NAME=mount, **members))


@pytest.mark.parametrize(
    ("mount", "path"),
    [
        pytest.param("/assets/", "admin", id="gunicorn's header"),
        pytest.param("/assets//", "admin", id="two slashes"),
        pytest.param("/assets/", "admin/", id="final slash"),
        pytest.param("/assets/x/", "admin", id="longer mount"),
        pytest.param("/assets/", "", id="nothing left"),
        pytest.param("/assets/site.css", "", id="all of it"),
    ],
)
def test_mount_opens_nothing(mount: str, path: str) -> None:
    """``/assets/admin`` is public; the application is asked for ``/admin``."""
    assert get(mount, path).status in (400, 401)
    assert get(mount, path, bearer(scopes=["mail.read"])).body != b"admin"


def test_no_mount_leads_to_a_handler_with_less_than_it_demands() -> None:
    reached = {
        (mount, path, answer.body)
        for mount, path in product(PIECES, PIECES)
        for answer in (
            get(mount, path),
            get(mount, path, bearer(scopes=["mail.read"])),
        )
        if answer.status == 200 and answer.body == b"admin"
    }
    anonymous = {
        answer.body
        for mount, path in product(PIECES, PIECES)
        for answer in [get(mount, path)]
        if answer.status == 200
    }

    assert reached == set()
    assert anonymous == {b"asset"}


@pytest.mark.parametrize(
    ("mount", "path", "status", "body"),
    [
        pytest.param("", "/admin", 200, b"admin", id="no mount"),
        pytest.param("", "admin", 400, None, id="no slash"),
        pytest.param("/api", "/admin", 200, b"admin", id="mount"),
        pytest.param("/api/", "admin", 200, b"admin", id="mount with a slash"),
        pytest.param("/", "admin", 200, b"admin", id="root"),
    ],
)
def test_mount_refuses_only_what_is_no_path(
    mount: str, path: str, status: int, body: bytes | None
) -> None:
    answer = get(mount, path, bearer(scopes=["admin"]))

    assert answer.status == status
    assert body is None or answer.body == body


@pytest.mark.parametrize("mount", ["", "/api"])
def test_public_path_stays_public(mount: str) -> None:
    assert get(mount, "/assets/site.css").body == b"asset"


@pytest.mark.parametrize(
    ("mount", "path", "seen"),
    [
        ("", "", ""),
        ("", "/a", "/a"),
        ("", "a", "a"),
        ("/m", "", "/m"),
        ("/m", "/a", "/m/a"),
        ("/m", "a", "/m/a"),
        ("/m/", "a", "/m//a"),
    ],
)
def test_path_begins_with_a_slash_of_its_own(mount: str, path: str, seen: str) -> None:
    request = read_request(environ(path, SCRIPT_NAME=mount))

    assert (request.path, request.mount) == (seen, mount)


@pytest.mark.parametrize("mount", ["/assets/", "/assets"])
def test_mount_named_by_a_header_opens_nothing(mount: str, tmp_path: Path) -> None:
    """As gunicorn takes it from whoever is on the same host, a proxy or not."""
    with (
        FakeIssuer.serve() as issuer,
        running(
            gunicorn("mounted_wsgi:app()"), tmp_path / "log", ISSUER=issuer.issuer
        ) as server,
    ):
        swallowed = status_of(server.connect_socket(), "/assets/admin", mount)
        public = status_of(server.connect_socket(), "/assets/site.css", None)

    assert swallowed in (400, 401)
    assert public == 200


def status_of(connection: socket.socket, path: str, mount: str | None) -> int:
    named = "" if mount is None else f"SCRIPT_NAME: {mount}\r\n"
    head = f"GET {path} HTTP/1.1\r\nHost: api\r\n{named}Connection: close\r\n\r\n"
    with connection, connection.makefile("rb") as answer:
        connection.sendall(head.encode())
        return int(answer.read().split(b" ")[1])
