"""The gateways hand over what the real servers do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.differential.gateways import GATEWAYS
from tests.differential.targets import PREFIX, Target, hostile_targets, plain_targets

pytestmark = pytest.mark.system

COMMANDS = {
    "uvicorn-h11": "uvicorn {echo}:asgi --fd {fd} --http h11 --root-path={mount}",
    "uvicorn-httptools": (
        "uvicorn {echo}:asgi --fd {fd} --http httptools --root-path={mount}"
    ),
    "hypercorn": "hypercorn {echo}:asgi --workers 0 --bind fd://{fd} {root_path}",
    "gunicorn": "gunicorn {echo}:wsgi --bind fd://{fd}",
    "waitress": "{echo} {fd} {mount}",
}
ECHO = "tests.differential.echo"
ROOT = Path(__file__).parents[2]
KIND = {server: kind for kind, servers in GATEWAYS.items() for server in servers}
COMPARED = ("method", "path", "raw_path", "root_path", "query_string")
COMPARED_ENVIRON = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"),
    *("RAW_URI", "REQUEST_URI"),
)


@contextmanager
def serving(
    server: str, mount: str, log: Path
) -> Generator[tuple[str, int], None, None]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        command = COMMANDS[server].format(
            echo=ECHO,
            fd=listener.fileno(),
            mount=mount,
            root_path=f"--root-path {mount}" if mount else "",
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=ROOT,
                env={**os.environ, "SCRIPT_NAME": mount},
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=output,
            )
        try:
            yield listener.getsockname()
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


def ask(address: tuple[str, int], target: Target) -> dict[str, Any] | None:
    """What the application was handed; nothing if the server refused the request."""
    lines = (
        f"{target.method} {target.target} HTTP/1.1\r\nHost: api.example.com\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(lines.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, _ = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"x-handed":
            handed: dict[str, Any] = json.loads(value)
            return handed
    return None


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mount", ["", PREFIX], ids=["no mount", "mount"])
@pytest.mark.parametrize("server", KIND)
def test_gateway_hands_over_what_the_server_does(
    server: str, mount: str, tmp_path: Path
) -> None:
    gateway = GATEWAYS[KIND[server]][server]
    keys = COMPARED if KIND[server] == "asgi" else COMPARED_ENVIRON
    targets = [*plain_targets(), *islice(hostile_targets(7), 400)]
    different: list[object] = []
    with serving(server, mount, tmp_path / "log") as address:
        for target in targets:
            handed = ask(address, target)
            built = gateway(target.method, target.target, mount, {})
            ours = built and {
                key: value.decode("latin-1") if isinstance(value, bytes) else value
                for key, value in built.items()
                if key in keys
            }
            if ours != handed:
                different.append((target, ours, handed))
    assert different == []
