"""Interrupts land where the demo can clean up after them, and nowhere else."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware.cli import main
from agentauth_middleware.cli._demo.interrupts import Interrupts

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]
every_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)


@every_signal
def test_interrupt_lands_where_it_is_allowed(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with (
        interrupts.taken_over(),
        interrupts.allowed(),
        pytest.raises(KeyboardInterrupt),
    ):
        signal.raise_signal(number)


@every_signal
def test_interrupt_is_held_back_until_allowed(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.taken_over():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            raise AssertionError("the block must not begin")


@every_signal
def test_interrupt_is_held_back_during_the_clean_up(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.taken_over():
        with interrupts.allowed():
            pass
        signal.raise_signal(number)


@every_signal
def test_only_the_first_interrupt_counts(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.taken_over(), interrupts.allowed():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(number)


def test_signals_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts().taken_over():
        pass

    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_interrupt_right_after_a_start_leaves_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    """Before anybody else knows of the process that has just been started."""
    started: list[subprocess.Popen[Any]] = []

    class Interrupted(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            started.append(self)
            if len(started) == count:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status = main(["demo"])
    left = [server for server in started if server.poll() is None]
    for server in left:
        server.kill()
        server.wait()

    assert status == 130
    assert len(started) >= count
    assert left == []
    # Each stopped when asked to, and was not killed for want of that.
    assert -signal.SIGKILL not in [server.returncode for server in started]
    assert list(tmp_path.iterdir()) == []
