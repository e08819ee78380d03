"""The floor: a hand-written middleware that does the least correct work.

It knows one issuer, one scope and no revocation, serves no metadata and explains
nothing. What it does for a remembered token: SHA-256, a bounded look-up, the expiry,
the scope, and the context variable by which handlers find the caller. For a new one:
a strict parse, PyJWT's ``Algorithm.verify`` with a prepared key, and the claims.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from time import time
from typing import Any

from jwt.algorithms import RSAAlgorithm

from agentauth_middleware.testing import FakeIssuer

__all__ = ["ASGIFloor", "WSGIFloor"]

_SCOPE = "notes.read"
_MOST = 20_000
_NO_BASE64URL = bytes.maketrans(b"+/=", b"\x00\x00\x00")
_CURRENT: ContextVar[_Caller | None] = ContextVar("caller", default=None)


@dataclass(frozen=True, slots=True)
class _Caller:
    subject: str
    scopes: frozenset[str]
    expires_at: float


class _Tokens:
    """The tokens of one issuer that were found good."""

    def __init__(self, issuer: FakeIssuer, audience: str) -> None:
        (jwk,) = issuer.jwks["keys"]
        self._issuer, self._audience = issuer.issuer, audience
        self._algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
        self._key: Any = RSAAlgorithm.from_jwk(jwk)
        self._kid = jwk["kid"]
        self._known: dict[bytes, _Caller] = {}

    def find(self, token: bytes) -> _Caller | None:
        digest = sha256(token).digest()
        caller = self._known.get(digest)
        if caller is None:
            caller = self._verify(token)
            if caller is None:
                return None
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[digest] = caller
        return caller if time() < caller.expires_at else None

    def _verify(self, token: bytes) -> _Caller | None:
        try:
            head, body, tail = token.split(b".")
            header = json.loads(_decoded(head))
            if (header["alg"], header["typ"]) != ("RS256", "at+jwt"):
                return None
            if header["kid"] != self._kid or "crit" in header:
                return None
            signed = token[: len(head) + 1 + len(body)]
            if not self._algorithm.verify(signed, self._key, _decoded(tail)):
                return None
            return self._read(json.loads(_decoded(body)))
        except (KeyError, TypeError, ValueError):
            return None

    def _read(self, claims: dict[str, Any]) -> _Caller | None:
        now, audience = time(), claims["aud"]
        listed = [audience] if isinstance(audience, str) else audience
        if claims["iss"] != self._issuer or self._audience not in listed:
            return None
        if not claims["iat"] - 60 <= now < claims["exp"] + 60:
            return None
        scopes = frozenset(claims["scope"].split(" "))
        return _Caller(claims["sub"], scopes, claims["exp"] + 60)


def _decoded(segment: bytes) -> bytes:
    padded = segment.translate(_NO_BASE64URL) + b"=" * (-len(segment) % 4)
    return urlsafe_b64decode(padded)


class ASGIFloor:
    """The floor before an ASGI application."""

    def __init__(self, app: Any, issuer: FakeIssuer, audience: str) -> None:
        self._app = app
        self._tokens = _Tokens(issuer, audience)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        credential = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                credential = value
                break
        caller = None
        if credential.startswith(b"Bearer "):
            caller = self._tokens.find(credential[7:])
        if caller is None or _SCOPE not in caller.scopes:
            status = 401 if caller is None else 403
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body", "body": b""})
            return
        token = _CURRENT.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            _CURRENT.reset(token)


class WSGIFloor:
    """The floor before a WSGI application, which finds the caller in its environ."""

    def __init__(self, app: Any, issuer: FakeIssuer, audience: str) -> None:
        self._app = app
        self._tokens = _Tokens(issuer, audience)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        credential = environ.get("HTTP_AUTHORIZATION", "")
        caller = None
        if credential.startswith("Bearer "):
            caller = self._tokens.find(credential[7:].encode("latin-1"))
        if caller is None:
            start_response("401 Unauthorized", [])
            return []
        environ["caller"] = caller
        body: Iterable[bytes] = self._app(environ, start_response)
        return body
