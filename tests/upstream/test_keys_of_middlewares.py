"""Keys that are fetched from a real server, as requests in the middlewares meet them.

What has to happen before what is asserted by holding replies back, never by a watch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed, wait
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tokens import Key, jwks, key, sign
from tests.support.tokens import header as header_of
from tests.upstream.asking import AT_ONCE, RESOURCE, Middleware
from tests.upstream.server import KEYS, METADATA, PATIENCE, Upstream


def unknown(upstream: Upstream, name: str = "nobody's") -> str:
    """A token signed by a key that is published nowhere."""
    return upstream.signer.token(RESOURCE, header={"kid": name})


def test_cold_requests_at_once_make_one_exchange(
    middleware: Middleware, upstream: Upstream
) -> None:
    tokens = [upstream.signer.token(RESOURCE) for _ in range(AT_ONCE)]
    with upstream.holding(KEYS) as held:
        answers = [middleware.submit(token) for token in tokens]
        assert held.arrived.wait(PATIENCE)
        assert not any(answer.done() for answer in answers)
        held.released.set()
        wait(answers, PATIENCE)

    assert [answer.result().status for answer in answers] == [200] * AT_ONCE
    assert upstream.calls == [METADATA, KEYS]


def test_new_key_is_good_on_its_first_request(
    middleware: Middleware, upstream: Upstream
) -> None:
    old = upstream.signer.token(RESOURCE)
    assert middleware.ask(old).status == 200
    upstream.signer.rotate()

    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200
    assert middleware.ask(old).status == 200
    assert upstream.calls == [METADATA, KEYS, KEYS]


def test_new_key_is_good_on_its_first_requests_at_once(
    middleware: Middleware, upstream: Upstream
) -> None:
    """Two may wait for it. The others are told to come again, and nothing worse."""
    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200
    upstream.signer.rotate()
    statuses = middleware.statuses(
        [upstream.signer.token(RESOURCE) for _ in range(AT_ONCE)]
    )

    assert 200 in statuses
    assert set(statuses) <= {200, 429}
    assert upstream.calls == [METADATA, KEYS, KEYS]
    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200


def test_key_replaced_under_its_name_is_good_on_its_first_request(
    middleware: Middleware, upstream: Upstream
) -> None:
    upstream.keys = jwks(EC)
    assert middleware.ask(mint(upstream, EC)).status == 200
    upstream.keys = jwks(TWIN)

    assert middleware.ask(mint(upstream, TWIN)).status == 200
    assert middleware.ask(mint(upstream, EC)).status == 401
    assert upstream.calls == [METADATA, KEYS, KEYS]


def test_forged_signatures_cause_few_fetches_and_no_verdict_too_early(
    middleware: Middleware, upstream: Upstream
) -> None:
    upstream.keys = jwks(EC)
    known = mint(upstream, EC)
    assert middleware.ask(known).status == 200
    forged = [mint(upstream, TWIN, number=number) for number in range(40)]
    statuses = [middleware.ask(token).status for token in forged]

    assert set(statuses) == {401, 429}
    assert upstream.count(KEYS) <= 3
    assert middleware.ask(known).status == 200


def test_three_tokens_of_junk_are_no_fault_of_ours(
    middleware: Middleware, upstream: Upstream
) -> None:
    """A load balancer ejects a host after as many answers of 5xx."""
    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200
    answers = [middleware.ask(unknown(upstream, f"{number}")) for number in range(3)]

    assert [answer.status for answer in answers] == [401, 429, 429]
    for answer in answers[1:]:
        assert 1 <= int(answer.field("retry-after") or 0) <= 12
        assert b"temporarily_unavailable" in answer.body
        assert answer.lines("www-authenticate") == []


def test_held_back_reply_delays_no_request_whose_key_is_known(
    middleware: Middleware, upstream: Upstream
) -> None:
    remembered = upstream.signer.token(RESOURCE)
    assert middleware.ask(remembered).status == 200
    with upstream.holding(KEYS) as held:
        waiting = middleware.submit(unknown(upstream))
        assert held.arrived.wait(PATIENCE)
        first_seen = [upstream.signer.token(RESOURCE) for _ in range(5)]

        assert middleware.statuses([remembered, *first_seen]) == [200] * 6
        assert held.is_awaited()
        held.released.set()
        assert waiting.result(PATIENCE).status == 401


def test_junk_gets_no_more_than_two_places_to_wait(
    middleware: Middleware, upstream: Upstream
) -> None:
    """Nor does it hold up anybody else, however much of it comes."""
    known = upstream.signer.token(RESOURCE)
    assert middleware.ask(known).status == 200
    with upstream.holding(KEYS) as held:
        junk = [
            middleware.submit(unknown(upstream, f"{number}")) for number in range(50)
        ]
        assert held.arrived.wait(PATIENCE)
        answered = as_completed(junk, PATIENCE)
        at_once = [next(answered).result() for _ in range(48)]

        assert middleware.statuses([known, known]) == [200, 200]
        assert held.is_awaited()
        assert {answer.status for answer in at_once} == {429}
    assert upstream.count(KEYS) == 2


def test_keys_out_of_reach_concern_unknown_keys_alone(
    middleware: Middleware, upstream: Upstream
) -> None:
    known = upstream.signer.token(RESOURCE)
    assert middleware.ask(known).status == 200
    upstream.close_port()

    refused = middleware.ask(unknown(upstream))
    assert (refused.status, refused.field("retry-after")) == (503, "5")
    assert refused.lines("www-authenticate") == []
    assert middleware.ask(known).status == 200
    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200


def test_removed_key_stops_verifying_and_so_do_its_remembered_tokens(
    middleware: Middleware, upstream: Upstream
) -> None:
    remembered, seen_late = (upstream.signer.token(RESOURCE) for _ in range(2))
    assert middleware.ask(remembered).status == 200
    upstream.signer.rotate(keep_old=False)
    assert middleware.ask(upstream.signer.token(RESOURCE)).status == 200

    assert middleware.ask(remembered).status == 401
    assert middleware.ask(seen_late).status == 429, (
        "first seen after the set was asked for"
    )


def test_token_of_a_kept_key_stays_good_when_another_key_is_removed(
    middleware: Middleware, upstream: Upstream
) -> None:
    upstream.keys = jwks(key("ES256", "a"), key("ES256", "b"))
    of_a, of_b = (mint(upstream, key("ES256", name)) for name in "ab")
    assert middleware.statuses([of_a, of_b]) == [200, 200]
    upstream.keys = jwks(key("ES256", "b"), key("ES256", "c"))
    assert middleware.ask(mint(upstream, key("ES256", "c"))).status == 200

    assert middleware.statuses([of_a, of_b]) == [401, 200]


# What is published


@cache
def rsa_key(bits: int) -> Key:
    return Key("rsa", "RS256", rsa.generate_private_key(65537, bits))


def mint(upstream: Upstream, signer: Key, **header: Any) -> str:
    """An access token of *upstream*, signed by any key at all."""
    now = int(time.time())
    claims = {
        "iss": upstream.url,
        "sub": "user-1",
        "aud": RESOURCE,
        "client_id": "client-1",
        "iat": now,
        "exp": now + 300,
        "jti": "token-1",
    }
    return sign(claims, signer, header_of(signer, **header)).decode()


RSA, EC, OTHER = key("RS256", "rsa"), key("ES256", "ec"), key("ES256", "ec-2")
TWIN = Key("ec", "ES256", key("ES256", "twin").private)
"""Another key by the name of ``EC``."""


def published(*pairs: tuple[Key, dict[str, Any]]) -> dict[str, Any]:
    """A set of keys, each with further members; ``None`` takes one out."""
    members = [{**signer.jwk, **changes} for signer, changes in pairs]
    return {
        "keys": [
            {name: value for name, value in jwk.items() if value is not None}
            for jwk in members
        ]
    }


NAMED: dict[str, Any] = {}
NAMELESS: dict[str, Any] = {"kid": None}
PUBLISHED: dict[str, tuple[Callable[[], Mapping[str, Any]], list[tuple[Key, int]]]] = {
    "RSA of 2048 bits": (lambda: published((RSA, {})), [(RSA, 200)]),
    "RSA of 1024 bits": (
        lambda: published((rsa_key(1024), {}), (EC, {})),
        [(rsa_key(1024), 401), (EC, 200)],
    ),
    "for signatures": (lambda: published((EC, {"use": "sig"})), [(EC, 200)]),
    "for encryption": (
        lambda: published((EC, {"use": "enc"}), (OTHER, {})),
        [(EC, 401), (OTHER, 200)],
    ),
    "to verify": (lambda: published((EC, {"key_ops": ["verify"]})), [(EC, 200)]),
    "to sign": (
        lambda: published((EC, {"key_ops": ["sign"]}), (OTHER, {})),
        [(EC, 401), (OTHER, 200)],
    ),
    "to wrap": (
        lambda: published((RSA, {"key_ops": ["wrapKey", "encrypt"]}), (OTHER, {})),
        [(RSA, 401), (OTHER, 200)],
    ),
    "for another algorithm": (
        lambda: published((RSA, {"alg": "PS256"}), (EC, {})),
        [(RSA, 401), (EC, 200)],
    ),
    "private": (
        lambda: published((EC, {"d": "AQAB"}), (OTHER, {})),
        [(EC, 401), (OTHER, 200)],
    ),
    "two by one name": (
        lambda: published((EC, {}), (TWIN, {})),
        [(EC, 200), (TWIN, 200)],
    ),
    "two kinds by one name": (
        lambda: published((EC, {"kid": "k"}), (RSA, {"kid": "k"})),
        [(Key("k", "ES256", EC.private), 200), (Key("k", "RS256", RSA.private), 200)],
    ),
    "one by another's name": (lambda: published((EC, {})), [(TWIN, 401)]),
    "one without a name": (lambda: published((EC, NAMELESS), (OTHER, {})), [(EC, 401)]),
}
"""Sets of keys, and what becomes of the tokens that name and were signed by a key."""


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_keys_verify_what_they_are_for(
    case: str, middleware: Middleware, upstream: Upstream
) -> None:
    make_set, tokens = PUBLISHED[case]
    upstream.keys = make_set()
    statuses = middleware.statuses([mint(upstream, signer) for signer, _ in tokens])

    assert statuses == [status for _, status in tokens]


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        pytest.param([(EC, NAMELESS)], 200, id="one without a name"),
        pytest.param([(EC, NAMED)], 200, id="one with a name"),
        pytest.param([(EC, NAMELESS), (RSA, NAMELESS)], 200, id="one that fits"),
        pytest.param([(OTHER, NAMELESS), (EC, NAMELESS)], 200, id="two that fit"),
        pytest.param([(OTHER, NAMED), (EC, NAMELESS)], 200, id="two, one with a name"),
        pytest.param([(OTHER, NAMELESS), (TWIN, NAMED)], 401, id="others that fit"),
    ],
)
def test_token_that_names_no_key_may_be_signed_by_any_that_fits(
    pairs: list[tuple[Key, dict[str, Any]]],
    status: int,
    middleware: Middleware,
    upstream: Upstream,
) -> None:
    upstream.keys = published(*pairs)

    assert middleware.ask(mint(upstream, EC, without=["kid"])).status == status
