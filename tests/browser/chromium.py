"""A headless Chromium, driven over its own protocol.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.deadlines import try_within

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
_PATIENCE = 30.0
"""Seconds. On a busy machine the browser may take long to start."""


def find_chromium() -> str | None:
    """The path of the browser, where it is installed."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser"))
    return next((path for path in found if path), None)


class Browser:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)

    def run(self, url: str, function: str, *arguments: object) -> Any:
        """What *function*, in JavaScript, gives in a new page that stands at *url*."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        session = attached["sessionId"]
        self._call("Page.enable", session)
        self._call("Page.navigate", session, url=url)
        self._wait_for("Page.loadEventFired", session)
        listed = ", ".join(map(json.dumps, arguments))
        answer = self._call(
            "Runtime.evaluate",
            session,
            expression=f"({function})({listed})",
            awaitPromise=True,
            returnByValue=True,
        )
        self._call("Target.closeTarget", targetId=target)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._connection.send(json.dumps(message))
        while True:
            told = self._receive()
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    def _wait_for(self, event: str, session: str) -> None:
        while True:
            told = self._receive()
            if told.get("method") == event and told.get("sessionId") == session:
                return

    def _receive(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._connection.recv(timeout=_PATIENCE))
        return told


@contextmanager
def browsing(program: str, folder: Path) -> Generator[Browser, None, None]:
    """A browser that has never been used, with its profile in *folder*."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=log,
            stderr=log,
        )
    try:
        with connect(_address(folder), max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()


def _address(folder: Path) -> str:
    """Where the browser listens; it writes that down as soon as it does."""
    file = folder / "profile" / "DevToolsActivePort"

    def read() -> list[str]:
        return file.read_text().split("\n") if file.exists() else []

    lines = try_within(_PATIENCE, read, lambda lines: len(lines) > 1)
    assert len(lines) > 1, (folder / "log").read_text(errors="replace")
    port, path = lines
    return f"ws://127.0.0.1:{port}{path}"
