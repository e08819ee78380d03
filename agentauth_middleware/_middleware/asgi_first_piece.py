"""When a response of an ASGI application begins: with the first piece of its body.

Frameworks send the status of a streamed response before they run the first line of
what streams it. A refusal in that line could not be answered any more, so the status
waits for the first piece, as ASGI wants servers to do ("must not start sending the
response to the client until it has received at least one Response Body event").

Event streams do not wait: their clients take the status for the sign that they are
connected, and the first event may come hours later.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import Message, Send

from agentauth_middleware._middleware.refusal_writer import Failure, refusal_in

__all__ = ["FirstPiece"]

_EVENTS = b"text/event-stream"


class FirstPiece:
    """What an application sends with, for one request."""

    __slots__ = ("_held", "_send", "has_begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: Message | None = None
        self.has_begun = False
        """Whether anything has been sent."""

    def send(self, message: Message) -> Awaitable[None]:
        if not self.has_begun:
            if message["type"] == "http.response.start" and _waits(message):
                return self._hold(message)
            self.has_begun = True
            if self._held is not None:
                return self._send_both(self._held, message)
        return self._send(message)

    async def finish(self) -> None:
        """Send what is held, if the application has returned without a body."""
        if self._held is not None:
            self.has_begun = True
            await self._send(self._held)

    def refusal_in(self, raised: Exception) -> Failure | None:
        """The refusal that can still be answered, if *raised* is one.

        Where Starlette believes that the response has begun, it does not call error
        handlers, but raises a ``RuntimeError`` from the refusal.
        """
        if self.has_begun:
            return None
        cause = raised.__cause__
        if self._held is not None and type(raised) is RuntimeError:
            return refusal_in(cause) if isinstance(cause, Exception) else None
        return refusal_in(raised)

    async def _hold(self, start: Message) -> None:
        self._held = start

    async def _send_both(self, start: Message, message: Message) -> None:
        await self._send(start)
        await self._send(message)


def _waits(start: Message) -> bool:
    """Whether a stream begins with *start*, whose status can wait for it."""
    for name, value in start.get("headers", ()):
        lowered = name.lower()
        if lowered == b"content-length":
            return False
        if lowered == b"content-type" and value.lower().startswith(_EVENTS):
            return False
    return True
