"""Opaque tokens: asked about once, remembered, and asked about by many at once.

The issuer is a real server on the loopback interface. What counts is how much longer a
question takes than an exchange with that server over a bare socket. Beside it stands
what a pooled httpx client takes by itself, since that is what asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import httpx

from agentauth_middleware import Introspection, Issuer
from agentauth_middleware.testing import FakeIssuer
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Rounds, clocked, exactly
from benchmarks.scene import (
    NewTokens,
    Scene,
    check_access,
    claims_of,
    mint,
    resource_server,
)
from benchmarks.sides import Call, Calls, Side
from benchmarks.signatures import bare_check, check_name
from benchmarks.upstream import INTROSPECTION, RawClient, Upstream, serving

__all__ = ["measure_introspection"]

_MANY = 100
_FEW = 5
_AT_ONCE = 200
_CLIENT = ("notes-api", "not-so-secret")
_RS256 = check_name("RS256")
_BARE, _RAW = "bare application", "exchange over a bare socket"
_HTTPX = "exchange by httpx alone"
_REMEMBERED, _ASKED = "remembered opaque token", "new opaque token"


def measure_introspection(
    side: Side, scene: Scene, new: NewTokens, rounds: Rounds
) -> Iterator[Row]:
    """The rows of one protocol.

    Raises:
        AssertionError: the middleware does not do what is measured.
    """
    group = f"introspection, {side.name}"
    with serving() as upstream, closing(RawClient(upstream)) as raw:
        described = mint(FakeIssuer(upstream.url))
        upstream.answer(INTROSPECTION, {**claims_of(described), "active": True})
        middleware = _middleware(side, scene, upstream)
        check_access(side.answer(middleware, _bearer(_token())).access, described)

        question = _question()
        timings = rounds.take_turns(
            {
                _RS256: bare_check(scene.issuers["RS256"], "RS256", new["RS256"]),
                _RAW: clocked(raw.exchange, lambda _: [question] * _FEW),
                _HTTPX: side.batch(_ASKING[side.name](upstream), _asking()),
                _BARE: side.batch(side.bare, _remembered()),
                _REMEMBERED: side.batch(middleware, _remembered()),
                _ASKED: side.batch(middleware, _asking()),
            }
        )
        yield Row(group, _RAW, timings.time(_RAW), "µs")
        for name, limit, target in (
            (_HTTPX, _RAW, None),
            (_REMEMBERED, _RS256, targets.REMEMBERED[side.name]),
            (_ASKED, _RAW, targets.INTROSPECTION),
        ):
            taken = timings.time(name, minus=_BARE)
            ratio = timings.ratio(name, of=limit, minus=_BARE)
            yield Row(group, name, taken, "µs", ratio, limit, target)
        yield from _stampede(group, side, middleware, upstream)


def _stampede(
    group: str, side: Side, middleware: Any, upstream: Upstream
) -> Iterator[Row]:
    """Many at once with a token that nobody knows, and then as many again."""
    calls = [_bearer(_token())] * _AT_ONCE
    for name, target in (
        (f"{_AT_ONCE} at once with one new token", targets.CALLS_FOR_ONE_TOKEN),
        (f"{_AT_ONCE} more", targets.CALLS_FOR_MORE),
    ):
        before = upstream.calls(INTROSPECTION)
        answers = side.answers_at_once(middleware, calls)
        asked = upstream.calls(INTROSPECTION) - before
        assert all(answer.status == 200 for answer in answers), answers
        yield Row(group, name, exactly(asked), "calls", target=target)


def _middleware(side: Side, scene: Scene, upstream: Upstream) -> Any:
    issuer = Issuer(
        upstream.url,
        introspection=Introspection(
            _CLIENT[0],
            client_secret=_CLIENT[1],
            endpoint=upstream.url + INTROSPECTION,
            remember_for=3600,
        ),
    )
    server = resource_server([issuer], insecure_loopback=True)
    return side.middleware(side.bare, server, scene.store)


def _token() -> str:
    return secrets.token_urlsafe(32)


def _bearer(token: str) -> Call:
    return Call("/notes/1", f"Bearer {token}")


def _remembered() -> Calls:
    """Requests with tokens that come back, and have been asked about once."""
    calls = [_bearer(_token()) for _ in range(_MANY // 2)] * 2
    return lambda _: calls


def _asking() -> Calls:
    """Requests with tokens that nobody has seen."""
    return lambda _: [_bearer(_token()) for _ in range(_FEW)]


def _asking_asgi(upstream: Upstream) -> Any:
    """An application that asks about each token and does nothing else."""
    client = httpx.AsyncClient()  # its connections end with their loop
    url = upstream.url + INTROSPECTION

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await client.post(url, data=_form(), auth=_CLIENT)

    return application


def _asking_wsgi(upstream: Upstream) -> Any:
    client = httpx.Client()
    url = upstream.url + INTROSPECTION

    def application(environ: Any, start_response: Any) -> list[bytes]:
        client.post(url, data=_form(), auth=_CLIENT)
        return []

    return application


_ASKING = {"ASGI": _asking_asgi, "WSGI": _asking_wsgi}


def _form() -> dict[str, str]:
    return {"token": _token(), "token_type_hint": "access_token"}


def _question() -> bytes:
    """What a client sends, and no more."""
    form = urlencode(_form()).encode()
    head = (
        f"POST {INTROSPECTION} HTTP/1.1\r\n"
        "host: 127.0.0.1\r\n"
        "accept: application/json\r\n"
        "authorization: Basic bm90ZXMtYXBpOm5vdC1zby1zZWNyZXQ=\r\n"
        "content-type: application/x-www-form-urlencoded\r\n"
        f"content-length: {len(form)}\r\n"
        "\r\n"
    )
    return head.encode() + form
