from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentauth_middleware._core.operations import Operation, Procedure, Start
from agentauth_middleware._io import background
from agentauth_middleware.errors import UnavailableError


@dataclass(frozen=True)
class Note(Operation[None]):
    text: str


@dataclass(eq=False)
class Notebook:
    """A performer that writes down what it is asked, and waits when told to."""

    texts: list[str] = field(default_factory=list[str])
    waits: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, operation: Operation[Any]) -> None:
        assert isinstance(operation, Note)
        self.texts.append(operation.text)
        if operation.text == "wait":
            self.waits.set()
            assert self.may_go_on.wait(10)
        if operation.text == "fail":
            raise UnavailableError("upstream_timeout", "no answer yet")


def note(text: str) -> Callable[[], Procedure[None]]:
    def procedure() -> Procedure[None]:
        yield from Note(text)

    return procedure


def start(key: str, text: str, notebook: Notebook) -> None:
    background.start(Start(key, note(text)), notebook)


def finish(notebook: Notebook) -> None:
    """Return when all that was started before has run."""
    finished = threading.Event()

    def procedure() -> Procedure[None]:
        finished.set()
        return
        yield Note("never")

    background.start(Start("finish", procedure), notebook)
    assert finished.wait(10)


def test_start_runs_the_procedure_beside_the_caller() -> None:
    notebook = Notebook()
    start("keys", "wait", notebook)

    assert notebook.waits.wait(10)

    notebook.may_go_on.set()


def test_start_does_nothing_while_the_same_key_runs() -> None:
    notebook = Notebook()
    start("keys", "wait", notebook)
    assert notebook.waits.wait(10)
    start("keys", "again", notebook)
    start("other keys", "other", notebook)
    notebook.may_go_on.set()
    finish(notebook)

    assert notebook.texts == ["wait", "other"]


def test_start_does_nothing_while_the_same_key_waits_to_run() -> None:
    notebook = Notebook()
    start("keys", "wait", notebook)
    start("other keys", "first", notebook)
    start("other keys", "second", notebook)
    notebook.may_go_on.set()
    finish(notebook)

    assert notebook.texts == ["wait", "first"]


@pytest.mark.parametrize("ending", ["succeed", "fail"])
def test_start_runs_the_same_key_again_afterwards(ending: str) -> None:
    notebook = Notebook()
    start("keys", ending, notebook)
    finish(notebook)
    start("keys", "again", notebook)
    finish(notebook)

    assert notebook.texts == [ending, "again"]


def test_same_key_of_another_middleware_runs() -> None:
    one, other = Notebook(), Notebook()
    start("keys", "wait", one)
    start("keys", "other", other)
    one.may_go_on.set()
    finish(other)

    assert (one.texts, other.texts) == (["wait"], ["other"])


@pytest.mark.parametrize("bug", [ZeroDivisionError, SystemExit])
def test_bug_is_logged_and_the_thread_goes_on(
    bug: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def with_a_bug() -> Procedure[None]:
        yield from Note("before")
        raise bug

    notebook = Notebook()
    background.start(Start("keys", with_a_bug), notebook)
    finish(notebook)
    start("keys", "again", notebook)
    finish(notebook)
    [record] = caplog.records

    assert record.name == "agentauth_middleware"
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "background procedure keys failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is bug
    assert notebook.texts == ["before", "again"]


class Broken(logging.Handler):
    """A handler whose own connection is gone, and that raises as none should."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__()
        self.fault = fault

    def emit(self, record: logging.LogRecord) -> None:
        raise self.fault


@pytest.mark.parametrize("fault", [ConnectionError("no log"), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("ending", ["fail", "bug"])
def test_logging_handler_that_raises_does_not_end_the_thread(
    ending: str, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    logger, broken = logging.getLogger("agentauth_middleware"), Broken(fault)
    notebook = Notebook()

    def with_a_bug() -> Procedure[None]:
        yield from Note("before")
        raise ZeroDivisionError

    logger.addHandler(broken)
    try:
        procedure = with_a_bug if ending == "bug" else note("fail")
        background.start(Start("keys", procedure), notebook)
        finish(notebook)
    finally:
        logger.removeHandler(broken)
    start("keys", "again", notebook)
    finish(notebook)

    assert [args.exc_value for args in told] == [fault]
    assert notebook.texts[1:] == ["again"]


def test_thread_that_has_ended_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is told of what goes wrong in threads may end them."""
    own, notebook, finished = background.Background(), Notebook(), threading.Event()
    ending: list[threading.Thread] = []
    ends = threading.Event()

    def end_the_thread(args: threading.ExceptHookArgs) -> None:
        ending.append(threading.current_thread())
        ends.set()
        raise SystemExit

    def procedure() -> Procedure[None]:
        yield from Note("again")
        finished.set()

    monkeypatch.setattr(threading, "excepthook", end_the_thread)
    logger, broken = logging.getLogger("agentauth_middleware"), Broken(OSError())
    logger.addHandler(broken)
    try:
        own.start(Start("keys", note("fail")), notebook)
        assert ends.wait(10)
    finally:
        logger.removeHandler(broken)
    ending[0].join(10)
    own.start(Start("keys", procedure), notebook)

    assert finished.wait(10)


def test_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Requests go on with what they have; only the log tells that it grows old."""
    notebook = Notebook()
    start("keys of https://as.example", "fail", notebook)
    finish(notebook)
    [record] = caplog.records

    assert record.name == "agentauth_middleware"
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "keys of https://as.example: no answer yet (upstream_timeout)"
    )
    assert record.exc_info is None


def test_success_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    notebook = Notebook()
    start("keys", "succeed", notebook)
    finish(notebook)

    assert caplog.records == []


def test_where_no_thread_starts_nothing_runs_and_nothing_breaks() -> None:
    notebook = Notebook()
    own = background.Background()
    usual = threading.stack_size(1 << 46)  # More than there is.
    try:
        own.start(Start("keys", note("no thread")), notebook)
    finally:
        threading.stack_size(usual)
    own.start(Start("keys", note("wait")), notebook)

    assert notebook.waits.wait(10)
    assert notebook.texts == ["wait"]

    notebook.may_go_on.set()


PROGRAM = """
import os, threading
from agentauth_middleware._core.operations import Start
from agentauth_middleware._io import background

def never_asked(operation):
    raise AssertionError(operation)

def runs():
    ran = threading.Event()

    def procedure():
        ran.set()
        return
        yield

    background.start(Start("keys", procedure), never_asked)
    return ran.wait(10)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Newer Pythons warn of forks beside threads, which is just what is tried here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program],
        capture_output=True,
        text=True,
    )


def test_forked_child_has_a_thread_of_its_own() -> None:
    program = """
assert runs()
child = os.fork()
if child == 0:
    os._exit(0 if runs() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    assert run(program).returncode == 0


def test_interpreter_exits_while_a_procedure_hangs() -> None:
    program = """
hangs = threading.Event()

def hang():
    hangs.set()
    threading.Event().wait()
    yield

background.start(Start("hang", hang), never_asked)
assert hangs.wait(10)
"""
    completed = run(program)

    assert completed.returncode == 0
    assert completed.stderr == ""
