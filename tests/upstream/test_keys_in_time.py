"""Keys that are fetched from a real server, over minutes and days that nobody waits.

Requests, drivers and exchanges are real; only the clock is the test's.
"""

from __future__ import annotations

import json

import pytest

from tests.support.deadlines import try_within
from tests.upstream import faults
from tests.upstream.asking import GRANTED, RESOURCE, Core, outcome_of
from tests.upstream.server import (
    ELSEWHERE,
    KEYS,
    METADATA,
    PATIENCE,
    Exchange,
    Fault,
    Upstream,
)

HOUR, DAY = 3600.0, 86_400.0
down = faults.answer("503 Service Unavailable")


def token(upstream: Upstream, **header: str) -> str:
    """A token that outlives the test."""
    return upstream.signer.token(RESOURCE, expires_in=7 * 86_400, header=header)


def loaded(clocked: Core, upstream: Upstream) -> str:
    """A token that is remembered, and whose key is known for a while."""
    known = token(upstream)
    assert clocked.ask(known) == GRANTED
    clocked.clock.tick(100.0)
    upstream.calls.clear()
    return known


def ask_until(outcome: tuple[int, str], clocked: Core, token: str) -> tuple[int, str]:
    """The last outcome, once what runs in the background has brought about *outcome*.

    For that it needs time, but none that the clock shows.
    """
    return try_within(
        PATIENCE, lambda: clocked.ask(token), until=lambda it: it == outcome
    )


# A flood of keys that nobody has


def test_flood_of_unknown_keys_makes_five_exchanges_a_minute(
    clocked: Core, upstream: Upstream
) -> None:
    """A key published in its midst is good twelve seconds later, and refused never."""
    known = loaded(clocked, upstream)
    published_at = accepted_at = 0.0
    new = known
    for number in range(1000):
        if number == 500:
            upstream.signer.rotate()
            new, published_at = token(upstream), clocked.clock()
        junk = clocked.ask(token(upstream, kid=f"junk-{number}"))
        assert junk in {(401, "unknown_kid"), (429, "keys_cooling_down")}
        if published_at and not accepted_at:
            outcome = clocked.ask(new)
            assert outcome in {GRANTED, (429, "keys_cooling_down")}
            accepted_at = clocked.clock() if outcome == GRANTED else 0.0
        assert clocked.ask(known) == GRANTED
        clocked.clock.tick(0.06)

    assert upstream.calls == [KEYS] * 5
    assert 0.0 <= accepted_at - published_at <= 12.0


# A refresh that is due


def test_refresh_that_is_held_back_delays_nobody(
    clocked: Core, upstream: Upstream
) -> None:
    """Not even the request that finds it due."""
    first_seen = token(upstream)
    remembered = loaded(clocked, upstream)
    clocked.clock.tick(HOUR - 100.0)
    with upstream.holding(KEYS) as held:
        finder = clocked.submit(remembered)
        assert held.arrived.wait(PATIENCE)
        for _ in range(20):
            assert clocked.ask(first_seen) == GRANTED
            assert clocked.ask(remembered) == GRANTED
        assert outcome_of(finder.result(PATIENCE)) == GRANTED
        assert held.is_awaited()

    assert upstream.calls == [KEYS]


def test_key_removed_by_a_refresh_takes_its_remembered_tokens_with_it(
    clocked: Core, upstream: Upstream
) -> None:
    remembered = loaded(clocked, upstream)
    upstream.signer.rotate(keep_old=False)
    clocked.clock.tick(HOUR)
    gone = (401, "unknown_kid")

    assert ask_until(gone, clocked, remembered) == gone


def test_refresh_that_fails_is_tried_twice_by_500_tokens(
    clocked: Core, upstream: Upstream
) -> None:
    """Within some five seconds; all of them pass."""
    tokens = [token(upstream) for _ in range(500)]
    loaded(clocked, upstream)
    clocked.clock.tick(HOUR)
    upstream.faults[KEYS] = down
    for each in tokens:
        assert clocked.ask(each) == GRANTED
        clocked.clock.tick(0.01)

    calls = try_within(PATIENCE, lambda: upstream.count(KEYS), until=bool)

    assert 1 <= calls <= 2


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        pytest.param("max-age=1", 600.0, id="less than the floor"),
        pytest.param("public, max-age=1200", 1200.0, id="as the server says"),
        pytest.param("max-age=80000", 80_000.0, id="most of a day"),
        pytest.param("no-store", HOUR, id="no age"),
    ],
)
def test_refresh_is_due_when_the_server_says(
    cache_control: str, seconds: float, clocked: Core, upstream: Upstream
) -> None:
    upstream.faults[KEYS] = lambda exchange: exchange.reply(
        json.dumps(exchange.document).encode(),
        "200 OK",
        "application/json",
        f"Cache-Control: {cache_control}",
    )
    known = loaded(clocked, upstream)
    clocked.clock.tick(seconds - 101.0)
    assert clocked.ask(known) == GRANTED
    assert upstream.calls == []
    clocked.clock.tick(1.0)
    assert clocked.ask(known) == GRANTED

    assert try_within(PATIENCE, lambda: upstream.count(KEYS), until=bool) == 1


def test_unchanged_set_is_not_sent_again(clocked: Core, upstream: Upstream) -> None:
    """And is as good as one that was sent: for an hour nobody asks again."""
    asked: list[str | None] = []

    def answer(exchange: Exchange) -> None:
        asked.append(exchange.fields.get("if-none-match"))
        etag = 'ETag: "1"'
        if asked[-1] == '"1"':
            exchange.reply(b"", "304 Not Modified", "application/json", etag)
        else:
            document = json.dumps(exchange.document).encode()
            exchange.reply(document, "200 OK", "application/json", etag)

    upstream.faults[KEYS] = answer
    known, first_seen = loaded(clocked, upstream), token(upstream)
    clocked.clock.tick(100.0)
    junk = token(upstream, kid="nobody's")
    assert clocked.ask(junk) == (401, "unknown_kid")
    clocked.clock.tick(HOUR - 1.0)

    assert clocked.ask(known) == clocked.ask(first_seen) == GRANTED
    assert asked == [None, '"1"']


# An outage


def test_outage_at_the_start_is_noticed_by_few_and_its_end_by_all(
    clocked: Core, upstream: Upstream
) -> None:
    good = token(upstream)
    upstream.faults[KEYS] = down
    outcomes: set[tuple[int, str]] = set()
    for _ in range(500):
        outcomes.add(clocked.ask(good))
        clocked.clock.tick(0.01)
    assert outcomes == {(503, "keys_unusable"), (503, "keys_unreachable")}
    assert upstream.count(KEYS) <= 3

    del upstream.faults[KEYS]
    clocked.clock.tick(5.0)
    assert clocked.ask(good) == GRANTED


def test_outage_leaves_known_keys_in_use_and_unknown_ones_unjudged(
    clocked: Core, upstream: Upstream
) -> None:
    known = loaded(clocked, upstream)
    first_seen = token(upstream)
    upstream.signer.rotate()
    new = token(upstream)
    upstream.faults[KEYS] = down
    unjudged: set[tuple[int, str]] = set()
    for _ in range(250):
        assert clocked.ask(known) == GRANTED
        unjudged.add(clocked.ask(new))
        clocked.clock.tick(0.04)

    assert {status for status, _ in unjudged} == {429, 503}
    assert upstream.count(KEYS) <= 3
    assert clocked.ask(first_seen) == GRANTED


@pytest.mark.parametrize("lasted", [0.5, 8.0, 11.0])
def test_end_of_an_outage_is_noticed_within_five_seconds(
    lasted: float, clocked: Core, upstream: Upstream
) -> None:
    """Although somebody tried in vain a moment ago."""
    loaded(clocked, upstream)
    upstream.signer.rotate()
    new = token(upstream)
    upstream.faults[KEYS] = down
    assert clocked.ask(new)[0] == 503
    clocked.clock.tick(lasted)
    failed = (503, "keys_unreachable")
    assert ask_until(failed, clocked, new) == failed
    del upstream.faults[KEYS]
    clocked.clock.tick(5.0)

    assert ask_until(GRANTED, clocked, new) == GRANTED


# Answers that are no key set

BAD_SETS: dict[str, tuple[str, Fault]] = {
    "redirect": (KEYS, faults.redirect),
    "10 MB": (KEYS, faults.ten_megabytes),
    "HTML": (KEYS, faults.html),
    "truncated": (KEYS, faults.truncated_json),
    "wrong issuer": (METADATA, faults.wrong_issuer),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_bad_set_leaves_the_old_one_in_use_for_a_day(
    case: str, clocked: Core, upstream: Upstream
) -> None:
    known, first_seen = loaded(clocked, upstream), token(upstream)
    path, fault = BAD_SETS[case]
    upstream.faults[path] = fault
    clocked.clock.tick(DAY - 200.0)
    if path == METADATA:
        upstream.faults[KEYS] = down  # Else nobody would look there again.
    assert clocked.ask(known) == GRANTED
    assert clocked.ask(first_seen) == GRANTED
    clocked.clock.tick(200.0)

    assert clocked.ask(known)[0] == 503
    assert clocked.ask(first_seen)[0] == 503
    assert ELSEWHERE not in upstream.calls
