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

httpx, or httpx2, is imported with the first client, not before: a middleware whose keys
are given never needs it.
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
from agentauth_middleware._io.libraries import errors, library_of, own_library
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
    from types import ModuleType

    import httpx
    import httpx2

__all__ = ["AsyncHTTPClient", "BlockingHTTPClient", "Certificates"]

FindAddresses: TypeAlias = Callable[[str, int], Sequence[str]]
BlockingClient: TypeAlias = "httpx.Client | httpx2.Client"
AsyncClient: TypeAlias = "httpx.AsyncClient | httpx2.AsyncClient"
Response: TypeAlias = "httpx.Response | httpx2.Response"


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
        with suppress(OSError, ValueError):
            own_library().Client(verify=self.load()).close()


@lru_cache(maxsize=2)
def _read_certificates(named: tuple[str | None, ...], kind: str) -> ssl.SSLContext:
    """Those that the environment has *named* as httpx reads it, in a context of the
    *kind* in use; shared by all middlewares."""
    context: ssl.SSLContext = own_library().create_ssl_context()
    return context


class BlockingHTTPClient:
    """One pooled client per process."""

    def __init__(
        self,
        http_client: BlockingClient | None = None,
        certificates: Certificates | None = None,
        find_addresses: FindAddresses = public_addresses,
    ) -> None:
        """*http_client*: use this one, for everything. *find_addresses* gives those of
        a host that may be connected to."""
        self._given = http_client
        self._given_library = _library_of_given(http_client, "Client")
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
        library = self._given_library or own_library()
        url = public_url(fetch, library)
        if self._given is not None:
            return self._send(self._given, fetch, request, deadline)
        context = self._certificates.load()
        proxy = find_proxy(url.scheme, url.netloc.decode())
        with library.Client(verify=context, proxy=proxy, trust_env=False) as client:
            if proxy is not None:
                return self._send(client, fetch, request, deadline)
            addresses = self._find_addresses(*place_of(url))
            *others, last = pin(request, url, addresses)
            for pinned in others:
                with suppress(*errors("ConnectError", "ConnectTimeout")):
                    return self._send(client, fetch, pinned, deadline)
            return self._send(client, fetch, last, deadline)

    def _send(
        self,
        client: BlockingClient,
        fetch: Fetch,
        request: OutgoingRequest,
        deadline: float,
    ) -> Reply:
        usual = fetch.timeout
        timeout = (request.connect_timeout, usual, usual, usual)
        with client.stream(**request.arguments(), timeout=timeout) as response:
            return _reply(response, read_body(fetch, response, deadline))

    def _client(self) -> BlockingClient:
        return self._clients.get() if self._given is None else self._given

    def _make(self) -> BlockingClient:
        client: BlockingClient = own_library().Client(verify=self._certificates.load())
        closing = weakref.finalize(self, client.close)
        closing.atexit = False  # A daemon thread may be using it to the last.
        return client


class AsyncHTTPClient:
    """One pooled client per event loop, closed as the loop ends."""

    def __init__(
        self,
        http_client: AsyncClient | None = None,
        certificates: Certificates | None = None,
        find_addresses: FindAddresses = public_addresses,
    ) -> None:
        """*http_client*: use this one, for everything. *find_addresses* gives those of
        a host that may be connected to; it may block."""
        self._given = http_client
        self._given_library = _library_of_given(http_client, "AsyncClient")
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
        library = self._given_library or own_library()
        url = public_url(fetch, library)
        if self._given is not None:
            return await self._send(self._given, fetch, request)
        context = self._certificates.load()
        proxy = find_proxy(url.scheme, url.netloc.decode())
        async with library.AsyncClient(
            verify=context, proxy=proxy, trust_env=False
        ) as client:
            if proxy is not None:
                return await self._send(client, fetch, request)
            find = partial(self._find_addresses, *place_of(url))
            addresses = await self._threads.run(find, at=_place(fetch))
            *others, last = pin(request, url, addresses)
            for pinned in others:
                with suppress(*errors("ConnectError", "ConnectTimeout")):
                    return await self._send(client, fetch, pinned)
            return await self._send(client, fetch, last)

    async def _send(
        self, client: AsyncClient, fetch: Fetch, request: OutgoingRequest
    ) -> Reply:
        timeout = (request.connect_timeout, None, None, None)
        async with client.stream(**request.arguments(), timeout=timeout) as response:
            return _reply(response, await read_body_async(fetch, response))

    async def _client(self) -> AsyncClient:
        return await self._clients.get() if self._given is None else self._given

    def _make(self) -> AsyncClient:
        context = self._certificates.load()
        client: AsyncClient = own_library().AsyncClient(verify=context)
        return client


def _library_of_given(http_client: object, kind: str) -> ModuleType | None:
    """Where *http_client* is from, which must be of the class *kind*; ``None`` for
    none.

    Raises:
        ConfigurationError: names the argument, its fault and the fix.
    """
    if http_client is None:
        return None
    library = library_of(http_client, kind)
    if library is None:
        raise ConfigurationError(
            f"http_client: {http_client!r} does not fit; this needs an httpx.{kind}() "
            f"or an httpx2.{kind}()"
        )
    return library


async def _close_async(client: AsyncClient) -> None:
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
    try:
        yield
    except NotPublicError as fault:
        raise UnavailableError(
            "upstream_refused", f"{described(fetch)}: not a public address"
        ) from fault
    except _timeouts() as fault:
        raise UnavailableError("upstream_timeout", _told(fetch, fault)) from fault
    except _faults() as fault:
        raise UnavailableError("upstream_unreachable", _told(fetch, fault)) from fault


def _timeouts() -> tuple[type[Exception], ...]:
    return (TimeoutError, *errors("TimeoutException"))


def _faults() -> tuple[type[Exception], ...]:
    # ValueError: a URL or host name that cannot be one. Ours, that of a proxy, or that
    # of a redirect, which is read though it is not followed.
    return (*errors("HTTPError", "InvalidURL"), OSError, ValueError, zlib.error)


def _told(fetch: Fetch, fault: Exception) -> str:
    # The fault's own text may quote what the server sent.
    return f"{described(fetch)}: {type(fault).__name__}"


def _reply(response: Response, body: bytes) -> Reply:
    return Reply(response.status_code, dict(response.headers), body)
