"""What is promised within some seconds, asserted without a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Outcome = TypeVar("Outcome")


def try_within(
    seconds: float, attempt: Callable[[], Outcome], until: Callable[[Outcome], bool]
) -> Outcome:
    """The first outcome of *attempt* that *until* likes, or else the last one.

    The last attempt begins when *seconds* have passed. So what is kept by then is
    always seen, and a machine so busy that an answer comes late is no failure.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() >= deadline
        outcome = attempt()
        if is_last or until(outcome):
            return outcome
