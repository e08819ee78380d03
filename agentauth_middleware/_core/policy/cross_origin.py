"""CORS: preflights of pages of other origins, and headers that let them read answers.

A browser sends no credentials with a preflight, and many frameworks run handlers on
one. So the middleware answers it, or refuses it as it refuses any request without
credentials, unless the operator wants the application to see it.

Source: Fetch Standard, section 3.2 (HTTP CORS protocol)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agentauth_middleware._syntax.http import EXPOSED, Request, Response
from agentauth_middleware.settings.resource_server import ResourceServer

ALLOW_ORIGIN = "access-control-allow-origin"
_ALLOW_CREDENTIALS = "access-control-allow-credentials"
_EXPOSE_HEADERS = "access-control-expose-headers"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MAX_NAMES = 2048
"""Characters of the header names that one preflight may ask for."""
_MAX_AGE = "7200"
"""Seconds for which a browser need not ask again; Chromium keeps none for longer."""
_ASKS_METHOD = "access-control-request-method"
_ASKS_HEADERS = "access-control-request-headers"
_OF_PREFLIGHTS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "access-control-request-local-network",
        "access-control-request-private-network",
        _ASKS_HEADERS,
        _ASKS_METHOD,
        "connection",
        "content-length",
        "forwarded",
        "host",
        "origin",
        "referer",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "traceparent",
        "tracestate",
        "user-agent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    }
)


class CrossOrigin:
    """Which pages may read what one resource server answers."""

    def __init__(self, server: ResourceServer) -> None:
        self._listed = frozenset(server.browser_origins)
        self._lists_all = "*" in self._listed
        self.is_used = bool(self._listed)
        """Whether pages of any other origin may read anything but the metadata."""

    def answer_preflight(self, request: Request) -> Response | None:
        """The answer to *request*, a preflight, if pages of its origin may call."""
        origin = self._allowed(request)
        if origin is None:
            return None
        headers = [
            (ALLOW_ORIGIN, origin),
            ("access-control-allow-methods", request.header(_ASKS_METHOD) or ""),
            ("access-control-max-age", _MAX_AGE),
            ("vary", f"origin, {_ASKS_METHOD}, {_ASKS_HEADERS}"),
        ]
        names = ", ".join(_names(request.header(_ASKS_HEADERS) or ""))
        if names:
            headers.append(("access-control-allow-headers", names))
        return Response(204, tuple(headers), b"")

    def let_read(
        self, request: Request, headers: Sequence[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """The *headers* of the answer to *request*, readable for pages that may call.

        Where the application has said itself who may read it, that holds.
        """
        names = {name.lower() for name, _ in headers}
        if ALLOW_ORIGIN in names:
            return list(headers)
        opened = list(headers)
        if not self._lists_all:
            opened.append(("vary", "Origin"))  # for every origin: caches need it
        origin = self._allowed(request)
        if origin is None:
            return opened
        # Starlette's CORS middleware sends this with every answer; alone it means
        # nothing.
        opened = [line for line in opened if line[0].lower() != _ALLOW_CREDENTIALS]
        opened.append((ALLOW_ORIGIN, origin))
        if _EXPOSE_HEADERS not in names:
            opened.append((_EXPOSE_HEADERS, EXPOSED))
        return opened

    def _allowed(self, request: Request) -> str | None:
        """What an answer says of the origin of *request*, if pages of it may call."""
        if self._lists_all:
            return "*"
        origin = request.header("origin")
        return origin if origin in self._listed else None


def is_preflight(request: Request) -> bool:
    """Whether *request* is a CORS preflight. One with a body is an ordinary request
    that only looks like a preflight.
    """
    header = request.header
    return (
        request.method == "OPTIONS"
        and header("origin") is not None
        and _TOKEN.fullmatch(header(_ASKS_METHOD) or "") is not None
        and header("transfer-encoding") is None
        and header("content-length") in (None, "", "0")
    )


def is_sent_with_preflights(name: str) -> bool:
    """Whether browsers or proxies send the header *name* (lower case) with a preflight.
    Others could turn it into another request: an identity, a method override.
    """
    return name in _OF_PREFLIGHTS


def _names(field: str) -> Iterator[str]:
    """The header names in *field* that may stand in an answer as well."""
    if len(field) > _MAX_NAMES:
        return
    for name in field.split(","):
        if _TOKEN.fullmatch(stripped := name.strip(" \t")):
            yield stripped
