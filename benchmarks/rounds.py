"""Taking turns and reading the clock.

Each round runs a batch of every contestant, so that whatever slows the machine down
slows all of them. A figure is computed within each round, and the median over the
rounds is what counts. The garbage collector stands still during a round and runs
between rounds; what was built before is frozen, so it does not look at it again.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TypeAlias, TypeVar

__all__ = [
    "METHOD",
    "Batch",
    "Figure",
    "Rounds",
    "Timings",
    "clocked",
    "exactly",
    "figure",
    "round_numbers",
]

METHOD = (
    "interleaved batches in rounds, the first rounds dropped; ratios and differences "
    "within each round, then the median; perf_counter_ns; garbage collector disabled "
    "during a round, what was built before it frozen"
)

_WARM_UP = 3

Item = TypeVar("Item")
Batch: TypeAlias = Callable[[int], float]
"""From the number of the round to the microseconds that one operation took in it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, and the quartiles beside it."""

    median: float
    lower: float
    upper: float


class Timings:
    """Microseconds of each contestant in each round."""

    def __init__(self, series: Mapping[str, Sequence[float]]) -> None:
        self._series = series

    @classmethod
    def joined(cls, parts: Sequence[Timings]) -> Timings:
        """All rounds of *parts*, which have the same contestants."""
        names = parts[0]._series
        return cls(
            {name: [t for part in parts for t in part._series[name]] for name in names}
        )

    def time(self, name: str, *, minus: str | None = None) -> Figure:
        """Microseconds of *name*, or by how many it exceeds *minus*."""
        return figure(self._excess(name, minus))

    def ratio(
        self,
        name: str,
        *,
        of: str,
        minus: str | None = None,
        of_minus: str | None = None,
    ) -> Figure:
        """``time`` as a multiple of the time of *of*, or of its excess."""
        pairs = zip(self._excess(name, minus), self._excess(of, of_minus), strict=True)
        return figure(time / limit for time, limit in pairs)

    def _excess(self, name: str, minus: str | None) -> Sequence[float]:
        times = self._series[name]
        if minus is None:
            return times
        pairs = zip(times, self._series[minus], strict=True)
        return [time - other for time, other in pairs]


def figure(values: Iterable[float]) -> Figure:
    """The median of *values* and their quartiles."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median, lower, upper)


def exactly(value: float) -> Figure:
    """What was counted, and does not vary."""
    return Figure(value, value, value)


def round_numbers(counted: int) -> range:
    """Of all rounds, those included that are run first and not counted."""
    return range(_WARM_UP + counted)


class Rounds:
    """How many rounds there are, and who hears of each."""

    def __init__(self, counted: int, note: Callable[[str], None]) -> None:
        self.numbers = round_numbers(counted)
        self._note = note

    def take_turns(self, contestants: Mapping[str, Batch]) -> Timings:
        """Run every contestant in every round."""
        series: dict[str, list[float]] = {name: [] for name in contestants}
        names = list(contestants)
        with _collector_between_rounds() as collect:
            for number in self.numbers:
                self._note(f"round {number + 1} of {len(self.numbers)}")
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    series[name].append(contestants[name](number))
                collect()
        return Timings({name: times[_WARM_UP:] for name, times in series.items()})


@contextmanager
def _collector_between_rounds() -> Generator[Callable[[], object], None, None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
        gc.unfreeze()


def clocked(
    operation: Callable[[Item], object],
    items: Callable[[int], Sequence[Item]],
) -> Batch:
    """*operation* on each of the items of a round."""

    def batch(number: int) -> float:
        batch_items = items(number)
        started = perf_counter_ns()
        for item in batch_items:
            operation(item)
        return (perf_counter_ns() - started) / 1000 / len(batch_items)

    return batch
