"""Taking a compact JWS apart, and the keys that may verify it."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agentauth_middleware._core.tokens import jose
from agentauth_middleware._core.tokens.jose import (
    JOSEHeader,
    KeySet,
    decode_base64url,
    parse_compact,
    parse_header,
    parse_key_set,
    verify_signature,
)
from agentauth_middleware.errors import InvalidTokenError
from tests.support.tokens import Key, base64url, header, jwks, key, sign

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


# base64url


@pytest.mark.parametrize("length", range(10))
def test_base64url_is_read(length: int) -> None:
    raw = bytes(range(250, 250 - length, -1))

    assert decode_base64url(base64url(raw)) == raw


@pytest.mark.parametrize("head", ["", "A", "AA", "AAA"])
def test_base64url_has_one_spelling(head: str) -> None:
    """A spelling is read if encoding gives it back, and refused otherwise."""
    for last in ALPHABET:
        segment = (head + last).encode()
        try:
            raw = decode_base64url(segment)
        except ValueError:
            continue

        assert base64url(raw) == segment


@pytest.mark.parametrize(
    ("length", "readable"), [(2, 4), (3, 16), (4, 64), (1, 0), (5, 0)]
)
def test_base64url_ends_in_unused_bits_that_are_zero(
    length: int, readable: int
) -> None:
    read = 0
    for last in ALPHABET:
        try:
            decode_base64url(b"A" * (length - 1) + last.encode())
        except ValueError:
            continue
        read += 1

    assert read == readable


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(b"QQ==", id="padding"),
        pytest.param(b"QQ=", id="half the padding"),
        pytest.param(b"+/8A", id="the other alphabet"),
        pytest.param(b"QUJD\n", id="line break behind"),
        pytest.param(b"QU\nJD", id="line break inside"),
        pytest.param(b" QUJD", id="space"),
        pytest.param(b"QUJ\x00", id="NUL"),
        pytest.param(b"QUJ\xc3", id="not ASCII"),
        pytest.param(b"QUJ.", id="dot"),
        pytest.param(b"A", id="one character"),
        pytest.param(b"AAAAA", id="one character too many"),
    ],
)
def test_base64url_refuses(segment: bytes) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(segment)


# The compact form


def test_compact_form_is_taken_apart() -> None:
    token = sign({"iss": "https://as.example.com"})
    jws = parse_compact(token)

    assert jws.header == JOSEHeader("ES256", "key-1", "at+jwt")
    assert json.loads(jws.payload) == {"iss": "https://as.example.com"}
    assert jws.signing_input + b"." + base64url(jws.signature) == token


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"opaque", id="opaque"),
        pytest.param(b"..", id="two dots"),
        pytest.param(b"e30.e30", id="two segments"),
        pytest.param(b"e30.e30.e30.e30", id="four segments"),
        pytest.param(b"e30.e30.e30.e30.e30.e30", id="six segments"),
        pytest.param(b".e30.e30", id="no header"),
        pytest.param(b"W10.e30.e30", id="header is an array"),
        pytest.param(b"bnVsbA.e30.e30", id="header is null"),
        pytest.param(b"e30=.e30.e30", id="padded header"),
        pytest.param(b"e30.e30=.e30", id="padded payload"),
        pytest.param(b"e30.e30.e30=", id="padded signature"),
        pytest.param(b"e30.e30.e31", id="signature with stray bits"),
        pytest.param(b"e30.e30.e30\n", id="line break behind"),
    ],
)
def test_compact_form_is_refused(token: bytes) -> None:
    with pytest.raises(InvalidTokenError) as refused:
        parse_compact(token)

    assert refused.value.reason == "malformed"


# The header


@pytest.mark.parametrize(
    ("typ", "media_type"),
    [
        ("at+jwt", "at+jwt"),
        ("AT+JWT", "at+jwt"),
        ("application/at+jwt", "at+jwt"),
        ("Application/At+Jwt", "at+jwt"),
        ("application/application/at+jwt", "application/at+jwt"),
        ("JWT", "jwt"),
        ("text/at+jwt", "text/at+jwt"),
    ],
)
def test_header_names_the_type_in_one_spelling(typ: str, media_type: str) -> None:
    head = json.dumps({"alg": "ES256", "typ": typ}).encode()

    assert parse_header(base64url(head)).type == media_type


def test_header_may_say_little_or_things_that_do_not_count() -> None:
    """What names a key or a place to get one from is passed over."""
    head = {
        "alg": "ES256",
        "jku": "https://evil.example",
        "jwk": {"kty": "EC"},
        "x5c": ["MII"],
        "x5u": "https://evil.example",
        "cty": "JWT",
    }

    assert parse_header(base64url(b"{}")) == JOSEHeader("", None, None)
    assert parse_header(base64url(json.dumps(head).encode())) == JOSEHeader(
        "ES256", None, None
    )


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b'{"alg":"ES256","crit":["exp"]}', id="crit"),
        pytest.param(b'{"alg":"ES256","crit":[]}', id="empty crit"),
        pytest.param(b'{"alg":"ES256","crit":["x"],"x":1}', id="unknown crit"),
        pytest.param(b'{"alg":"ES256","crit":null}', id="crit null"),
        pytest.param(b'{"alg":"ES256","b64":false}', id="b64"),
        pytest.param(b'{"alg":"ES256","b64":true}', id="b64 true"),
        pytest.param(b'{"alg":"ES256","zip":"DEF"}', id="zip"),
        pytest.param(b'{"alg":"ES256","alg":"none"}', id="alg twice"),
        pytest.param(b'{"alg":1}', id="alg number"),
        pytest.param(b'{"alg":null}', id="alg null"),
        pytest.param(b'{"alg":["ES256"]}', id="alg array"),
        pytest.param(b'{"alg":"%s"}' % (b"A" * 257), id="alg long"),
        pytest.param(b'{"kid":1}', id="kid number"),
        pytest.param(b'{"kid":null}', id="kid null"),
        pytest.param(b'{"kid":{}}', id="kid object"),
        pytest.param(b'{"kid":"%s"}' % (b"k" * 257), id="kid long"),
        pytest.param(b'{"typ":1}', id="typ number"),
        pytest.param(b'{"typ":null}', id="typ null"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":"%s"}' % (b"a" * 7000), id="more than 8192 bytes"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"\xff", id="no UTF-8"),
    ],
)
def test_header_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_header(base64url(head))


def test_header_may_be_8192_characters_long() -> None:
    long = base64url(b'{"a":"%s"}' % (b"a" * 6136))

    assert len(long) == 8192
    assert parse_header(long).algorithm == ""
    with pytest.raises(ValueError, match="too long"):
        parse_header(base64url(b'{"a":"%s"}' % (b"a" * 6137)))


def test_names_in_a_header_may_be_256_characters_long() -> None:
    head = json.dumps({"alg": "ES256", "kid": "k" * 256}).encode()

    assert parse_header(base64url(head)).key_id == "k" * 256


# Signatures

SIGNATURES = [
    ("RS256", "RS256"),
    ("RS384", "RS384"),
    ("RS512", "RS512"),
    ("PS256", "PS256"),
    ("PS384", "PS384"),
    ("PS512", "PS512"),
    ("ES256", "ES256"),
    ("ES384", "ES384"),
    ("ES512", "ES512"),
    ("EdDSA", "EdDSA"),
    ("EdDSA", "Ed25519"),
]


def check(token: bytes, keys: KeySet) -> None:
    jws = parse_compact(token)
    verify_signature(jws, keys.candidates(jws.header))


def keys_of(*signers: Key) -> KeySet:
    return parse_key_set(jwks(*signers))


@pytest.mark.parametrize(("algorithm", "name"), SIGNATURES)
def test_signature_is_verified(algorithm: str, name: str) -> None:
    signer = key(algorithm)
    token = sign({"sub": "user-1"}, signer, header(signer, alg=name))

    check(token, keys_of(signer))


@pytest.mark.parametrize(("algorithm", "name"), SIGNATURES)
def test_signature_covers_header_and_payload(algorithm: str, name: str) -> None:
    signer = key(algorithm)
    keys = keys_of(signer)
    head, payload, signature = sign(
        {"sub": "user-1"}, signer, header(signer, alg=name)
    ).split(b".")
    raw = decode_base64url(signature)
    other_head, other_payload, _ = sign(
        {"sub": "user-2"}, signer, header(signer, alg=name, typ="jwt")
    ).split(b".")
    for forged in (
        [other_head, payload, signature],
        [head, other_payload, signature],
        [head, payload, b""],
        [head, payload, base64url(raw[:-1])],
        [head, payload, base64url(raw + b"\0")],
        [head, payload, base64url(b"\0" * len(raw))],
    ):
        with pytest.raises(InvalidTokenError) as refused:
            check(b".".join(forged), keys)

        assert refused.value.reason == "bad_signature"


def test_signature_of_another_key_with_the_same_name_is_refused() -> None:
    stranger = Key("key-1", "ES256", key("ES256", "stranger").private)

    with pytest.raises(InvalidTokenError) as refused:
        check(sign({}, stranger), keys_of(key()))

    assert refused.value.reason == "bad_signature"


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 0), (0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (2**256 - 1, 1)],
    ids=["r and s 0", "r 0", "s 0", "r is the order", "s is the order", "r beyond"],
)
def test_ecdsa_signature_needs_numbers_in_range(r: int, s: int) -> None:
    signer = key()
    head, payload, _ = sign({}, signer).split(b".")
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")

    with pytest.raises(InvalidTokenError) as refused:
        check(b".".join([head, payload, base64url(raw)]), keys_of(signer))

    assert refused.value.reason == "bad_signature"


def test_ecdsa_signature_must_be_raw_and_not_der() -> None:
    signer = key()
    head, payload, signature = sign({}, signer).split(b".")
    raw = decode_base64url(signature)
    der = encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )

    with pytest.raises(InvalidTokenError) as refused:
        check(b".".join([head, payload, base64url(der)]), keys_of(signer))

    assert refused.value.reason == "bad_signature"


@pytest.mark.parametrize(
    ("jwk", "token"),
    [
        pytest.param(
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            },
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0"
            "dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx"
            "-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            id="RFC 7515 A.3",
        ),
        pytest.param(
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            },
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0Jzl"
            "nLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            id="RFC 8037 A.4",
        ),
    ],
)
def test_published_signature_is_verified(jwk: Mapping[str, str], token: str) -> None:
    keys = parse_key_set({"keys": [jwk]})

    check(token.encode(), keys)
    with pytest.raises(InvalidTokenError):
        check(token.replace(".", ".e", 1).encode(), keys)


# Which keys may verify


def reason_for(token: bytes, document: Mapping[str, Any]) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        check(token, parse_key_set(document))
    return refused.value.reason


NO_KEY_FITS = ("key_mismatch", "unknown_kid")


def changed(signer: Key, **members: Any) -> dict[str, Any]:
    return {"keys": [{**signer.jwk, **members}]}


@pytest.mark.parametrize(
    ("algorithm", "members"),
    [
        pytest.param("RS256", {"alg": "RS256"}, id="alg is the same"),
        pytest.param("EdDSA", {"alg": "EdDSA"}, id="alg EdDSA"),
        pytest.param("EdDSA", {"alg": "Ed25519"}, id="alg by its other name"),
        pytest.param("RS256", {"use": "sig"}, id="use sig"),
        pytest.param("RS256", {"key_ops": ["verify"]}, id="key_ops verify"),
        pytest.param("RS256", {"key_ops": ["sign", "verify"]}, id="key_ops both"),
        pytest.param("RS256", {"alg": None}, id="alg null"),
        pytest.param("RS256", {"alg": ""}, id="alg empty"),
        pytest.param("RS256", {"use": None}, id="use null"),
        pytest.param("RS256", {"use": ""}, id="use empty"),
        pytest.param("RS256", {"key_ops": []}, id="key_ops empty"),
        pytest.param("RS256", {"key_ops": None}, id="key_ops null"),
        pytest.param("RS256", {"d": None, "oth": []}, id="private members empty"),
        pytest.param("RS256", {"x5c": ["nonsense"], "a": 1}, id="unknown members"),
    ],
)
def test_key_is_used(algorithm: str, members: Mapping[str, Any]) -> None:
    signer = key(algorithm)

    check(sign({}, signer), parse_key_set(changed(signer, **members)))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("marked", ["EdDSA", "Ed25519"])
def test_two_names_of_one_algorithm_are_one(name: str, marked: str) -> None:
    """RFC 9864 §2.2; issuers change over at different times than their key sets."""
    signer = key("EdDSA")
    token = sign({}, signer, header(signer, alg=name))

    check(token, parse_key_set(changed(signer, alg=marked)))


@pytest.mark.parametrize(
    ("algorithm", "members"),
    [
        pytest.param("RS256", {"alg": "PS256"}, id="RS256, marked PS256"),
        pytest.param("RS256", {"alg": "RS512"}, id="RS256, marked RS512"),
        pytest.param("RS256", {"alg": "RSA-OAEP"}, id="RS256, marked RSA-OAEP"),
        pytest.param("RS256", {"alg": "HS256"}, id="RS256, marked HS256"),
        pytest.param("RS256", {"alg": ["RS256"]}, id="alg array"),
        pytest.param("ES256", {"alg": "ES384"}, id="ES256, marked ES384"),
        pytest.param("EdDSA", {"alg": "ES256"}, id="EdDSA, marked ES256"),
    ],
)
def test_key_marked_for_another_algorithm_is_not_used(
    algorithm: str, members: Mapping[str, Any]
) -> None:
    signer = key(algorithm)

    assert reason_for(sign({}, signer), changed(signer, **members)) == "key_mismatch"


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("ES384", "ES256"),
        ("ES256", "ES384"),
        ("ES256", "RS256"),
        ("RS256", "ES256"),
        ("RS256", "EdDSA"),
        ("EdDSA", "RS256"),
        ("RS256", "none"),
        ("RS256", "HS256"),
        ("RS256", "rs256"),
        ("EdDSA", "Ed448"),
    ],
)
def test_key_is_of_the_type_and_curve_that_the_algorithm_needs(
    algorithm: str, name: str
) -> None:
    signer = key(algorithm)
    token = sign({}, signer, header(signer, alg=name))

    assert reason_for(token, jwks(signer)) == "key_mismatch"


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"use": "enc"}, id="use enc"),
        pytest.param({"key_ops": ["sign"]}, id="key_ops sign"),
        pytest.param({"key_ops": 1}, id="key_ops number"),
        pytest.param({"key_ops": ["verify", 1]}, id="key_ops with a number"),
    ],
)
def test_key_not_meant_for_verifying_is_not_used(members: Mapping[str, Any]) -> None:
    signer = key("RS256")

    assert reason_for(sign({}, signer), changed(signer, **members)) in NO_KEY_FITS


def rsa_jwk(bits: int) -> dict[str, Any]:
    public = rsa.generate_private_key(65537, bits).public_key()
    return RSAAlgorithm.to_jwk(public, as_dict=True)


@pytest.mark.parametrize(
    ("jwk", "name"),
    [
        pytest.param(lambda: rsa_jwk(1024), "RS256", id="RSA of 1024 bits"),
        pytest.param(lambda: rsa_jwk(2040), "RS256", id="RSA of 2040 bits"),
        pytest.param(
            lambda: {"kty": "RSA", "e": "AQAB", "n": "_" * 1366 + "w"},
            "RS256",
            id="RSA of 8200 bits",
        ),
        pytest.param(
            lambda: OKPAlgorithm.to_jwk(
                ed448.Ed448PrivateKey.generate().public_key(), as_dict=True
            ),
            "EdDSA",
            id="Ed448",
        ),
        pytest.param(
            lambda: {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
            "EdDSA",
            id="X25519",
        ),
        pytest.param(
            lambda: ECAlgorithm.to_jwk(
                ec.generate_private_key(ec.SECP256K1()).public_key(), as_dict=True
            ),
            "ES256",
            id="secp256k1",
        ),
        pytest.param(
            lambda: {"kty": "oct", "k": base64url(b"secret" * 8).decode()},
            "HS256",
            id="symmetric",
        ),
    ],
)
def test_key_of_an_unsuitable_kind_is_not_used(jwk: Any, name: str) -> None:
    document = {"keys": [{**jwk(), "kid": "key-1", "alg": name}]}
    token = sign({}, key(), header(key(), alg=name))

    assert reason_for(token, document) in NO_KEY_FITS
    assert not parse_key_set(document).identities


def private_member(signer: Key) -> str:
    """What would have to stay at home, in a JWK."""
    return str(ECAlgorithm.to_jwk(signer.private, as_dict=True)["d"])


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({"d": private_member(key("ES256", "bad"))}, id="private"),
        pytest.param({"k": "AQAB"}, id="with a secret"),
        pytest.param({"p": "AQAB"}, id="with a prime"),
        pytest.param({"q": "AQAB"}, id="with the other prime"),
        pytest.param({"oth": [{"r": "AQAB"}]}, id="with more primes"),
        pytest.param({"kty": "XYZ"}, id="kty unknown"),
        pytest.param({"kty": None}, id="kty null"),
        pytest.param({"kty": ["EC"]}, id="kty array"),
        pytest.param({"kty": "OKP"}, id="kty and crv disagree"),
        pytest.param({"crv": "P-384"}, id="coordinates of another curve"),
        pytest.param({"crv": 1}, id="crv number"),
        pytest.param({"x": None}, id="x null"),
        pytest.param({"x": 1}, id="x number"),
        pytest.param({"x": "="}, id="x no base64url"),
        pytest.param({"x": "AAAA"}, id="x short"),
        pytest.param({"x": "A" * 43, "y": "A" * 43}, id="point not on the curve"),
        pytest.param({"kid": 1}, id="kid number"),
        pytest.param({"kid": "k" * 257}, id="kid long"),
    ],
)
def test_unusable_key_is_passed_over_and_spoils_no_other(
    jwk: Mapping[str, Any],
) -> None:
    bad, good = key("ES256", "bad"), key("ES256", "good")
    keys = parse_key_set({"keys": [{**bad.jwk, **jwk}, good.jwk]})

    check(sign({}, good), keys)
    with pytest.raises(InvalidTokenError):
        check(sign({}, bad), keys)
    assert len(keys.identities) == 1


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({"n": None}, id="n null"),
        pytest.param({"n": "AQAB"}, id="n tiny"),
        pytest.param({"e": "AQ"}, id="e is 1"),
        pytest.param({"e": "Ag"}, id="e is 2"),
        pytest.param({"e": None}, id="e null"),
    ],
)
def test_unusable_rsa_key_is_passed_over(jwk: Mapping[str, Any]) -> None:
    assert not parse_key_set(changed(key("RS256"), **jwk)).identities


@pytest.mark.parametrize(
    ("bits", "is_usable"), [(2047, False), (2048, True), (8192, True), (8193, False)]
)
def test_rsa_key_has_2048_to_8192_bits(bits: int, is_usable: bool) -> None:
    modulus = (2**bits - 1).to_bytes(bits // 8 + 1, "big").lstrip(b"\0")
    keys = parse_key_set(changed(key("RS256"), n=base64url(modulus).decode()))

    assert bool(keys.identities) is is_usable


@pytest.mark.parametrize("item", [None, 1, "key", [], True], ids=repr)
def test_what_is_no_key_is_passed_over(item: object) -> None:
    keys = parse_key_set({"keys": [item, key().jwk]})

    check(sign({}), keys)


@pytest.mark.parametrize(
    "document",
    [{}, {"keys": None}, {"keys": {}}, {"keys": "all"}, {"keys": 1}],
    ids=repr,
)
def test_key_set_is_an_array_of_keys(document: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="keys"):
        parse_key_set(document)


def test_key_set_has_a_hundred_keys_at_most() -> None:
    assert parse_key_set({"keys": [key().jwk] * 100}).identities
    with pytest.raises(ValueError, match="100"):
        parse_key_set({"keys": [key().jwk] * 101})


# Choosing one


def test_key_is_chosen_by_its_name() -> None:
    keys = keys_of(key("ES256", "one"), key("ES256", "two"), key("EdDSA", "three"))

    check(sign({}, key("ES256", "two")), keys)
    check(sign({}, key("EdDSA", "three")), keys)


def test_several_keys_may_share_a_name() -> None:
    """All that fit are tried; those of other types are not."""
    shared = [
        Key("shared", signer.algorithm, signer.private)
        for signer in (
            key("ES256", "one"),
            key("RS256", "two"),
            key("ES256", "three"),
            key("EdDSA", "four"),
        )
    ]
    keys = keys_of(*shared)

    for signer in shared:
        check(sign({}, signer), keys)
    with pytest.raises(InvalidTokenError) as refused:
        check(sign({}, Key("shared", "ES256", key("ES256", "five").private)), keys)
    assert refused.value.reason == "bad_signature"


def test_unknown_name_is_refused() -> None:
    assert reason_for(sign({}, key("ES256", "other")), jwks(key())) == "unknown_kid"


def test_unnamed_key_does_not_answer_to_a_name() -> None:
    jwk = {name: value for name, value in key().jwk.items() if name != "kid"}

    assert reason_for(sign({}), {"keys": [jwk]}) == "unknown_kid"


def unnamed(signer: Key) -> bytes:
    return sign({}, signer, header(signer, without=["kid"]))


@pytest.mark.parametrize("has_name", [True, False], ids=["named key", "unnamed key"])
def test_token_without_kid_is_verified_by_the_one_key_that_fits(
    has_name: bool,
) -> None:
    signer = key()
    jwk = {n: value for n, value in signer.jwk.items() if has_name or n != "kid"}
    keys = parse_key_set({"keys": [key("RS256", "other").jwk, jwk]})

    check(unnamed(signer), keys)


def test_token_without_kid_may_be_signed_by_any_of_ten_keys_that_fit() -> None:
    ten = [key("ES256", f"k{number}") for number in range(10)]

    check(unnamed(ten[9]), parse_key_set(jwks(*ten)))
    assert reason_for(unnamed(key()), jwks(*ten)) == "bad_signature"
    assert reason_for(unnamed(ten[0]), jwks(*ten, key())) == "unknown_kid"


def test_token_without_kid_is_refused_when_no_key_fits() -> None:
    assert reason_for(unnamed(key()), jwks(key("RS256"))) == "unknown_kid"


@pytest.mark.parametrize(
    ("head", "known"),
    [
        pytest.param(JOSEHeader("ES256", "key-1", None), True, id="by its name"),
        pytest.param(JOSEHeader("RS256", "key-1", None), True, id="for another alg"),
        pytest.param(JOSEHeader("ES256", "other", None), False, id="unknown name"),
        pytest.param(JOSEHeader("ES256", None, None), True, id="no name, one fits"),
        pytest.param(JOSEHeader("RS256", None, None), False, id="no name, none fits"),
    ],
)
def test_key_set_tells_whether_asking_again_may_help(
    head: JOSEHeader, known: bool
) -> None:
    assert keys_of(key()).knows(head) is known


def test_sets_are_compared_by_their_keys() -> None:
    """Order, marks and spelling of a set do not matter; names and keys do."""
    one, two = key("ES256", "one"), key("RS256", "two")
    renamed = Key("renamed", one.algorithm, one.private)

    assert keys_of(one, two).identities == keys_of(two, one).identities
    assert keys_of(one).identities < keys_of(one, two).identities
    assert keys_of(one).identities.isdisjoint(keys_of(renamed).identities)


def mirrored(signer: Key) -> dict[str, str]:
    """The other point with the same ``x``."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    y = int.from_bytes(decode_base64url(signer.jwk["y"].encode()), "big")
    return {**signer.jwk, "y": base64url((prime - y).to_bytes(32, "big")).decode()}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            key("ES256").jwk, {**key("ES256", "other").jwk, "kid": "key-1"}, id="EC"
        ),
        pytest.param(key("ES256").jwk, mirrored(key("ES256")), id="EC, y alone"),
        pytest.param(
            key("EdDSA").jwk, {**key("EdDSA", "other").jwk, "kid": "key-1"}, id="x"
        ),
        pytest.param(
            key("RS256").jwk, {**key("RS256", "other").jwk, "kid": "key-1"}, id="n"
        ),
        pytest.param(key("RS256").jwk, {**key("RS256").jwk, "e": "Aw"}, id="e"),
    ],
)
def test_key_that_was_replaced_under_its_name_is_another(
    one: dict[str, str], other: dict[str, str]
) -> None:
    """What its predecessor signed must be forgotten."""
    before, after = parse_key_set({"keys": [one]}), parse_key_set({"keys": [other]})

    assert len(before.identities) == len(after.identities) == 1
    assert before.identities.isdisjoint(after.identities)


# Ed25519 keys that are none


SMALL_ORDERS = sorted(jose._SMALL_ORDERS)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("y", [*SMALL_ORDERS, 2**255 - 19, 2**255 - 18])
@pytest.mark.parametrize("sign", [0, 1])
def test_point_of_small_order_is_no_key(y: int, sign: int) -> None:
    """The last two spell 0 and 1 in another way (RFC 8725 §3.4)."""
    point = (y | sign << 255).to_bytes(32, "little")
    encoded = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded, "kid": "k"}

    assert not parse_key_set({"keys": [jwk]}).identities


@pytest.mark.parametrize("y", SMALL_ORDERS)
def test_anything_verifies_with_a_point_of_small_order(y: int) -> None:
    """Why they are refused: nobody has signed this."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(y.to_bytes(32, "little"))
    made_up = (1).to_bytes(32, "little") + bytes(32)

    def verifies(number: int) -> bool:
        try:
            key.verify(made_up, b"%d" % number)
        except InvalidSignature:
            return False
        return True

    assert any(verifies(number) for number in range(200))
