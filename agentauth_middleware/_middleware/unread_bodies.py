"""What a client still sends after its request was refused.

A server that closes a connection without having read everything makes the operating
system send a reset, and the reset destroys an answer that is still on its way: nginx
says 502, other clients see a broken connection. So the answer is sent first, then the
rest of the body is read and dropped, and the connection is closed after that.

How much and how long is limited by settings, and how many requests at a time by
``Allowance``. A request beyond that is answered as if nothing had to be read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import anyio

from agentauth_middleware._core.throttles import SharedSlots, Slots
from agentauth_middleware._io.lingering import linger
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["UNREAD", "Allowance", "UnreadBody", "UnreadInput"]

UNREAD = "agentauth.unread_body"
"""Where a scope and an environ keep what is defined here, for what runs inside."""
_AT_ONCE = 64
"""Connections of a middleware that may be read on from at a time; of those from one
address about half."""
_PIECE = 65536


class Allowance:
    """How much may be read on: settings, and places that requests share."""

    def __init__(self, server: ResourceServer) -> None:
        self.max_bytes = server.discard_bytes
        self.seconds = server.discard_seconds
        self.held_threads = Slots(1)
        """For servers whose own thread has to do it."""
        self._places = SharedSlots(_AT_ONCE)
        self._numbers = count()

    @property
    def is_used(self) -> bool:
        return self.max_bytes > 0 and self.seconds > 0

    def take(self, client: str | None) -> str | None:
        """The name of a place for a request from *client*; ``None`` if none is free."""
        name = str(next(self._numbers))
        return name if self._places.take(name, client or "") else None

    def give_back(self, name: str) -> None:
        self._places.give_back(name)


class UnreadBody:
    """The body of a request on the ASGI side."""

    __slots__ = ("_allowance", "_client", "_receive", "has_ended")

    def __init__(
        self, allowance: Allowance, receive: Callable[[], Any], client: str | None
    ) -> None:
        self._allowance = allowance
        self._receive = receive
        self._client = client
        self.has_ended = False
        """Whether all of it was received, or the client has gone."""

    async def receive(self) -> Any:
        """The next message."""
        message = await self._receive()
        if not message.get("more_body", False):
            self.has_ended = True
        return message

    async def discard(self) -> None:
        """Receive what is left and drop it, as far as it is allowed."""
        place = self._allowance.take(self._client)
        if place is None:
            return
        left = self._allowance.max_bytes
        try:
            with anyio.move_on_after(self._allowance.seconds):
                while left > 0 and not self.has_ended:
                    message = await self.receive()
                    left -= len(message.get("body", b""))
        finally:
            self._allowance.give_back(place)


class UnreadInput:
    """The body of a request on the WSGI side.

    gunicorn hands out its socket, so a thread of ours reads on from that. Other
    servers either do it themselves (waitress, mod_wsgi, Werkzeug's, gevent's), or one
    of their threads at a time reads on, if they have several.
    """

    __slots__ = (
        "_allowance",
        "_environ",
        "_start_response",
        "is_refused",
        "is_untouched",
    )

    def __init__(
        self,
        allowance: Allowance,
        environ: Mapping[str, Any],
        start_response: Callable[..., Any],
    ) -> None:
        self._allowance = allowance
        self._environ = environ
        self._start_response = start_response
        self.is_untouched = True
        """Whether the application cannot have read any of it yet."""
        self.is_refused = False
        """Whether the application's answer is a refusal of ours."""

    def close_connection(self) -> bool:
        """Let gunicorn close the connection after the answer. Returns whether it will.

        To be called before anything of the answer is sent. On a connection that stays
        open the rest of the body is for the server to read.
        """
        force_close = getattr(
            getattr(self._start_response, "__self__", None), "force_close", None
        )
        if force_close is not None:
            force_close()
            return True
        environ = self._environ  # other middleware stands in between
        asked: str = environ.get("HTTP_CONNECTION", "").lower()
        if environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            return asked != "keep-alive"
        return asked == "close" or not environ.get("wsgi.multithread", True)

    def discard_after(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """*body*, after which what is left of the request is read and dropped."""
        connection = self._environ.get("gunicorn.socket")
        if connection is None:
            if self.is_untouched and self._environ.get("wsgi.multithread"):
                return _ThenDiscard(body, self._read_here)
            return body
        is_http1 = self._environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1.")
        if is_http1 and self.close_connection():
            return _ThenDiscard(body, lambda: self._linger(connection))
        return body

    def _linger(self, connection: Any) -> None:
        place = self._allowance.take(self._environ.get("REMOTE_ADDR"))
        if place is None:
            return
        linger(
            connection,
            max_bytes=self._allowance.max_bytes,
            seconds=self._allowance.seconds,
            done=lambda: self._allowance.give_back(place),
        )

    def _read_here(self) -> None:
        """A read that hangs cannot be ended, but no more than one thread hangs."""
        if not self._allowance.held_threads.take():
            return
        try:
            self._read_input(time.monotonic() + self._allowance.seconds)
        except OSError:
            pass  # the client has gone
        finally:
            self._allowance.held_threads.give_back()

    def _read_input(self, deadline: float) -> None:
        read = self._environ["wsgi.input"].read
        left = min(self._length(), self._allowance.max_bytes)
        while left > 0 and time.monotonic() < deadline:
            piece = read(min(left, _PIECE))
            if not piece:
                return
            left -= len(piece)

    def _length(self) -> int:
        """Bytes that may be asked for without waiting for more than will come."""
        length: str = self._environ.get("CONTENT_LENGTH", "")
        if length.isascii() and length.isdigit():
            return int(length)
        is_marked = self._environ.get("wsgi.input_terminated", False)
        return self._allowance.max_bytes if is_marked else 0


class _ThenDiscard:
    """An answer's body, with something to do when all of it has been sent."""

    def __init__(self, body: Iterable[bytes], discard: Callable[[], None]) -> None:
        self._body = body
        self._discard = discard

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._discard()
