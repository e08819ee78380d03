"""Tokens of every kind, good and bad, put together byte by byte.

``FakeIssuer`` mints what an issuer would mint. Here is what only an attacker would.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)

from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer

NOW = 1_790_000_000
RESOURCE = "https://api.example.com"
ISSUER = "https://as.example.com"

_ALGORITHMS: Mapping[str, Algorithm] = get_default_algorithms()
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}


@dataclass(frozen=True, eq=False)
class Key:
    """A signing key."""

    kid: str
    algorithm: str
    """What it signs with, in PyJWT's words."""
    private: Any = field(repr=False)

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public half."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            members = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            members = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            members = OKPAlgorithm.to_jwk(public, as_dict=True)
        members.pop("key_ops", None)
        return {**members, "kid": self.kid}

    def sign(self, signing_input: bytes) -> bytes:
        return _ALGORITHMS[self.algorithm].sign(signing_input, self.private)


@cache
def key(algorithm: str = "ES256", kid: str = "key-1") -> Key:
    """The key of that name; making one takes time, so it is the same in all tests."""
    private: Any
    if algorithm in _CURVES:
        private = ec.generate_private_key(_CURVES[algorithm])
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = _rsa_key(kid)
    return Key(kid, algorithm, private)


@cache
def _rsa_key(kid: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwks(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.jwk for key in keys]}


def claims(*, without: Iterable[str] = (), **changes: Any) -> dict[str, Any]:
    """The claims of a good access token, changed."""
    members: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "user-1",
        "aud": RESOURCE,
        "client_id": "client-1",
        "iat": NOW - 10,
        "exp": NOW + 300,
        "jti": "token-1",
        **changes,
    }
    return {name: value for name, value in members.items() if name not in without}


def header(key: Key, *, without: Iterable[str] = (), **changes: Any) -> dict[str, Any]:
    """The header of a good access token, changed."""
    members = {"typ": "at+jwt", "alg": key.algorithm, "kid": key.kid, **changes}
    return {name: value for name, value in members.items() if name not in without}


def base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def as_json(document: Mapping[str, Any] | bytes) -> bytes:
    if isinstance(document, bytes):
        return document
    return json.dumps(document).encode()


def signing_input(
    header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes
) -> bytes:
    return base64url(as_json(header)) + b"." + base64url(as_json(payload))


def sign(
    payload: Mapping[str, Any] | bytes,
    signer: Key | None = None,
    head: Mapping[str, Any] | bytes | None = None,
) -> bytes:
    """A compact JWS of *payload*, whatever it and *head* may be."""
    signer = signer or key()
    data = signing_input(header(signer) if head is None else head, payload)
    return data + b"." + base64url(_signature(signer, data))


@cache
def _signature(signer: Key, data: bytes) -> bytes:
    """The same each time, so that the same claims are the same token."""
    return signer.sign(data)


def token(signer: Key | None = None, /, **changes: Any) -> bytes:
    """A good access token, its claims changed."""
    return sign(claims(**changes), signer)


def issuer(*keys: Key, name: str = ISSUER, **settings: Any) -> Issuer:
    """Trust in an issuer whose keys are given."""
    return Issuer(name, jwks=jwks(*(keys or (key(),))), **settings)


def server(*issuers: Issuer, **settings: Any) -> ResourceServer:
    return ResourceServer(RESOURCE, issuers=issuers or (issuer(),), **settings)
