"""What a hostile credential costs: no more than so much for each of its bytes.

Counted is what can be counted, the calls that Python makes and the memory it takes at
most, since seconds depend on the machine. What C code does within one call is bounded
by the deadline that every credential has in ``test_credentials``.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from agentauth_middleware._core.tokens.credential import MAX_CREDENTIAL_BYTES
from tests.hostile.answers import JWT, OPAQUE, named_answers
from tests.hostile.corpus import CORPUS
from tests.hostile.middlewares import Hall
from tests.hostile.test_answers import SERVERS

KINDS = ("strict", "asked about opaque tokens")
LONG = [name for name, case in CORPUS.items() if sum(map(len, case.lines)) > 1000]


def calls_of(ask: Callable[[], Any]) -> int:
    """How many calls it takes, of functions in Python and in C."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        ask()
    finally:
        sys.setprofile(None)
    return calls


def memory_of(ask: Callable[[], Any]) -> int:
    """How many bytes more than before it takes at most."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LONG)
def test_credential_costs_no_more_than_its_length_allows(
    name: str, kind: str, hall: Hall
) -> None:
    """Of a long one no more is looked at than a token may be long; a few copies of the
    field are made, since servers have it in other forms."""
    lines, middlewares = CORPUS[name].lines, hall.middlewares[kind]
    length = sum(map(len, lines))
    looked_at = min(length, MAX_CREDENTIAL_BYTES)

    def ask() -> None:
        middlewares.ask(lines)

    ask()  # What is made once is no cost of this one.

    assert calls_of(ask) < 2000 + 2 * looked_at
    assert memory_of(ask) < 2**17 + 16 * looked_at + 4 * length


@pytest.mark.parametrize("lines", [OPAQUE, JWT], ids=["opaque", "JWT"])
@pytest.mark.parametrize(
    "name", ["65 kB of brackets", "21,000 objects", "65,000 digits", "a megabyte"]
)
def test_answer_costs_no_more_than_its_length_allows(
    name: str, lines: tuple[bytes, ...], hall: Hall
) -> None:
    answer = named_answers()[name]
    length = len(answer.reply.body)

    def ask() -> None:
        middlewares = hall.make(SERVERS[answer.is_signed])
        middlewares.endpoint.reply = answer.reply
        middlewares.ask(lines)

    ask()

    assert calls_of(ask) < 5000 + 20 * length
    assert memory_of(ask) < 2**20 + 100 * length
