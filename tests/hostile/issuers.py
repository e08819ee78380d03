"""Who signs here, and a good token of theirs.

The keys are the same in every run and the main one signs the same each time, so that a
failing example means the same credential tomorrow, but for the times in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.support.tokens import ISSUER, RESOURCE, Key, base64url, header, jwks, key
from tests.support.tokens import signing_input as signing_input

NOW = int(time.time())
"""When this run began. The middlewares look at the clock themselves."""

OTHER_ISSUER = "https://idp.example.net"
TENANTS = ("https://one.tenants.example", "https://two.tenants.example")
BROKEN_TENANT = "https://broken.tenants.example"
"""The operator's function fails at this name."""
CLIENT = "rs-1"
"""Who the resource server is where it asks about tokens."""


def _ed25519(kid: str, secret: str) -> Key:
    seed = sha256(secret.encode()).digest()
    return Key(kid, "EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(seed))


MAIN = _ed25519("main", "ours")
CURVE = Key("curve", "ES256", ec.derive_private_key(2**200 + 7, ec.SECP256R1()))
RSA = Key("rsa", "RS256", key("RS256", "hostile").private)
RSA_PSS = Key("rsa", "PS256", RSA.private)
UNUSED = Key("unused", "ES384", ec.derive_private_key(2**300 + 7, ec.SECP384R1()))
"""A key of ours whose algorithm none of our settings allows."""
OTHER = _ed25519("main", "the other issuer's")
"""By the same name as ours."""
ATTACKER = _ed25519("main", "the attacker's")

OURS = (MAIN, CURVE, RSA)
"""The keys that our tokens may be signed with."""
PUBLISHED = jwks(*OURS, UNUSED)

GOOD: Mapping[str, Any] = {
    "iss": ISSUER,
    "sub": "user-1",
    "aud": RESOURCE,
    "client_id": "client-1",
    "iat": NOW - 10,
    "exp": NOW + 36_000,
    "jti": "token-1",
    "scope": "notes.read",
}
"""The claims of a token that each of the settings lets in."""


def signed(
    payload: Mapping[str, Any] | bytes,
    signer: Key = MAIN,
    head: Mapping[str, Any] | bytes | None = None,
) -> bytes:
    """A compact JWS of *payload* with a good signature, whatever it says."""
    data = signing_input(header(signer) if head is None else head, payload)
    return data + b"." + base64url(signer.sign(data))
