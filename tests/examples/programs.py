"""Programs that run beside a test, and what they print."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PATIENCE = 30.0
"""Seconds. On a busy machine a program may take long to start."""


class Program:
    """A running program, whose output is read line by line."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for_line(self, text: str) -> str:
        """The first line that contains *text*, as soon as it is there."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._find(text), _PATIENCE)
            found = self._find(text)
            status = self._process.poll()
            lines = "\n".join(self.lines)
            assert found, f"{text!r} is not in, status {status}:\n{lines}"
            return found

    def _find(self, text: str) -> str | None:
        return next((line for line in self.lines if text in line), None)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        finally:
            self._process.kill()
            self._reader.join()


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str]
) -> Generator[Program, None, None]:
    """Run *command* in the root of the repository, till the block is left."""
    program = Program(command, environment)
    try:
        yield program
    finally:
        program.stop()


def environ(added: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: this Python's scripts first, output at once."""
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENTAUTH_", "NOTES_"))
    }
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **added}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
