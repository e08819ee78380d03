"""What is sent for a ``Fetch``: address, headers and form, our credentials included.

httpx sends it; nothing in here waits for anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode

from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.addresses import check_host
from agentauth_middleware._io.client_credentials import (
    Form,
    build_client_authentication,
)

if TYPE_CHECKING:
    from types import ModuleType

    import httpx
    import httpx2

__all__ = [
    "OutgoingRequest",
    "build_request",
    "described",
    "pin",
    "place_of",
    "public_url",
]

URL: TypeAlias = "httpx.URL | httpx2.URL"

# Gzip alone, because it can be unpacked up to a limit. httpx would offer more, and
# unpack each piece whole: a few kilobytes could fill the memory.
_ACCEPT_ENCODING = "gzip"
_FORM = "application/x-www-form-urlencoded"
_MAX_ADDRESSES = 4
"""How many addresses of a host are tried, while none answers."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """What is sent. Never shown: it has our credentials and a client's token."""

    url: str | URL
    headers: Mapping[str, str]
    content: bytes | None
    """Where there is some, it is posted."""
    connect_timeout: float
    extensions: Mapping[str, Any]
    is_authenticated: bool
    """Ours is in the headers or the form. A client handed in may have its own."""

    __repr__ = object.__repr__

    def arguments(self) -> dict[str, Any]:
        """For a client's ``stream``, all but the limits of time."""
        arguments = {
            "method": "GET" if self.content is None else "POST",
            "url": self.url,
            "headers": self.headers,
            "content": self.content,
            "extensions": self.extensions,
            "follow_redirects": False,
        }
        if self.is_authenticated:
            arguments["auth"] = None  # Two ways at once are refused (RFC 6749 §2.3).
        return arguments


def build_request(fetch: Fetch) -> OutgoingRequest:
    """What *fetch* asks to be sent.

    Raises:
        ValueError: what it would say is no text.
    """
    headers = {"Accept": fetch.accept, "Accept-Encoding": _ACCEPT_ENCODING}
    form = fetch.form
    if fetch.etag is not None and fetch.etag.isascii():  # Else httpx cannot send it.
        headers["If-None-Match"] = fetch.etag
    if fetch.authentication is not None:
        our_headers, our_form = build_client_authentication(
            fetch.authentication, int(time.time())
        )
        headers.update(our_headers)
        form += our_form
    if form:
        headers["Content-Type"] = _FORM
    content = _encode(form) if form else None
    return OutgoingRequest(
        fetch.url,
        headers,
        content,
        fetch.timeout,
        {},
        is_authenticated=fetch.authentication is not None,
    )


def _encode(form: Form) -> bytes:
    # The error of encoding holds all that was to be encoded; so it must not get out.
    with suppress(UnicodeEncodeError):
        return urlencode(form).encode()
    raise ValueError("a form that is no text")


def public_url(fetch: Fetch, library: ModuleType) -> URL:
    """The URL, unless its host is a private address or a local name.

    As *library* understands it: what is checked has to be what is connected to.

    Raises:
        NotPublicError: it does.
    """
    url: URL = library.URL(fetch.url)
    check_host(_host(url))
    return url


def _host(url: URL) -> str:
    return url.raw_host.decode()


def place_of(url: URL) -> tuple[str, int]:
    """Host and port to connect to."""
    return _host(url), url.port or (443 if url.scheme == "https" else 80)


def pin(
    request: OutgoingRequest, url: URL, addresses: Sequence[str]
) -> list[OutgoingRequest]:
    """*request* to each of *addresses*, and the certificate still for the name."""
    tried = addresses[:_MAX_ADDRESSES]
    headers = {**request.headers, "Host": url.netloc.decode()}
    extensions = {"sni_hostname": _host(url).rstrip(".")}
    return [
        replace(
            request,
            url=url.copy_with(host=address),
            headers=headers,
            extensions=extensions,
            connect_timeout=request.connect_timeout / len(tried),
        )
        for address in tried
    ]


def described(fetch: Fetch) -> str:
    """What a log may know of the request."""
    return f"{'POST' if fetch.form else 'GET'} {fetch.url}"
