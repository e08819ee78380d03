"""Reading a request body: of one media type, of limited length, in limited time."""

from __future__ import annotations

from urllib.parse import parse_qsl

import anyio
from starlette.requests import ClientDisconnect, Request

from agentauth_middleware.authorization_server.refusals import (
    BodyTimedOut,
    GrantRefused,
)

__all__ = ["MAX_BYTES", "MAX_SECONDS", "BodyRefused", "read_body", "read_form"]

MAX_BYTES = 64 * 1024
MAX_SECONDS = 10.0


class BodyRefused(Exception):
    """There is no body that could be read; each endpoint says so in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status where a standard names no other."""
        self.message = message


async def read_body(request: Request, media_type: str) -> bytes:
    """The body, if it is of *media_type* and not too long.

    Raises:
        BodyRefused: it is not.
        BodyTimedOut: it did not come.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != media_type:
        raise BodyRefused(415, f"send {media_type}")
    try:
        with anyio.fail_after(MAX_SECONDS):
            return await _read_all(request)
    except ClientDisconnect:
        raise BodyRefused(400, "the body broke off") from None
    except TimeoutError:
        raise BodyTimedOut(MAX_SECONDS) from None


async def _read_all(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BodyRefused(413, f"send {MAX_BYTES} bytes at most")
    return bytes(body)


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of an OAuth request; an empty one counts as absent.

    Raises:
        GrantRefused: it is no form, or a parameter is repeated (RFC 6749 §3.2).
        BodyTimedOut: it did not come.
    """
    try:
        body = await read_body(request, "application/x-www-form-urlencoded")
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except BodyRefused as refused:
        raise GrantRefused("invalid_request", refused.message) from None
    except ValueError:
        raise GrantRefused("invalid_request", "the form is malformed") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise GrantRefused("invalid_request", "a parameter is repeated")
    return {name: value for name, value in parameters.items() if value}
