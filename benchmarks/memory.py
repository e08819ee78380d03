"""What remembered tokens take: memory, time to find one, time to collect garbage.

Measured in a process of its own, so that nothing else lives in its memory. Every token
goes through the WSGI middleware, as a request. They are signed with ES256, because to
sign a hundred thousand with RSA takes minutes; what is remembered of a token holds no
signature, so that makes no difference.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from time import perf_counter_ns, time
from typing import Any

from agentauth_middleware._core.middleware_state import MiddlewareState
from benchmarks import targets
from benchmarks.progress import Progress
from benchmarks.report import Row
from benchmarks.rounds import Figure, Rounds, clocked, exactly, figure
from benchmarks.scene import Scene
from benchmarks.sides import Call, WSGISide
from benchmarks.signatures import bare_check, check_name

__all__ = ["measure_memory", "resident_bytes"]

_STATM = Path("/proc/self/statm")
_SAMPLE = 2000
"""Tokens that are looked up afterwards; the others are dropped once presented."""
_LOOK_UPS = 200
_COLLECTIONS = 7


def measure_memory(tokens: int, rounds: int) -> Iterator[Row]:
    """The rows of *tokens* tokens that one middleware remembers."""
    program = [sys.executable, "-m", __name__, str(tokens), str(rounds)]
    run = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    for members in json.loads(run.stdout):
        for name in ("value", "ratio"):
            members[name] = members[name] and Figure(**members[name])
        yield Row(**members)


def _rows(scene: Scene, tokens: int, rounds: Rounds, note: Progress) -> Iterator[Row]:
    group = f"{tokens:,} tokens"
    side = WSGISide()
    middleware = side.middleware(side.bare, scene.server, scene.store)
    _present(
        side, middleware, scene, 10
    )  # What first requests make is not the tokens'.
    yield Row(group, "full collection, before", _collections(), "ms")
    before = resident_bytes()
    note(f"{tokens:,} requests with new tokens")
    sample = _present(side, middleware, scene, tokens)
    after = resident_bytes()
    if before is not None and after is not None:
        each = (after - before - sum(map(sys.getsizeof, sample))) / tokens
        yield Row(
            group,
            "memory of one",
            exactly(each),
            "bytes",
            target=targets.BYTES_PER_TOKEN,
        )
    yield Row(
        group, "full collection", _collections(), "ms", target=targets.COLLECTION_MS
    )
    yield from _look_up_rows(group, scene, rounds, middleware._state, sample)


def _look_up_rows(
    group: str,
    scene: Scene,
    rounds: Rounds,
    state: MiddlewareState,
    tokens: list[bytes],
) -> Iterator[Row]:
    """From the token to what is remembered; at random, so that caches do not help.

    Most of so many tokens are not at hand: of one of them the claims are read again
    before it is, which is the second row.
    """
    now = time()

    def look_up(token: bytes) -> object:
        return state.tokens.was_verified(sha256(token).digest())

    def recall(token: bytes) -> object:
        return state.tokens.recall(sha256(token).digest(), state.trust, now)

    assert all(recall(token) is not None for token in tokens)
    limit, found, recalled = check_name("RS256"), "finding one", "reading it again"
    signed = [scene.tokens(8) for _ in rounds.numbers]
    some_of = random.Random(1).choices  # noqa: S311 - no secret depends on it
    timings = rounds.take_turns(
        {
            limit: bare_check(scene.issuers["RS256"], "RS256", signed),
            found: clocked(look_up, lambda _: some_of(tokens, k=_LOOK_UPS)),
            recalled: clocked(recall, lambda _: some_of(tokens, k=_LOOK_UPS)),
        }
    )
    for name, target in ((found, targets.LOOK_UP), (recalled, None)):
        taken, ratio = timings.time(name), timings.ratio(name, of=limit)
        yield Row(group, name, taken, "µs", ratio, limit, target)


def _present(side: WSGISide, middleware: Any, scene: Scene, tokens: int) -> list[bytes]:
    """Let *middleware* see new tokens. Returns a sample of them."""
    every = max(1, tokens // _SAMPLE)
    sample: list[bytes] = []
    for number in range(tokens):
        token = scene.token("ES256")
        answer = side.answer(middleware, Call("/notes/1", f"Bearer {token}"))
        assert answer.status == 200, answer
        if number % every == 0:
            sample.append(token.encode())
    return sample


def _collections() -> Figure:
    """Milliseconds of a full garbage collection."""
    times: list[float] = []
    gc.collect()
    for _ in range(_COLLECTIONS):
        started = perf_counter_ns()
        gc.collect()
        times.append((perf_counter_ns() - started) / 1e6)
    return figure(times)


def resident_bytes() -> int | None:
    """The memory of this process, where Linux tells."""
    if not _STATM.exists():
        return None
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _main(tokens: int, counted: int) -> None:
    note = Progress("memory")
    with tempfile.TemporaryDirectory() as folder:
        # In two generations, either of which must have room for all of them.
        scene = Scene(Path(folder), max_remembered_tokens=2 * (tokens + 100))
        rounds = Rounds(counted, note)
        rows = [asdict(row) for row in _rows(scene, tokens, rounds, note)]
    print(json.dumps(rows))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
