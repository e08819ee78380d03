"""Credentials that somebody might send: a good one made worse, or no token at all.

More than half are a valid token changed in one to three ways and signed again with the
right key, so that it gets as far as it can.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import strategies as st

from tests.hostile.issuers import (
    ATTACKER,
    BROKEN_TENANT,
    CURVE,
    GOOD,
    MAIN,
    NOW,
    OTHER,
    OTHER_ISSUER,
    RSA,
    RSA_PSS,
    TENANTS,
    UNUSED,
    signed,
    signing_input,
)
from tests.hostile.pieces import (
    NAMES_OF_SERVERS,
    SPOILINGS,
    Edit,
    Spoiling,
    edited,
    edits,
)
from tests.support.tokens import ISSUER, RESOURCE, Key, as_json, base64url, header


@dataclass(frozen=True)
class Credential:
    """The field lines of a request, and how they were made."""

    lines: tuple[bytes, ...]
    made_by: str
    is_signed_again: bool = False
    """Whether it is a valid token, changed and signed again by its issuer's key."""
    query: bytes = b""

    def __repr__(self) -> str:
        shown = [line[:3000] for line in self.lines]
        lengths = [len(line) for line in self.lines]
        return f"Credential({shown!r}, {lengths=}, {self.made_by!r}, {self.query!r})"


def bearer(token: bytes) -> tuple[bytes, ...]:
    return (b"Bearer " + token,)


# Signed again

CLAIM_NAMES = (
    *("iss", "sub", "aud", "client_id", "exp", "iat", "nbf", "jti", "scope", "scp"),
    *("act", "sub_profile", "auth_time", "acr", "amr", "email", "name", "cnf", "azp"),
    *("events", "may_act", "authorization_details", "email_verified", "cid", "nonce"),
    *("permissions", "roles", "typ", "token_use", "token_type", "at_hash", "htm"),
    *("token_introspection", "active", "agent_platform", "groups", "username"),
)
NEEDED = ("iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope")
HEADER_NAMES = (
    *("alg", "kid", "typ", "crit", "b64", "zip", "cty", "jku", "jwk", "x5u", "x5c"),
    *("enc", "p2c", "apu", "epk", "iss", "alg "),
)
TYPES = (
    *("at+jwt", "AT+JWT", "application/at+jwt", "application/application/at+jwt"),
    *("JWT", "jwt", "application/jwt", "logout+jwt", "secevent+jwt", "dpop+jwt"),
    *("oauth-id-jag+jwt", "token-introspection+jwt", "statuslist+jwt", "rt+jwt"),
    *("client-authentication+jwt", "oauth-authz-req+jwt", "txntoken+jwt", "JOSE"),
    *("at+jwt ", " at+jwt", "at+jwt;x", "at-jwt", "a\u0442+jwt", ""),
)
OTHER_KINDS: tuple[dict[str, Any], ...] = (
    {"nonce": "n", "aud": "client-1", "azp": "client-1"},
    {"nonce": "n", "at_hash": "h"},
    {"aud": ISSUER},
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s"},
    {"htm": "GET", "htu": RESOURCE, "jti": "j"},
    {"token_introspection": {"active": True}},
    {"sub": "client-1", "aud": f"{ISSUER}/token"},
    {"typ": "Refresh"},
    {"typ": "ID", "token_use": "id"},
    {"cnf": {"jkt": "x"}},
    {"token_type": "DPoP"},
    {"vct": "x", "_sd": []},
    {"sub_profile": "ai_agent", "act": {"sub": "a", "sub_profile": "user"}},
    {},
)
SIGNERS = (MAIN, MAIN, MAIN, MAIN, MAIN, MAIN, CURVE, RSA_PSS)
"""The fast one mostly."""


def with_other_claims(changes: list[Edit], signer: Key) -> bytes:
    return signed(edited(GOOD, changes), signer)


def with_another_header(changes: list[Edit], signer: Key) -> bytes:
    return signed(GOOD, signer, edited(header(signer), changes))


def with_a_spoilt_payload(spoilings: list[Spoiling]) -> bytes:
    text = as_json(GOOD)
    for spoil in spoilings:
        text = spoil(text)
    return signed(text)


def with_a_spoilt_header(spoil: Spoiling) -> bytes:
    return signed(GOOD, MAIN, spoil(as_json(header(MAIN))))


def of_another_kind(
    kind: dict[str, Any], missing: list[str], typ: str | None, changes: list[Edit]
) -> bytes:
    claims = {name: value for name, value in GOOD.items() if name not in missing}
    head = header(MAIN, typ=typ, without=["typ"] if typ is None else [])
    return signed(edited({**claims, **kind}, changes), MAIN, head)


def of_another_time(times: dict[str, int], fraction: float) -> bytes:
    return signed({**GOOD, **{n: NOW + s + fraction for n, s in times.items()}})


def of_another_length(name: str, filler: str, length: int, is_list: bool) -> bytes:
    value = filler * (length // len(filler.encode()))
    return signed({**GOOD, name: value.split(" ") if is_list else value})


_NAME = st.sampled_from(NEEDED)
_SIGNER = st.sampled_from(SIGNERS)
_CHANGES = edits(NEEDED) | edits(NEEDED) | edits(CLAIM_NAMES)
_TYPE = st.sampled_from(TYPES) | st.none()
# Never so near that it could matter how long the tests take.
_SECONDS = (
    st.sampled_from([-(10**9), -90_000, -3600, -500, 36_000, 90_000, 10**9])
    | st.integers(-(10**9), -500)
    | st.integers(36_000, 10**9)
)
_TIME_NAMES = st.sampled_from(["exp", "iat", "nbf", "auth_time"])
SIGNED_AGAIN: dict[str, tuple[int, st.SearchStrategy[bytes]]] = {
    "other claims": (10, st.builds(with_other_claims, _CHANGES, _SIGNER)),
    "another header": (3, st.builds(with_another_header, edits(HEADER_NAMES), _SIGNER)),
    "spoilt payload": (
        6,
        st.builds(with_a_spoilt_payload, st.lists(SPOILINGS, min_size=1, max_size=3)),
    ),
    "spoilt header": (2, st.builds(with_a_spoilt_header, SPOILINGS)),
    "another kind": (
        4,
        st.builds(
            of_another_kind,
            st.sampled_from(OTHER_KINDS),
            st.lists(_NAME, max_size=2),
            _TYPE,
            st.just([]) | _CHANGES,
        ),
    ),
    "another time": (
        2,
        st.builds(
            of_another_time,
            st.dictionaries(_TIME_NAMES, _SECONDS, min_size=1, max_size=3),
            st.sampled_from([0, 0.25]),
        ),
    ),
    "another length": (
        1,
        st.builds(
            of_another_length,
            st.sampled_from(["x", "jti", "scope", "sub", "aud", "iss", "acr"]),
            st.sampled_from(["a", "é", "\\", "\0", "a "]),
            st.sampled_from([100, 4000, 11_000, 12_000, 13_000, 100_000]),
            st.booleans(),
        ),
    ),
}


# Where the signature is the subject

ISSUERS = (ISSUER, OTHER_ISSUER, *TENANTS, *[BROKEN_TENANT] * 4, *NAMES_OF_SERVERS)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256."""


def _with_r(raw: bytes, r: int) -> bytes:
    return (r % 2**256).to_bytes(32) + raw[32:]


def _der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]))


SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda raw: b"",
    "zeros": lambda raw: bytes(64),
    "ones": lambda raw: b"\xff" * 64,
    "r 0": lambda raw: _with_r(raw, 0),
    "r more than the order": lambda raw: _with_r(raw, int.from_bytes(raw[:32]) + ORDER),
    "s 0": lambda raw: raw[:32] + bytes(32),
    "s the order": lambda raw: raw[:32] + ORDER.to_bytes(32),
    "both the order": lambda raw: ORDER.to_bytes(32) * 2,
    "swapped": lambda raw: raw[32:] + raw[:32],
    "DER": _der,
    "a byte short": lambda raw: raw[:-1],
    "a byte long": lambda raw: raw + b"\0",
    "a byte in front": lambda raw: b"\0" + raw,
    "twice": lambda raw: raw * 2,
    "7 kB": lambda raw: raw * 115,
}
ALGORITHMS = (
    *("none", "None", "nOnE", "", "HS256", "HS512", "ES256K", "RS1", "RSA1_5", "dir"),
    *("ES384", "ES512", "RS256", "PS256", "EdDSA", "Ed25519", "Ed448", "es256"),
    *("RSA-OAEP", "PBES2-HS256+A128KW", "HS256\0", "EdDSA "),
)


def of_another_issuer(name: str, signer: Key, kid: str) -> bytes:
    """The key is somebody's, though perhaps not theirs who are named."""
    return signed({**GOOD, "iss": name}, signer, header(signer, kid=kid))


def with_another_signature(
    signer: Key, change: Callable[[bytes], bytes], name: str
) -> bytes:
    data = signing_input(header(signer), {**GOOD, "jti": name})
    return data + b"." + base64url(change(signer.sign(data)))


def with_a_bit_turned(signer: Key, bit: int) -> bytes:
    data, _, _ = signed(GOOD, signer).rpartition(b".")
    signature = bytearray(signer.sign(data))
    signature[bit // 8] ^= 1 << bit % 8
    return data + b"." + base64url(bytes(signature))


def with_another_algorithm(signer: Key, algorithm: str, secret: bytes | None) -> bytes:
    """HS256 with a *secret* that everybody knows, or with the key and another name."""
    data = signing_input(header(signer, alg=algorithm), GOOD)
    signature = signer.sign(data)
    if secret is not None:
        signature = hmac.digest(secret, data, "sha256") if secret else b""
    return data + b"." + base64url(signature)


_SIGNATURE_CHANGE = st.sampled_from(list(SIGNATURES.values()))
_ANYBODY = st.sampled_from([MAIN, OTHER, ATTACKER, CURVE, RSA, UNUSED])
_SECRETS = (None, b"", b"secret", as_json(MAIN.jwk), as_json(RSA.jwk))
OF_THE_SIGNATURE: dict[str, tuple[int, st.SearchStrategy[bytes]]] = {
    "another issuer": (
        2,
        st.builds(
            of_another_issuer,
            st.sampled_from(ISSUERS),
            _ANYBODY,
            st.sampled_from(["main", "curve", "rsa", "gone", ""]) | st.text(max_size=9),
        ),
    ),
    "another signature": (
        1,
        st.builds(
            with_another_signature, _ANYBODY, _SIGNATURE_CHANGE, st.text(max_size=4)
        ),
    ),
    "bit turned": (
        1,
        st.builds(
            with_a_bit_turned, st.sampled_from([CURVE, MAIN]), st.integers(0, 511)
        ),
    ),
    "another algorithm": (
        1,
        st.builds(
            with_another_algorithm,
            _ANYBODY,
            st.sampled_from(ALGORITHMS) | st.text(max_size=6),
            st.sampled_from(_SECRETS),
        ),
    ),
}


# Other spellings of a good token

GOOD_TOKEN = signed(GOOD)
SEGMENTS = GOOD_TOKEN.split(b".")
RESPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "padded": lambda segment: segment + b"=" * (-len(segment) % 4 or 4),
    "one character more": lambda segment: segment + b"A",
    "stray bits": lambda segment: segment[:-1] + bytes([segment[-1] + 1]),
    "plus": lambda segment: b"+" + segment[1:],
    "slash": lambda segment: segment[:-1] + b"/",
    "line break": lambda segment: segment[:9] + b"\n" + segment[9:],
    "space": lambda segment: segment[:9] + b" " + segment[9:],
    "NUL": lambda segment: segment + b"\0",
    "percent": lambda segment: b"%65" + segment[1:],
    "tilde": lambda segment: b"~" + segment,
    "nothing": lambda segment: b"",
    "twice": lambda segment: segment + segment,
    "encoded twice": base64url,
    "upper case": bytes.upper,
    "long": lambda segment: segment + b"A" * 10_000,
    "very long": lambda segment: segment + b"A" * 20_000,
}


def with_bytes_replaced(start: int, length: int, piece: list[int]) -> bytes:
    return GOOD_TOKEN[:start] + bytes(piece) + GOOD_TOKEN[start + length :]


def spelt_otherwise(which: int, changes: list[Callable[[bytes], bytes]]) -> bytes:
    segments = [*SEGMENTS]
    for change in changes:
        segments[which] = change(segments[which] or b"A")
    return b".".join(segments)


# No token

LENGTHS = (1, 100, 2047, 16_370, 16_384, 16_385, 65_536, 2**20)


def opaque(prefix: bytes, letters: list[int], end: bytes) -> bytes:
    return prefix + bytes(letters) + end


def monotonous(start: bytes, piece: bytes, length: int) -> bytes:
    """The same piece over and over, up to a megabyte."""
    return start + piece * (length // len(piece))


NO_SIGNATURE: dict[str, tuple[int, st.SearchStrategy[bytes]]] = {
    "bytes replaced": (
        2,
        st.builds(
            with_bytes_replaced,
            st.integers(0, len(GOOD_TOKEN)),
            st.integers(0, 20),
            st.lists(st.sampled_from(list(b"ABab01-_.=+/ ,\x00\xff\n")), max_size=12),
        ),
    ),
    "spelt otherwise": (
        1,
        st.builds(
            spelt_otherwise,
            st.integers(0, 2),
            st.lists(
                st.sampled_from(list(RESPELLINGS.values())), min_size=1, max_size=3
            ),
        ),
    ),
    # Too few, too many, in another order, or those of an encrypted token.
    "other segments": (
        1,
        st.lists(
            st.sampled_from([*SEGMENTS, b"", b"A", base64url(b'{"alg":"dir"}')])
            | st.binary(max_size=20).map(base64url),
            max_size=7,
        ).map(b".".join),
    ),
    "opaque": (
        2,
        st.builds(
            opaque,
            st.sampled_from([b"", b"at_", b"ot_", b"ey.", b"AT_", b"at", b"a.b."]),
            st.lists(st.sampled_from(list(b"aZ09-._~+/")), max_size=24),
            st.sampled_from([b"", b"=", b"=="]),
        ),
    ),
    "monotonous": (
        1,
        st.builds(
            monotonous,
            st.sampled_from([b"", GOOD_TOKEN, b"at_", b"eyJ.", b"..", b"...."]),
            st.sampled_from([b"a", b".", b"=", b"at_", b"e30.", b",", b"\xff", b"{"]),
            st.sampled_from(LENGTHS) | st.integers(8, 20_000),
        ),
    ),
    "any bytes": (1, st.binary(max_size=200)),
}


# Whole fields

SCHEMES = (
    *(b"Bearer ", b"bearer ", b"BEARER   ", b"Bearer", b"Bearer\t", b"Bearer\xa0"),
    *(
        b"Bearer:",
        b"Bearer=",
        b"DPoP ",
        b"Basic ",
        b"Token ",
        b" Bearer ",
        b"\tBearer ",
    ),
    *(b"", b" ", b"Bearer, ", b"B\xc3\xa9arer ", b"Bearer  Bearer ", b"Bearer token="),
    *(
        b"\xef\xbb\xbfBearer ",
        b"Bearer\0",
        b"Bearer\r\n ",
        b'Bearer "',
        b"bear\xc5\xa7",
    ),
)
ENDS = (
    b"",
    b" ",
    b"\t",
    b" x",
    b",",
    b", Bearer x",
    b"\r\n",
    b"\0",
    b'"',
    b";a=b",
    b"=",
)
QUERIES = (b"", b"access_token=x", b"a&access%5Ftoken", b"access_token", b"\xff=%ff&%")


def in_a_field(scheme: bytes, end: bytes, query: bytes) -> Credential:
    """A good token in a field that is perhaps not as it should be."""
    return Credential((scheme + GOOD_TOKEN + end,), "field", query=query)


_LINES = st.sampled_from([b"", b"Bearer x", *bearer(GOOD_TOKEN), b"Basic eDp5", b","])
FIELDS: tuple[st.SearchStrategy[Credential], ...] = (
    st.builds(
        in_a_field,
        st.sampled_from(SCHEMES),
        st.sampled_from(ENDS),
        st.sampled_from(QUERIES) | st.binary(max_size=30),
    ),
    # More than one line, none at all, or any bytes.
    st.lists(_LINES | st.binary(max_size=20), max_size=4).map(
        lambda lines: Credential(tuple(lines), "lines")
    ),
)


def _weighed() -> Iterator[st.SearchStrategy[Credential]]:
    """Each as often as it weighs."""
    yield from FIELDS
    for table in (SIGNED_AGAIN, OF_THE_SIGNATURE, NO_SIGNATURE):
        for name, (weight, tokens) in table.items():
            made = st.builds(
                Credential,
                tokens.map(bearer),
                st.just(name),
                st.just(table is SIGNED_AGAIN),
            )
            yield from [made] * weight


CREDENTIALS: st.SearchStrategy[Credential] = st.sampled_from([*_weighed()]).flatmap(
    lambda strategy: strategy
)
