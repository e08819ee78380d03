"""What a long log of revocations costs: until a process is ready, and afterwards.

Measured in a process of its own, so that nothing else lives in its memory.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware._core.revocations.cut_offs import (
    Revocation,
    RevocationView,
)
from agentauth_middleware._core.revocations.log import read_on
from agentauth_middleware._io.drive import drive
from agentauth_middleware._io.perform import BlockingPerformer
from agentauth_middleware.stores import SQLiteStore
from benchmarks import targets
from benchmarks.memory import resident_bytes
from benchmarks.progress import Progress
from benchmarks.report import Row
from benchmarks.rounds import Figure, Rounds, clocked, exactly
from benchmarks.scene import Scene
from benchmarks.sides import Call, WSGISide

__all__ = ["measure_revocations"]

_AT_ONCE = 10_000
_KEPT = 100
"""One cut-off of so many records is the latest of its kind, where most are not."""


def measure_revocations(cut_offs: int, rounds: int) -> Iterator[Row]:
    """The rows of a log of *cut_offs* entries."""
    program = [sys.executable, "-m", __name__, str(cut_offs), str(rounds)]
    run = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    for members in json.loads(run.stdout):
        for name in ("value", "ratio"):
            members[name] = members[name] and Figure(**members[name])
        yield Row(**members)


def _rows(
    scene: Scene, folder: Path, count: int, rounds: Rounds, note: Progress
) -> Iterator[Row]:
    group = f"{count:,} cut-offs"
    note("appending")
    short = _filled(folder / "short.db", count, of=count // _KEPT)
    seconds, _ = _ready(short)
    yield Row(
        f"{count:,} records, {count // _KEPT:,} live",
        "until ready",
        exactly(seconds),
        "s",
        target=targets.READY_AFTER_COMPACTION,
    )
    store = _filled(folder / "long.db", count, of=count)
    gc.collect()
    before = resident_bytes()
    seconds, view = _ready(store)
    gc.collect()
    after = resident_bytes()
    yield Row(group, "until ready", exactly(seconds), "s", target=targets.READY)
    if before is not None and after is not None:
        megabytes = (after - before) / 1e6
        yield Row(group, "memory", exactly(megabytes), "MB", target=targets.CUT_OFFS_MB)
    yield from _request_rows(group, scene, rounds, store, view)


def _request_rows(
    group: str, scene: Scene, rounds: Rounds, store: SQLiteStore, view: RevocationView
) -> Iterator[Row]:
    side = WSGISide()
    few = side.middleware(side.bare, scene.server, scene.store)
    many = side.middleware(side.bare, scene.server, store)
    many._state.revocations = view
    call = Call("/notes/1", f"Bearer {scene.token('RS256')}")
    for middleware in (few, many):
        assert side.answer(middleware, call).status == 200
    name, limit = "a remembered token", "with few cut-offs"
    timings = rounds.take_turns(
        {
            limit: clocked(lambda _: side.answer(few, call), lambda _: range(200)),
            name: clocked(lambda _: side.answer(many, call), lambda _: range(200)),
        }
    )
    yield Row(
        group,
        name,
        timings.time(name),
        "µs",
        timings.ratio(name, of=limit),
        limit,
        targets.WITH_CUT_OFFS,
    )


def _filled(file: Path, count: int, *, of: int) -> SQLiteStore:
    """A store to which *count* entries were appended, for *of* different users."""
    store = SQLiteStore(file)
    now = time.time() - count
    entries = (
        Revocation("https://as.example.com", now + n, f"user-{n % of}").to_cut_off()
        for n in range(count)
    )
    for some in _in_batches(entries):
        store.append_log(some)
    return store


def _in_batches(entries: Iterable[CutOff]) -> Iterator[list[CutOff]]:
    batch: list[CutOff] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    yield batch


def _ready(store: SQLiteStore) -> tuple[float, RevocationView]:
    """Seconds until a new process knows the whole log, and what it knows then."""
    view, started = RevocationView(), time.perf_counter()
    drive(read_on(view, time.time()), BlockingPerformer(store))
    return time.perf_counter() - started, view


def _main(count: int, counted: int) -> None:
    note = Progress("revocations")
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        rounds = Rounds(counted, note)
        rows = [asdict(row) for row in _rows(scene, Path(folder), count, rounds, note)]
    print(json.dumps(rows))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
