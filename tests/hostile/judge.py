"""What may be let in, said a second time and in another way than by the library.

Nothing of the library is used here. The judge names what every good token must have;
it may overlook a fault, but what it calls bad must never get in.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.hostile.issuers import CLIENT, GOOD, OURS
from tests.support.tokens import ISSUER, RESOURCE, Key

_LEEWAY = 60
_FIELD = re.compile(rb"[ \t]*(?i:bearer) +([A-Za-z0-9._~+/-]+=*)[ \t]*")
_JWT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_LONGEST = 16 * 1024


@dataclass(frozen=True)
class Rules:
    """What one issuer's tokens must be like."""

    keys: tuple[Key, ...] = OURS
    types: tuple[str | None, ...] = ("at+jwt",)
    audiences: tuple[str, ...] = (RESOURCE, f"{RESOURCE}/")
    needs_audience: bool = True
    needs_jti: bool = True
    needs_client: bool = True
    client_claims: tuple[str, ...] = ("client_id",)
    clients: tuple[str, ...] = ()
    scope_claims: tuple[str, ...] = ("scope",)
    required: tuple[str, ...] = ()


class Bad(Exception):
    """It may not be let in."""


def demand(is_so: object) -> None:
    if not is_so:
        raise Bad


def is_judged_good(judge: Callable[[], object]) -> bool:
    try:
        judge()
    except (Bad, ValueError, TypeError, RecursionError):
        return False
    return True


def judge_request(
    lines: Iterable[bytes], rules: Mapping[str, Rules], first: float, last: float
) -> None:
    """Raise unless the only field line has a JWT that was good between two instants."""
    (line,) = lines
    found = _FIELD.fullmatch(line)
    demand(found and len(line.strip()) <= _LONGEST)
    assert found is not None
    judge_token(found[1], rules, first, last)


def judge_token(
    token: bytes, rules: Mapping[str, Rules], first: float, last: float
) -> None:
    header, payload = read_jws(token)
    claims = read_json(payload)
    trusted = rules[demand_text(claims, "iss")] if claims.get("iss") in rules else None
    demand(trusted)
    assert trusted is not None
    judge_signature(token, header, trusted.keys)
    kind = _type_of(header)
    demand(kind in trusted.types)
    if kind != "at+jwt":
        _judge_kind(_stated(claims), trusted)
    for mark in ("events", "token_introspection", "htm", "htu", "cnf"):
        demand(mark not in claims)
    claims = _stated(claims)
    for name in ("exp", "iat", "sub", *trusted.required):
        demand(name in claims)
    if trusted.needs_jti:
        demand("jti" in claims)
    clients = [name for name in trusted.client_claims if name in claims]
    demand(clients or not trusted.needs_client)
    judge_claims(claims, trusted, first, last)


def _stated(claims: Mapping[str, Any]) -> dict[str, Any]:
    """What is null or empty is not said; but who acts, and an empty list of scopes."""
    return {
        name: value
        for name, value in claims.items()
        if value not in (None, "", [])
        or name == "act"
        or (value is not None and name in ("scope", "scp", "permissions"))
    }


def judge_claims(claims: Mapping[str, Any], rules: Rules, *instants: float) -> None:
    """Raise unless what is there is of its form, for now, for us, and bound to no key.

    *instants* are the earliest and the latest at which it may have been looked at.
    """
    judge_purpose(claims, rules, *instants)
    for name in ("acr", "sub_profile"):
        if name in claims:
            demand_text(claims, name)
    if "auth_time" in claims:
        _instant(claims, "auth_time")
    _judge_actors(claims)


def judge_purpose(claims: Mapping[str, Any], rules: Rules, *instants: float) -> None:
    """As above, but for who is who and how they signed in."""
    _judge_times(claims, *instants)
    for name in ("sub", "jti"):
        if name in claims:
            demand_text(claims, name)
    named = [name for name in rules.client_claims if name in claims]
    client = demand_text(claims, named[0]) if named else None
    demand(not rules.clients or client in rules.clients)
    if "aud" in claims or rules.needs_audience:
        demand(set(_texts(claims["aud"])) & set(rules.audiences))
    for name in rules.scope_claims:
        value = claims.get(name, "")
        demand(value == [] or isinstance(value, str) or name != "scope")
        demand(value == "" or all(_texts(value)))
    demand("cnf" not in claims)
    token_type = claims.get("token_type")
    demand(not isinstance(token_type, str) or token_type.lower() != "dpop")


def _judge_times(claims: Mapping[str, Any], first: float, last: float) -> None:
    for name in ("iat", "nbf"):
        demand(name not in claims or _instant(claims, name) - _LEEWAY <= last)
    demand("exp" not in claims or _instant(claims, "exp") + _LEEWAY > first)


def _instant(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    demand(type(value) in (int, float) and 0 <= value <= 2**53)
    return float(value)


def _judge_actors(claims: Mapping[str, Any]) -> None:
    levels = 0
    while "act" in claims:
        levels += 1
        claims = claims["act"]
        demand(isinstance(claims, dict) and levels <= 5)
        demand_text(claims, "sub")
        for name in ("iss", "sub_profile"):
            if name in claims:
                demand_text(claims, name)


def _judge_kind(claims: Mapping[str, Any], rules: Rules) -> None:
    """An access token whose type does not say so."""
    demand(str(claims.get("typ", "Bearer")).lower() in ("bearer", "dpop"))
    demand(str(claims.get("token_use", "access")).lower() == "access")
    demand(not {"nonce", "at_hash", "c_hash"} & claims.keys())
    marks = {"scope", "scp", "permissions", "roles", *rules.scope_claims}
    if not marks & claims.keys():
        clients = {claims[name] for name in rules.client_claims if name in claims}
        demand(clients and not clients & set(_texts(claims.get("aud", []))))


# Answers about tokens


def judge_answer(
    status: int,
    fields: Mapping[bytes, bytes],
    body: bytes,
    *,
    is_signed: bool,
    is_about_jwt: bool,
    instants: tuple[float, float],
) -> None:
    """Raise unless an answer says that the token is active, and for us."""
    demand(status == 200)
    media_type = fields[b"content-type"].partition(b";")[0].strip().lower()
    if is_signed:
        demand(media_type == b"application/token-introspection+jwt")
        claims = _judge_envelope(body.strip(), *instants)
    else:
        demand(media_type.endswith(b"json"))
        claims = read_json(body.removeprefix(b"\xef\xbb\xbf"))  # RFC 8259 §8.1
    demand(claims["active"] is True)
    claims = _stated(claims)
    demand(claims.get("iss", ISSUER) == ISSUER)
    accepted = ("bearer", "dpop", "access_token")
    demand(claims.get("token_type", "Bearer").lower() in accepted)
    demand(claims.get("typ", "Bearer").lower() in ("bearer", "dpop"))
    demand(claims.get("token_use", "access").lower() in ("access", "access_token"))
    if not is_about_jwt:
        judge_claims(claims, Rules(), *instants)
        return
    # Who is who, the token says itself; but it has to be the same token.
    judge_purpose(claims, Rules(needs_audience=False), *instants)
    for name in ("sub", "client_id", "jti"):
        demand(claims.get(name, GOOD[name]) == GOOD[name])


def _judge_envelope(token: bytes, first: float, last: float) -> dict[str, Any]:
    header, payload = read_jws(token)
    judge_signature(token, header, OURS)
    demand(_type_of(header) == "token-introspection+jwt")
    envelope = read_json(payload)
    demand(envelope["iss"] == ISSUER)
    demand(CLIENT in _texts(envelope["aud"]))
    said_at = envelope["iat"]
    demand(type(said_at) in (int, float))
    demand(first - 2 * _LEEWAY <= said_at <= last + 2 * _LEEWAY)
    claims = envelope["token_introspection"]
    demand(isinstance(claims, dict))
    return cast(dict[str, Any], claims)


# Forms


def read_jws(token: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a compact JWS that is spelt in the only right way."""
    found = _JWT.fullmatch(token)
    demand(found)
    assert found is not None
    header, payload, _ = (_decoded(segment) for segment in found.groups())
    members = read_json(header)
    demand(not {"crit", "b64", "zip"} & members.keys())
    for name in ("alg", "kid", "typ"):
        demand(isinstance(members.get(name, ""), str))
    return members, payload


def _decoded(segment: bytes) -> bytes:
    raw = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    demand(base64.urlsafe_b64encode(raw).rstrip(b"=") == segment)
    return raw


def read_json(raw: bytes) -> dict[str, Any]:
    """An object, every member once, nothing in it that is no JSON."""
    text = str(raw, "utf-8")
    value = json.loads(
        text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_none
    )
    demand(isinstance(value, dict))
    # Half a surrogate pair cannot be written down.
    json.dumps(value, ensure_ascii=False).encode()
    return cast(dict[str, Any], value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    demand(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def _finite(number: str) -> float:
    demand(math.isfinite(float(number)))
    return float(number)


def _none(constant: str) -> None:
    raise Bad(constant)


def demand_text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    demand(isinstance(value, str) and value)
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(cast(list[Any], value))
    demand(isinstance(value, str | list))
    demand(all(isinstance(text, str) and text for text in texts))
    return texts


def _type_of(header: Mapping[str, Any]) -> str | None:
    kind = header.get("typ")
    return None if kind is None else str(kind).lower().removeprefix("application/")


def judge_signature(
    token: bytes, header: Mapping[str, Any], keys: Iterable[Key]
) -> None:
    data, _, last = token.rpartition(b".")
    signature = _decoded(last)
    kid = header.get("kid")
    fitting = (key for key in keys if kid is None or key.kid == kid)
    demand(any(_is_by(key, str(header.get("alg")), data, signature) for key in fitting))


def _is_by(key: Key, algorithm: str, data: bytes, signature: bytes) -> bool:
    public = key.private.public_key()
    try:
        match public, algorithm:
            case ed25519.Ed25519PublicKey(), ("EdDSA" | "Ed25519"):
                public.verify(signature, data)
            case ec.EllipticCurvePublicKey(), "ES256":
                demand(len(signature) == 64)
                r, s = signature[:32], signature[32:]
                numbers = int.from_bytes(r), int.from_bytes(s)
                public.verify(encode_dss_signature(*numbers), data, ec.ECDSA(SHA256()))
            case rsa.RSAPublicKey(), "RS256":
                public.verify(signature, data, padding.PKCS1v15(), SHA256())
            case rsa.RSAPublicKey(), "PS256":
                pss = padding.PSS(padding.MGF1(SHA256()), 32)
                public.verify(signature, data, pss, SHA256())
            case _:
                return False
    except InvalidSignature:
        return False
    return True
