"""What is going on, for people who wait."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]


class Progress:
    """The state of one group on stderr: a line that changes, or lines now and then."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._is_terminal = sys.stderr.isatty()
        self._interval = 0.1 if self._is_terminal else 5.0
        self._next_at = 0.0

    def __call__(self, text: str) -> None:
        """Say what is being done, unless something was said just now."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._interval
        self._write(f"{self._group}: {text}")

    def leave_out(self, why: str) -> None:
        """Say that the group is not measured, and why."""
        print(f"\r{self._group}: left out; {why}", file=sys.stderr)

    def finish(self) -> None:
        """Leave the line to the next."""
        if self._is_terminal:
            self._write("")

    def _write(self, text: str) -> None:
        line = f"\r{text}\x1b[K" if self._is_terminal else f"{text}\n"
        print(line, end="", file=sys.stderr, flush=True)
