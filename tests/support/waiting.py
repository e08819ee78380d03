"""Threads that have come to a halt, seen from outside."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection


def await_halt(idents: Collection[int], number: int) -> None:
    """Return when *number* of the threads named by *idents* wait for an event."""
    while _halted(idents) < number:
        os.sched_yield()


def _halted(idents: Collection[int]) -> int:
    # There is no public way to see that a thread waits.
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    wait = threading.Condition.wait.__code__
    return sum(frames[ident].f_code is wait for ident in tuple(idents))
