"""What is sent for a ``Fetch``: address, headers and form, our credentials included.

httpx sends it; nothing in here waits for anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.addresses import check_host
from agentauth_middleware._io.client_credentials import (
    Form,
    build_client_authentication,
)

if TYPE_CHECKING:
    import httpx

__all__ = [
    "OutgoingRequest",
    "build_request",
    "described",
    "pin",
    "place_of",
    "public_url",
]

# Gzip alone, because it can be unpacked up to a limit. httpx would offer more, and
# unpack each piece whole: a few kilobytes could fill the memory.
_ACCEPT_ENCODING = "gzip"
_FORM = "application/x-www-form-urlencoded"
_MAX_ADDRESSES = 4
"""How many of a host are tried, while nobody listens there."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """What is sent. Never shown: it has our credentials and somebody's token."""

    url: str | httpx.URL
    headers: Mapping[str, str]
    content: bytes | None
    """Where there is some, it is posted."""
    connect_timeout: float
    extensions: Mapping[str, Any]
    auth: Any
    """Ours is in the headers; this is httpx's, which a client handed in may have."""

    __repr__ = object.__repr__

    def arguments(self) -> dict[str, Any]:
        """For a client's ``stream``, all but the limits of time."""
        return {
            "method": "GET" if self.content is None else "POST",
            "url": self.url,
            "headers": self.headers,
            "content": self.content,
            "extensions": self.extensions,
            "auth": self.auth,
            "follow_redirects": False,
        }


def build_request(fetch: Fetch) -> OutgoingRequest:
    """What *fetch* asks to be sent.

    Raises:
        ValueError: what it would say is no text.
    """
    import httpx

    headers = {"Accept": fetch.accept, "Accept-Encoding": _ACCEPT_ENCODING}
    form = fetch.form
    auth: Any = httpx.USE_CLIENT_DEFAULT
    if fetch.etag is not None and fetch.etag.isascii():  # Else httpx cannot send it.
        headers["If-None-Match"] = fetch.etag
    if fetch.authentication is not None:
        our_headers, our_form = build_client_authentication(
            fetch.authentication, int(time.time())
        )
        headers.update(our_headers)
        form += our_form
        auth = None  # Two ways at once are refused (RFC 6749 §2.3).
    if form:
        headers["Content-Type"] = _FORM
    content = _encode(form) if form else None
    return OutgoingRequest(fetch.url, headers, content, fetch.timeout, {}, auth)


def _encode(form: Form) -> bytes:
    # The error of encoding holds all that was to be encoded; so it must not get out.
    with suppress(UnicodeEncodeError):
        return urlencode(form).encode()
    raise ValueError("a form that is no text")


def public_url(fetch: Fetch) -> httpx.URL:
    """The URL, unless it says by itself that it is not public.

    As httpx understands it: what is checked has to be what is connected to.

    Raises:
        NotPublicError: it does.
    """
    import httpx

    url = httpx.URL(fetch.url)
    check_host(_host(url))
    return url


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode()


def place_of(url: httpx.URL) -> tuple[str, int]:
    """Host and port to connect to."""
    return _host(url), url.port or (443 if url.scheme == "https" else 80)


def pin(
    request: OutgoingRequest, url: httpx.URL, addresses: Sequence[str]
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
