"""An exchange in WSGI: reading the request from an environ, sending an answer."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from agentauth_middleware._core.policy.cross_origin import is_sent_with_preflights
from agentauth_middleware._middleware.unread_bodies import (
    UNREAD,
    Allowance,
    UnreadInput,
)
from agentauth_middleware._syntax.http import Request, Response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["follow_body", "make_preflight", "read_request", "respond"]


class _EnvironRequest(Request):
    """The core's view of an environ, whose strings are bytes decoded as Latin-1 (PEP
    3333)."""

    __slots__ = ("_environ",)

    def __init__(self, environ: WSGIEnvironment) -> None:
        path = _decoded(environ.get("PATH_INFO", ""))
        self.mount = _decoded(environ.get("SCRIPT_NAME", ""))
        if self.mount and path and not path.startswith("/"):
            path = f"/{path}"  # as frameworks read it; the mount must not swallow it
        self.path = self.mount + path
        self.method = environ["REQUEST_METHOD"]
        self.query = environ.get("QUERY_STRING", "").encode("latin-1")
        authorization = environ.get("HTTP_AUTHORIZATION")
        self.authorization = (
            () if authorization is None else (authorization.encode("latin-1"),)
        )
        self._environ = environ

    @property
    def raw_path(self) -> bytes:
        environ = self._environ
        raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        return (raw.partition("?")[0] if "?" in raw else raw).encode("latin-1")

    @property
    def client(self) -> str | None:
        address: str | None = self._environ.get("REMOTE_ADDR")
        return address or None

    def header(self, name: str) -> str | None:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
        value: str | None = self._environ.get(key)
        return value


def read_request(environ: WSGIEnvironment) -> Request:
    """What a decision on *environ* may depend on."""
    return _EnvironRequest(environ)


def _decoded(text: str) -> str:
    """*text* decoded as UTF-8; plain ASCII, the usual case, is returned as it is. Bytes
    that are not UTF-8 become lone surrogates, which the core recognises.
    """
    if text.isascii():
        return text
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def follow_body(
    allowance: Allowance, environ: WSGIEnvironment, start_response: StartResponse
) -> UnreadInput | None:
    """The body of a request, where one was announced and may have to be read on."""
    if not allowance.is_used or not _announces_body(environ):
        return None
    unread = UnreadInput(allowance, environ, start_response)
    environ[UNREAD] = unread
    return unread


def _announces_body(environ: WSGIEnvironment) -> bool:
    """Whether a body comes with the request of *environ* (RFC 9112 §6)."""
    length: str | None = environ.get("CONTENT_LENGTH")
    if length:
        return bool(length.strip(" 0"))
    return "HTTP_TRANSFER_ENCODING" in environ


def make_preflight(environ: WSGIEnvironment) -> None:
    """Remove from *environ* what a preflight does not have: credentials, query,
    body."""
    for key in list(environ):
        name = key.removeprefix("HTTP_").replace("_", "-").lower()
        if key.startswith("HTTP_") and not is_sent_with_preflights(name):
            del environ[key]
    environ.pop("CONTENT_TYPE", None)
    environ["CONTENT_LENGTH"] = "0"
    environ["QUERY_STRING"] = ""
    environ["wsgi.input"] = BytesIO()


def respond(
    response: Response,
    request: Request,
    start_response: StartResponse,
    unread: UnreadInput | None = None,
    exc_info: Any = None,
) -> Iterable[bytes]:
    """Send a complete answer; *exc_info* lets it replace one that has only begun.

    *unread* is the request's body, which is then read on.
    """
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    headers = list(response.headers)
    if exc_info is None:
        start_response(status, headers)
    else:
        start_response(status, headers, exc_info)
    body = [] if request.method == "HEAD" else [response.body]
    return body if unread is None else unread.discard_after(body)
