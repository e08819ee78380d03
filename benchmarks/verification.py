"""What a token costs that was never seen: the checks alone, without any middleware."""

from __future__ import annotations

import time
from collections.abc import Iterator

from agentauth_middleware._core.issuers.keys import IssuerKeys
from agentauth_middleware._core.tokens.jose import verify_signature
from agentauth_middleware._core.tokens.jwt_access_token import (
    check_claims,
    check_header,
    read_token,
)
from agentauth_middleware._core.tokens.token_claims import Terms
from agentauth_middleware.access import Access
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Batch, Rounds, clocked
from benchmarks.scene import ALGORITHMS, NewTokens, Scene
from benchmarks.signatures import bare_check, check_name

__all__ = ["measure_verification"]


def measure_verification(scene: Scene, new: NewTokens, rounds: Rounds) -> Iterator[Row]:
    """A row for each algorithm."""
    contestants: dict[str, Batch] = {}
    for algorithm in ALGORITHMS:
        issuer = scene.issuers[algorithm]
        contestants[check_name(algorithm)] = bare_check(
            issuer, algorithm, new[algorithm]
        )
        contestants[algorithm] = _verification(scene, algorithm, new)
    timings = rounds.take_turns(contestants)
    for algorithm, target in targets.NEW.items():
        limit = check_name(algorithm)
        yield Row(
            "verification",
            f"checks of a new token, {algorithm}",
            timings.time(algorithm),
            "µs",
            timings.ratio(algorithm, of=limit),
            limit,
            target,
        )


def _verification(scene: Scene, algorithm: str, new: NewTokens) -> Batch:
    (settings,) = (
        issuer
        for issuer in scene.server.listed_issuers
        if issuer.issuer == scene.issuers[algorithm].issuer
    )
    keys = IssuerKeys(settings).current
    terms = Terms(settings, scene.server.resource, scene.server.leeway)

    def verify(token: bytes) -> Access:
        unverified = read_token(token)
        check_header(unverified, settings)
        verify_signature(unverified.jws, keys.candidates(unverified.jws.header))
        return check_claims(unverified, terms, time.time())

    return clocked(
        verify, lambda number: [token.encode() for token in new[algorithm][number]]
    )
