"""The command ``agentauth demo``: what it needs before it can play, and how it ends."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from agentauth_middleware.cli._demo.interrupts import Interrupts
from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.play import play
from agentauth_middleware.cli._demo.status import Status

_NEEDED = ("fastapi", "flask", "uvicorn", "waitress")


def run_demo(examples: Path, *, keep: bool, out: TextIO) -> Status:
    """Show the demo, or say what it lacks; returns the exit status."""
    if lack := _lack(examples):
        sys.stderr.write(lack)
        return Status.NOT_POSSIBLE
    interrupts = Interrupts()
    with interrupts.taken_over():
        try:
            return play(Narrator(out), examples, interrupts, keep=keep)
        except KeyboardInterrupt:
            return Status.INTERRUPTED
        except BrokenPipeError:
            # The reader has gone, and Python's last flush must not fail because of
            # that.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return Status.INTERRUPTED


def _lack(examples: Path) -> str:
    """What is missing and how to get it; empty if nothing is."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return (
            f"agentauth demo needs {', '.join(missing)}. Install what it needs with\n"
            '    pip install "agentauth-middleware[demo]"\n'
        )
    if not (examples / "fastapi_app" / "app.py").is_file():
        return (
            f"agentauth demo finds no examples in {examples}. They are in the source "
            "repository;\nname their folder with --examples DIR\n"
        )
    return ""
