"""Running hypothesis inside a test that counts what was tried."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

Example = TypeVar("Example")


@dataclass
class Tally:
    """What a run has tried."""

    tried: set[Hashable] = field(default_factory=set[Hashable])
    """Each once, however often it came."""
    signed_again: set[Hashable] = field(default_factory=set[Hashable])
    reasons: Counter[str] = field(default_factory=Counter[str])
    let_in: int = 0


def try_all(
    examples: st.SearchStrategy[Example],
    attempt: Callable[[Example], None],
    *,
    how_many: int,
    number: int | None,
) -> None:
    """*attempt* every one of *how_many* examples.

    *number* makes it the same in each run; ``None`` chooses one and tells it if it
    fails.
    """
    chosen = secrets.randbits(32) if number is None else number

    @seed(chosen)
    @settings(
        max_examples=how_many,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(examples)
    def run(example: Example) -> None:
        attempt(example)

    try:
        run()
    except BaseException as failure:
        failure.add_note(
            f"The seed of this run was {chosen}: --hypothesis-seed={chosen}"
        )
        raise


def seed_of(request: pytest.FixtureRequest) -> int | None:
    """What ``--hypothesis-seed`` says."""
    given_seed: Any = request.config.getoption("--hypothesis-seed")
    return int(given_seed) if str(given_seed).isdigit() else None
