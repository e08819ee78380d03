"""The servers of the demo: each a process of its own, on a free loopback port.

They are started together, waited for, and stopped together whatever happens. What
they print goes to files, of which the last lines are shown if one of them fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_PATIENCE = 30.0
"""Seconds until a server must answer; a busy machine is slow to start them."""
_GRACE = 5.0
"""Seconds that a server has for stopping by itself."""
_PAUSE = 0.05
_LAST_LINES = 15


class ServerFailedError(Exception):
    """A server did not start."""


@dataclass(frozen=True)
class Server:
    """What to start, and where it will answer."""

    name: str
    about: str
    url: str
    command: Sequence[str]
    """Arguments for this Python."""
    environment: Mapping[str, str]


class RunningServer:
    """A server's process and what it has printed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.name = server.name
        self.about = server.about
        self.url = server.url
        self._log = folder / f"{server.name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - commands of our own
                [sys.executable, *server.command],
                env=_environment(server.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # So that Ctrl-C reaches the demo alone, which stops them in order.
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def last_lines(self) -> str:
        """What it printed last, for a person to read."""
        lines = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"

    def wait_until_it_answers(self, client: httpx.Client, deadline: float) -> None:
        """Any answer will do.

        Raises:
            ServerFailedError: it has ended, or the *deadline* has passed.
        """
        while not self._answers(client):
            if self.has_ended:
                fault = f"ended with status {self.process.returncode}"
            elif time.monotonic() > deadline:
                fault = f"did not answer within {_PATIENCE:.0f} s at {self.url}"
            else:
                time.sleep(_PAUSE)
                continue
            raise ServerFailedError(
                f"The {self.name} {fault}. The last lines it printed:\n"
                f"{self.last_lines}"
            )

    def _answers(self, client: httpx.Client) -> bool:
        try:
            client.get(self.url)
        except httpx.TransportError:
            return False
        return True

    def ask_to_stop(self) -> None:
        self.process.terminate()

    def stop(self) -> None:
        """Wait until it has stopped, and do not wait for ever."""
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(
    servers: Sequence[Server], folder: Path
) -> Generator[list[RunningServer], None, None]:
    """All *servers*, just started, until the block is left; logs go to *folder*.

    To be called while no interrupt can land between a process and its mention here.
    """
    started: list[RunningServer] = []
    try:
        for server in servers:
            started.append(RunningServer(server, folder))
        yield started
    finally:
        for one in started:
            one.ask_to_stop()
        for one in started:
            one.stop()


def wait_until_all_answer(servers: Sequence[RunningServer]) -> None:
    """Give all *servers* together the time that they need.

    Raises:
        ServerFailedError: one of them did not start.
    """
    deadline = time.monotonic() + _PATIENCE
    with httpx.Client(trust_env=False) as client:
        for server in servers:
            server.wait_until_it_answers(client, deadline)


def free_ports(count: int) -> list[int]:
    """Different ports that are free."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
            for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """Ours without proxies, which cannot reach this machine's loopback ports."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy")
    }
    paths = [added.get("PYTHONPATH", ""), kept.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return {**kept, **added, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
