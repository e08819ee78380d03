"""What goes wrong between us and an authorization server, each by a name.

A fault is put on one path of an upstream, or befalls the whole of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.upstream.server import ELSEWHERE, Exchange, Fault, head_of

TEN_MEGABYTES = 10 * 2**20


def hang(exchange: Exchange) -> None:
    """Say nothing, till the test is over."""
    exchange.over.wait()


def drip_headers(exchange: Exchange) -> None:
    exchange.drip(head_of(2, "200 OK", "application/json") + b"{}")


def drip_body(exchange: Exchange) -> None:
    exchange.send(head_of(10_000, "200 OK", "application/json"))
    exchange.drip(b" " * 10_000)


def hang_up(exchange: Exchange) -> None:
    """Close the connection instead of answering."""


def break_off(exchange: Exchange) -> None:
    """Close the connection in the middle of the body."""
    exchange.send(head_of(1000, "200 OK", "application/json") + b'{"keys": [')


def answer(
    status: str,
    body: bytes = b"{}",
    content_type: str = "application/json",
    *fields: str,
) -> Fault:
    return lambda exchange: exchange.reply(body, status, content_type, *fields)


redirect = answer("302 Found", b"", "text/plain", f"Location: {ELSEWHERE}")
html = answer("200 OK", b"<html><h1>Sign in</h1></html>", "text/html; charset=utf-8")
truncated_json = answer("200 OK", b'{"keys": [{"kty": "EC", "crv": "P-2')
no_object = answer("200 OK", b"[]")


def ten_megabytes(exchange: Exchange) -> None:
    exchange.send(head_of(TEN_MEGABYTES, "200 OK", "application/json"))
    for _ in range(TEN_MEGABYTES // 2**16):
        exchange.send(b" " * 2**16)


def changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """The good document with a change."""

    def answer_changed(exchange: Exchange) -> None:
        assert exchange.document is not None
        exchange.reply(json.dumps(change(dict(exchange.document))).encode())

    return answer_changed


def wrong_content_type(exchange: Exchange) -> None:
    """The good document, said to be something else."""
    exchange.reply(json.dumps(exchange.document).encode(), content_type="text/xml")


PRIVATE = "https://127.0.0.1:9/"
wrong_issuer = changed(lambda members: {**members, "issuer": "https://other.example"})


def into_private_network(members: dict[str, Any]) -> dict[str, Any]:
    urls = {"jwks_uri": PRIVATE + "keys", "introspection_endpoint": PRIVATE + "ask"}
    return {**members, **urls}


private_urls = changed(into_private_network)
