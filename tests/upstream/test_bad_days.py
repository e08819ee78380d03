"""An authorization server's bad day is no bad day for tokens: a 503, or nothing at all.

One table: each fault, and what becomes of good tokens whose key is known, whose key is
not, and about which the server has to be asked. ``docs/bad-days.md`` has it for
operators. The upstream is real, TLS included.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentauth_middleware.errors import TooManyRequestsError
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.support.deadlines import try_within
from tests.support.exchange import Answer
from tests.support.scenarios import UNAVAILABLE
from tests.upstream import faults
from tests.upstream.asking import RESOURCE, Middleware, opened
from tests.upstream.certificates import Authority
from tests.upstream.server import (
    INTROSPECTION,
    KEYS,
    METADATA,
    OPENID,
    PATIENCE,
    Fault,
    Upstream,
    serving,
)

PAGE = Path(__file__).parents[2] / "docs" / "bad-days.md"
OPAQUE = ("opaque-1", "opaque-2")
SHORT = 0.25
"""Seconds of patience where it is the point that they pass."""


class World(NamedTuple):
    """An upstream, and by what means it has a bad day."""

    upstream: Upstream
    authority: Authority
    lose_name: Callable[[], None]


Misfortune = Callable[[World], None]


class Outcome(NamedTuple):
    """What the log says of a request, and what was asked of the upstream meanwhile."""

    reason: str
    calls: tuple[str, ...] = ()
    retry_after: int = 5
    status: int = 503


GRANTED = "unknown"
"""What the log says of good tokens that name neither user nor agent."""


class BadDay(NamedTuple):
    """What happens, and what becomes of good tokens."""

    happens: Misfortune
    no_keys: Outcome
    """A JWT, in a process that has just started."""
    unknown_key: Outcome
    """A JWT by a key published lately, in a process that has fetched keys before."""
    opaque: Outcome
    """A token about which the upstream is asked."""
    timeout: float = PATIENCE
    is_discovered: bool = False
    """Whether the introspection endpoint is not in the settings."""


def on_the_way(
    reason: str,
    happens: Misfortune,
    *,
    arrives: bool = True,
    attempts: int = 1,
    timeout: float = PATIENCE,
) -> BadDay:
    """No answer. *arrives* says whether the upstream gets to see a request."""
    if not arrives:
        return BadDay(happens, Outcome(reason), Outcome(reason), Outcome(reason))
    return BadDay(
        happens,
        Outcome(reason, (METADATA, KEYS)),
        Outcome(reason, (KEYS,)),
        Outcome(reason, (INTROSPECTION,) * attempts),
        timeout,
    )


def bad_answer(
    fault: Fault,
    opaque: str,
    *,
    keys: str = "keys_unusable",
    attempts: int = 1,
    retry_after: int = 5,
    status: int = 503,
) -> BadDay:
    """An answer, but of no use."""
    return BadDay(
        at(fault, KEYS, INTROSPECTION),
        Outcome(keys, (METADATA, KEYS)),
        Outcome(keys, (KEYS,)),
        Outcome(opaque, (INTROSPECTION,) * attempts, retry_after, status),
    )


def bad_metadata(fault: Fault, reason: str, *asked: str) -> BadDay:
    """Keys and endpoint are not to be found; who has found them goes on."""
    outcome = Outcome(reason, (METADATA, *asked))
    return BadDay(
        at(fault, METADATA),
        outcome,
        Outcome(GRANTED, (KEYS,)),
        outcome,
        is_discovered=True,
    )


def at(fault: Fault, *paths: str) -> Misfortune:
    return lambda world: world.upstream.faults.update(dict.fromkeys(paths, fault))


def lose_certificate(world: World) -> None:
    world.upstream.certificate = world.authority.certify_loopback(expired=True)


REFUSED_US = "introspection_refused_us"
UNUSABLE = "introspection_unusable"
BAD_DAYS: dict[str, BadDay] = {
    "name not found": on_the_way(
        "upstream_unreachable", lambda world: world.lose_name(), arrives=False
    ),
    "connection refused": on_the_way(
        "upstream_unreachable", lambda world: world.upstream.close_port(), arrives=False
    ),
    "certificate expired": on_the_way(
        "upstream_unreachable", lose_certificate, arrives=False
    ),
    "no answer": on_the_way(
        "upstream_timeout", at(faults.hang, KEYS, INTROSPECTION), timeout=SHORT
    ),
    "headers byte by byte": on_the_way(
        "upstream_timeout", at(faults.drip_headers, KEYS, INTROSPECTION), timeout=SHORT
    ),
    "body byte by byte": on_the_way(
        "upstream_timeout", at(faults.drip_body, KEYS, INTROSPECTION), timeout=SHORT
    ),
    "connection closed": on_the_way(
        "upstream_unreachable", at(faults.hang_up, KEYS, INTROSPECTION), attempts=2
    ),
    "connection closed within the body": on_the_way(
        "upstream_unreachable", at(faults.break_off, KEYS, INTROSPECTION), attempts=2
    ),
    "10 MB": on_the_way(
        "upstream_too_large", at(faults.ten_megabytes, KEYS, INTROSPECTION)
    ),
    "500": bad_answer(
        faults.answer("500 Internal Server Error"), "introspection_failed"
    ),
    "502": bad_answer(
        faults.answer("502 Bad Gateway", b"<h1>502</h1>", "text/html"),
        "introspection_failed",
        attempts=2,
    ),
    "503": bad_answer(
        faults.answer("503 Service Unavailable"), "introspection_failed", attempts=2
    ),
    "429": bad_answer(
        faults.answer("429 Slow", b"{}", "application/json", "Retry-After: 7"),
        "introspection_throttled",
        retry_after=7,
        status=429,
    ),
    "400": bad_answer(
        faults.answer("400 Bad Request", b'{"error":"invalid_request"}'),
        "introspection_bad_request",
        status=429,
    ),
    "401": bad_answer(
        faults.answer("401 Unauthorized", b'{"error":"invalid_client"}'), REFUSED_US
    ),
    "403": bad_answer(
        faults.answer("403 Forbidden"), "introspection_forbidden", status=429
    ),
    "404": bad_answer(faults.answer("404 Not Found"), REFUSED_US),
    "redirect": bad_answer(faults.redirect, "introspection_failed"),
    "HTML": bad_answer(faults.html, UNUSABLE),
    "wrong content type": bad_answer(faults.wrong_content_type, UNUSABLE),
    "truncated JSON": bad_answer(faults.truncated_json, UNUSABLE),
    "no JSON object": bad_answer(faults.no_object, UNUSABLE),
    "empty JSON object": bad_answer(faults.answer("200 OK"), UNUSABLE),
    "metadata of another issuer": bad_metadata(
        faults.wrong_issuer, "metadata_unusable"
    ),
    "metadata that points into a private network": bad_metadata(
        faults.private_urls, "upstream_refused"
    ),
    "metadata 404": bad_metadata(
        faults.answer("404 Not Found"), "metadata_not_found", OPENID
    ),
    "metadata 500": bad_metadata(
        faults.answer("500 Internal Server Error"), "metadata_unusable"
    ),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """Trusted by all HTTP clients."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(authority.bundle))
        yield authority


@pytest.fixture
def world(authority: Authority, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """A good day, so far; all decisions are logged."""
    caplog.set_level("DEBUG", "agentauth_middleware.audit")
    certificate = authority.certify_loopback()
    with (
        serving("localhost", certificate) as upstream,
        pytest.MonkeyPatch.context() as names,
    ):
        for token in OPAQUE:
            upstream.active[token] = {"active": True, "aud": RESOURCE, "sub": "user-1"}
        yield World(upstream, authority, lambda: forget_localhost(names))


def forget_localhost(names: pytest.MonkeyPatch) -> None:
    """Let a look-up of ``localhost`` end as that of a name which nobody has."""
    look_up: Any = socket.getaddrinfo

    def fail(host: Any, *arguments: Any, **options: Any) -> Any:
        asked = "nowhere.invalid" if host in ("localhost", b"localhost") else host
        return look_up(asked, *arguments, **options)

    names.setattr(socket, "getaddrinfo", fail)


def api(upstream: Upstream, day: BadDay) -> ResourceServer:
    introspection = Introspection(
        "api",
        client_secret="secret of ours",
        endpoint=None if day.is_discovered else upstream.url + INTROSPECTION,
        timeout=day.timeout,
    )
    issuer = upstream.trust(timeout=day.timeout, introspection=introspection)
    return ResourceServer(RESOURCE, issuers=[issuer])


def warm_up(middleware: Middleware, *tokens: str) -> None:
    """Let the middleware remember *tokens*, on a day that is good but perhaps a slow
    one."""
    for token in tokens:
        ask = partial(middleware.ask, token)
        answer = try_within(PATIENCE, ask, until=lambda it: it.status == 200)
        assert answer.status == 200


def check(
    answer: Answer, outcome: Outcome, upstream: Upstream, log: pytest.LogCaptureFixture
) -> None:
    """To the byte, so that nothing of the upstream can be in it."""
    records = [record.__dict__["agentauth"] for record in log.records]
    assert [record["reason"] for record in records] == [outcome.reason]
    assert upstream.calls == [*outcome.calls]
    if outcome.reason == GRANTED:
        assert answer.status == 200
        return
    said = UNAVAILABLE if outcome.status == 503 else TooManyRequestsError.description
    body = {"error": "temporarily_unavailable", "error_description": said}
    if outcome.status == 503:
        assert log.records[0].levelno >= logging.WARNING
    assert answer.status == outcome.status
    assert answer.json() == body
    assert answer.fields == (
        ("content-type", "application/json"),
        ("content-length", str(len(json.dumps(body)))),
        ("cache-control", "no-store"),
        ("access-control-expose-headers", "WWW-Authenticate, Retry-After, DPoP-Nonce"),
        ("retry-after", str(outcome.retry_after)),
    )


@pytest.mark.parametrize("name", BAD_DAYS)
def test_bad_day_is_none_for_known_keys_and_remembered_answers(
    name: str, kind: str, world: World
) -> None:
    upstream, day = world.upstream, BAD_DAYS[name]
    remembered, first_seen = (upstream.signer.token(RESOURCE) for _ in range(2))
    with opened(kind, api(upstream, day)) as middleware:
        warm_up(middleware, remembered, OPAQUE[0])
        upstream.calls.clear()
        day.happens(world)
        tokens = [remembered, first_seen, OPAQUE[0]]

        assert [middleware.ask(token).status for token in tokens] == [200] * 3
    assert upstream.calls == []


@pytest.mark.parametrize("name", BAD_DAYS)
def test_bad_day_to_start_on(
    name: str, kind: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    upstream, day = world.upstream, BAD_DAYS[name]
    token = upstream.signer.token(RESOURCE)
    day.happens(world)
    with opened(kind, api(upstream, day)) as middleware:
        check(middleware.ask(token), day.no_keys, upstream, caplog)
        again = middleware.ask(token)

    assert (again.status, again.field("retry-after")) == (503, "5")
    assert upstream.calls == [*day.no_keys.calls]


@pytest.mark.parametrize("name", BAD_DAYS)
def test_bad_day_for_a_new_key(
    name: str, kind: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    upstream, day = world.upstream, BAD_DAYS[name]
    with opened(kind, api(upstream, day)) as middleware:
        warm_up(middleware, upstream.signer.token(RESOURCE))
        upstream.signer.rotate()
        upstream.calls.clear()
        caplog.clear()
        day.happens(world)
        token = upstream.signer.token(RESOURCE)
        check(middleware.ask(token), day.unknown_key, upstream, caplog)
        middleware.ask(token)

    assert upstream.calls == [*day.unknown_key.calls]


@pytest.mark.parametrize("name", BAD_DAYS)
def test_bad_day_to_ask_on(
    name: str, kind: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    upstream, day = world.upstream, BAD_DAYS[name]
    day.happens(world)
    with opened(kind, api(upstream, day)) as middleware:
        check(middleware.ask(OPAQUE[0]), day.opaque, upstream, caplog)


def test_page_tells_of_every_bad_day() -> None:
    row = re.compile(r"^\| ([^|`]+) \| `(\w+)` \| `(\w+)` \| (\d) \|$", re.MULTILINE)
    told = {
        name: (jwt, opaque, int(asked))
        for name, jwt, opaque, asked in row.findall(PAGE.read_text())
    }

    assert told == {
        name: (
            day.no_keys.reason,
            day.opaque.reason,
            day.opaque.calls.count(INTROSPECTION),
        )
        for name, day in BAD_DAYS.items()
    }
