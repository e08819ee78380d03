"""Carrying out a ``Fetch`` over HTTP, within its limits.

Both clients do the same: GET, no redirects, a limit for the whole exchange and one
for the body, both while it goes in the pipe and after it is unpacked. Whatever goes
wrong on the way is an ``UnavailableError`` whose text has the URL and the kind of
fault, but nothing the server said.

The client's own settings are httpx's: connections are pooled, certificates checked
against its bundle, and ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` and the like
are honoured, because operators depend on them. Who wants it otherwise hands in a
client, which is used as it is and never closed here.

httpx is imported with the first client, not before: a door whose keys are given
never needs it.
"""

from __future__ import annotations

import time
import weakref
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.lifetimes import PerLoop, PerProcess
from agentauth_middleware.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncHTTPClient", "BlockingHTTPClient"]

# Gzip alone, because it can be unpacked up to a limit. httpx would offer more, and
# unpack each piece whole: a few kilobytes could fill the memory.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip"}
_GZIP = zlib.MAX_WBITS | 16


class BlockingHTTPClient:
    """One pooled client per process."""

    def __init__(self, http_client: httpx.Client | None = None) -> None:
        """*http_client*: use this one, for everything."""
        if http_client is not None:
            _check_given(http_client, "Client")
        self._given = http_client
        self._clients = PerProcess(self._make)

    def close(self) -> None:
        """Close what was made here. A later ``get`` makes it anew."""
        client = self._clients.pop()
        if client is not None:
            client.close()

    def get(self, fetch: Fetch) -> Reply:
        """Carry out *fetch*.

        Not bounded: how long the name is looked up, and a server that sends its status
        line and headers byte by byte. Otherwise it may take up to *timeout* longer than
        it should, because the last pause of the server can begin just before the limit.

        Raises:
            UnavailableError: ``upstream_unreachable``, ``upstream_timeout`` or
                ``upstream_too_large``.
        """
        deadline = time.monotonic() + fetch.timeout
        with (
            _faults_told(fetch),
            self._client().stream(
                "GET",
                fetch.url,
                headers=_HEADERS,
                follow_redirects=False,
                timeout=fetch.timeout,
            ) as response,
        ):
            return _reply(response, _read(fetch, response, deadline))

    def _client(self) -> httpx.Client:
        return self._clients.get() if self._given is None else self._given

    def _make(self) -> httpx.Client:
        import httpx

        client = httpx.Client()
        closing = weakref.finalize(self, client.close)
        closing.atexit = False  # A daemon thread may be using it to the last.
        return client


class AsyncHTTPClient:
    """One pooled client per event loop, closed as the loop ends."""

    def __init__(self, http_client: httpx.AsyncClient | None = None) -> None:
        """*http_client*: use this one, for everything."""
        if http_client is not None:
            _check_given(http_client, "AsyncClient")
        self._given = http_client
        self._clients = PerLoop(_make_async, _close_async)

    async def open(self) -> None:
        """Make the client now: its TLS settings take some 20 ms to load."""
        await self._client()

    async def aclose(self) -> None:
        """Close what was made here for this loop. A later ``get`` makes it anew."""
        await self._clients.aclose()

    async def get(self, fetch: Fetch) -> Reply:
        """Carry out *fetch*; the limit of time holds for everything.

        Raises:
            UnavailableError: ``upstream_unreachable``, ``upstream_timeout`` or
                ``upstream_too_large``.
        """
        with _faults_told(fetch), anyio.fail_after(fetch.timeout):
            client = await self._client()
            async with client.stream(
                "GET",
                fetch.url,
                headers=_HEADERS,
                follow_redirects=False,
                timeout=None,
            ) as response:
                return _reply(response, await _read_async(fetch, response))

    async def _client(self) -> httpx.AsyncClient:
        return await self._clients.get() if self._given is None else self._given


def _check_given(http_client: object, kind: str) -> None:
    """Refuse what is not of httpx's class *kind*.

    Raises:
        ConfigurationError: names the argument, its fault and the mend.
    """
    import httpx

    if not isinstance(http_client, getattr(httpx, kind)):
        raise ConfigurationError(
            f"http_client: {http_client!r} does not fit; this needs an httpx.{kind}()"
        )


def _make_async() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient()


async def _close_async(client: httpx.AsyncClient) -> None:
    await client.aclose()


@contextmanager
def _faults_told(fetch: Fetch) -> Generator[None, None, None]:
    """Raise what goes wrong inside as ``UnavailableError``."""
    import httpx

    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as fault:
        raise UnavailableError("upstream_timeout", _told(fetch, fault)) from fault
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        OSError,
        ValueError,  # A URL or host name that cannot be one.
        zlib.error,
    ) as fault:
        raise UnavailableError("upstream_unreachable", _told(fetch, fault)) from fault


def _told(fetch: Fetch, fault: Exception) -> str:
    # The fault's own text may quote what the server sent.
    return f"GET {fetch.url}: {type(fault).__name__}"


def _read(fetch: Fetch, response: httpx.Response, deadline: float) -> bytes:
    if response.is_stream_consumed:
        return _read_already(fetch, response)
    packed = bytearray()
    for piece in response.iter_raw():
        if time.monotonic() > deadline:
            raise TimeoutError
        packed += piece
        _check_size(fetch, packed)
    return _unpack(fetch, response, packed)


async def _read_async(fetch: Fetch, response: httpx.Response) -> bytes:
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
    _check_size(fetch, packed)
    return _unpack(fetch, response, packed)


def _read_already(fetch: Fetch, response: httpx.Response) -> bytes:
    """The body from a transport without a wire, ``httpx.MockTransport`` say."""
    _check_size(fetch, response.content)
    return response.content


def _unpack(fetch: Fetch, response: httpx.Response, packed: bytearray) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity" or not packed:
        return bytes(packed)
    if encoding not in ("gzip", "x-gzip"):
        raise UnavailableError(
            "upstream_unreachable", f"GET {fetch.url}: encoded in a way we did not ask"
        )
    unpacker = zlib.decompressobj(_GZIP)
    body = unpacker.decompress(packed, fetch.max_bytes + 1)
    _check_size(fetch, body)
    if not unpacker.eof:
        raise zlib.error
    return body


def _check_size(fetch: Fetch, body: bytes | bytearray) -> None:
    if len(body) > fetch.max_bytes:
        raise UnavailableError(
            "upstream_too_large",
            f"GET {fetch.url}: the body is longer than {fetch.max_bytes} bytes",
        )


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, dict(response.headers), body)
