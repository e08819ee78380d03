"""An authorization server for tests, in process or as a loopback server."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agentauth_middleware.settings.issuer import Issuer

__all__ = ["FakeIssuer", "ServedIssuer"]

KEYS_PATH = "/jwks.json"


class _Key:
    """A signing key and its public half as a JWK."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.key_id = secrets.token_hex(4)
        self.private: Any
        match algorithm:
            case "ES256":
                self.private = ec.generate_private_key(ec.SECP256R1())
                public = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
            case "EdDSA":
                self.private = ed25519.Ed25519PrivateKey.generate()
                public = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
            case "RS256" | "PS256":
                self.private = rsa.generate_private_key(65537, 2048)
                public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
            case _:
                raise ValueError(f"{algorithm} is not ES256, EdDSA, RS256 or PS256")
        self.public: dict[str, Any] = {**public, "kid": self.key_id, "use": "sig"}


class FakeIssuer:
    """Mints access tokens (RFC 9068), and can be trusted without any network."""

    def __init__(
        self, issuer: str = "https://as.example.com", *, algorithm: str = "ES256"
    ) -> None:
        """*algorithm* is ``ES256``, ``EdDSA``, ``RS256`` or ``PS256``."""
        self.issuer = issuer
        self._keys = [_Key(algorithm)]

    @property
    def algorithm(self) -> str:
        """What it signs with."""
        return self._keys[-1].algorithm

    @property
    def key_id(self) -> str:
        """The ``kid`` of the key it signs with."""
        return self._keys[-1].key_id

    @property
    def jwks(self) -> dict[str, Any]:
        """The public keys, as a JWK Set."""
        return {"keys": [key.public for key in self._keys]}

    def trust(self, **settings: Any) -> Issuer:
        """Settings that accept this issuer's tokens; *settings* are ``Issuer``'s."""
        return Issuer(self.issuer, jwks=self.jwks, **settings)

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; *keep_old* leaves the old one published."""
        new = _Key(self._keys[-1].algorithm)
        self._keys = [*self._keys, new] if keep_old else [new]

    def token(
        self,
        audience: str | Iterable[str],
        *,
        subject: str = "user-1",
        agent: str | None = None,
        scopes: Iterable[str] = (),
        client_id: str = "client-1",
        expires_in: int = 300,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """An access token for *audience* that acts for *subject*.

        *agent* becomes the immediate actor. *expires_in* is in seconds. *claims* are
        added or replace others; one that is ``None`` is left out. *header* likewise.
        """
        now = int(time.time())
        members: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience if isinstance(audience, str) else list(audience),
            "client_id": client_id,
            "iat": now,
            "exp": now + expires_in,
            "jti": secrets.token_urlsafe(12),
            "scope": " ".join(scopes) or None,
            "act": {"sub": agent} if agent is not None else None,
        }
        return self.sign({**members, **claims}, header)

    def sign(
        self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None
    ) -> str:
        """Any JWT at all, signed with the current key; ``None`` leaves a member out."""
        key = self._keys[-1]
        members = {"typ": "at+jwt", "kid": key.key_id, **(header or {})}
        return jwt.encode(
            _present(claims), key.private, key.algorithm, headers=_present(members)
        )

    @staticmethod
    @contextmanager
    def serve(
        *, algorithm: str = "ES256", port: int = 0
    ) -> Generator[ServedIssuer, None, None]:
        """An issuer with metadata and keys on a loopback port, if 0 a free one."""
        server = _Server(algorithm, port)
        thread = threading.Thread(
            target=server.serve_forever, args=(0.02,), daemon=True
        )
        thread.start()
        try:
            yield server.issuer
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class ServedIssuer(FakeIssuer):
    """A ``FakeIssuer`` whose documents are fetched over HTTP."""

    def __init__(self, issuer: str, algorithm: str = "ES256") -> None:
        super().__init__(issuer, algorithm=algorithm)
        self.requests: list[str] = []
        """The path of each request so far."""
        self.replies: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """By path, what to answer instead: status, headers, body."""

    def trust(self, **settings: Any) -> Issuer:
        """Settings that discover this issuer; they need ``insecure_loopback``."""
        return Issuer(self.issuer, **settings)

    def reply_to(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """What the server answers to a GET of *path*."""
        self.requests.append(path)
        if path in self.replies:
            return self.replies[path]
        documents: dict[str, dict[str, Any]] = {
            "/.well-known/oauth-authorization-server": {
                "issuer": self.issuer,
                "jwks_uri": self.issuer + KEYS_PATH,
            },
            KEYS_PATH: self.jwks,
        }
        if path not in documents:
            return 404, {}, b""
        body = json.dumps(documents[path]).encode()
        return 200, {"content-type": "application/json"}, body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, algorithm: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.issuer = ServedIssuer(f"http://127.0.0.1:{self.server_port}", algorithm)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        issuer = cast(_Server, self.server).issuer
        status, headers, body = issuer.reply_to(self.path)
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is not the place for an access log."""


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
