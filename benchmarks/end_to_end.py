"""The whole way: uvicorn with uvloop and httptools, one worker, under the load of wrk.

An application without and one with a middleware stand in processes of their own and are
loaded by turns with the same requests. Both have imported what the middleware stands
on, as an application of this kind has anyway; so the memory is that of the middleware
itself.

Server and loader need a processor each. Where others want one too, rates fall for all
that, and what a request took of the server's processor says more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Figure, exactly, figure
from benchmarks.scene import Scene
from benchmarks.served import SETTINGS

__all__ = ["LOADER", "measure_end_to_end"]

LOADER = "wrk"
_SCRIPT = Path(__file__).with_name("load.lua")
_CONNECTIONS = 16
_KNOWN_TOKENS = 50
_NEW_TOKENS = 6000
"""More than are remembered, so that each is new again when its turn comes."""
_REMEMBERED_TOKENS = 1000
_BARE, _KNOWN, _NEW = "unprotected", "remembered token", "new token, RS256"


class _Load(NamedTuple):
    """What one run of the loader gave."""

    rate: float
    """Requests per second."""
    p99: float
    """Microseconds within which 99 of 100 requests were answered."""
    processor: float | None
    """Microseconds of a processor that a request took of the server."""


@dataclass(frozen=True, slots=True)
class _Server:
    process: int
    port: int

    def load(self, tokens: Path, seconds: int) -> _Load:
        """Send requests as fast as they are answered."""
        url = f"http://127.0.0.1:{self.port}/notes/1"
        amount = ["-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s"]
        program = [_loader(), *amount, "-s", str(_SCRIPT), url, "--", str(tokens)]
        before = self._processor_seconds()
        run = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
        after = self._processor_seconds()
        result: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
        assert result["errors"] == 0, result
        requests = result["requests"]
        return _Load(
            requests / result["microseconds"] * 1e6,
            result["p99"],
            (after - before) / requests * 1e6 if before and after else None,
        )

    def megabytes(self) -> float | None:
        """The memory of its process, where Linux tells."""
        fields = self._told("statm")
        if fields is None:
            return None
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _processor_seconds(self) -> float | None:
        """What its process has used so far, itself and in the system."""
        fields = self._told("stat")
        if fields is None:
            return None
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def _told(self, name: str) -> list[str] | None:
        path = Path(f"/proc/{self.process}/{name}")
        return path.read_text().split() if path.exists() else None


def measure_end_to_end(
    scene: Scene, folder: Path, rounds: int, seconds: int, note: Callable[[str], None]
) -> Iterator[Row]:
    """Rates, latency and memory; *rounds* times *seconds* of each kind of request."""
    known, new = folder / "known", folder / "new"
    note(f"signing {_NEW_TOKENS} tokens")
    known.write_text("\n".join(scene.tokens(_KNOWN_TOKENS)))
    new.write_text("\n".join(scene.tokens(_NEW_TOKENS)))
    with (
        _serving(scene, folder, "bare") as bare,
        _serving(scene, folder, "middleware") as middleware,
    ):
        memory = _memory(bare, middleware, known)
        contestants = {
            _BARE: (bare, known),
            _KNOWN: (middleware, known),
            _NEW: (middleware, new),
        }
        loads: dict[str, list[_Load]] = {name: [] for name in contestants}
        for number in range(rounds):
            for name, (server, tokens) in contestants.items():
                note(f"round {number + 1} of {rounds}: {name}")
                loads[name].append(server.load(tokens, seconds))
    yield from _rates(loads)
    yield from _latencies(loads)
    yield from _processor_times(loads)
    yield from memory


def _memory(bare: _Server, middleware: _Server, tokens: Path) -> list[Row]:
    """What a middleware adds once it has let requests through."""
    for server in (bare, middleware):
        server.load(tokens, seconds=1)
    without, with_middleware = bare.megabytes(), middleware.megabytes()
    if without is None or with_middleware is None:
        return []
    more = exactly(with_middleware - without)
    target = targets.MORE_MEGABYTES
    return [
        Row("uvicorn", "memory, unprotected", exactly(without), "MB"),
        Row("uvicorn", "memory that the middleware adds", more, "MB", target=target),
    ]


def _rates(loads: dict[str, list[_Load]]) -> Iterator[Row]:
    for name, least in (
        (_BARE, None),
        (_KNOWN, targets.RATE_REMEMBERED),
        (_NEW, targets.RATE_NEW),
    ):
        rates = figure(load.rate for load in loads[name])
        ratio = None if name == _BARE else _ratio(loads, name, "rate")
        yield Row("uvicorn", name, rates, "req/s", ratio, _BARE, least=least)


def _latencies(loads: dict[str, list[_Load]]) -> Iterator[Row]:
    limit = f"p99, {_BARE}"
    for name, target in ((_BARE, None), (_KNOWN, targets.P99), (_NEW, None)):
        times = figure(load.p99 / 1000 for load in loads[name])
        ratio = None if name == _BARE else _ratio(loads, name, "p99")
        yield Row("uvicorn", f"p99, {name}", times, "ms", ratio, limit, target)


def _processor_times(loads: dict[str, list[_Load]]) -> Iterator[Row]:
    limit = f"processor, {_BARE}"
    for name, of_kind in loads.items():
        times = [load.processor for load in of_kind if load.processor is not None]
        if len(times) < len(of_kind):
            return  # only Linux tells
        ratio = None if name == _BARE else _ratio(loads, name, "processor")
        yield Row("uvicorn", f"processor, {name}", figure(times), "µs", ratio, limit)


def _ratio(
    loads: dict[str, list[_Load]], name: str, of: Literal["rate", "p99", "processor"]
) -> Figure:
    pairs = zip(loads[name], loads[_BARE], strict=True)
    return figure(getattr(load, of) / getattr(bare, of) for load, bare in pairs)


def _loader() -> str:
    found = shutil.which(LOADER)
    assert found is not None, LOADER
    return found


@contextmanager
def _serving(
    scene: Scene, folder: Path, kind: Literal["bare", "middleware"]
) -> Generator[_Server, None, None]:
    """The application, with or without a middleware, on a free port."""
    settings = {
        "issuers": {issuer.issuer: issuer.jwks for issuer in scene.issuers.values()},
        "max_remembered_tokens": _REMEMBERED_TOKENS,
    }
    (folder / SETTINGS).write_text(json.dumps(settings))
    program = [sys.executable, "-m", "benchmarks.served", kind, str(folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield _Server(server.pid, int(server.stdout.readline()))
        finally:
            server.terminate()
