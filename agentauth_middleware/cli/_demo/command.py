"""The demo from start to end: what it needs, what it starts, what it shows."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

import httpx

from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.servers import (
    RunningServer,
    Server,
    ServerFailedError,
    free_ports,
    running,
)
from agentauth_middleware.cli._demo.walk import (
    READ,
    WRITE,
    HopDiffersError,
    Hops,
    Result,
    Visit,
    Walk,
)

AS_IT_SHOULD, DIFFERS, NOT_POSSIBLE, INTERRUPTED = 0, 1, 2, 130

_NEEDED = ("fastapi", "flask", "uvicorn", "waitress")
_APPLICATIONS = "agentauth_middleware.cli._demo.applications"


@dataclass(frozen=True)
class User:
    """Somebody whom all of them know, each by another name."""

    name: str
    """In the APIs."""
    id: str
    """At the authorization server."""
    email: str
    account: str
    """At the agent provider."""


ALICE = User("Alice", "alice", "alice@example.com", "user-17")
BOB = User("Bob", "bob", "bob@example.com", "user-18")


@dataclass(frozen=True)
class Stage:
    """Where everything stands."""

    folder: Path
    """For databases and logs; removed at the end."""
    examples: Path
    authorization_server: str
    provider: str
    fastapi: str
    flask: str

    @classmethod
    def set_up(cls, folder: Path, examples: Path) -> Stage:
        urls = [f"http://127.0.0.1:{port}" for port in free_ports(4)]
        return cls(folder, examples.resolve(), *urls)

    def servers(self, authorization_server: str) -> list[Server]:
        """All four; *authorization_server* is the factory of the first."""
        return [
            Server(
                "authorization server",
                "registers agents for users, and issues tokens",
                self.authorization_server,
                _uvicorn(authorization_server, self.authorization_server),
                {
                    "AGENTAUTH_ISSUER": self.authorization_server,
                    "AGENTAUTH_STORE": str(self.folder / "revocations.db"),
                    "DEMO_DATABASE": str(self.database),
                    "DEMO_PROVIDER": self.provider,
                    "DEMO_RESOURCES": f"{self.fastapi} {self.flask}",
                    "DEMO_USERS": " ".join(
                        f"{user.id},{user.email},{user.account}"
                        for user in (ALICE, BOB)
                    ),
                },
            ),
            Server(
                "agent provider",
                "where users sign in and their agents live; vouches for both",
                self.provider,
                _uvicorn(f"{_APPLICATIONS}:agent_provider", self.provider),
                {"DEMO_PROVIDER": self.provider},
            ),
            Server(
                "FastAPI example",
                "a small notes API behind the ASGI middleware, under uvicorn",
                self.fastapi,
                _uvicorn("fastapi_app.app:create_app", self.fastapi),
                self._example(self.fastapi, "fastapi"),
            ),
            Server(
                "Flask example",
                "the same API behind the WSGI middleware, under waitress",
                self.flask,
                _waitress("flask_app.app:create_app", self.flask),
                self._example(self.flask, "flask"),
            ),
        ]

    @property
    def database(self) -> Path:
        """Of the authorization server."""
        return self.folder / "authorization_server.db"

    def _example(self, url: str, name: str) -> dict[str, str]:
        return {
            "AGENTAUTH_ISSUER": self.authorization_server,
            "AGENTAUTH_RESOURCE": url,
            "AGENTAUTH_STORE": str(self.folder / "revocations.db"),
            "NOTES_DATABASE": str(self.folder / f"notes_{name}.db"),
            "PYTHONPATH": str(self.examples),
        }

    def visits(self) -> list[tuple[str, Visit]]:
        """One to each API, each for a user of its own, who are disconnected apart."""
        return [
            ("FastAPI example", self._visit(self.fastapi, ALICE)),
            ("Flask example", self._visit(self.flask, BOB)),
        ]

    def _visit(self, api: str, user: User) -> Visit:
        return Visit(api, self.provider, user.account, user.email, user.name)


def _uvicorn(factory: str, url: str) -> list[str]:
    port = url.rpartition(":")[2]
    return ["-m", "uvicorn", "--factory", factory, "--port", port]


def _waitress(factory: str, url: str) -> list[str]:
    address = url.removeprefix("http://")
    return ["-m", "waitress", "--listen", address, "--call", factory]


def run_demo(examples: Path, *, keep: bool, out: TextIO) -> int:
    """Show the demo, or say what it lacks; returns the exit status."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"agentauth demo needs {', '.join(missing)}. Install what it needs with\n"
            '    pip install "agentauth-middleware[demo]"\n'
        )
        return NOT_POSSIBLE
    if not (examples / "fastapi_app" / "app.py").is_file():
        sys.stderr.write(
            f"agentauth demo finds no examples in {examples}. They are in the source "
            "repository;\nname their folder with --examples DIR\n"
        )
        return NOT_POSSIBLE
    with _signals_as_interrupts():
        try:
            return play(Narrator(out), examples, keep=keep)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read has gone; nor may Python's last flush find nobody there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return INTERRUPTED


def play(
    narrator: Narrator,
    examples: Path,
    *,
    keep: bool = False,
    authorization_server: str = f"{_APPLICATIONS}:authorization_server",
) -> int:
    """Start everything, walk up to each API, stop everything.

    *authorization_server* is the factory that uvicorn serves as such.
    """
    with tempfile.TemporaryDirectory(prefix="agentauth-demo-") as folder:
        stage = Stage.set_up(Path(folder), examples)
        servers = stage.servers(authorization_server)
        try:
            with running(servers, stage.folder) as started:
                narrator.show_servers(started)
                return _walk_up(narrator, stage, started, keep=keep)
        except ServerFailedError as failure:
            narrator.fail(str(failure))
            return DIFFERS


def _walk_up(
    narrator: Narrator, stage: Stage, servers: Sequence[RunningServer], *, keep: bool
) -> int:
    hops = 0
    with httpx.Client(trust_env=False, timeout=10) as http:
        for api, visit in stage.visits():
            narrator.begin(f"{visit.name}'s agent at the {api}, {visit.api}")
            walk = Walk(visit, http)
            try:
                for hop in walk.hops():
                    narrator.tell(hop)
            except HopDiffersError as failure:
                _tell_of_ended(narrator, servers)
                narrator.fail(f"{api}, {failure}")
                return DIFFERS
            hops += walk.number
    narrator.succeed(f"All {hops} hops went as they should.")
    if keep:
        _keep(narrator, stage)
    return AS_IT_SHOULD


def _tell_of_ended(narrator: Narrator, servers: Sequence[RunningServer]) -> None:
    for server in servers:
        if server.has_ended:
            narrator.fail(
                f"The {server.name} is not running any more. The last lines it "
                f"printed:\n{server.last_lines}"
            )


_TO_TRY = """export API={api}
export TOKEN={token}

curl -i $API/notes
curl -i $API/auth.md
curl -i -H "Authorization: Bearer $TOKEN" $API/notes
curl -i -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{"text": "Buy milk"}}' $API/notes
curl -i -H "Content-Type: application/json" -d '{disconnection}' {provider}/disconnect
curl -i -H "Authorization: Bearer $TOKEN" $API/notes"""


def _keep(narrator: Narrator, stage: Stage) -> None:
    """Leave the servers up for a person, who gets a token to try."""
    name, visit = stage.visits()[0]
    # Till there is a page on which Alice lets her agent in again.
    State(stage.database).link(stage.provider, ALICE.account, ALICE.id)
    with httpx.Client(trust_env=False, timeout=10) as http:
        place, token = _result(Walk(visit, http).hops_to_token(READ, WRITE))
    narrator.say(
        f"The servers stay up. Alice has let her agent in again, and this is a token "
        f"with which it may read and write at the {name}. Paste the first two lines "
        "into another terminal, and then any of the others; the last two disconnect "
        "the agent and show that it is out."
    )
    narrator.show(
        _TO_TRY.format(
            api=visit.api,
            token=token,
            disconnection=json.dumps(visit.disconnection(place)),
            provider=visit.provider,
        )
    )
    narrator.say("Ctrl-C stops the servers.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        narrator.say("Stopping the servers.")


def _result(hops: Hops[Result]) -> Result:
    """Make all *hops* without telling of them."""
    while True:
        try:
            next(hops)
        except StopIteration as finished:
            result: Result = finished.value
            return result


@contextmanager
def _signals_as_interrupts() -> Generator[None, None, None]:
    """Let the signals that end a program end it as Ctrl-C does: with its clean-up.

    The first one counts; while cleaning up, there is nothing to interrupt.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]

    def interrupt(number: int, frame: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
