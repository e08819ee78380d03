"""Carrying out a ``Fetch`` within its limits.

Both clients do the same: GET or POST, no redirects, a limit for the whole exchange and
one for the body, both while it goes in the pipe and after it is unpacked. Whatever goes
wrong on the way is an ``UnavailableError`` whose text has the URL and the kind of
fault, but nothing the server said and nothing that we sent.

The client's own settings are httpx's: connections are pooled, certificates checked
against its bundle, and ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` and the like
are honoured, because operators depend on them. Who wants it otherwise hands in a
client, which is used as it is and never closed here.

A fetch that is for public addresses only has a client for itself. In a pool a
connection is known by the address it goes to, and one whose certificate was checked
for one name would serve all others there. With a client handed in nobody here knows
where its connections go: then only a host that says itself that it is private is
refused.

httpx is imported with the first client, not before: a door whose keys are given
never needs it.
"""

from __future__ import annotations

import os
import time
import weakref
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.addresses import (
    NotPublicError,
    find_proxy,
    public_addresses,
)
from agentauth_middleware._io.bodies import check_size, read_body, read_body_async
from agentauth_middleware._io.files import is_file_url, read_file
from agentauth_middleware._io.lifetimes import PerLoop, PerProcess
from agentauth_middleware._io.outgoing import (
    OutgoingRequest,
    build_request,
    described,
    pin,
    place_of,
    public_url,
)
from agentauth_middleware._io.threads import AsyncThreads, BlockingThreads
from agentauth_middleware.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["AsyncHTTPClient", "BlockingHTTPClient", "Certificates"]

FindAddresses: TypeAlias = Callable[[str, int], Sequence[str]]


class Certificates:
    """Whom TLS trusts: read once, which takes some 20 ms, and then for all clients."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    def load(self) -> ssl.SSLContext:
        """What httpx would load for each client.

        Raises:
            OSError: the environment names a bundle that cannot be read.
        """
        import ssl

        # gevent has a class of its own. What was made before it patched would block
        # the whole process, or fail.
        kind = ssl.SSLContext
        if not isinstance(self._context, kind):
            named = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            self._context = _read_certificates(named, kind.__module__)
        return self._context

    def prepare(self) -> None:
        """Load them ahead, if they can be, and what httpx imports for a first client.

        If they cannot, it is told once they are needed.
        """
        if self._context is not None:
            return
        import httpx

        with suppress(OSError, ValueError):
            httpx.Client(verify=self.load()).close()


@lru_cache(maxsize=2)
def _read_certificates(named: tuple[str | None, ...], kind: str) -> ssl.SSLContext:
    """Those that the environment has *named* as httpx reads it, in a context of the
    *kind* in use; shared by all middlewares."""
    import httpx

    return httpx.create_ssl_context()


class BlockingHTTPClient:
    """One pooled client per process."""

    def __init__(
        self,
        http_client: httpx.Client | None = None,
        certificates: Certificates | None = None,
        find_addresses: FindAddresses = public_addresses,
    ) -> None:
        """*http_client*: use this one, for everything. *find_addresses* gives those of
        a host that may be connected to."""
        if http_client is not None:
            _check_given(http_client, "Client")
        self._given = http_client
        self._certificates = certificates or Certificates()
        self._find_addresses = find_addresses
        self._clients = PerProcess(self._make)
        self._threads = BlockingThreads()

    def prepare(self) -> None:
        """Load the certificates ahead, if this will need any."""
        if self._given is None:
            self._certificates.prepare()

    def close(self) -> None:
        """Close what was made here. A later fetch makes it anew."""
        client = self._clients.pop()
        if client is not None:
            client.close()

    def carry_out(self, fetch: Fetch) -> Reply:
        """Carry out *fetch*, in a thread of its own.

        The limit of time holds for everything, also for what cannot be ended: how long
        the name is looked up, and a server that sends its headers byte by byte. Then
        the thread is left behind; a few such, and the server is not asked any more
        till one of them has ended. Where no thread can be started, those two are not
        bounded, and the rest may take up to *timeout* longer than it should.

        Raises:
            UnavailableError: ``upstream_unreachable``, ``upstream_timeout``,
                ``upstream_too_large`` or ``upstream_refused``.
        """
        exchange = partial(self._exchange, fetch, time.monotonic() + fetch.timeout)
        with _faults_told(fetch):
            return self._threads.run(exchange, at=_place(fetch), timeout=fetch.timeout)

    def _exchange(self, fetch: Fetch, deadline: float) -> Reply:
        if is_file_url(fetch.url):
            return _reply_from_file(fetch)
        request = build_request(fetch)
        if fetch.public_only:
            return self._exchange_in_public(fetch, request, deadline)
        return self._send(self._client(), fetch, request, deadline)

    def _exchange_in_public(
        self, fetch: Fetch, request: OutgoingRequest, deadline: float
    ) -> Reply:
        import httpx

        url = public_url(fetch)
        if self._given is not None:
            return self._send(self._given, fetch, request, deadline)
        context = self._certificates.load()
        proxy = find_proxy(url.scheme, url.netloc.decode())
        with httpx.Client(verify=context, proxy=proxy, trust_env=False) as client:
            if proxy is not None:
                return self._send(client, fetch, request, deadline)
            addresses = self._find_addresses(*place_of(url))
            *others, last = pin(request, url, addresses)
            for pinned in others:
                with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return self._send(client, fetch, pinned, deadline)
            return self._send(client, fetch, last, deadline)

    def _send(
        self,
        client: httpx.Client,
        fetch: Fetch,
        request: OutgoingRequest,
        deadline: float,
    ) -> Reply:
        import httpx

        timeout = httpx.Timeout(fetch.timeout, connect=request.connect_timeout)
        with client.stream(**request.arguments(), timeout=timeout) as response:
            return _reply(response, read_body(fetch, response, deadline))

    def _client(self) -> httpx.Client:
        return self._clients.get() if self._given is None else self._given

    def _make(self) -> httpx.Client:
        import httpx

        client = httpx.Client(verify=self._certificates.load())
        closing = weakref.finalize(self, client.close)
        closing.atexit = False  # A daemon thread may be using it to the last.
        return client


class AsyncHTTPClient:
    """One pooled client per event loop, closed as the loop ends."""

    def __init__(
        self,
        http_client: httpx.AsyncClient | None = None,
        certificates: Certificates | None = None,
        find_addresses: FindAddresses = public_addresses,
    ) -> None:
        """*http_client*: use this one, for everything. *find_addresses* gives those of
        a host that may be connected to; it may block."""
        if http_client is not None:
            _check_given(http_client, "AsyncClient")
        self._given = http_client
        self._certificates = certificates or Certificates()
        self._find_addresses = find_addresses
        self._clients = PerLoop(self._make, _close_async)
        self._threads = AsyncThreads()

    def prepare(self) -> None:
        """Load the certificates ahead, if this will need any."""
        if self._given is None:
            self._certificates.prepare()

    async def open(self) -> None:
        """Make the client now and not at the first fetch."""
        await self._client()

    async def aclose(self) -> None:
        """Close what was made here for this loop. A later fetch makes it anew."""
        await self._clients.aclose()

    async def carry_out(self, fetch: Fetch) -> Reply:
        """Carry out *fetch*; the limit of time holds for everything.

        Raises:
            UnavailableError: ``upstream_unreachable``, ``upstream_timeout``,
                ``upstream_too_large`` or ``upstream_refused``.
        """
        with _faults_told(fetch), anyio.fail_after(fetch.timeout):
            if is_file_url(fetch.url):
                read = partial(_reply_from_file, fetch)
                return await self._threads.run(read, at=_place(fetch))
            request = build_request(fetch)
            if fetch.public_only:
                return await self._exchange_in_public(fetch, request)
            return await self._send(await self._client(), fetch, request)

    async def _exchange_in_public(
        self, fetch: Fetch, request: OutgoingRequest
    ) -> Reply:
        import httpx

        url = public_url(fetch)
        if self._given is not None:
            return await self._send(self._given, fetch, request)
        context = self._certificates.load()
        proxy = find_proxy(url.scheme, url.netloc.decode())
        async with httpx.AsyncClient(
            verify=context, proxy=proxy, trust_env=False
        ) as client:
            if proxy is not None:
                return await self._send(client, fetch, request)
            find = partial(self._find_addresses, *place_of(url))
            addresses = await self._threads.run(find, at=_place(fetch))
            *others, last = pin(request, url, addresses)
            for pinned in others:
                with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return await self._send(client, fetch, pinned)
            return await self._send(client, fetch, last)

    async def _send(
        self, client: httpx.AsyncClient, fetch: Fetch, request: OutgoingRequest
    ) -> Reply:
        import httpx

        timeout = httpx.Timeout(None, connect=request.connect_timeout)
        async with client.stream(**request.arguments(), timeout=timeout) as response:
            return _reply(response, await read_body_async(fetch, response))

    async def _client(self) -> httpx.AsyncClient:
        return await self._clients.get() if self._given is None else self._given

    def _make(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(verify=self._certificates.load())


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


async def _close_async(client: httpx.AsyncClient) -> None:
    await client.aclose()


def _place(fetch: Fetch) -> str:
    """Whose affair it is; else scheme, host and port, of whatever the URL is."""
    return fetch.issuer or "/".join(fetch.url.split("/", 3)[:3])


def _reply_from_file(fetch: Fetch) -> Reply:
    if fetch.public_only:
        raise NotPublicError
    body = read_file(fetch.url, fetch.max_bytes)
    check_size(fetch, body)
    return Reply(200, {"content-type": "application/json"}, body)


@contextmanager
def _faults_told(fetch: Fetch) -> Generator[None, None, None]:
    """Raise what goes wrong inside as ``UnavailableError``."""
    import httpx

    try:
        yield
    except NotPublicError as fault:
        raise UnavailableError(
            "upstream_refused", f"{described(fetch)}: not a public address"
        ) from fault
    except (TimeoutError, httpx.TimeoutException) as fault:
        raise UnavailableError("upstream_timeout", _told(fetch, fault)) from fault
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        OSError,
        # A URL or host name that cannot be one: ours, that of a proxy, or that of a
        # redirect, which httpx reads though it is not followed.
        ValueError,
        zlib.error,
    ) as fault:
        raise UnavailableError("upstream_unreachable", _told(fetch, fault)) from fault


def _told(fetch: Fetch, fault: Exception) -> str:
    # The fault's own text may quote what the server sent.
    return f"{described(fetch)}: {type(fault).__name__}"


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, dict(response.headers), body)
