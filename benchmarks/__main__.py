"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agentauth_middleware.testing import FakeIssuer
from benchmarks.drivers import measure_drivers
from benchmarks.end_to_end import LOADER, measure_end_to_end
from benchmarks.imports import measure_imports
from benchmarks.introspection import measure_introspection
from benchmarks.keys import measure_keys
from benchmarks.memory import measure_memory
from benchmarks.middlewares import measure_middleware
from benchmarks.policy import measure_policy
from benchmarks.progress import Progress
from benchmarks.report import Row, as_table, environment, write_json
from benchmarks.revocations import measure_revocations
from benchmarks.rounds import Rounds, round_numbers
from benchmarks.scene import NewTokens, Scene
from benchmarks.sides import SIDES, Side
from benchmarks.tenants import make_tenants, measure_tenants
from benchmarks.verification import measure_verification

GROUPS = (
    *SIDES,
    "verification",
    "drivers",
    "policy",
    "introspection",
    "keys",
    "tenants",
    "uvicorn",
    "memory",
    "revocations",
    "imports",
)
_RESULTS = Path(__file__).with_name("results.json")
_EXAMPLES = """\
examples:
  python -m benchmarks                           everything, in a few minutes
  python -m benchmarks --quick                   everything, less exactly
  python -m benchmarks --only asgi --only wsgi
  python -m benchmarks --json before.json        to compare with a later run
"""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    remembered_tokens: int
    cut_offs: int
    processes: int
    """That import the middleware, and as many that import its dependencies."""
    hangs: int
    """Replies that are held back for a second."""
    loads: int
    """Of each kind under uvicorn."""
    seconds: int
    """That each of them takes."""


FULL = Effort(
    rounds=300,
    remembered_tokens=100_000,
    cut_offs=1_000_000,
    processes=20,
    hangs=5,
    loads=7,
    seconds=2,
)
QUICK = Effort(
    rounds=40,
    remembered_tokens=5_000,
    cut_offs=20_000,
    processes=5,
    hangs=2,
    loads=2,
    seconds=1,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what *arguments* ask for, print it and write it down."""
    options = _parser().parse_args(arguments)
    about = environment()
    effort = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(effort, Path(folder))
        rows = [row for group in options.only or GROUPS for row in run.rows(group)]
    print(as_table(rows, about))
    write_json(options.json, rows, about)
    print(f"\nWritten to {options.json}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the middlewares beside the bare application, and new "
        "tokens beside the bare signature check. Exits with an error only if a "
        "middleware does not do what is measured; a row that misses its target is "
        "shown as such.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, fewer tokens"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=GROUPS,
        metavar="NAME",
        help=f"one group; may be repeated: {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=_RESULTS,
        metavar="PATH",
        help="where to write the rows (default: results.json beside this program)",
    )
    return parser


class _Run:
    """One run, whose groups share issuers, store and new tokens."""

    def __init__(self, effort: Effort, folder: Path) -> None:
        self._effort = effort
        self._folder = folder

    @cached_property
    def _scene(self) -> Scene:
        return Scene(self._folder)

    @cached_property
    def _new(self) -> NewTokens:
        return self._scene.new_tokens(round_numbers(self._effort.rounds))

    @cached_property
    def _tenants(self) -> Sequence[FakeIssuer]:
        return make_tenants()

    def rows(self, group: str) -> Iterator[Row]:
        """Measure one of ``GROUPS``."""
        progress = Progress(group)
        progress("preparing")
        yield from self._measure(group, progress)
        progress.finish()

    def _measure(self, group: str, progress: Progress) -> Iterator[Row]:
        effort = self._effort
        rounds = Rounds(effort.rounds, progress)
        match group:
            case "verification":
                yield from measure_verification(self._scene, self._new, rounds)
            case "drivers":
                yield from measure_drivers(self._scene, self._new, rounds)
            case "policy":
                for side in _each_side():
                    yield from measure_policy(side, self._scene, self._new, rounds)
            case "introspection":
                for side in _each_side():
                    yield from measure_introspection(
                        side, self._scene, self._new, rounds
                    )
            case "keys":
                for side in _each_side():
                    yield from measure_keys(
                        side, effort.processes, effort.hangs, progress
                    )
            case "tenants":
                for side in _each_side():
                    yield from measure_tenants(side, self._scene, self._tenants, rounds)
            case "uvicorn":
                if shutil.which(LOADER) is None:
                    progress.leave_out(f"there is no {LOADER}; try: make system-deps")
                    return
                yield from measure_end_to_end(
                    self._scene,
                    self._folder,
                    effort.loads,
                    effort.seconds,
                    progress,
                )
            case "memory":
                yield from measure_memory(effort.remembered_tokens, effort.rounds)
            case "revocations":
                yield from measure_revocations(effort.cut_offs, effort.rounds)
            case "imports":
                yield from measure_imports(effort.processes, progress)
            case _:
                with closing(SIDES[group]()) as side:
                    yield from measure_middleware(side, self._scene, self._new, rounds)


def _each_side() -> Iterator[Side]:
    for make in SIDES.values():
        with closing(make()) as side:
            yield side


if __name__ == "__main__":
    main()
