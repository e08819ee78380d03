"""The body of a reply, up to a limit: while it goes in the pipe, and once unpacked."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, TypeAlias

import anyio

from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.outgoing import described
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["check_size", "read_body", "read_body_async"]

Response: TypeAlias = "httpx.Response | httpx2.Response"

_GZIP = zlib.MAX_WBITS | 16


def read_body(fetch: Fetch, response: Response, deadline: float) -> bytes:
    """The body of *response*, read until *deadline* on the monotonic clock.

    Raises:
        TimeoutError: it was not all there by then.
        UnavailableError: it is too long, or encoded in a way we did not ask for.
        zlib.error: it is not encoded as it says.
    """
    if response.is_stream_consumed:
        return _read_already(fetch, response)
    packed = bytearray()
    for piece in response.iter_raw():
        if time.monotonic() > deadline:
            raise TimeoutError
        packed += piece
        check_size(fetch, packed)
    return _unpack(fetch, response, packed)


async def read_body_async(fetch: Fetch, response: Response) -> bytes:
    """``read_body``, awaited; the caller limits the time.

    Raises:
        UnavailableError: as ``read_body`` does.
        zlib.error: it is not encoded as it says.
    """
    if response.is_stream_consumed:
        return _read_already(fetch, response)
    packed = bytearray()
    with anyio.CancelScope() as reading:
        async for piece in response.aiter_raw():
            packed += piece
            if len(packed) > fetch.max_bytes:
                # Not by leaving the loop: httpx's generators would be dropped
                # half-way, and trio warns of that.
                reading.cancel()
    check_size(fetch, packed)
    return _unpack(fetch, response, packed)


def _read_already(fetch: Fetch, response: Response) -> bytes:
    """The body from a transport without a wire, ``httpx.MockTransport`` say."""
    check_size(fetch, response.content)
    return response.content


def _unpack(fetch: Fetch, response: Response, packed: bytearray) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity" or not packed:
        return bytes(packed)
    if encoding not in ("gzip", "x-gzip"):
        raise UnavailableError(
            Reason.UPSTREAM_UNREACHABLE,
            f"{described(fetch)}: encoded in a way we did not ask",
        )
    unpacker = zlib.decompressobj(_GZIP)
    body = unpacker.decompress(packed, fetch.max_bytes + 1)
    check_size(fetch, body)
    if not unpacker.eof:
        raise zlib.error
    return body


def check_size(fetch: Fetch, body: bytes | bytearray) -> None:
    """Refuse what is longer than *fetch* allows.

    Raises:
        UnavailableError: it is.
    """
    if len(body) > fetch.max_bytes:
        raise UnavailableError(
            Reason.UPSTREAM_TOO_LARGE,
            f"{described(fetch)}: the body is longer than {fetch.max_bytes} bytes",
        )
