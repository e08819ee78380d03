"""Documents and answers as real servers serve them, over real HTTP on each side.

Servers that answer only what is asked for, static hosts that know no media type, files
that an editor saved with a byte order mark; and what is refused all the same, with a
reason that says what was found.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from agentauth_middleware.settings.introspection import Introspection
from tests.upstream.asking import opened, resource_server
from tests.upstream.server import (
    INTROSPECTION,
    KEYS,
    METADATA,
    OPENID,
    Exchange,
    Fault,
    Upstream,
)

OPAQUE = "opaque-1"
ASKED = Introspection("notes-api", client_secret="s", require_audience=False)


def served(
    content_type: str | None, encode: Callable[[str], bytes] = str.encode
) -> Fault:
    """The good document under *content_type*, or none, *encode*d."""

    def answer(exchange: Exchange) -> None:
        body = encode(json.dumps(exchange.document))
        lines = ["HTTP/1.1 200 OK", "Connection: close"]
        lines += [] if content_type is None else [f"Content-Type: {content_type}"]
        lines += [f"Content-Length: {len(body)}", "", ""]
        exchange.send("\r\n".join(lines).encode() + body)

    return answer


def strict(*types: str) -> Fault:
    """As a server does that has the document in *types*, and takes ``Accept`` at its
    word."""

    def answer(exchange: Exchange) -> None:
        wanted = exchange.fields["accept"].split(", ")
        fits = [kind for kind in types if kind in wanted]
        if fits:
            served(fits[0])(exchange)
        else:
            exchange.reply(b"", "406 Not Acceptable")

    return answer


def like_rails(exchange: Exchange) -> None:
    """As Rails does, which takes ``*/*`` in a list for a browser's."""
    if "*/*" in exchange.fields["accept"]:
        exchange.reply(b"<p>Hello</p>", content_type="text/html")
    else:
        exchange.answer_well()


def marked(text: str) -> bytes:
    return codecs.BOM_UTF8 + text.encode()


def utf_16(text: str) -> bytes:
    return text.encode("utf-16")


def utf_16_unmarked(text: str) -> bytes:
    return text.encode("utf-16-be")


def twice(text: str) -> bytes:
    return b'{"issuer": "a", "keys": [], "active": false, ' + text[1:].encode()


DOCUMENTS: dict[str, Fault] = {
    "JSON with a charset": served("application/json; charset=utf-8"),
    "JSON in capitals": served("Application/JSON;Charset=UTF-8"),
    "old JSON": served("text/json"),
    "text": served("text/plain; charset=utf-8"),
    "bytes": served("application/octet-stream"),
    "bytes of S3": served("binary/octet-stream"),
    "no media type": served(None),
    "byte order mark": served("application/json", marked),
    "byte order mark in text": served("text/plain", marked),
    "server of JSON alone": strict("application/json"),
    "Rails": like_rails,
}


@pytest.mark.parametrize(
    "serve",
    [
        *(pytest.param(serve, id=name) for name, serve in DOCUMENTS.items()),
        pytest.param(served("application/jwk-set+json"), id="key set"),
        pytest.param(strict("application/jwk-set+json"), id="server of key sets alone"),
    ],
)
def test_key_set_is_read_as_it_is_served(
    serve: Fault, kind: str, upstream: Upstream
) -> None:
    upstream.faults[KEYS] = serve
    with opened(kind, resource_server(upstream)) as middleware:
        answer = middleware.ask(upstream.signer.token("https://api.example.com"))

    assert answer.status == 200


@pytest.mark.parametrize("serve", DOCUMENTS.values(), ids=DOCUMENTS)
def test_metadata_is_read_as_it_is_served(
    serve: Fault, kind: str, upstream: Upstream
) -> None:
    upstream.faults[METADATA] = serve
    with opened(kind, resource_server(upstream)) as middleware:
        answer = middleware.ask(upstream.signer.token("https://api.example.com"))

    assert answer.status == 200
    assert upstream.calls == [METADATA, KEYS]


ANSWERS = {
    name: DOCUMENTS[name]
    for name in (
        "JSON with a charset",
        "JSON in capitals",
        "old JSON",
        "byte order mark",
        "server of JSON alone",
        "Rails",
    )
}


@pytest.mark.parametrize("serve", ANSWERS.values(), ids=ANSWERS)
def test_introspection_answer_is_read_as_it_is_served(
    serve: Fault, kind: str, upstream: Upstream
) -> None:
    upstream.active[OPAQUE] = {"active": True, "sub": "u-1", "client_id": "c-1"}
    upstream.faults[INTROSPECTION] = serve
    server = resource_server(upstream, introspection=ASKED)
    with opened(kind, server) as middleware:
        answers = [middleware.ask(OPAQUE) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]


def told(log: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Reason and detail of the one record."""
    (record,) = log.records
    assert record.levelno >= logging.WARNING
    members: dict[str, Any] = record.__dict__["agentauth"]
    return members["reason"], members["detail"]


REFUSED = {
    "page": (served("text/html"), "a page for people (text/html)"),
    "page of XML": (
        served("application/xhtml+xml; charset=utf-8"),
        "a page for people (application/xhtml+xml)",
    ),
    "XML": (served("text/xml"), "of type 'text/xml'"),
    "two media types": (
        served("text/html, application/json"),
        "of type 'text/html, application/json'",
    ),
    "text that is no object": (
        served("text/plain", lambda text: b"[]"),
        "of type 'text/plain'",
    ),
    "nothing that is no object": (
        served(None, lambda text: b"ok"),
        "of no type",
    ),
}
UNREADABLE = {
    "UTF-16": (
        served("application/json", utf_16),
        "in UTF-16 or UTF-32; JSON must be in UTF-8",
    ),
    "UTF-16 without a mark": (
        served("application/octet-stream", utf_16_unmarked),
        "in UTF-16 or UTF-32; JSON must be in UTF-8",
    ),
    "member twice, in text": (served("text/plain", twice), "a member occurs twice"),
    "two marks": (
        served("application/json", lambda text: codecs.BOM_UTF8 + marked(text)),
        "Expecting value: line 1 column 1 (char 0)",
    ),
}


@pytest.mark.parametrize(
    ("serve", "fault"),
    [
        *((serve, f" is {found}; expected JSON") for serve, found in REFUSED.values()),
        *((serve, f": {fault}") for serve, fault in UNREADABLE.values()),
    ],
    ids=[*REFUSED, *UNREADABLE],
)
def test_key_set_that_is_none_is_refused_with_the_reason(
    serve: Fault,
    fault: str,
    kind: str,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.faults[KEYS] = serve
    with opened(kind, resource_server(upstream)) as middleware:
        answer = middleware.ask(upstream.signer.token("https://api.example.com"))
    reason, detail = told(caplog)

    assert (answer.status, reason) == (503, "keys_unusable")
    assert detail.endswith(f"{KEYS}{fault}")


@pytest.mark.parametrize(("serve", "found"), REFUSED.values(), ids=REFUSED)
def test_metadata_that_is_none_is_looked_for_elsewhere(
    serve: Fault,
    found: str,
    kind: str,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.faults[METADATA] = serve
    with opened(kind, resource_server(upstream)) as middleware:
        answer = middleware.ask(upstream.signer.token("https://api.example.com"))
    reason, detail = told(caplog)

    assert (answer.status, reason) == (503, "metadata_not_found")
    assert upstream.calls == [METADATA, OPENID]
    assert f"{METADATA} (200, {found}), " in detail


@pytest.mark.parametrize(("serve", "fault"), UNREADABLE.values(), ids=UNREADABLE)
def test_metadata_that_cannot_be_read_is_refused_with_the_reason(
    serve: Fault,
    fault: str,
    kind: str,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.faults[METADATA] = serve
    with opened(kind, resource_server(upstream)) as middleware:
        answer = middleware.ask(upstream.signer.token("https://api.example.com"))
    reason, detail = told(caplog)

    assert (answer.status, reason) == (503, "metadata_unusable")
    assert detail.endswith(f"{METADATA}: {fault}")


@pytest.mark.parametrize(
    ("serve", "fault"),
    [
        pytest.param(
            served("text/html"), "a page for people (text/html), not JSON", id="page"
        ),
        pytest.param(
            served("text/plain"),
            "Content-Type is 'text/plain'; expected application/json",
            id="text",
        ),
        pytest.param(
            served(None), "Content-Type is ''; expected application/json", id="none"
        ),
        pytest.param(
            served("application/token-introspection+jwt"),
            "signed; say Introspection(signed=True)",
            id="signed",
        ),
        pytest.param(
            served("application/json", utf_16),
            "in UTF-16 or UTF-32; JSON must be in UTF-8",
            id="UTF-16",
        ),
        pytest.param(
            served("application/json", twice), "a member occurs twice", id="twice"
        ),
    ],
)
def test_introspection_answer_that_is_none_is_refused_with_the_reason(
    serve: Fault,
    fault: str,
    kind: str,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A program writes it: there is no static host whose media types must do."""
    upstream.active[OPAQUE] = {"active": True, "sub": "u-1", "client_id": "c-1"}
    upstream.faults[INTROSPECTION] = serve
    server = resource_server(upstream, introspection=ASKED)
    with opened(kind, server) as middleware:
        answer = middleware.ask(OPAQUE)
    reason, detail = told(caplog)

    assert (answer.status, reason) == (503, "introspection_unusable")
    assert detail.endswith(f": {fault}")


def test_signed_introspection_asks_for_nothing_else(
    kind: str, upstream: Upstream
) -> None:
    """A server that may choose would answer without a signature (RFC 9701 §4)."""
    accepted: list[str] = []

    def note(exchange: Exchange) -> None:
        accepted.append(exchange.fields["accept"])
        exchange.answer_well()

    upstream.faults[INTROSPECTION] = note
    signed = Introspection("notes-api", client_secret="s", signed=True)
    with opened(kind, resource_server(upstream, introspection=signed)) as middleware:
        answer = middleware.ask(OPAQUE)

    assert answer.status == 503
    assert accepted == ["application/token-introspection+jwt"]
