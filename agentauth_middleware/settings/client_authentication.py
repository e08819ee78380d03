"""How we authenticate to an authorization server (RFC 6749 §2.3, RFC 7523).

A ``Fetch`` carries this value. Header, body or assertion are made as the request is
sent, for each one anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

__all__ = ["AuthMethod", "ClientAuthentication", "load_private_key"]

AuthMethod: TypeAlias = Literal[
    "client_secret_basic", "client_secret_post", "private_key_jwt"
]

_LEAST_RSA_BITS = 2048
_EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class ClientAuthentication:
    """What a request is authenticated with.

    Not checked here: that what the method needs is there. Settings are.
    """

    method: AuthMethod
    client_id: str
    secret: str | None = field(default=None, repr=False)
    """For the two methods that are named after it."""
    private_key: PrivateKey | None = field(default=None, repr=False)
    """For ``private_key_jwt``, as the next three."""
    key_id: str | None = None
    """``kid`` in the assertion's header."""
    algorithm: str | None = None
    audience: str | None = None
    """``aud`` of the assertion: the authorization server's issuer identifier."""


def load_private_key(pem: object) -> tuple[PrivateKey, str]:
    """The key in *pem*, and the algorithm that it signs assertions with.

    RSA of 2048 bits or more: RS256; P-256, P-384, P-521: ES256, ES384, ES512;
    Ed25519: EdDSA.

    Raises:
        ValueError: it is none of these. The text reads on from a setting's name and
            has nothing of the key.
    """
    # Imported here, because only settings with such a key need it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encoded = pem.encode(errors="replace") if isinstance(pem, str) else pem
    if not isinstance(encoded, bytes):
        raise ValueError(
            f"is no text but {type(pem).__name__}; of a file give Path(...).read_text()"
        )
    try:
        key = load_pem_private_key(encoded, password=None)
    except TypeError:
        raise ValueError("is encrypted; give it without a passphrase") from None
    except UnsupportedAlgorithm:
        raise ValueError(_UNSUITED) from None
    except ValueError:
        raise ValueError(
            "is no private key in PEM form; give the text that begins with "
            "-----BEGIN PRIVATE KEY-----"
        ) from None
    return _with_algorithm(key)


_UNSUITED = (
    "is a key of another kind; give one for RSA of 2048 bits or more, P-256, P-384, "
    "P-521 or Ed25519"
)


def _with_algorithm(key: object) -> tuple[PrivateKey, str]:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    match key:
        case RSAPrivateKey() if key.key_size >= _LEAST_RSA_BITS:
            return key, "RS256"
        case EllipticCurvePrivateKey() if key.curve.name in _EC_ALGORITHMS:
            return key, _EC_ALGORITHMS[key.curve.name]
        case Ed25519PrivateKey():
            return key, "EdDSA"
        case _:
            raise ValueError(_UNSUITED)
