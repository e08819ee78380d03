"""An exchange in ASGI: reading the request from a scope, sending an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentauth_middleware._core.policy.cross_origin import is_sent_with_preflights
from agentauth_middleware._middleware.unread_bodies import (
    UNREAD,
    Allowance,
    UnreadBody,
)
from agentauth_middleware._syntax.http import Request, Response

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["as_preflight", "follow_body", "read_request", "respond", "without_body"]


class _ScopeRequest(Request):
    """The core's view of a scope."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self.method = scope.get("method", "GET")
        self.path = scope["path"]
        self.mount = scope.get("root_path", "")
        self.query = scope.get("query_string", b"")
        self.authorization = [
            value for name, value in scope["headers"] if name == b"authorization"
        ]
        self._scope = scope

    @property
    def raw_path(self) -> bytes:
        raw: bytes = self._scope.get("raw_path") or b""
        return raw.partition(b"?")[0] if b"?" in raw else raw

    @property
    def client(self) -> str | None:
        client = self._scope.get("client")
        return client[0] if client else None

    def header(self, name: str) -> str | None:
        wanted = name.encode("latin-1")
        lines = [value for key, value in self._scope["headers"] if key == wanted]
        return b", ".join(lines).decode("latin-1") if lines else None


def read_request(scope: Scope) -> Request:
    """What a decision on *scope* may depend on."""
    return _ScopeRequest(scope)


def follow_body(allowance: Allowance, scope: Scope, receive: Receive) -> Receive:
    """*receive*, so that ``respond`` knows what is left of the request's body."""
    if not allowance.is_used or not _announces_body(scope):
        return receive
    client = scope.get("client")
    unread = UnreadBody(allowance, receive, client[0] if client else None)
    scope[UNREAD] = unread
    return unread.receive


def _announces_body(scope: Scope) -> bool:
    """Whether a body comes with the request of *scope* (RFC 9112 §6)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return bool(value.strip(b" 0"))
        if name == b"transfer-encoding":
            return True
    return False


def as_preflight(scope: Scope) -> Scope:
    """*scope* with only what a preflight has."""
    kept = [
        line
        for line in scope["headers"]
        if is_sent_with_preflights(line[0].decode("latin-1").lower())
    ]
    return {**scope, "headers": kept, "query_string": b""}


def without_body(receive: Receive) -> Receive:
    """*receive* for a request without a body, whatever the client sends.

    HTTP/2 announces a body by no header.
    """
    is_first = True

    async def receive_nothing() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await receive()
        while message["type"] == "http.request":
            message = await receive()
        return message

    return receive_nothing


async def respond(response: Response, scope: Scope, send: Send) -> None:
    """Send a complete answer; to a websocket handshake, before it is accepted.

    What is left of the request's body is read between the answer and its end.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            # Every server answers 403 to a close before the handshake is accepted.
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    body = b"" if scope.get("method") == "HEAD" else response.body
    await send({"type": f"{kind}.start", "status": response.status, "headers": headers})
    unread: UnreadBody | None = scope.get(UNREAD)
    if unread is not None and not unread.has_ended:
        await send({"type": f"{kind}.body", "body": body, "more_body": True})
        await unread.discard()
        body = b""
    await send({"type": f"{kind}.body", "body": body})
