"""Putting a ``ClientAuthentication`` into a request.

Source: RFC 6749 §2.3.1, RFC 7523 §2.2 and §3
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import quote_plus

import jwt

from agentauth_middleware.settings.client_authentication import ClientAuthentication

__all__ = ["Form", "build_client_authentication"]

Form: TypeAlias = tuple[tuple[str, str], ...]

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_TYP = "client-authentication+jwt"
_ASSERTION_LIFETIME = 60


def build_client_authentication(
    authentication: ClientAuthentication, now: int
) -> tuple[Mapping[str, str], Form]:
    """The headers and the form members that authenticate us.

    Raises:
        TypeError: what the method needs is not there; settings see to it that it is.
        ValueError: identifier or secret are no text.
    """
    match authentication:
        case ClientAuthentication(
            method="client_secret_basic", client_id=client_id, secret=str(secret)
        ):
            return {"Authorization": _basic(client_id, secret)}, ()
        case ClientAuthentication(
            method="client_secret_post", client_id=client_id, secret=str(secret)
        ):
            return {}, (("client_id", client_id), ("client_secret", secret))
        case ClientAuthentication(method="private_key_jwt"):
            assertion = _build_assertion(authentication, now)
            return {}, (
                ("client_id", authentication.client_id),
                ("client_assertion_type", _ASSERTION_TYPE),
                ("client_assertion", assertion),
            )
        case _:
            raise TypeError(f"{authentication.method} without a secret")


def _basic(client_id: str, secret: str) -> str:
    # Encoded as in a form, so that a colon in either is no separator.
    with suppress(UnicodeEncodeError):  # Which would hold the secret.
        credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        return f"Basic {base64.b64encode(credentials.encode()).decode()}"
    raise ValueError("a client identifier or secret that is no text")


def _build_assertion(authentication: ClientAuthentication, now: int) -> str:
    """A JWT that only the holder of the key can have made, for this one request."""
    key, algorithm = authentication.private_key, authentication.algorithm
    if key is None or algorithm is None or authentication.audience is None:
        raise TypeError("private_key_jwt without key, algorithm or audience")
    claims = {
        "iss": authentication.client_id,
        "sub": authentication.client_id,
        "aud": authentication.audience,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + _ASSERTION_LIFETIME,
    }
    header = {"typ": _ASSERTION_TYP}
    if authentication.key_id is not None:
        header["kid"] = authentication.key_id
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)
