"""What a person sees of the demo: plain text, with colour only on a terminal."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

from agentauth_middleware.cli._demo.servers import RunningServer
from agentauth_middleware.cli._demo.walk import Hop

_BOLD, _DIM, _RED, _GREEN, _CYAN = "1", "2", "31", "32", "36"
_WIDTH = 88
_INDENT = " " * 4


class Narrator:
    """Tells one line or one hop after the other."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_coloured = out.isatty() and not os.environ.get("NO_COLOR")

    def show_servers(self, servers: Sequence[RunningServer]) -> None:
        self.say(
            "An agent meets two APIs that it has never seen before. Nobody has given "
            "it a key: it finds the way in by itself, acts for a user, and is turned "
            "away once the user says so. Four servers are running:"
        )
        for server in servers:
            title = f"{server.name} at {server.url} (process {server.process.pid})"
            self._line(f"  {self._styled(title, _BOLD)}")
            self._line(f"{_INDENT}{server.about}")

    def begin(self, title: str) -> None:
        self._line()
        self._line(self._styled(title, _BOLD))

    def tell(self, hop: Hop) -> None:
        """One hop: request after ``>``, answer after ``<``, and why."""
        self._line()
        self._line(self._styled(f"{hop.number:2}. {hop.name}", _BOLD))
        self._line(f"{_INDENT}> {self._styled(hop.request, _CYAN)}")
        for line in hop.sent:
            self._line(f"{_INDENT}>   {line}")
        if hop.status:
            self._line(f"{_INDENT}< {self._styled(hop.status, _CYAN)}")
        for line in hop.received:
            self._line(f"{_INDENT}<   {line}")
        for line in textwrap.wrap(hop.why, _WIDTH - len(_INDENT)):
            self._line(f"{_INDENT}{self._styled(line, _DIM)}")

    def say(self, text: str) -> None:
        self._line()
        self._line(textwrap.fill(text, _WIDTH))

    def show(self, text: str) -> None:
        """*text* as it is, to be copied."""
        self._line()
        self._line(text)

    def succeed(self, text: str) -> None:
        self._line()
        self._line(self._styled(text, _GREEN))

    def fail(self, text: str) -> None:
        self._line()
        self._line(self._styled(text, _RED))

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._is_coloured else text

    def _line(self, text: str = "") -> None:
        self._out.write(f"{text}\n")
        self._out.flush()
