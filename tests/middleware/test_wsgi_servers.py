"""Streams through the WSGI middleware and over sockets."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from agentauth_middleware.testing import FakeIssuer
from tests.middleware.apps.starting import Command, gunicorn, running, waitress
from tests.support.server_side import RESOURCE

APP = "streaming_wsgi:app"
SERVERS = [
    pytest.param(gunicorn(APP, "--threads=2"), id="gunicorn"),
    pytest.param(waitress(APP), id="waitress"),
]


@pytest.mark.parametrize("command", SERVERS)
def test_wsgi_stream_arrives_piece_by_piece(command: Command, tmp_path: Path) -> None:
    """The first piece is here while the application has not got the second, and each
    of them knows whose request it is."""
    with (
        FakeIssuer.serve() as issuer,
        running(command, tmp_path / "log", ISSUER=issuer.issuer) as server,
    ):
        token = issuer.token(RESOURCE, subject="alice")
        connection, other = server.connect(), server.connect()
        with closing(connection), closing(other):
            connection.request("GET", "/", headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()

            assert response.read1() == b"first alice"
            other.request("GET", "/release")
            assert other.getresponse().read() == b"released"
            assert response.read() == b"last alice"
