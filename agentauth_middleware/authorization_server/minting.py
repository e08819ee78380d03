"""What the embedded server signs: its own assertions, and access tokens.

ES256, with a key made on first start and kept across restarts. ``kid`` is the key's
thumbprint (RFC 7638), so that it names the key and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from agentauth_middleware._core.tokens.jose import (
    KeySet,
    parse_compact,
    parse_key_set,
    verify_signature,
)
from agentauth_middleware._syntax.members import Claims, parse_object
from agentauth_middleware.authorization_server.id_jag import TYPE as ID_JAG_TYPE
from agentauth_middleware.authorization_server.limits import Limits, limits_to_claims
from agentauth_middleware.authorization_server.settings import ALGORITHM
from agentauth_middleware.authorization_server.state import Registration
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason

__all__ = [
    "ACCESS_TOKEN_TYPE",
    "ASSERTION_TYPE",
    "Signer",
    "access_token",
    "new_key",
    "service_assertion",
]

ASSERTION_TYPE = ID_JAG_TYPE
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - the name of a type


def new_key() -> bytes:
    """A private key, as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Signer:
    """The keys of the server: the newest signs, all of them are published."""

    def __init__(self, pems: Iterable[bytes]) -> None:
        self._keys = [
            cast(
                ec.EllipticCurvePrivateKey,
                serialization.load_pem_private_key(pem, password=None),
            )
            for pem in pems
        ]
        self.jwks: dict[str, Any] = {"keys": [_public(key) for key in self._keys]}
        self.key_set: KeySet = parse_key_set(self.jwks)

    def sign(self, claims: dict[str, Any], token_type: str) -> str:
        header = {"typ": token_type, "kid": self.jwks["keys"][-1]["kid"]}
        return jwt.encode(claims, self._keys[-1], ALGORITHM, headers=header)

    def read(self, token: str, token_type: str) -> Claims:
        """The claims of *token*, if one of these keys signed it as a *token_type*.

        Does not check what they say.

        Raises:
            InvalidTokenError: none did.
        """
        try:
            jws = parse_compact(token.encode())
            if jws.header.type != token_type or jws.header.algorithm != ALGORITHM:
                raise InvalidTokenError("not_ours")
            verify_signature(jws, self.key_set.candidates(jws.header))
            return parse_object(jws.payload)
        except ValueError as fault:
            raise InvalidTokenError(Reason.MALFORMED, str(fault)) from None


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest())
    return {
        **members,
        "kid": thumbprint.rstrip(b"=").decode(),
        "alg": ALGORITHM,
        "use": "sig",
    }


def service_assertion(
    registration: Registration,
    limits: Limits,
    *,
    issuer: str,
    now: int,
    lifetime: int,
) -> dict[str, Any]:
    """The claims of what an agent exchanges for access tokens, as often as it likes.

    Its audience is this server alone, and no resource server accepts its type. It is
    limited as the provider's statement for which it was given.
    """
    return {
        **limits_to_claims(limits),
        "iss": issuer,
        "aud": issuer,
        "sub": registration.id,
        "client_id": registration.client_id,
        "registration_type": "identity_assertion",
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + lifetime,
    }


def access_token(
    registration: Registration,
    *,
    issuer: str,
    resource: str,
    scopes: Iterable[str],
    issued_at: int,
    lifetime: int,
) -> dict[str, Any]:
    """The claims of an access token: for the user, through the registered agent.

    A claimed agent is always named in ``act``, so that it can be told from the user's
    own session.

    Source: RFC 9068 §2.2, RFC 8693 §4.1
    """
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": registration.user_id,
        "sub_profile": "user",
        "aud": resource,
        "client_id": registration.client_id,
        "act": {
            "iss": issuer,
            "sub": registration.id,
            "sub_profile": "ai_agent",
        },
        "jti": secrets.token_urlsafe(16),
        "iat": issued_at,
        "exp": issued_at + lifetime,
        "auth_time": int(registration.auth_time),
    }
    optional = {
        "scope": " ".join(scopes),
        "amr": list(registration.amr),
        "agent_platform": registration.agent_platform,
        "agent_context_id": registration.agent_context_id,
    }
    return claims | {name: value for name, value in optional.items() if value}
