"""An issuer's keys: fetched by the first request, asked for again, and out of reach.

The issuer is a real server on the loopback interface, which can hold a reply back.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from time import perf_counter
from typing import Any

from agentauth_middleware import Issuer
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Rounds, Timings, exactly, figure
from benchmarks.scene import mint, resource_server
from benchmarks.sides import SIDES, ASGISide, Call, Side
from benchmarks.upstream import KEYS, METADATA, RawClient, Upstream, serving

__all__ = ["measure_keys"]

_AT_ONCE = 200
_RANDOM_KIDS = 1000
_BATCH = 8
_ROUNDS_IN_A_HANG = 40
"""So that all of them are over before whoever waits for the reply gives up."""
_RAW = "two exchanges over a bare socket"
_QUIET, _MEANWHILE = "known key", "known key while a reply is held back"


def measure_keys(
    side: Side, processes: int, hangs: int, note: Callable[[str], None]
) -> Iterator[Row]:
    """The rows of one protocol.

    Raises:
        AssertionError: the middleware does not do what is measured.
    """
    with serving() as upstream:
        # ES256, because of the many tokens that have to be signed.
        bench = _Bench(side, upstream, FakeIssuer(upstream.url))
        yield from bench.cold(processes, note)
        yield from bench.unknown_kids()
        yield from bench.known_key_meanwhile(hangs, note)
        if isinstance(side, ASGISide):
            yield from bench.stalls(side, hangs, note)


class _Bench:
    """One protocol, one issuer and the server that speaks for it."""

    def __init__(self, side: Side, upstream: Upstream, issuer: FakeIssuer) -> None:
        self._group = f"keys, {side.name}"
        self._side = side
        self._upstream = upstream
        self._issuer = issuer
        upstream.publish(issuer)

    def cold(self, processes: int, note: Callable[[str], None]) -> Iterator[Row]:
        """What first requests take and fetch."""
        firsts: list[float] = []
        limits: list[float] = []
        for number in range(processes):
            note(f"process {number + 1} of {processes}")
            before = self._fetches()
            first, limit = _in_cold_process(
                self._side, self._upstream, mint(self._issuer)
            )
            assert self._fetches() - before == 1
            firsts.append(first)
            limits.append(limit)
        ratio = figure(
            first / limit for first, limit in zip(firsts, limits, strict=True)
        )
        yield Row(self._group, _RAW, figure(limits), "ms")
        yield Row(
            self._group, "first request of a process", figure(firsts), "ms", ratio, _RAW
        )
        before = self._fetches()
        calls = [self._known() for _ in range(_AT_ONCE)]
        answers = self._side.answers_at_once(self._middleware(), calls)
        assert all(answer.status == 200 for answer in answers), answers
        yield self._counted(
            f"{_AT_ONCE} at once to a new middleware",
            self._fetches() - before,
            targets.FETCHES_WHEN_COLD,
        )

    def unknown_kids(self) -> Iterator[Row]:
        """A new key is accepted at once, and names that are none cost few fetches."""
        middleware = self._warm_middleware()
        self._issuer.rotate()
        self._upstream.publish(self._issuer)
        before = self._fetches()
        answer = self._side.answer(middleware, self._known())
        assert answer.status == 200, answer
        yield self._counted(
            "first request with a new key",
            self._fetches() - before,
            targets.FETCHES_FOR_A_NEW_KEY,
        )
        middleware = self._warm_middleware()
        before = self._fetches()
        for _ in range(_RANDOM_KIDS):
            answer = self._side.answer(middleware, self._unknown())
            assert answer.status in (401, 429, 503), answer
        yield self._counted(
            f"{_RANDOM_KIDS:,} random kids",
            self._fetches() - before,
            targets.FETCHES_FOR_RANDOM_KIDS,
        )

    def known_key_meanwhile(
        self, hangs: int, note: Callable[[str], None]
    ) -> Iterator[Row]:
        """New tokens, by a middleware whose refetch is not answered and at another."""
        timings = [self._during_hang(note) for _ in range(hangs)]
        together = Timings.joined(timings)
        yield Row(self._group, _QUIET, together.time(_QUIET), "µs")
        yield Row(
            self._group,
            _MEANWHILE,
            together.time(_MEANWHILE),
            "µs",
            together.ratio(_MEANWHILE, of=_QUIET),
            _QUIET,
            targets.KNOWN_KEY_MEANWHILE,
        )

    def _during_hang(self, note: Callable[[str], None]) -> Timings:
        rounds = Rounds(_ROUNDS_IN_A_HANG, note)
        batches = [[self._known() for _ in range(_BATCH)] for _ in rounds.numbers]
        quiet, hanging = self._warm_middleware(), self._warm_middleware()
        self._hold()
        before = self._fetches()
        finish = self._side.begin(hanging, self._unknown())
        while self._fetches() == before:
            self._side.answer(self._side.bare, self._known())
        timings = rounds.take_turns(
            {
                _QUIET: self._side.batch(quiet, batches.__getitem__),
                _MEANWHILE: self._side.batch(hanging, batches.__getitem__),
            }
        )
        answer = finish()
        assert answer.status == 503, answer
        self._upstream.publish(self._issuer)
        return timings

    def stalls(
        self, side: ASGISide, hangs: int, note: Callable[[str], None]
    ) -> Iterator[Row]:
        """How long the event loop stands still."""
        quiet: list[float] = []
        meanwhile: list[float] = []
        for number in range(hangs):
            note(f"stalls {number + 1} of {hangs}")
            middleware = self._warm_middleware()
            quiet.append(side.longest_stall(middleware, self._known(), None))
            self._hold()
            meanwhile.append(
                side.longest_stall(middleware, self._known(), self._unknown())
            )
            self._upstream.publish(self._issuer)
        name = "longest stall"
        yield Row(self._group, name, figure(quiet), "ms")
        yield Row(
            self._group,
            f"{name} while a reply is held back",
            figure(meanwhile),
            "ms",
            target=targets.STALL_MS,
        )

    def _middleware(self) -> Any:
        return _middleware(self._side, self._upstream.url)

    def _warm_middleware(self) -> Any:
        """One that knows the keys there are."""
        middleware = self._middleware()
        answer = self._side.answer(middleware, self._known())
        assert answer.status == 200, answer
        return middleware

    def _known(self) -> Call:
        return _bearer(mint(self._issuer))

    def _unknown(self) -> Call:
        """A token under the name of a key that nobody has seen."""
        return _bearer(mint(self._issuer, header={"kid": secrets.token_hex(8)}))

    def _hold(self) -> None:
        self._upstream.answer(KEYS, self._issuer.jwks, is_held=True)

    def _fetches(self) -> int:
        return self._upstream.calls(KEYS)

    def _counted(self, name: str, calls: int, target: float) -> Row:
        return Row(self._group, name, exactly(calls), "calls", target=target)


def _middleware(side: Side, issuer: str) -> Any:
    server = resource_server([Issuer(issuer)], insecure_loopback=True)
    return side.middleware(side.bare, server, MemoryStore())


def _bearer(token: str) -> Call:
    return Call("/notes/1", f"Bearer {token}")


def _in_cold_process(side: Side, upstream: Upstream, token: str) -> tuple[float, float]:
    """Milliseconds of the first request in a new process, and of the limit there."""
    program = [sys.executable, "-m", __name__, side.name.lower(), str(upstream.port)]
    run = subprocess.run(
        program, input=token, stdout=subprocess.PIPE, text=True, check=True
    )
    first, limit = json.loads(run.stdout)
    return first, limit


def _main(name: str, port: int) -> None:
    call = _bearer(sys.stdin.read())
    with closing(SIDES[name]()) as side, closing(Upstream(port)) as upstream:
        middleware = _middleware(side, upstream.url)
        side.answer(side.bare, call)
        started = perf_counter()
        answer = side.answer(middleware, call)
        first = perf_counter() - started
        assert answer.status == 200, answer
        with closing(RawClient(upstream)) as raw:
            started = perf_counter()
            for _ in range(2):  # Not for the keys: who asks for those is counted.
                raw.exchange(f"GET {METADATA} HTTP/1.1\r\nhost: here\r\n\r\n".encode())
            limit = perf_counter() - started
    print(json.dumps([first * 1000, limit * 1000]))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
