"""Real servers, as programs of their own, for the applications beside this file.

Each inherits a socket that listens already. So nobody has to guess a free port, or when
the server is up: who connects earlier waits.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeAlias

Command: TypeAlias = Callable[[int], list[str]]
"""The arguments to Python, for the number of the socket's descriptor."""

ROOT = Path(__file__).parents[3]
FOLDER = __name__.rpartition(".")[0]


def uvicorn(app: str, *options: str) -> Command:
    return lambda descriptor: [
        *("-m", "uvicorn", f"{FOLDER}.{app}", f"--fd={descriptor}"),
        *options,
    ]


def hypercorn(app: str, *options: str) -> Command:
    return lambda descriptor: [
        *("-m", "hypercorn", f"{FOLDER}.{app}", f"--bind=fd://{descriptor}"),
        *options,
    ]


def gunicorn(app: str, *options: str) -> Command:
    return lambda descriptor: [
        *("-m", "gunicorn", f"{FOLDER}.{app}", f"--bind=fd://{descriptor}"),
        *options,
    ]


def waitress(app: str) -> Command:
    """It has no option for a socket that listens already."""
    module, _, name = app.partition(":")
    program = (
        "import socket, waitress\n"
        f"from {FOLDER}.{module} import {name}\n"
        "waitress.serve({name}, sockets=[socket.socket(fileno={descriptor})])"
    )
    return lambda descriptor: [
        "-c",
        program.format(name=name, descriptor=descriptor),
    ]


@dataclass
class Running:
    """A server that runs, and where."""

    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def connect_socket(self) -> socket.socket:
        """For what no HTTP client would do."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def running(
    command: Command, log: Path, **environment: str
) -> Generator[Running, None, None]:
    """Run the server of *command*, whose output goes to *log*, until the block ends."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
        log.open("wb") as output,
    ):
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, *command(descriptor)],
            pass_fds=[descriptor],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        port = listener.getsockname()[1]
    try:
        yield Running(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    faults = [line for line in log.read_text().splitlines() if "Traceback" in line]
    assert not faults, log.read_text()
