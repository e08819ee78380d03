"""Carrying out a ``Fetch`` within its limits.

Both clients do the same: GET or POST, no redirects, a limit for the whole exchange and
one for the body, both while it goes in the pipe and after it is unpacked. Whatever goes
wrong on the way is an ``UnavailableError`` whose text has the URL and the kind of
fault, but nothing the server said and nothing that we sent.

Our own clients have httpx's settings: connections are pooled, and certificates are
checked against its bundle. Variables such as ``HTTPS_PROXY``, ``NO_PROXY`` and
``SSL_CERT_FILE`` are honoured, because operators depend on them. A client that is
handed in is used as it is and never closed here.

What is wrong with those variables is a ``ConfigurationError`` at start. Where the
environment has changed since, or the server has no start-up phase, it is met by a
fetch: then it is our trouble, and an ``UnavailableError``.

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
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.addresses import (
    AddressCounts,
    NotPublicError,
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
from agentauth_middleware._io.proxies import find_proxy, named_proxies
from agentauth_middleware._io.threads import AsyncThreads, BlockingThreads
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.reasons import Reason

if TYPE_CHECKING:
    import ssl
    from types import ModuleType

    import httpx
    import httpx2

__all__ = ["AsyncHTTPClient", "BlockingHTTPClient", "Certificates"]

FindAddresses: TypeAlias = Callable[[str, int], Sequence[str]]
BlockingClient: TypeAlias = "httpx.Client | httpx2.Client"
AsyncClient: TypeAlias = "httpx.AsyncClient | httpx2.AsyncClient"
URL: TypeAlias = "httpx.URL | httpx2.URL"
Response: TypeAlias = "httpx.Response | httpx2.Response"


class Certificates:
    """The certificates that TLS trusts: read once, which takes some 20 ms, for all
    clients."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    def load(self) -> ssl.SSLContext:
        """What httpx would load for each client.

        Raises:
            ConfigurationError: the environment names a bundle that cannot be read.
        """
        import ssl

        # gevent has a class of its own. What was made before it patched would block
        # the whole process, or fail.
        kind = ssl.SSLContext
        if not isinstance(self._context, kind):
            named = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            try:
                self._context = _read_certificates(named, kind.__module__)
            except (OSError, ValueError) as fault:
                raise ConfigurationError(_told_of_certificates(fault)) from fault
        return self._context

    def check_environment(self) -> None:
        """Load them ahead, and make sure that clients can be made.

        Raises:
            ConfigurationError: a variable of the environment prevents it; names that.
        """
        context = self.load()
        library = own_library()
        for variable, url in named_proxies():
            try:
                library.Client(verify=context, proxy=url, trust_env=False).close()
            except _faults_of_proxies() as fault:
                raise ConfigurationError(_told_of_proxy(variable, fault)) from fault
        library.Client(verify=context, trust_env=False).close()


def _told_of_certificates(fault: Exception) -> str:
    names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    named = names[0] if names else "the certificates of certifi"
    return (
        f"{named}: cannot be read ({type(fault).__name__}); name a bundle of "
        "certificates in PEM, or unset it"
    )


def _faults_of_proxies() -> tuple[type[Exception], ...]:
    return (ImportError, ValueError, *errors("InvalidURL"))


def _told_of_proxy(variable: str, fault: Exception) -> str:
    """Without its URL, which may have a password."""
    if isinstance(fault, ImportError):
        return (
            f"{variable}: a SOCKS proxy, for which a package is missing; install "
            '"httpx[socks]", or unset it'
        )
    return (
        f"{variable}: cannot be used as a proxy ({type(fault).__name__}); write "
        "http://host:port, or unset it"
    )


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
        self._address_counts = AddressCounts()
        self._clients = PerProcess(dict[str | None, BlockingClient])
        self._threads = BlockingThreads()

    def check_environment(self) -> None:
        """As ``Certificates.check_environment``, if clients will be made here."""
        if self._given is None:
            self._certificates.check_environment()

    def close(self) -> None:
        """Close what was made here. A later fetch makes it anew."""
        for client in (self._clients.pop() or {}).values():
            client.close()

    def carry_out(self, fetch: Fetch) -> Reply:
        """Carry out *fetch*, in a thread of its own.

        The time limit holds for everything, also for what cannot be interrupted: the
        look-up of the name, and a server that sends its headers byte by byte. Then the
        thread is left behind. After a few such threads the server is not asked again
        until one of them has ended. Where no thread can be started, those two are not
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
        if self._given is not None:
            return self._send(self._given, fetch, request, deadline)
        proxy, url = _way_of(fetch)
        share = self._address_counts.share(fetch.timeout, *place_of(url))
        request = replace(request, connect_timeout=share)
        return self._send(self._client_by(proxy), fetch, request, deadline)

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

    def _client_by(self, proxy: str | None) -> BlockingClient:
        """One of our own for each proxy that is in use, and one for none."""
        clients = self._clients.get()
        return clients.get(proxy) or clients.setdefault(proxy, self._make(proxy))

    def _make(self, proxy: str | None) -> BlockingClient:
        client: BlockingClient = own_library().Client(
            verify=self._certificates.load(), proxy=proxy, trust_env=False
        )
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
        self._clients = PerLoop(dict[str | None, AsyncClient], _close_all)
        self._threads = AsyncThreads()

    def check_environment(self) -> None:
        """As ``Certificates.check_environment``, if clients will be made here."""
        if self._given is None:
            self._certificates.check_environment()

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
            return await self._send(await self._client_for(fetch), fetch, request)

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

    async def _client_for(self, fetch: Fetch) -> AsyncClient:
        """One of our own for each proxy that is in use, and one for none."""
        if self._given is not None:
            return self._given
        (proxy, _), clients = _way_of(fetch), await self._clients.get()
        if proxy not in clients:
            clients[proxy] = own_library().AsyncClient(
                verify=self._certificates.load(), proxy=proxy, trust_env=False
            )
        return clients[proxy]


def _way_of(fetch: Fetch) -> tuple[str | None, URL]:
    """The proxy that *fetch* goes through, if any, and where to connect to."""
    library = own_library()
    url: URL = library.URL(fetch.url)
    proxy = find_proxy(url.scheme, url.netloc.decode())
    return proxy, url if proxy is None else library.URL(proxy)


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


async def _close_all(clients: Mapping[str | None, AsyncClient]) -> None:
    for client in clients.values():
        await client.aclose()


def _place(fetch: Fetch) -> str:
    """The issuer of *fetch*; without one, scheme, host and port of the URL."""
    return fetch.issuer or "/".join(fetch.url.split("/", 3)[:3])


def _reply_from_file(fetch: Fetch) -> Reply:
    if fetch.public_only:
        raise NotPublicError
    body = read_file(fetch.url, fetch.max_bytes)
    check_size(fetch, body)
    return Reply(200, {"content-type": "application/json"}, body)


@contextmanager
def _faults_told(fetch: Fetch) -> Generator[None, None, None]:
    """Turn errors of the exchange into ``UnavailableError``."""
    try:
        yield
    except NotPublicError as fault:
        raise UnavailableError(
            Reason.UPSTREAM_REFUSED, f"{described(fetch)}: not a public address"
        ) from fault
    except ConfigurationError as fault:
        raise UnavailableError(Reason.HTTP_CLIENT_UNUSABLE, str(fault)) from fault
    except _timeouts() as fault:
        raise UnavailableError(Reason.UPSTREAM_TIMEOUT, _told(fetch, fault)) from fault
    except _faults() as fault:
        raise UnavailableError(
            Reason.UPSTREAM_UNREACHABLE, _told(fetch, fault)
        ) from fault


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
