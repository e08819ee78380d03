"""Several worker processes and one store: what is revoked is revoked in all of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.middleware.apps.starting import Command, Running, gunicorn, running, uvicorn
from tests.middleware.apps.workers import WORKER
from tests.support.deadlines import try_within
from tests.support.server_side import RESOURCE

PROMISE = 1.0
"""Seconds in which a revocation reaches everybody."""
PATIENCE = 40.0
"""Seconds in which workers must have started, on a machine however busy."""


@dataclass
class Workers:
    """The workers of one server, each at the end of a connection that stays open."""

    server: Running
    connections: dict[int, HTTPConnection] = field(
        default_factory=dict[int, HTTPConnection]
    )

    def reach(self, count: int, token: str) -> list[int]:
        """Connect with *token* until *count* workers have answered; their statuses.

        Who takes a connection is up to the system, so many may be needed.
        """
        deadline = time.monotonic() + PATIENCE
        statuses: list[int] = []
        while len(self.connections) < count:
            assert time.monotonic() < deadline, f"only {self.connections.keys()} came"
            connection = self.server.connect()
            worker, status = ask(connection, token)
            statuses.append(status)
            if self.connections.setdefault(worker, connection) is not connection:
                connection.close()
        return statuses

    def ask(self, worker: int, token: str) -> int:
        """What *worker* answers to *token*."""
        answered_by, status = ask(self.connections[worker], token)
        assert answered_by == worker
        return status

    def ask_all(self, token: str) -> list[int]:
        """A round: what each worker answers."""
        return [self.ask(worker, token) for worker in self.connections]

    def kill(self) -> int:
        """Kill one, without any chance to tidy up."""
        worker, connection = self.connections.popitem()
        os.kill(worker, signal.SIGKILL)
        with connection.sock, suppress(ConnectionResetError):
            assert connection.sock.recv(1) == b""  # until it is gone
        return worker

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()


def ask(connection: HTTPConnection, token: str) -> tuple[int, int]:
    """Which worker answers, and with what status."""
    connection.request("GET", "/", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    response.read()
    return int(response.headers[WORKER]), response.status


def uvicorn_workers(count: int) -> Command:
    return uvicorn(
        "workers:asgi_app",
        "--factory",
        f"--workers={count}",
        "--timeout-keep-alive=60",
    )


def gunicorn_workers(count: int, *options: str) -> Command:
    return gunicorn(
        "workers:wsgi_app()",
        f"--workers={count}",
        "--threads=4",
        "--keep-alive=60",
        *options,
    )


@pytest.fixture
def issuer() -> Iterator[ServedIssuer]:
    with FakeIssuer.serve() as issuer:
        yield issuer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The store's, which nobody has made yet."""
    return tmp_path / "store.sqlite"


@pytest.fixture
def workers(
    request: pytest.FixtureRequest, issuer: ServedIssuer, file: Path
) -> Iterator[Workers]:
    command: Command = request.param
    log = file.with_name("log")
    with running(command, log, ISSUER=issuer.issuer, STORE=str(file)) as server:
        workers = Workers(server)
        yield workers
        workers.close()


SYSTEM = pytest.mark.system
FLEETS = [
    pytest.param(uvicorn_workers(2), 2, id="2 of uvicorn"),
    pytest.param(uvicorn_workers(4), 4, id="4 of uvicorn", marks=SYSTEM),
    pytest.param(gunicorn_workers(4), 4, id="4 of gunicorn", marks=SYSTEM),
]


@pytest.mark.parametrize(("workers", "count"), FLEETS, indirect=["workers"])
def test_revocation_reaches_all_workers_within_a_second(
    workers: Workers, count: int, issuer: ServedIssuer, file: Path
) -> None:
    """From another process than theirs, and only for the agent that it names."""
    revoked = issuer.token(RESOURCE, subject="alice", agent="agent-1")
    spared = issuer.token(RESOURCE, subject="alice", agent="agent-2")
    assert set(workers.reach(count, revoked)) == {204}
    assert workers.ask_all(revoked) == workers.ask_all(spared) == [204] * count

    revoke_blocking(SQLiteStore(file), issuer.issuer, subject="alice", agent="agent-1")
    statuses = try_within(
        PROMISE, lambda: workers.ask_all(revoked), until=lambda late: 204 not in late
    )

    assert statuses == workers.ask_all(revoked) == [401] * count
    assert workers.ask_all(spared) == [204] * count


@pytest.mark.parametrize(
    ("workers", "count"),
    [
        pytest.param(uvicorn_workers(4), 4, id="4 of uvicorn", marks=SYSTEM),
        pytest.param(gunicorn_workers(4), 4, id="4 of gunicorn", marks=SYSTEM),
    ],
    indirect=["workers"],
)
def test_worker_that_replaces_a_killed_one_refuses_from_its_first_request(
    workers: Workers, count: int, issuer: ServedIssuer, file: Path
) -> None:
    """It has seen nothing of what was revoked before it was born."""
    revoked = issuer.token(RESOURCE, subject="alice", agent="agent-1")
    spared = issuer.token(RESOURCE, subject="alice", agent="agent-2")
    workers.reach(count, spared)
    revoke_blocking(SQLiteStore(file), issuer.issuer, subject="alice", agent="agent-1")
    killed = workers.kill()

    # Nobody but this test asks, so the first that is heard of it is its first request.
    statuses = workers.reach(count, revoked)

    assert killed not in workers.connections
    assert statuses[-1] == 401
    assert workers.ask_all(spared) == [204] * count


# Without a store in common

UNSHARED = [
    pytest.param(uvicorn_workers(2), 2, "", 1, id="2 of uvicorn"),
    pytest.param(gunicorn_workers(2), 2, "", 1, id="2 of gunicorn"),
    pytest.param(
        gunicorn_workers(4, "--preload"), 4, "", 1, id="4 forked", marks=SYSTEM
    ),
    pytest.param(gunicorn_workers(1), 1, "", 0, id="1 of gunicorn"),
    pytest.param(uvicorn_workers(1), 1, "", 0, id="1 of uvicorn", marks=SYSTEM),
    pytest.param(gunicorn_workers(2), 2, "store.sqlite", 0, id="a store", marks=SYSTEM),
]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
@pytest.mark.parametrize(("command", "count", "store", "warnings"), UNSHARED)
def test_workers_with_a_memory_each_are_warned_of_once(
    command: Command,
    count: int,
    store: str,
    warnings: int,
    issuer: ServedIssuer,
    tmp_path: Path,
) -> None:
    """A revocation told to one would not be enforced by the others."""
    log = tmp_path / "log"
    path = str(tmp_path / store) if store else ""
    with running(command, log, ISSUER=issuer.issuer, STORE=path) as server:
        workers = Workers(server)
        workers.reach(count, issuer.token(RESOURCE))
        workers.ask_all(issuer.token(RESOURCE))
        workers.close()

    assert log.read_text().count("several processes serve") == warnings, log.read_text()
