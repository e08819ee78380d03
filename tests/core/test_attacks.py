"""Tokens that nobody may get in with, each with the reason it is refused for.

Each is presented to a door whose issuers publish their keys: whatever it asks for must
be a document of a configured issuer, whatever the token says.
"""

from __future__ import annotations

import hmac
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from agentauth_middleware._core.challenge import Refusal
from agentauth_middleware._core.decide import Decision, decide
from agentauth_middleware._core.gate import Gate
from agentauth_middleware._core.operations import Fetch, LogPage, ReadLog
from agentauth_middleware.access import Access
from agentauth_middleware.resource_server import Issuer
from tests.core.deciding import request
from tests.core.stepping import Clock, Stepper, json_reply
from tests.core.tokens import (
    ISSUER,
    NOW,
    RESOURCE,
    Key,
    as_json,
    base64url,
    claims,
    header,
    jwks,
    key,
    server,
    sign,
    signing_input,
    token,
)

OTHER_ISSUER = "https://idp.example.net"
RSA, EC, OTHER = key("RS256", "rsa"), key("ES256", "ec"), key("ES256", "ec-2")
FOREIGN = Key("ec", "ES256", key("ES256", "foreign").private)
"""The other issuer's key, by the same name as one of ours."""
ATTACKER = Key("attacker", "RS256", key("RS256", "attacker").private)

PUBLISHED: Mapping[str, object] = {
    f"{ISSUER}/.well-known/oauth-authorization-server": {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/keys",
    },
    f"{OTHER_ISSUER}/.well-known/oauth-authorization-server": {
        "issuer": OTHER_ISSUER,
        "jwks_uri": f"{OTHER_ISSUER}/keys",
    },
    f"{OTHER_ISSUER}/keys": jwks(FOREIGN),
}
"""All there is to fetch, but for our issuer's keys."""


def present(presented: bytes, keys: Mapping[str, Any]) -> Decision:
    """What a door that has seen no token before makes of *presented*."""
    documents = {**PUBLISHED, f"{ISSUER}/keys": keys}
    gate = Gate(server(Issuer(ISSUER), Issuer(OTHER_ISSUER)))
    step = Stepper(decide(gate, request(presented), Clock()))
    while step.asks is not None:
        match step.asks:
            case Fetch(url):
                step.answer(json_reply(documents[url]))
            case ReadLog():
                step.answer(LogPage(0, ()))
            case unexpected:
                raise AssertionError(unexpected)
    return step.result


def refusal_of(presented: bytes, keys: Mapping[str, Any] | None = None) -> Refusal:
    decision = present(presented, keys or jwks(RSA, EC, OTHER))
    assert isinstance(decision, Refusal)
    return decision


def test_door_of_this_file_lets_good_tokens_in() -> None:
    """Else everything below would be refused for a reason of its own."""
    published = jwks(RSA, EC, OTHER)
    for signer in (RSA, EC, OTHER):
        assert isinstance(present(token(signer), published), Access)
    assert isinstance(present(token(FOREIGN, iss=OTHER_ISSUER), published), Access)


# Made by hand


def headed(**members: Any) -> bytes:
    """A good token with another header."""
    return sign(claims(), EC, header(EC, **members))


def with_payload(**changes: Any) -> bytes:
    return token(EC, **changes)


def of_kind(typ: str, **changes: Any) -> bytes:
    return sign(claims(**changes), EC, header(EC, typ=typ))


def unsigned(**members: Any) -> bytes:
    return signing_input(header(EC, **members), claims()) + b"."


def without_header(name: str) -> bytes:
    return sign(claims(), EC, header(EC, without=[name]))


def without_claim(name: str) -> bytes:
    return sign(claims(without=[name]), EC)


def with_secret(secret: bytes) -> bytes:
    """HS256 with a secret that everybody knows."""
    data = signing_input(header(RSA, alg="HS256"), claims())
    return data + b"." + base64url(hmac.digest(secret, data, "sha256"))


def with_public_key(encoding: Encoding) -> bytes:
    public: RSAPublicKey = RSA.private.public_key()
    return with_secret(public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))


def by_attacker(**members: Any) -> bytes:
    """Signed by the attacker, whose key the header offers or points to."""
    return sign(claims(), ATTACKER, header(ATTACKER, **members))


def with_signature(r: bytes, s: bytes) -> bytes:
    return signing_input(header(EC), claims()) + b"." + base64url(r + s)


def with_segment(index: int, change: Callable[[bytes], bytes]) -> bytes:
    segments = token(EC).split(b".")
    segments[index] = change(segments[index])
    return b".".join(segments)


def with_stray_bits(segment: bytes) -> bytes:
    """Another spelling of the same bytes, for a lenient decoder."""
    assert len(segment) % 4, "it has no unused bits"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) + 1 :][:1]


def with_member(raw: bytes) -> bytes:
    """A good payload with one more member, as text."""
    return sign(as_json(claims())[:-1] + b"," + raw + b"}", EC)


def with_header_member(raw: bytes) -> bytes:
    return sign(claims(), EC, as_json(header(EC))[:-1] + b"," + raw + b"}")


def nested(levels: int) -> bytes:
    return with_member(b'"x":' + b'{"a":' * levels + b"1" + b"}" * levels)


def encrypted(**members: Any) -> bytes:
    head = base64url(as_json({"enc": "A256GCM", **members}))
    return b".".join([head, b"", base64url(b"iv"), base64url(b"x"), b"AAAA"])


def serialised_as_json() -> bytes:
    head, payload, signature = token(EC).decode().split(".")
    parts = {"protected": head, "signature": signature}
    return json.dumps({"payload": payload, "signatures": [parts, parts]}).encode()


GOOD = EC.sign(signing_input(header(EC), claims()))
R, S = GOOD[:32], GOOD[32:]
ZERO = bytes(32)
EVIL = "https://evil.example/keys"
BOMB = zlib.compress(as_json(claims()))
TYPE = "wrong_token_type"
FORM = "malformed_credential"

ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    # No signature
    "none": (lambda: unsigned(alg="none"), "alg_not_allowed"),
    "None": (lambda: unsigned(alg="None"), "alg_not_allowed"),
    "nOnE": (lambda: unsigned(alg="nOnE"), "alg_not_allowed"),
    "alg empty": (lambda: unsigned(alg=""), "alg_not_allowed"),
    "alg missing": (lambda: without_header("alg"), "alg_not_allowed"),
    "alg with a space": (lambda: headed(alg="ES256 "), "alg_not_allowed"),
    "alg in lower case": (lambda: headed(alg="es256"), "alg_not_allowed"),
    "alg not for this issuer": (lambda: headed(alg="ES384"), "alg_not_allowed"),
    "signature empty": (lambda: unsigned(), "bad_signature"),
    # A public key as the secret
    "secret is the PEM": (lambda: with_public_key(Encoding.PEM), "alg_not_allowed"),
    "secret is the DER": (lambda: with_public_key(Encoding.DER), "alg_not_allowed"),
    "secret is the JWK": (lambda: with_secret(as_json(RSA.jwk)), "alg_not_allowed"),
    "secret is empty": (lambda: with_secret(b""), "alg_not_allowed"),
    # ECDSA
    "r and s 0": (lambda: with_signature(ZERO, ZERO), "bad_signature"),
    "r 0": (lambda: with_signature(ZERO, S), "bad_signature"),
    "s 0": (lambda: with_signature(R, ZERO), "bad_signature"),
    "r and s swapped": (lambda: with_signature(S, R), "bad_signature"),
    "DER": (lambda: with_signature(b"0\6\2\1\1", b"\2\1\1"), "bad_signature"),
    # A key in the header
    "jwk": (lambda: by_attacker(jwk=ATTACKER.jwk), "unknown_kid"),
    "jwk and our kid": (
        lambda: by_attacker(jwk=ATTACKER.jwk, kid="rsa"),
        "bad_signature",
    ),
    "jku": (lambda: by_attacker(jku=EVIL), "unknown_kid"),
    "jku and our kid": (lambda: by_attacker(jku=EVIL, kid="rsa"), "bad_signature"),
    "x5u": (lambda: by_attacker(x5u=EVIL, kid="rsa"), "bad_signature"),
    "x5c": (lambda: by_attacker(x5c=["MII="], kid="rsa"), "bad_signature"),
    # The name of the key
    "kid is a URL": (lambda: by_attacker(kid=EVIL), "unknown_kid"),
    "kid is a path": (lambda: by_attacker(kid="../../etc/passwd"), "unknown_kid"),
    "kid is SQL": (lambda: by_attacker(kid="' OR 1=1 --"), "unknown_kid"),
    "kid breaks lines": (lambda: by_attacker(kid="rsa\r\nx: y"), "unknown_kid"),
    "kid empty": (lambda: by_attacker(kid=""), "unknown_kid"),
    "kid of 10 kB": (lambda: by_attacker(kid="k" * 10_000), "malformed"),
    "kid number": (lambda: by_attacker(kid=1), "malformed"),
    "kid null": (lambda: by_attacker(kid=None), "malformed"),
    "kid array": (lambda: by_attacker(kid=["rsa"]), "malformed"),
    # What would have to be understood
    "crit exp": (lambda: headed(crit=["exp"]), "malformed"),
    "crit empty": (lambda: headed(crit=[]), "malformed"),
    "crit unknown": (lambda: headed(crit=["x"], x=1), "malformed"),
    "b64": (lambda: headed(b64=False), "malformed"),
    "zip": (lambda: sign(BOMB, EC, header(EC, zip="DEF")), "malformed"),
    # Whose key it is
    "iss is ours, key another's": (lambda: token(FOREIGN), "bad_signature"),
    "iss another's, key ours": (
        lambda: with_payload(iss=OTHER_ISSUER),
        "bad_signature",
    ),
    # For whom it is
    "aud another API": (
        lambda: with_payload(aud="https://other.example"),
        "wrong_audience",
    ),
    "aud longer": (lambda: with_payload(aud=RESOURCE + ".evil"), "wrong_audience"),
    "aud shorter": (lambda: with_payload(aud=RESOURCE[:-1]), "wrong_audience"),
    "aud look-alikes": (
        lambda: with_payload(aud=[RESOURCE + "//", "api"]),
        "wrong_audience",
    ),
    # Other kinds of tokens
    "ID token": (lambda: of_kind("JWT", nonce="n", aud="client-1"), TYPE),
    "ID-JAG": (lambda: of_kind("oauth-id-jag+jwt", aud=ISSUER), TYPE),
    "logout token": (lambda: of_kind("logout+jwt", events={}), TYPE),
    "security event": (lambda: of_kind("secevent+jwt", events={}), TYPE),
    "security event in disguise": (lambda: with_payload(events={}), TYPE),
    "DPoP proof": (lambda: headed(typ="dpop+jwt", jwk=EC.jwk), TYPE),
    "DPoP proof in disguise": (lambda: with_payload(htm="GET", htu=RESOURCE), TYPE),
    "client assertion": (
        lambda: of_kind("client-authentication+jwt", sub="client-1"),
        TYPE,
    ),
    "refresh token": (lambda: of_kind("rt+jwt"), TYPE),
    "introspection": (lambda: of_kind("token-introspection+jwt"), TYPE),
    "introspection in disguise": (
        lambda: with_payload(token_introspection={"active": True}),
        TYPE,
    ),
    "typ missing": (lambda: without_header("typ"), TYPE),
    "bound to a key": (lambda: with_payload(cnf={"jkt": "x"}), "sender_constrained"),
    # Times
    "expired": (lambda: with_payload(exp=NOW - 60), "expired"),
    "exp string": (lambda: with_payload(exp=str(NOW + 300)), "malformed"),
    "exp missing": (lambda: without_claim("exp"), "malformed"),
    "exp 10^20": (lambda: with_payload(exp=10**20), "malformed"),
    "exp true": (lambda: with_payload(exp=True), "malformed"),
    "nbf ahead": (lambda: with_payload(nbf=NOW + 61), "not_yet_valid"),
    "iat ahead": (lambda: with_payload(iat=NOW + 61), "not_yet_valid"),
    # Members twice
    "aud twice": (lambda: with_member(b'"aud":"x"'), "malformed"),
    "iss twice": (lambda: with_member(b'"iss":"x"'), "malformed"),
    "alg twice": (lambda: with_header_member(b'"alg":"none"'), "malformed"),
    # Payloads
    "array": (lambda: sign(b"[" + as_json(claims()) + b"]", EC), "malformed"),
    "1000 levels": (lambda: nested(1000), "malformed"),
    "1 MB": (lambda: with_payload(x="a" * 2**20), "credential_too_long"),
    # Spellings
    "padding in the middle": (lambda: with_segment(0, lambda s: s + b"="), FORM),
    "padding": (lambda: with_segment(2, lambda s: s + b"=="), "malformed"),
    "plus": (lambda: with_segment(1, lambda s: b"+" + s[1:]), "malformed"),
    "slash": (lambda: with_segment(2, lambda s: b"/" + s[1:]), "malformed"),
    "stray bits": (lambda: with_segment(2, with_stray_bits), "malformed"),
    "line break": (lambda: with_segment(1, lambda s: s[:8] + b"\n" + s[8:]), FORM),
    # Other forms
    "JSON serialisation": (serialised_as_json, FORM),
    "two tokens": (lambda: token(EC) + b"." + token(EC), "malformed"),
    "opaque": (lambda: b"0123456789abcdef", "malformed"),
    # Claims of the wrong type
    "scope array": (lambda: with_payload(scope=["mail.read"]), "malformed"),
    "scope number": (lambda: with_payload(scope=1), "malformed"),
    "sub empty": (lambda: with_payload(sub=""), "malformed"),
    "sub number": (lambda: with_payload(sub=1), "malformed"),
    "sub object": (lambda: with_payload(sub={"a": "b"}), "malformed"),
    "act null": (lambda: with_payload(act=None), "malformed"),
    # Almost an issuer
    "iss look-alike": (
        lambda: with_payload(iss="https://\u0430s.example.com"),
        "unknown_issuer",
    ),
    "iss with a slash": (lambda: with_payload(iss=ISSUER + "/"), "unknown_issuer"),
    "iss in upper case": (
        lambda: with_payload(iss="https://AS.example.com"),
        "unknown_issuer",
    ),
    "iss with its port": (lambda: with_payload(iss=ISSUER + ":443"), "unknown_issuer"),
    "iss http": (lambda: with_payload(iss="http://as.example.com"), "unknown_issuer"),
    "iss below": (lambda: with_payload(iss=ISSUER + "/x"), "unknown_issuer"),
    "iss of nobody": (
        lambda: token(ATTACKER, iss="https://evil.example"),
        "unknown_issuer",
    ),
}
OF_THE_REQUEST = (FORM, "credential_too_long")
"""Reasons that concern the header field: 400, before it is looked at as a token."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused(attack: str) -> None:
    make, reason = ATTACKS[attack]
    refusal = refusal_of(make())

    assert refusal.reason == reason
    if reason in OF_THE_REQUEST:
        assert (refusal.status, refusal.error) == (400, "invalid_request")
    else:
        assert (refusal.status, refusal.error) == (401, "invalid_token")
    # Only of a token that was good in all else is it known whose it is.
    assert (refusal.access is not None) == (reason == "sender_constrained")


@pytest.mark.parametrize(
    "members",
    [
        {"alg": "dir"},
        {"alg": "PBES2-HS256+A128KW", "p2c": 2**31},
        {"alg": "dir", "zip": "DEF"},
    ],
    ids=["direct", "costly", "bomb"],
)
def test_encrypted_token_is_refused_unread(members: dict[str, Any]) -> None:
    refusal = refusal_of(encrypted(**members))

    assert (refusal.status, refusal.reason) == (401, "encrypted_token")


@pytest.mark.parametrize(
    ("signer", "jwk"),
    [
        pytest.param(RSA, {**RSA.jwk, "alg": "PS256"}, id="alg PS256"),
        pytest.param(EC, key("ES384", "ec").jwk, id="P-384"),
        pytest.param(RSA, {**RSA.jwk, "use": "enc"}, id="use enc"),
        pytest.param(
            key("EdDSA", "okp"),
            OKPAlgorithm.to_jwk(
                ed448.Ed448PrivateKey.generate().public_key(), as_dict=True
            ),
            id="Ed448",
        ),
        pytest.param(
            key("EdDSA", "okp"),
            {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
            id="X25519",
        ),
    ],
)
def test_key_that_does_not_fit_is_refused_by_that_reason(
    signer: Key, jwk: dict[str, Any]
) -> None:
    refusal = refusal_of(token(signer), {"keys": [{**jwk, "kid": signer.kid}]})

    assert (refusal.status, refusal.reason) == (401, "key_mismatch")


def test_every_refused_token_is_refused_in_the_same_words() -> None:
    """Outside, no attack tells how far it got."""
    refusals = [refusal_of(make()) for make, _ in ATTACKS.values()]
    words = {(r.status, r.error, r.description) for r in refusals}

    assert len(words) == 2  # as a token, and as a request
