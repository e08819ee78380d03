"""How a demo ends, in a number for the shell."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The exit status."""

    AS_IT_SHOULD = 0
    DIFFERS = 1
    """A hop went another way, or a server did not start."""
    NOT_POSSIBLE = 2
    """Something that the demo needs is missing."""
    INTERRUPTED = 130
    """As shells say it of what Ctrl-C ended."""
