"""What a middleware costs: the time of a request beyond the bare application's.

Where the middleware answers by itself, its whole time counts. All rows of a protocol
and their limits are measured in the same rounds and, but for streaming and for the
clients that are no agents, with one middleware.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentauth_middleware.testing import FakeIssuer
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Batch, Rounds, Timings
from benchmarks.scene import ALGORITHMS, RESOURCE, NewTokens, Scene, check_access
from benchmarks.sides import Call, Calls, Side
from benchmarks.signatures import bare_check, check_name

__all__ = ["measure_middleware"]

_MANY = 100
"""Requests in a batch of what takes a few microseconds."""
_FEW = 5
"""Requests in a batch of what takes longer."""
_TOKENS_IN_TURN = 256
_REFUSED_WITHIN = 1.0
"""Seconds from a revocation to the first refusal."""
_RS256 = check_name("RS256")
_BARE, _BARE_STREAM = "bare application", "bare application that streams"
_FLOOR, _FLOOR_NEW = "floor, remembered token", "floor, new token"
_FLOORS = (_FLOOR, _FLOOR_NEW)


@dataclass(frozen=True, slots=True)
class _Scenario:
    """A kind of request; a row."""

    name: str
    calls: Calls
    target: float | None = None
    of: str = _RS256
    """What *target* is a multiple of."""
    status: int = 200
    is_audited: bool = False
    is_streamed: bool = False
    is_beside_others: bool = False
    """In a middleware that lets other clients pass."""

    @property
    def bare(self) -> str | None:
        """Whose time to take off; nobody's where no application is called."""
        if self.status != 200:
            return None
        return _BARE_STREAM if self.is_streamed else _BARE


def measure_middleware(
    side: Side, scene: Scene, new: NewTokens, rounds: Rounds
) -> Iterator[Row]:
    """The rows of one protocol.

    Raises:
        AssertionError: the middleware does not do what is measured.
    """
    middleware = side.middleware(side.bare, scene.server, scene.store)
    streaming_middleware = side.middleware(side.streaming, scene.server, scene.store)
    passing = replace(scene.server, unauthenticated="pass")
    passing_middleware = side.middleware(side.bare, passing, scene.store)
    scenarios = _scenarios(side, scene, new)
    for scenario in scenarios:
        app = passing_middleware if scenario.is_beside_others else middleware
        answer = side.answer(app, scenario.calls(0)[0])
        assert answer.status == scenario.status, (scenario.name, answer)

    contestants = _limits(side, scene, new)
    for scenario in scenarios:
        app = streaming_middleware if scenario.is_streamed else middleware
        if scenario.is_beside_others:
            app = passing_middleware
        batch = side.batch(app, scenario.calls)
        contestants[scenario.name] = _audited(batch) if scenario.is_audited else batch
    timings = rounds.take_turns(contestants)
    check_middleware(side, middleware, scene)
    yield from _limit_rows(side.name, timings)
    for scenario in scenarios:
        yield _row(side.name, timings, scenario)


def check_middleware(side: Side, middleware: Any, scene: Scene) -> None:
    """Stop the run unless *middleware* lets a token through, and no longer once
    revoked."""
    token = scene.token()
    call = Call("/notes/1", f"Bearer {token}")
    granted = side.answer(middleware, call)

    assert granted.status == 200, granted
    check_access(granted.access, token)

    scene.revoke(token)
    deadline = time.monotonic() + _REFUSED_WITHIN
    while side.answer(middleware, call).status != 401:
        assert time.monotonic() < deadline, "a revoked token is let through"


def _limits(side: Side, scene: Scene, new: NewTokens) -> dict[str, Batch]:
    """What no middleware can be faster than."""
    calls = _in_turn(scene.tokens(_TOKENS_IN_TURN))
    limits = {
        _BARE: side.batch(side.bare, calls),
        _BARE_STREAM: side.batch(side.streaming, calls),
    }
    floor = side.floor(side.bare, scene.issuers["RS256"], RESOURCE)
    for call in (calls(0)[0], _each_once(new["RS256"])(0)[0]):
        assert side.answer(floor, call).status == 200
    limits[_FLOOR] = side.batch(floor, calls)
    limits[_FLOOR_NEW] = side.batch(floor, _each_once(new["RS256"]))
    for algorithm in ALGORITHMS:
        limits[check_name(algorithm)] = bare_check(
            scene.issuers[algorithm], algorithm, new[algorithm]
        )
    return limits


def _limit_rows(group: str, timings: Timings) -> Iterator[Row]:
    for name in (_BARE, _BARE_STREAM, *map(check_name, ALGORITHMS)):
        ratio = timings.ratio(name, of=_RS256)
        yield Row(group, name, timings.time(name), "µs", ratio, _RS256)
    for name in _FLOORS:
        ratio = timings.ratio(name, of=_RS256, minus=_BARE)
        yield Row(group, name, timings.time(name, minus=_BARE), "µs", ratio, _RS256)


def _row(group: str, timings: Timings, scenario: _Scenario) -> Row:
    name, of, bare = scenario.name, scenario.of, scenario.bare
    return Row(
        group,
        name,
        timings.time(name, minus=bare),
        "µs",
        timings.ratio(
            name, of=of, minus=bare, of_minus=_BARE if of in _FLOORS else None
        ),
        of,
        scenario.target,
    )


def _scenarios(side: Side, scene: Scene, new: NewTokens) -> list[_Scenario]:
    """Every kind of request."""
    known = _in_turn(scene.tokens(_TOKENS_IN_TURN))
    return [
        _Scenario("remembered token", known, targets.REMEMBERED[side.name], _FLOOR),
        _Scenario("remembered token, audited", known, is_audited=True),
        _Scenario("remembered token, body in ten pieces", known, is_streamed=True),
        _Scenario("remembered token, new path", _on_new_paths(scene.token())),
        _Scenario(
            "new token, RS256",
            _each_once(new["RS256"]),
            targets.NEW_THROUGH,
            _FLOOR_NEW,
        ),
        *(
            _Scenario(
                f"new token, {algorithm}",
                _each_once(new[algorithm]),
                of=check_name(algorithm),
            )
            for algorithm in ("ES256", "EdDSA")
        ),
        _Scenario("public route", _same(Call("/health")), targets.PUBLIC, _FLOOR),
        _Scenario(
            "no credential", _same(Call("/notes/1")), targets.REFUSED, status=401
        ),
        *_beside_others(known),
        _Scenario(
            "forged signature", _forged(new["RS256"]), targets.FORGED, status=401
        ),
        _Scenario(
            "unknown kid", _unknown_kids(scene.token()), targets.UNKNOWN_KID, status=401
        ),
        _Scenario("64 kB of junk", _same(_junk(), _FEW), targets.JUNK, status=400),
        _Scenario(
            "junk as long as is read", _costly(scene.token()), targets.JUNK, status=401
        ),
    ]


def _beside_others(known: Calls) -> Iterator[_Scenario]:
    """What the API's other clients send, and agents beside them."""
    own = FakeIssuer("https://login.example.com").token("https://own.example.com")
    for name, calls, target in (
        ("other client, session", _same(Call("/notes/1")), targets.OTHER_SESSION),
        ("other client, key", _same(_bearer("sk_live_0123456789")), targets.OTHER_KEY),
        ("other client, JWT of its own", _same(_bearer(own)), targets.OTHER_JWT),
        ("remembered token, beside others", known, None),
    ):
        yield _Scenario(name, calls, target, is_beside_others=True)


def _same(call: Call, times: int = _MANY) -> Calls:
    calls = [call] * times
    return lambda _: calls


def _bearer(token: str, path: str = "/notes/1") -> Call:
    return Call(path, f"Bearer {token}")


def _in_turn(tokens: Sequence[str]) -> Calls:
    """Requests that come back, each token's to a path of its own."""
    calls = [_bearer(token, f"/notes/{name}") for name, token in enumerate(tokens)]
    return lambda _: calls


def _on_new_paths(token: str) -> Calls:
    """One client that never asks for the same thing twice."""
    return lambda _: [
        _bearer(token, f"/notes/{secrets.token_hex(8)}") for _ in range(_MANY)
    ]


def _each_once(tokens: Sequence[Sequence[str]]) -> Calls:
    return lambda number: [_bearer(token) for token in tokens[number]]


def _forged(tokens: Sequence[Sequence[str]]) -> Calls:
    """Each token of a round with the signature of the one before it."""

    def calls(number: int) -> list[Call]:
        parts = [token.rpartition(".") for token in tokens[number]]
        return [
            _bearer(f"{message}.{parts[place - 1][2]}")
            for place, (message, _, _) in enumerate(parts)
        ]

    return calls


def _unknown_kids(token: str) -> Calls:
    """*token* under key names that nobody has seen."""
    _, _, rest = token.partition(".")

    def call() -> Call:
        header = {"alg": "RS256", "typ": "at+jwt", "kid": secrets.token_hex(4)}
        return _bearer(f"{_segment(json.dumps(header))}.{rest}")

    return lambda _: [call() for _ in range(_FEW)]


def _junk() -> Call:
    return _bearer(secrets.token_urlsafe(48 * 1024))


def _costly(token: str) -> Calls:
    """The longest that is looked into, and made to take long: a good header, and a
    payload of many small objects."""
    header, _, signature = token.split(".")
    payload = f'{{"iss":"https://nobody.example.com","x":[{"{}," * 3700}0]}}'
    call = _bearer(f"{header}.{_segment(payload)}.{signature}")
    return _same(call, _FEW)


def _segment(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _audited(batch: Batch) -> Batch:
    """*batch* with records made of everything, and kept nowhere."""
    logger = logging.getLogger("agentauth_middleware.audit")
    handler = logging.NullHandler()

    def audited(number: int) -> float:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            return batch(number)
        finally:
            logger.setLevel(logging.NOTSET)
            logger.removeHandler(handler)

    return audited
