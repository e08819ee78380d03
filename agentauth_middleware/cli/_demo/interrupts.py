"""The signals that end a program, and where they may land.

Wherever they land they raise ``KeyboardInterrupt``, as Ctrl-C does, so that the program
ends with its clean-up. Between two instructions that belong together, like starting a
process and remembering it, none may land, nor during the clean-up itself. So they are
held back, except in the block that says otherwise.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Of one run: the first one counts, and the others are ignored."""

    def __init__(self) -> None:
        self._numbers = [
            getattr(signal, name) for name in _NAMES if hasattr(signal, name)
        ]
        self._may_land = False
        self._has_come = False

    @contextmanager
    def taken_over(self) -> Generator[None, None, None]:
        """Have the signals come here; outside ``allowed``, they are held back."""
        before = {one: signal.signal(one, self._take) for one in self._numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Generator[None, None, None]:
        """Let them land in this block, one that was held back right at its start."""
        self._may_land = True
        try:
            if self._has_come:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_land = False

    def _take(self, number: int, frame: object) -> None:
        # Not by SIG_IGN, which processes started from now on would inherit.
        if self._has_come:
            return
        self._has_come = True
        if self._may_land:
            raise KeyboardInterrupt
