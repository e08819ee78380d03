"""Compact JWS and the keys that verify one (RFC 7515, RFC 7517, RFC 8725).

Tokens are taken apart once and strictly, keys are prepared when their set is loaded,
and PyJWT's algorithms verify. Nothing a header carries (``jku``, ``jwk``, ``x5u``,
``x5c``) is ever fetched or trusted.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    RSAPSSAlgorithm,
)
from jwt.exceptions import InvalidKeyError

from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware._syntax.members import (
    is_array,
    is_object,
    parse_object,
    texts,
)
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/???")
"""From base64url to base64; characters that only base64 has become invalid."""
_CANONICAL_END = {
    0: _ALPHABET,
    2: b"AQgw",
    3: b"AEIMQUYcgkosw048",
}
"""By length modulo 4, the last characters whose unused bits are zero."""

_MAX_HEADER_BYTES = 8192
_LONG_HEADER_BYTES = 2048
_MAX_HEADER_CONTAINERS = 64
_MAX_KEYS = 100
_MAX_CANDIDATES = 10
"""How many keys are tried for one signature; issuers publish two or three."""
_RSA_BITS = range(2048, 8193)

_RSA_ALGORITHMS: dict[str, Algorithm] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
}
_EC_ALGORITHMS: dict[str, tuple[str, Algorithm]] = {
    "P-256": ("ES256", ECAlgorithm(ECAlgorithm.SHA256)),
    "P-384": ("ES384", ECAlgorithm(ECAlgorithm.SHA384)),
    "P-521": ("ES512", ECAlgorithm(ECAlgorithm.SHA512)),
}
_EDDSA = OKPAlgorithm()


@dataclass(frozen=True, slots=True)
class JOSEHeader:
    """The members of a protected header that count here."""

    algorithm: str
    key_id: str | None
    type: str | None
    """In lower case, ``application/`` removed (RFC 7515 §4.1.9)."""


class CompactJWS(NamedTuple):
    """A compact JWS, taken apart; nothing about it is verified yet."""

    header: JOSEHeader
    payload: bytes
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        # The rest is the token, which must not get into tracebacks.
        return f"CompactJWS(header={self.header!r})"


def parse_compact(token: bytes) -> CompactJWS:
    """Take *token* apart.

    Raises:
        InvalidTokenError: it is no compact JWS of a form that is accepted.

    Source: RFC 7515 §3.1, §5.2
    """
    if token.count(b".") != 2:
        if token.count(b".") == 4:
            found = "a JWE, which only its issuer can read; expected a signed JWT"
            raise InvalidTokenError(Reason.ENCRYPTED_TOKEN, found)
        raise InvalidTokenError(Reason.MALFORMED, "no JWT, which has three segments")
    signing_input, _, signature = token.rpartition(b".")
    header, _, payload = signing_input.partition(b".")
    try:
        return CompactJWS(
            parse_header(header),
            decode_base64url(payload),
            signing_input,
            decode_base64url(signature),
        )
    except ValueError as fault:
        raise InvalidTokenError(Reason.MALFORMED, str(fault)) from None


def decode_base64url(segment: bytes) -> bytes:
    """The bytes of *segment*: unpadded, canonical base64url (RFC 7515 §2).

    Two spellings of one token would be two entries wherever tokens are remembered or
    denied, so bits that a lenient decoder ignores are refused.

    Raises:
        ValueError: it is anything else.
    """
    remainder = len(segment) % 4
    if remainder == 1:
        raise ValueError("not base64url")
    if segment and segment[-1] not in _CANONICAL_END[remainder]:
        raise ValueError("base64url with stray bits")
    padded = segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4)
    try:
        return binascii.a2b_base64(padded, strict_mode=True)
    except binascii.Error:
        raise ValueError("not base64url") from None


def parse_header(segment: bytes) -> JOSEHeader:
    """The protected header in *segment*. An issuer uses only a few different ones, so
    they are remembered, except long ones, such as those with a chain of certificates
    (``x5c``).

    Raises:
        ValueError: it is malformed, or has ``crit``, ``b64`` or ``zip``, none of
            which is understood here (RFC 7515 §4.1.11, RFC 7797, RFC 8725 §3.6).
    """
    if len(segment) > _MAX_HEADER_BYTES:
        raise ValueError("header too long")
    if len(segment) > _LONG_HEADER_BYTES:
        return _parse_header(segment)
    return _known_header(segment)


def _parse_header(segment: bytes) -> JOSEHeader:
    members = parse_object(
        decode_base64url(segment), max_containers=_MAX_HEADER_CONTAINERS
    )
    for name in ("crit", "b64", "zip"):
        if name in members:
            raise ValueError(f"header has {name}")
    return JOSEHeader(
        algorithm=_short_text(members, "alg") or "",
        key_id=_short_text(members, "kid"),
        type=_media_type(_short_text(members, "typ")),
    )


_known_header = lru_cache(maxsize=2048)(_parse_header)


def _short_text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if name in members and (type(value) is not str or len(value) > 256):
        raise ValueError(f"{name} is not a short string")
    return value


def _media_type(name: str | None) -> str | None:
    return name and name.lower().removeprefix("application/")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, ready to verify."""

    key_id: str | None
    algorithms: Mapping[str, Algorithm] = field(compare=False)
    """The ``alg`` values it may verify, each with what verifies it."""
    material: Any = field(compare=False)
    """The key object of ``cryptography``."""
    identity: str
    """The members that make up the key, for comparing sets."""


class KeySet:
    """The usable keys of one issuer, by name and algorithm."""

    __slots__ = ("_by_algorithm", "_by_name", "identities", "key_ids")

    def __init__(
        self, keys: Iterable[SigningKey], other_key_ids: Iterable[str] = ()
    ) -> None:
        """*other_key_ids* name keys that are there and cannot be used."""
        self._by_name: dict[tuple[str, str], list[SigningKey]] = {}
        self._by_algorithm: dict[str, list[SigningKey]] = {}
        self.key_ids = set(other_key_ids)
        identities: set[str] = set()
        for key in keys:
            identities.add(key.identity)
            if key.key_id is not None:
                self.key_ids.add(key.key_id)
            for algorithm in key.algorithms:
                self._by_algorithm.setdefault(algorithm, []).append(key)
                if key.key_id is not None:
                    name = (key.key_id, algorithm)
                    self._by_name.setdefault(name, []).append(key)
        self.identities = frozenset(identities)

    def knows(self, header: JOSEHeader) -> bool:
        """Whether fetching the set again could add no key for *header*."""
        if header.key_id is None:
            return bool(self._by_algorithm.get(header.algorithm))
        return header.key_id in self.key_ids

    def candidates(self, header: JOSEHeader) -> list[SigningKey]:
        """The keys that may have signed under *header*.

        Several may share a ``kid``. Without a ``kid`` every key for the algorithm is a
        candidate.

        Raises:
            InvalidTokenError: no key may have, or too many to try.
        """
        if header.key_id is None:
            found = self._by_algorithm.get(header.algorithm, [])
        else:
            found = self._by_name.get((header.key_id, header.algorithm), [])
        if not 0 < len(found) <= _MAX_CANDIDATES:
            is_named = header.key_id is not None and header.key_id in self.key_ids
            raise InvalidTokenError(
                Reason.KEY_MISMATCH if is_named else Reason.UNKNOWN_KID,
                f"kid is {quoted(header.key_id)}, alg {header.algorithm}; {len(found)} "
                f"fit; the issuer publishes {one_of(self.key_ids)}",
            )
        return found


def verify_signature(jws: CompactJWS, keys: Iterable[SigningKey]) -> None:
    """Check the signature over the bytes as received.

    Does not check whether the algorithm is allowed: the caller does, per issuer.

    Raises:
        InvalidTokenError: none of *keys* made it.
    """
    for key in keys:
        algorithm = key.algorithms[jws.header.algorithm]
        if algorithm.verify(jws.signing_input, key.material, jws.signature):
            return
    raise InvalidTokenError(Reason.BAD_SIGNATURE)


def parse_key_set(document: Mapping[str, Any]) -> KeySet:
    """The keys of a JWK Set that can verify; others are passed over (RFC 7517 §5).

    Raises:
        ValueError: it is no JWK Set, or has more keys than an issuer can mean.
    """
    keys = document.get("keys")
    if not is_array(keys):
        raise ValueError("keys is not an array")
    if len(keys) > _MAX_KEYS:
        raise ValueError(f"more than {_MAX_KEYS} keys")
    prepared = (_prepare(jwk) for jwk in keys)
    named = (jwk.get("kid") for jwk in keys if is_object(jwk))
    return KeySet(
        (key for key in prepared if key is not None),
        (name for name in named if isinstance(name, str) and name),
    )


_EMPTY: tuple[object, ...] = (None, "", [], ())
"""Empty members, which some servers write for absent ones."""


def _prepare(jwk: object) -> SigningKey | None:
    """A key that can verify, or ``None`` for one that cannot or is not meant to."""
    if not is_object(jwk):
        return None
    jwk = {name: value for name, value in jwk.items() if value not in _EMPTY}
    if not _is_for_verifying(jwk):
        return None
    try:
        found = _material(dict(jwk))
        key_id = _short_text(jwk, "kid")
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    if found is None:
        return None
    material, algorithms = found
    if "alg" in jwk:
        algorithms = _only(algorithms, jwk["alg"])
    members = (str(jwk.get(name)) for name in ("kid", "kty", "crv", "n", "e", "x", "y"))
    return SigningKey(key_id, algorithms, material, " ".join(members))


def _only(algorithms: dict[str, Algorithm], wanted: object) -> dict[str, Algorithm]:
    """*algorithms* without those that the key is not meant for (RFC 7517 §4.4)."""
    names = _EDDSA_NAMES if wanted in _EDDSA_NAMES else (wanted,)
    return {name: verifier for name, verifier in algorithms.items() if name in names}


_EDDSA_NAMES = ("EdDSA", "Ed25519")
"""Two names for one algorithm (RFC 9864 §2.2)."""
_FIELD = 2**255 - 19
_OF_ORDER_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDERS = {0, 1, _FIELD - 1, _OF_ORDER_EIGHT, _FIELD - _OF_ORDER_EIGHT}
"""The y coordinates of the eight points of small order, with which signatures can be
forged."""


def _is_of_small_order(point: bytes) -> bool:
    """Whether an Ed25519 key is a point of small order: with it any signature may
    verify.

    Source: RFC 8725 §3.4, RFC 8032 §5.1.3
    """
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y % _FIELD in _SMALL_ORDERS


_SECRET_MEMBERS = ("d", "k", "p", "q", "oth")


def _is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    if any(name in jwk for name in _SECRET_MEMBERS):
        return False
    if jwk.get("use", "sig") != "sig":
        return False
    try:
        return "key_ops" not in jwk or "verify" in texts(jwk, "key_ops")
    except ValueError:
        return False


def _material(jwk: dict[str, Any]) -> tuple[Any, dict[str, Algorithm]] | None:
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            key: Any = RSAAlgorithm.from_jwk(jwk)
            return (key, _RSA_ALGORITHMS) if key.key_size in _RSA_BITS else None
        case "EC", ("P-256" | "P-384" | "P-521") as curve:
            name, algorithm = _EC_ALGORITHMS[curve]
            return ECAlgorithm.from_jwk(jwk), {name: algorithm}
        case "OKP", "Ed25519":
            key = OKPAlgorithm.from_jwk(jwk)
            if _is_of_small_order(key.public_bytes_raw()):
                return None
            return key, dict.fromkeys(_EDDSA_NAMES, _EDDSA)
        case _:
            return None
