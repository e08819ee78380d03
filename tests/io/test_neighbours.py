"""Which process is told that it is not alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import pytest

from agentauth_middleware._io.neighbours import is_second_process

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has abstract sockets"
)

ASK = """
import sys
from agentauth_middleware._io.neighbours import is_second_process
for purpose in map(str.strip, sys.stdin):
    print(is_second_process(purpose), flush=True)
"""


class Process:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, purpose: str) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(purpose, file=self._process.stdin, flush=True)
        return self._process.stdout.readline() == "True\n"


@contextmanager
def process() -> Generator[Process, None, None]:
    """A child of this process; killed at the end, without a chance to tidy up."""
    child = subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield Process(child)
        finally:
            child.kill()


@pytest.fixture
def purpose(request: pytest.FixtureRequest) -> str:
    name: str = request.node.nodeid
    return name.replace(" ", "_")


def test_second_of_many_processes_is_told(purpose: str) -> None:
    with ExitStack() as stack:
        told = [stack.enter_context(process()).ask(purpose) for _ in range(4)]

    assert told == [False, True, False, False]


def test_process_that_asks_again_is_not_its_own_neighbour(purpose: str) -> None:
    with process() as only:
        assert [only.ask(purpose) for _ in range(3)] == [False] * 3


def test_successor_of_a_killed_process_is_alone(purpose: str) -> None:
    with process() as first:
        assert not first.ask(purpose)
    with process() as second:
        assert not second.ask(purpose)


def test_process_with_another_purpose_is_no_neighbour(purpose: str) -> None:
    with process() as first, process() as second:
        assert not first.ask(purpose)
        assert not second.ask(f"{purpose}_else")


def test_parent_is_no_neighbour(purpose: str) -> None:
    """As a server that loads the application before it forks is none."""
    assert not is_second_process(purpose)
    with process() as child:
        assert not child.ask(purpose)
