"""Tokens that nobody may get in with, each with the reason it is refused for.

One table, met three times: by the core, with issuers that publish their keys, where
whatever a token asks for must be a document of a configured issuer; and by both
middlewares, where the answer must be the one of the table of refusals, and the reason
in the log.

Attacks that need time or a bad issuer (floods of unknown keys, sets that are no sets,
keys that were removed) are in ``tests/upstream``.
"""

from __future__ import annotations

import hmac
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Fetch, LogPage, ReadLog
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware.access import Access
from agentauth_middleware.settings.issuer import Issuer
from tests.support import tokens
from tests.support.deciding import Decided, deciding, request
from tests.support.exchange import (
    MIDDLEWARES,
    HTTPRequest,
    Middleware,
    running_middleware,
)
from tests.support.scenarios import invalid_request, invalid_token
from tests.support.stepping import Clock, Stepper, json_reply
from tests.support.tokens import (
    ISSUER,
    RESOURCE,
    Key,
    as_json,
    base64url,
    header,
    jwks,
    key,
    server,
    sign,
    signing_input,
)

OTHER_ISSUER = "https://idp.example.net"
RSA, EC, OTHER = key("RS256", "rsa"), key("ES256", "ec"), key("ES256", "ec-2")
FOREIGN = Key("ec", "ES256", key("ES256", "foreign").private)
"""The other issuer's key, by the same name as one of ours."""
ATTACKER = Key("attacker", "RS256", key("RS256", "attacker").private)
OURS = jwks(RSA, EC, OTHER)

NOW = int(time.time())
"""The middlewares look at the clock on the wall."""
DAY = 86_400

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


def present(presented: bytes, keys: Mapping[str, Any] = OURS) -> Decided:
    """What a middleware that has seen no token before makes of *presented*."""
    documents = {**PUBLISHED, f"{ISSUER}/keys": keys}
    state = MiddlewareState(server(Issuer(ISSUER), Issuer(OTHER_ISSUER)))
    step = Stepper(deciding(state, request(presented), Clock(NOW)))
    while step.asks is not None:
        match step.asks:
            case Fetch(url):
                step.answer(json_reply(documents[url]))
            case ReadLog():
                step.answer(LogPage(0, ()))
            case unexpected:
                raise AssertionError(unexpected)
    return step.result


def refusal_of(presented: bytes, keys: Mapping[str, Any] = OURS) -> Refusal:
    decision = present(presented, keys)
    assert isinstance(decision, Refusal)
    return decision


def middleware_of(
    kind: str, keys: Mapping[str, Any] = OURS, **settings: Any
) -> Middleware:
    """A middleware with both issuers, whose keys are given. *settings* are
    ``Issuer``'s."""
    ours = Issuer(ISSUER, jwks=keys, **settings)
    return running_middleware(
        kind, server(ours, Issuer(OTHER_ISSUER, jwks=jwks(FOREIGN))), None
    )


def bearing(presented: bytes) -> HTTPRequest:
    line = ("Authorization", f"Bearer {presented.decode('latin-1')}")
    return HTTPRequest("GET", "/notes", (line,))


def reasons_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons in the audit records so far."""
    return [
        record.__dict__["agentauth"]["reason"]
        for record in caplog.records
        if record.name == "agentauth_middleware.audit"
    ]


def claims(*, without: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    """The claims of a good access token, changed."""
    times = {"iat": NOW - 10, "exp": NOW + DAY}
    return tokens.claims(without=without, **{**times, **changes})


def token(signer: Key, **changes: Any) -> bytes:
    """A good access token, its claims changed."""
    return sign(claims(**changes), signer)


GOOD_TOKENS = [
    *(token(signer) for signer in (RSA, EC, OTHER)),
    token(FOREIGN, iss=OTHER_ISSUER),
]


def test_issuers_of_this_file_have_good_tokens_too() -> None:
    """Else everything below would be refused for a reason of its own."""
    for good in GOOD_TOKENS:
        assert isinstance(present(good), Access)


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_middlewares_of_this_file_let_good_tokens_in(kind: str) -> None:
    middleware = middleware_of(kind)

    assert [middleware.ask(bearing(good)).status for good in GOOD_TOKENS] == [200] * 4


# Made by hand


def headed(**members: Any) -> bytes:
    """A good token with another header."""
    return sign(claims(), EC, header(EC, **members))


def with_payload(**changes: Any) -> bytes:
    return token(EC, **changes)


def unsigned(**members: Any) -> bytes:
    return signing_input(header(EC, **members), claims()) + b"."


def without_header(name: str) -> bytes:
    return sign(claims(), EC, header(EC, without=[name]))


def without_exp(raw: bytes) -> bytes:
    """A good payload but for *raw* in place of ``exp``."""
    payload = as_json(claims(without=["exp"]))[:-1] + b"," + raw + b"}"
    return sign(payload, EC)


def without_claim(name: str) -> bytes:
    return sign(claims(without=[name]), EC)


def with_secret(secret: bytes) -> bytes:
    """HS256 with a secret that everybody knows."""
    data = signing_input(header(RSA, alg="HS256"), claims())
    return data + b"." + base64url(hmac.digest(secret, data, "sha256"))


def with_public_key(signer: Key, encoding: Encoding) -> bytes:
    public: RSAPublicKey | ec.EllipticCurvePublicKey = signer.private.public_key()
    return with_secret(public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))


def by_attacker(**members: Any) -> bytes:
    """Signed by the attacker, whose key the header offers or points to."""
    return sign(claims(), ATTACKER, header(ATTACKER, **members))


def with_signature(signature: bytes) -> bytes:
    return signing_input(header(EC), claims()) + b"." + base64url(signature)


def in_der(signature: bytes) -> bytes:
    """A good signature in the form that is not for JWS (RFC 7518 §3.4)."""
    r, s = signature[:32], signature[32:]
    return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))


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


GOOD_SIGNATURE = EC.sign(signing_input(header(EC), claims()))
R, S = GOOD_SIGNATURE[:32], GOOD_SIGNATURE[32:]
ZERO = bytes(32)
EVIL = "https://evil.example/keys"
BOMB = zlib.compress(as_json(claims()))
TYPE = "wrong_token_type"
AHEAD = 600
"""Seconds; more than clocks may differ, and than these tests last."""
FORM = "malformed_credential"


class Attack(NamedTuple):
    """A token, why it is refused, and the keys that our issuer publishes meanwhile."""

    make: Callable[[], bytes]
    reason: str
    published: Mapping[str, Any] = OURS


def misfit(signer: Key, **members: Any) -> Attack:
    """A good token, while its key is published with these members."""
    jwk = {**signer.jwk, **members}
    return Attack(lambda: token(signer), "key_mismatch", {"keys": [jwk, OTHER.jwk]})


ED25519 = key("EdDSA", "okp")
ED448 = OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)

ATTACKS: dict[str, Attack] = {
    # No signature
    "none": Attack(lambda: unsigned(alg="none"), "alg_not_allowed"),
    "None": Attack(lambda: unsigned(alg="None"), "alg_not_allowed"),
    "nOnE": Attack(lambda: unsigned(alg="nOnE"), "alg_not_allowed"),
    "alg empty": Attack(lambda: unsigned(alg=""), "alg_not_allowed"),
    "alg missing": Attack(lambda: without_header("alg"), "alg_not_allowed"),
    "alg with a space": Attack(lambda: headed(alg="ES256 "), "alg_not_allowed"),
    "alg in lower case": Attack(lambda: headed(alg="es256"), "alg_not_allowed"),
    "alg not for this issuer": Attack(lambda: headed(alg="ES384"), "alg_not_allowed"),
    "signature empty": Attack(lambda: unsigned(), "bad_signature"),
    # A public key as the secret
    "secret is the RSA key, PEM": Attack(
        lambda: with_public_key(RSA, Encoding.PEM), "alg_not_allowed"
    ),
    "secret is the RSA key, DER": Attack(
        lambda: with_public_key(RSA, Encoding.DER), "alg_not_allowed"
    ),
    "secret is the EC key, PEM": Attack(
        lambda: with_public_key(EC, Encoding.PEM), "alg_not_allowed"
    ),
    "secret is the EC key, DER": Attack(
        lambda: with_public_key(EC, Encoding.DER), "alg_not_allowed"
    ),
    "secret is the EC key, raw": Attack(
        lambda: with_secret(
            EC.private.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )
        ),
        "alg_not_allowed",
    ),
    "secret is the RSA key, JWK": Attack(
        lambda: with_secret(as_json(RSA.jwk)), "alg_not_allowed"
    ),
    "secret is the EC key, JWK": Attack(
        lambda: with_secret(as_json(EC.jwk)), "alg_not_allowed"
    ),
    "secret is empty": Attack(lambda: with_secret(b""), "alg_not_allowed"),
    # ECDSA
    "r and s 0": Attack(lambda: with_signature(ZERO + ZERO), "bad_signature"),
    "r 0": Attack(lambda: with_signature(ZERO + S), "bad_signature"),
    "s 0": Attack(lambda: with_signature(R + ZERO), "bad_signature"),
    "r and s swapped": Attack(lambda: with_signature(S + R), "bad_signature"),
    "DER": Attack(lambda: with_signature(in_der(GOOD_SIGNATURE)), "bad_signature"),
    "DER of nothing": Attack(
        lambda: with_signature(b"0\6\2\1\1\2\1\1"), "bad_signature"
    ),
    "signature too long": Attack(
        lambda: with_signature(R + S + b"\0"), "bad_signature"
    ),
    # A key that is for something else
    "RS256, key for PS256": misfit(RSA, alg="PS256"),
    "RS256, key for encryption": misfit(RSA, use="enc"),
    "RS256, key to wrap others": misfit(RSA, key_ops=["wrapKey"]),
    "RS256, key of 1024 bits": misfit(
        Key("weak", "RS256", rsa.generate_private_key(65537, 1024))  # noqa: S505
    ),
    "ES256, key on P-384": misfit(EC, **key("ES384", "ec").jwk),
    "ES256, key for ES384": misfit(EC, alg="ES384"),
    "EdDSA, key on Ed448": misfit(ED25519, **ED448),
    "EdDSA, key on X25519": misfit(ED25519, crv="X25519"),
    "EdDSA, key for ES256": misfit(ED25519, alg="ES256"),
    # A key in the header
    "jwk": Attack(lambda: by_attacker(jwk=ATTACKER.jwk), "unknown_kid"),
    "jwk and our kid": Attack(
        lambda: by_attacker(jwk=ATTACKER.jwk, kid="rsa"),
        "bad_signature",
    ),
    "jku": Attack(lambda: by_attacker(jku=EVIL), "unknown_kid"),
    "jku and our kid": Attack(
        lambda: by_attacker(jku=EVIL, kid="rsa"), "bad_signature"
    ),
    "x5u": Attack(lambda: by_attacker(x5u=EVIL), "unknown_kid"),
    "x5u and our kid": Attack(
        lambda: by_attacker(x5u=EVIL, kid="rsa"), "bad_signature"
    ),
    "x5c": Attack(lambda: by_attacker(x5c=["MII="]), "unknown_kid"),
    "x5c and our kid": Attack(
        lambda: by_attacker(x5c=["MII="], kid="rsa"), "bad_signature"
    ),
    # The name of the key
    "kid is a URL": Attack(lambda: by_attacker(kid=EVIL), "unknown_kid"),
    "kid is a path": Attack(lambda: by_attacker(kid="../../etc/passwd"), "unknown_kid"),
    "kid is SQL": Attack(lambda: by_attacker(kid="' OR 1=1 --"), "unknown_kid"),
    "kid breaks lines": Attack(lambda: by_attacker(kid="rsa\r\nx: y"), "unknown_kid"),
    "kid empty": Attack(lambda: by_attacker(kid=""), "unknown_kid"),
    "kid of 10 kB": Attack(lambda: by_attacker(kid="k" * 10_000), "malformed"),
    "kid number": Attack(lambda: by_attacker(kid=1), "malformed"),
    "kid null": Attack(lambda: by_attacker(kid=None), "malformed"),
    "kid array": Attack(lambda: by_attacker(kid=["rsa"]), "malformed"),
    # What would have to be understood
    "crit exp": Attack(lambda: headed(crit=["exp"]), "malformed"),
    "crit empty": Attack(lambda: headed(crit=[]), "malformed"),
    "crit unknown": Attack(lambda: headed(crit=["x"], x=1), "malformed"),
    "b64": Attack(lambda: headed(b64=False), "malformed"),
    "zip, not done": Attack(lambda: headed(zip="DEF"), "malformed"),
    "zip": Attack(lambda: sign(BOMB, EC, header(EC, zip="DEF")), "malformed"),
    # Whose key it is
    "iss is ours, key another's": Attack(lambda: token(FOREIGN), "bad_signature"),
    "iss another's, key ours": Attack(
        lambda: with_payload(iss=OTHER_ISSUER),
        "bad_signature",
    ),
    # For whom it is
    "aud another API": Attack(
        lambda: with_payload(aud="https://other.example"),
        "wrong_audience",
    ),
    "aud longer": Attack(
        lambda: with_payload(aud=RESOURCE + ".evil"), "wrong_audience"
    ),
    "aud shorter": Attack(lambda: with_payload(aud=RESOURCE[:-1]), "wrong_audience"),
    "aud missing": Attack(lambda: without_claim("aud"), "wrong_audience"),
    "aud empty": Attack(lambda: with_payload(aud=[]), "wrong_audience"),
    "aud object": Attack(lambda: with_payload(aud={RESOURCE: 1}), "malformed"),
    "aud look-alikes": Attack(
        lambda: with_payload(aud=[RESOURCE + "//", "api"]),
        "wrong_audience",
    ),
    # What it is; other kinds have a table of their own
    "typ missing": Attack(lambda: without_header("typ"), TYPE),
    "bound to a key": Attack(
        lambda: with_payload(cnf={"jkt": "x"}), "sender_constrained"
    ),
    # Times
    "expired": Attack(lambda: with_payload(exp=NOW - 61), "expired"),
    "exp string": Attack(lambda: with_payload(exp=str(NOW + 300)), "malformed"),
    "exp missing": Attack(lambda: without_claim("exp"), "malformed"),
    "exp 10^20": Attack(lambda: with_payload(exp=10**20), "malformed"),
    "exp true": Attack(lambda: with_payload(exp=True), "malformed"),
    "nbf ahead": Attack(lambda: with_payload(nbf=NOW + AHEAD), "not_yet_valid"),
    "exp object": Attack(lambda: with_payload(exp={"at": NOW + 300}), "malformed"),
    "exp negative": Attack(lambda: with_payload(exp=-1), "malformed"),
    "exp NaN": Attack(lambda: without_exp(b'"exp":NaN'), "malformed"),
    "exp infinite": Attack(lambda: without_exp(b'"exp":1e999'), "malformed"),
    "iat ahead": Attack(lambda: with_payload(iat=NOW + AHEAD), "not_yet_valid"),
    "iat string": Attack(lambda: with_payload(iat=str(NOW)), "malformed"),
    "iat missing": Attack(lambda: without_claim("iat"), "malformed"),
    "nbf string": Attack(lambda: with_payload(nbf=str(NOW)), "malformed"),
    # Members twice
    "aud twice": Attack(lambda: with_member(b'"aud":"x"'), "malformed"),
    "iss twice": Attack(lambda: with_member(b'"iss":"x"'), "malformed"),
    "alg twice": Attack(lambda: with_header_member(b'"alg":"none"'), "malformed"),
    # Payloads
    "array": Attack(lambda: sign(b"[" + as_json(claims()) + b"]", EC), "malformed"),
    "1000 levels": Attack(lambda: nested(1000), "malformed"),
    "1 MB": Attack(lambda: with_payload(x="a" * 2**20), "credential_too_long"),
    # Spellings
    "padding in the middle": Attack(lambda: with_segment(0, lambda s: s + b"="), FORM),
    "padding": Attack(lambda: with_segment(2, lambda s: s + b"=="), "malformed"),
    "plus": Attack(lambda: with_segment(1, lambda s: b"+" + s[1:]), "malformed"),
    "slash": Attack(lambda: with_segment(2, lambda s: b"/" + s[1:]), "malformed"),
    "stray bits": Attack(lambda: with_segment(2, with_stray_bits), "malformed"),
    "line break": Attack(
        lambda: with_segment(1, lambda s: s[:8] + b"\n" + s[8:]), FORM
    ),
    # Other forms
    "JSON serialisation": Attack(serialised_as_json, FORM),
    "two tokens": Attack(lambda: token(EC) + b"." + token(EC), "malformed"),
    "opaque": Attack(lambda: b"0123456789abcdef", "malformed"),
    "encrypted": Attack(lambda: encrypted(alg="dir"), "encrypted_token"),
    "encrypted at great cost": Attack(
        lambda: encrypted(alg="PBES2-HS256+A128KW", p2c=2**31), "encrypted_token"
    ),
    "encrypted, compressed": Attack(
        lambda: encrypted(alg="dir", zip="DEF"), "encrypted_token"
    ),
    # Claims of the wrong type
    "scope array": Attack(lambda: with_payload(scope=["mail.read"]), "malformed"),
    "scope number": Attack(lambda: with_payload(scope=1), "malformed"),
    "sub empty": Attack(lambda: with_payload(sub=""), "malformed"),
    "sub number": Attack(lambda: with_payload(sub=1), "malformed"),
    "sub object": Attack(lambda: with_payload(sub={"a": "b"}), "malformed"),
    "sub missing": Attack(lambda: without_claim("sub"), "malformed"),
    "client_id empty": Attack(lambda: with_payload(client_id=""), "malformed"),
    "client_id missing": Attack(lambda: without_claim("client_id"), "malformed"),
    "jti number": Attack(lambda: with_payload(jti=7), "malformed"),
    "jti missing": Attack(lambda: without_claim("jti"), "malformed"),
    "act null": Attack(lambda: with_payload(act=None), "malformed"),
    # Almost an issuer
    "iss look-alike": Attack(
        lambda: with_payload(iss="https://\u0430s.example.com"),
        "unknown_issuer",
    ),
    "iss with a slash": Attack(
        lambda: with_payload(iss=ISSUER + "/"), "unknown_issuer"
    ),
    "iss in upper case": Attack(
        lambda: with_payload(iss="https://AS.example.com"),
        "unknown_issuer",
    ),
    "iss with its port": Attack(
        lambda: with_payload(iss=ISSUER + ":443"), "unknown_issuer"
    ),
    "iss http": Attack(
        lambda: with_payload(iss="http://as.example.com"), "unknown_issuer"
    ),
    "iss below": Attack(lambda: with_payload(iss=ISSUER + "/x"), "unknown_issuer"),
    "iss of nobody": Attack(
        lambda: token(ATTACKER, iss="https://evil.example"),
        "unknown_issuer",
    ),
}
OF_THE_REQUEST = (FORM, "credential_too_long")
"""Reasons that concern the header field: 400, before it is looked at as a token."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_and_asks_nobody_else(attack: str) -> None:
    make, reason, published = ATTACKS[attack]
    refusal = refusal_of(make(), published)

    assert refusal.reason == reason
    # Only of a token that was good in all else is it known whose it is.
    assert (refusal.access is not None) == (reason == "sender_constrained")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_attack_is_refused_at_the_middleware(
    kind: str, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Outside, no attack tells how far it got."""
    make, reason, published = ATTACKS[attack]
    expected = invalid_request if reason in OF_THE_REQUEST else invalid_token
    caplog.set_level("INFO")
    middleware = middleware_of(kind, published)
    answer = middleware.ask(bearing(make()))

    expected(reason).check(answer)
    assert reasons_in(caplog) == [reason]
    assert middleware.seen == []


# Other kinds of tokens, signed by an issuer that is trusted


class OtherKind(NamedTuple):
    """A token that is no access token, under its own type and under none."""

    typ: str
    claims: Mapping[str, Any]
    untyped: str = TYPE
    """Why it is refused where tokens need not say of which type they are."""


EVENT: dict[str, Any] = {"https://schemas.openid.net/event": {}}
FOR_THE_ISSUER = {"aud": ISSUER}
OTHER_KINDS: dict[str, OtherKind] = {
    "ID token": OtherKind(
        "JWT", {"at_hash": "h", "scope": "openid", "aud": "client-1"}
    ),
    "ID token, for us as well": OtherKind(
        "JWT", {"aud": ["client-1", RESOURCE], "azp": "client-1"}
    ),
    "ID token of a sign-in at our API": OtherKind("JWT", {"nonce": "n"}),
    "ID token of a hybrid flow": OtherKind("JWT", {"c_hash": "h", "scope": "openid"}),
    "ID-JAG": OtherKind(
        "oauth-id-jag+jwt", {**FOR_THE_ISSUER, "scope": "a"}, "wrong_audience"
    ),
    "service assertion": OtherKind(
        "oauth-id-jag+jwt",
        {**FOR_THE_ISSUER, "registration_type": "identity_assertion"},
        "wrong_audience",
    ),
    "security event": OtherKind("secevent+jwt", {"events": EVENT}),
    "logout token": OtherKind("logout+jwt", {"events": EVENT, "sid": "s"}),
    "DPoP proof": OtherKind("dpop+jwt", {"htm": "GET", "htu": RESOURCE, "ath": "a"}),
    "DPoP proof, half": OtherKind("dpop+jwt", {"htu": RESOURCE}),
    "client assertion": OtherKind(
        "client-authentication+jwt",
        {**FOR_THE_ISSUER, "sub": ISSUER, "client_id": ISSUER},
    ),
    "client assertion that names no client": OtherKind(
        "JWT", {"sub": ISSUER, "client_id": None}
    ),
    "refresh token": OtherKind("rt+jwt", {"typ": "Refresh", "scope": "a"}),
    "refresh token of another make": OtherKind("rt+jwt", {"token_use": "refresh"}),
    "refresh token without a mark": OtherKind(
        "rt+jwt", {**FOR_THE_ISSUER, "scope": "a"}, "wrong_audience"
    ),
    "introspection": OtherKind(
        "token-introspection+jwt", {"token_introspection": {"active": True}}
    ),
    "authorization request": OtherKind(
        "oauth-authz-req+jwt",
        {**FOR_THE_ISSUER, "response_type": "code", "scope": "a"},
        "wrong_audience",
    ),
    "status list": OtherKind(
        "statuslist+jwt", {"status_list": {"bits": 1}, "client_id": None}
    ),
    "transaction token": OtherKind(
        "txntoken+jwt",
        {"txn": "1", "aud": "trust.example", "scope": "a"},
        "wrong_audience",
    ),
}
NO_TYPE: list[str | None] = ["JWT", None]


def signed_as(typ: str | None, members: Mapping[str, Any]) -> bytes:
    """A good token with further claims, ``None`` for one less, under another type."""
    absent = [name for name, value in members.items() if value is None]
    without = ["typ"] if typ is None else []
    head = header(EC, without=without, typ=typ)
    return sign(claims(without=absent, **members), EC, head)


def test_issuer_that_states_no_types_has_good_tokens_too() -> None:
    middleware = middleware_of("wsgi", token_types=("at+jwt", *NO_TYPE))

    assert [middleware.ask(bearing(signed_as(typ, {}))).status for typ in NO_TYPE] == [
        200
    ] * 2


@pytest.mark.parametrize("name", OTHER_KINDS)
@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_token_of_another_kind_is_no_access_token(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = OTHER_KINDS[name]
    caplog.set_level("INFO")
    middleware = middleware_of(kind)

    invalid_token(TYPE).check(
        middleware.ask(bearing(signed_as(other.typ, other.claims)))
    )
    assert reasons_in(caplog) == [TYPE]
    assert middleware.seen == []


@pytest.mark.parametrize("name", OTHER_KINDS)
@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_token_of_another_kind_is_none_without_its_type_either(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At an issuer whose tokens need not be of type ``at+jwt``."""
    other = OTHER_KINDS[name]
    caplog.set_level("INFO")
    middleware = middleware_of(kind, token_types=("at+jwt", *NO_TYPE))
    for typ in NO_TYPE:
        answer = middleware.ask(bearing(signed_as(typ, other.claims)))
        invalid_token(other.untyped).check(answer)

    assert reasons_in(caplog) == [other.untyped] * 2
    assert middleware.seen == []


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_loosened_issuer_still_takes_no_type_of_another_kind(kind: str) -> None:
    middleware = middleware_of(kind, token_types=("at+jwt", *NO_TYPE))
    types = {other.typ for other in OTHER_KINDS.values()} - {"JWT"}
    answers = [middleware.ask(bearing(signed_as(typ, {}))) for typ in types]

    assert {answer.status for answer in answers} == {401}
    assert middleware.seen == []


MARKS: dict[str, Any] = {
    "events": EVENT,
    "token_introspection": {"active": True},
    "htm": "GET",
    "htu": RESOURCE,
}


@pytest.mark.parametrize("mark", MARKS)
def test_mark_of_another_kind_counts_whatever_the_type_says(mark: str) -> None:
    """Somebody else's rules, or a bug of theirs, may have made it ``at+jwt``."""
    assert refusal_of(signed_as("at+jwt", {mark: MARKS[mark]})).reason == TYPE
