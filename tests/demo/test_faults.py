"""Real servers with a fault: the demo ends with 1 and names the hop that differs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentauth_middleware.cli._demo.interrupts import Interrupts
from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.play import play
from agentauth_middleware.cli._demo.servers import RunningServer
from agentauth_middleware.cli._demo.walk import Hop

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def faulty_servers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Killer(Narrator):
    """Kills the agent provider as soon as a hop has been told, or all of them."""

    def __init__(self, out: io.StringIO, after: int | None = None) -> None:
        super().__init__(out)
        self._after = after
        self._servers: dict[str, RunningServer] = {}

    def show_servers(self, servers: Sequence[RunningServer]) -> None:
        super().show_servers(servers)
        self._servers = {server.name: server for server in servers}

    def tell(self, hop: Hop) -> None:
        super().tell(hop)
        if hop.number == self._after:
            self._kill()

    def succeed(self, text: str) -> None:
        super().succeed(text)
        self._kill()

    def _kill(self) -> None:
        process = self._servers["agent provider"].process
        process.kill()
        process.wait()


def last_line(out: io.StringIO) -> str:
    return out.getvalue().rstrip().splitlines()[-1]


@pytest.mark.parametrize(
    ("after", "hop"),
    [
        pytest.param(4, "hop 5 (ID-JAG)", id="before it vouches"),
        pytest.param(9, "hop 10 (disconnect)", id="before the user disconnects"),
    ],
)
def test_killed_provider_is_noticed(after: int, hop: str) -> None:
    out = io.StringIO()
    status = play(Killer(out, after), EXAMPLES, Interrupts())

    assert status == 1
    assert last_line(out).startswith(f"FastAPI example, {hop}: no answer to POST ")
    assert "The agent provider is not running any more." in out.getvalue()


def test_provider_killed_before_the_trial_is_noticed() -> None:
    """The walk to the token for the curl lines is checked like those before it."""
    out = io.StringIO()
    status = play(Killer(out), EXAMPLES, Interrupts(), keep=True)

    assert status == 1
    assert "All 34 hops went as they should." in out.getvalue()
    assert last_line(out).startswith(
        "FastAPI example, hop 5 (ID-JAG): no answer to POST "
    )
    assert "The agent provider is not running any more." in out.getvalue()


def test_metadata_of_another_issuer_are_noticed() -> None:
    out = io.StringIO()
    status = play(
        Narrator(out),
        EXAMPLES,
        Interrupts(),
        authorization_server="tests.demo.faulty:another_issuer",
    )

    assert status == 1
    assert "hop 3 (authorization server metadata): expected issuer" in last_line(out)
    assert last_line(out).endswith("got https://other.example.com")


def test_revocation_that_reaches_nobody_is_noticed() -> None:
    """The event is acknowledged, and a second later the token is still good."""
    out = io.StringIO()
    status = play(
        Narrator(out),
        EXAMPLES,
        Interrupts(),
        authorization_server="tests.demo.faulty:deaf_log",
    )

    assert status == 1
    assert last_line(out) == (
        "FastAPI example, hop 11 (same token after the disconnect): "
        "expected 401 within 1 s, got 200"
    )


def test_server_that_does_not_start_is_told_with_its_last_lines() -> None:
    out = io.StringIO()
    status = play(
        Narrator(out),
        EXAMPLES,
        Interrupts(),
        authorization_server="tests.demo.faulty:missing",
    )

    assert status == 1
    assert "The authorization server ended with status " in out.getvalue()
    assert 'Attribute "missing" not found' in out.getvalue()
