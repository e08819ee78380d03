"""The limit for a new token: the signature check of ``cryptography``, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_decode

from agentauth_middleware.testing import FakeIssuer
from benchmarks.rounds import Batch, clocked

__all__ = ["bare_check", "check_name"]


class _Signed(NamedTuple):
    """A signature, in the form ``cryptography`` takes, and what it is over."""

    signature: bytes
    message: bytes


def check_name(algorithm: str) -> str:
    """What the row of the bare check is called."""
    return f"{algorithm} check"


def bare_check(
    issuer: FakeIssuer, algorithm: str, tokens: Sequence[Sequence[str]]
) -> Batch:
    """The check of the signatures of each round's *tokens*."""
    check = _check(issuer, algorithm)
    return clocked(
        check, lambda number: [_signed(token, algorithm) for token in tokens[number]]
    )


def _check(issuer: FakeIssuer, algorithm: str) -> Callable[[_Signed], None]:
    (jwk,) = issuer.jwks["keys"]
    key: Any
    match algorithm:
        case "RS256":
            key = RSAAlgorithm.from_jwk(jwk)
            pkcs1, sha256 = padding.PKCS1v15(), SHA256()
            return lambda one: key.verify(one.signature, one.message, pkcs1, sha256)
        case "ES256":
            key = ECAlgorithm.from_jwk(jwk)
            ecdsa = ec.ECDSA(SHA256())
            return lambda one: key.verify(one.signature, one.message, ecdsa)
        case _:
            key = OKPAlgorithm.from_jwk(jwk)
            return lambda one: key.verify(one.signature, one.message)


def _signed(token: str, algorithm: str) -> _Signed:
    message, _, segment = token.encode().rpartition(b".")
    signature = base64url_decode(segment)
    if algorithm == "ES256":
        r, s = signature[:32], signature[32:]
        signature = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    return _Signed(signature, message)
