"""What an issuer, or somebody in its place, may answer when asked about a token.

Most are a good answer changed in one to three ways, and signed again where answers are
signed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from hypothesis import strategies as st

from tests.hostile.credentials import (
    CLAIM_NAMES,
    HEADER_NAMES,
    SIGNERS,
    TYPES,
    bearer,
)
from tests.hostile.issuers import (
    ATTACKER,
    CLIENT,
    GOOD,
    MAIN,
    OTHER,
    OTHER_ISSUER,
    UNUSED,
    signed,
)
from tests.hostile.middlewares import Reply
from tests.hostile.pieces import (
    RAW_MEMBERS,
    SPOILINGS,
    VALUES,
    WHOLE,
    Edit,
    Spoiling,
    edited,
    edits,
)
from tests.support.tokens import ISSUER, Key, as_json, header

TYPE = "token-introspection+jwt"
SIGNED = f"application/{TYPE}".encode()
ACTIVE: Mapping[str, Any] = {"active": True, "token_type": "Bearer", **GOOD}


@dataclass(frozen=True)
class Answer:
    """A reply, and whether signed ones are demanded."""

    reply: Reply
    is_signed: bool
    made_by: str

    def __repr__(self) -> str:
        body, length = self.reply.body[:3000], len(self.reply.body)
        rest = (self.reply.status, self.reply.fields, self.is_signed, self.made_by)
        return f"Answer({body!r}, {length=}, {rest})"


def plain(body: bytes, made_by: str, **others: Any) -> Answer:
    return Answer(Reply(body=body, **others), False, made_by)


def in_envelope(body: bytes, made_by: str) -> Answer:
    return Answer(Reply(200, ((b"content-type", SIGNED),), body), True, made_by)


def envelope(**changes: Any) -> dict[str, Any]:
    """What is signed; fresh at this moment."""
    members = {"iss": ISSUER, "aud": CLIENT, "iat": int(time.time())}
    return {**members, "token_introspection": dict(ACTIVE), **changes}


def signed_answer(
    payload: Mapping[str, Any] | bytes, signer: Key = MAIN, typ: str = TYPE
) -> bytes:
    return signed(payload, signer, header(signer, typ=typ))


# Made up

_NAMES = ("active", "active", "iss", "sub", "aud", "exp", "iat", "nbf", "client_id")
_ENVELOPE_NAMES = ("iss", "aud", "iat", "token_introspection", "exp", "active")
_CHANGES = edits(_NAMES) | edits(CLAIM_NAMES)


def with_other_claims(changes: list[Edit], is_signed: bool) -> Answer:
    claims = edited(ACTIVE, changes)
    if not is_signed:
        return plain(as_json(claims), "other claims")
    payload = envelope(token_introspection=claims)
    return in_envelope(signed_answer(payload), "other claims")


def with_spoilt_text(spoil: Spoiling, is_signed: bool) -> Answer:
    if not is_signed:
        return plain(spoil(as_json(ACTIVE)), "spoilt text")
    return in_envelope(signed_answer(spoil(as_json(envelope()))), "spoilt text")


def in_another_envelope(changes: list[Edit], signer: Key) -> Answer:
    payload = edited(envelope(), changes)
    return in_envelope(signed_answer(payload, signer), "another envelope")


def under_another_header(typ: str, changes: list[Edit]) -> Answer:
    head = edited(header(MAIN, typ=typ), changes)
    return in_envelope(signed(envelope(), MAIN, head), "another header")


def by_another_key(signer: Key) -> Answer:
    return in_envelope(signed_answer(envelope(), signer), "another key")


def with_bytes_replaced(
    start: int, length: int, piece: bytes, is_signed: bool
) -> Answer:
    body = _good(is_signed)
    body = body[:start] + piece + body[start + length :]
    return _in_either(body, "bytes replaced", is_signed)


def in_another_reply(
    status: int, fields: dict[bytes, bytes], is_signed: bool
) -> Answer:
    usual = {b"content-type": SIGNED if is_signed else b"application/json"}
    reply = Reply(status, tuple({**usual, **fields}.items()), _good(is_signed))
    return Answer(reply, is_signed, "another reply")


def of_any_bytes(body: bytes, is_signed: bool) -> Answer:
    return _in_either(body, "any bytes", is_signed)


def _good(is_signed: bool) -> bytes:
    return signed_answer(envelope()) if is_signed else as_json(ACTIVE)


def _in_either(body: bytes, made_by: str, is_signed: bool) -> Answer:
    return in_envelope(body, made_by) if is_signed else plain(body, made_by)


STATUSES = (
    *(200, 200, 200, 201, 204, 206, 226, 301, 304, 400, 401, 403, 404, 405, 429),
    *(418, 500, 502, 503, 504, 599, 999),
)
FIELDS: dict[bytes, tuple[bytes, ...]] = {
    b"content-type": (
        *(
            b"",
            b"application/json",
            b"application/JSON; charset=x",
            b"text/json",
            SIGNED,
        ),
        *(
            b"text/html",
            b"application/jwt",
            b"application/x+json",
            b";",
            b"\xff",
            b"json",
        ),
        *(b"application/json, text/html", b"a" * 9000, SIGNED + b";x"),
    ),
    b"cache-control": (
        *(b"max-age=" + b"9" * 9, b"max-age=" + b"9" * 5000, b"max-age=-1", b"\xff"),
        *(b"max-age=0", b"no-store", b"max-age", b"," * 9000, b"max-age=\xb2"),
    ),
    b"retry-after": (
        *(b"-1", b"0", b"1e9", b"999999999", b"\xb2", b"\xff", b"soon", b"", b"1, 2"),
        b"Wed, 21 Oct 2015 07:28:00 GMT",
    ),
    b"content-encoding": (
        b"gzip",
        b"br",
        b"deflate",
        b"gzip, gzip",
        b"\xff",
        b"x-gzip",
    ),
    b"etag": (b'"x"', b"\xff"),
    b"location": (b"https://evil.example/", b"//", b"\xff"),
}


_FIELD: st.SearchStrategy[tuple[bytes, bytes]] = st.sampled_from(
    [(name, value) for name, values in FIELDS.items() for value in values]
)
_VALUE_AS_JSON = VALUES.map(lambda value: as_json({"": value})[5:-1])
_WEIGHED: list[tuple[int, st.SearchStrategy[Answer]]] = [
    (6, st.builds(with_other_claims, _CHANGES, st.booleans())),
    (3, st.builds(with_spoilt_text, SPOILINGS, st.booleans())),
    (
        3,
        st.builds(
            in_another_envelope, edits(_ENVELOPE_NAMES), st.sampled_from(SIGNERS)
        ),
    ),
    (
        1,
        st.builds(
            under_another_header,
            st.sampled_from([TYPE, TYPE, TYPE, *TYPES]),
            edits(HEADER_NAMES),
        ),
    ),
    (1, st.builds(by_another_key, st.sampled_from([OTHER, ATTACKER]))),
    (
        1,
        st.builds(
            with_bytes_replaced,
            st.integers(0, 600),
            st.integers(0, 20),
            st.binary(max_size=12),
            st.booleans(),
        ),
    ),
    (
        2,
        st.builds(
            in_another_reply,
            st.sampled_from(STATUSES),
            st.lists(_FIELD, max_size=2).map(dict),
            st.booleans(),
        ),
    ),
    (
        1,
        st.builds(of_any_bytes, st.binary(max_size=99) | _VALUE_AS_JSON, st.booleans()),
    ),
]
ANSWERS: st.SearchStrategy[Answer] = st.sampled_from(
    [strategy for weight, strategy in _WEIGHED for _ in range(weight)]
).flatmap(lambda strategy: strategy)


# With names


_NOT_TRUE: tuple[Any, ...] = (
    *(None, 0, 1, 1.0, "", "true", "True", [True], {"active": True}, 2**64),
)
_BAD_CLAIMS: dict[str, Any] = {
    "iss": OTHER_ISSUER,
    "aud": "https://other.example",
    "exp": 1,
    "nbf": 2**40,
    "iat": 2**40,
    "token_type": "refresh_token",
    "typ": "Refresh",
    "token_use": "id",
    "cnf": {"jkt": "x"},
}


def _named() -> Iterator[Answer]:
    text = as_json(ACTIVE)
    for name, member in RAW_MEMBERS.items():
        raw = text[:-1] + b"," + member + b"}"
        yield plain(raw, f"plain with {name}")
        payload = as_json(envelope())[:-2] + b"," + member + b"}}"
        yield in_envelope(signed_answer(payload), f"signed with {name}")
    for name, spoil in WHOLE.items():
        yield plain(spoil(text), f"plain: {name}")
        payload = spoil(as_json(envelope()))
        yield in_envelope(signed_answer(payload), f"signed: {name}")
    for value in _NOT_TRUE:
        yield plain(as_json({**ACTIVE, "active": value}), f"active is {value!r}")
    for name, value in _BAD_CLAIMS.items():
        yield plain(as_json({**ACTIVE, name: value}), f"{name} is {value!r}")
    html = ((b"content-type", b"text/html"),)
    yield plain(text, "JSON, called HTML", fields=html)
    yield Answer(Reply(200, html, signed_answer(envelope())), True, "called HTML")
    for name, other in permutations(("sub", "client_id", "jti"), 2):
        claims = {**ACTIVE, name: ACTIVE[other]}
        yield plain(as_json(claims), f"{name} is what {other} was")
    yield plain(as_json({"active": True}), "active and no more")
    yield plain(b"[" + text + b"]", "an array of answers")
    yield plain(signed_answer(envelope()), "signed though plain is wanted")
    yield in_envelope(text, "plain though signed is wanted")
    yield in_envelope(as_json(ACTIVE), "plain, called signed")
    yield in_envelope(signed(ACTIVE, MAIN), "the token's claims as a token")
    yield in_envelope(signed_answer(ACTIVE), "no envelope")
    yield in_envelope(signed_answer(envelope(), OTHER), "by the other issuer's key")
    yield in_envelope(signed_answer(envelope(), UNUSED), "of an unused algorithm")
    yield in_envelope(signed_answer(envelope(iss=OTHER_ISSUER)), "of another issuer")
    yield in_envelope(signed_answer(envelope(aud="rs-2")), "for another resource")
    yield in_envelope(signed_answer(envelope(iat=1)), "an old one")
    yield in_envelope(
        signed_answer(envelope(), typ="at+jwt"), "of an access token's type"
    )
    yield plain(b"[" * 65_000, "65 kB of brackets")
    yield plain(b'{"active":true,"x":[' + b"{}," * 21_000 + b"1]}", "21,000 objects")
    yield plain(b'{"active":true,"exp":' + b"9" * 65_000 + b"}", "65,000 digits")
    yield plain(b" " * 65_000 + text, "spaces")
    yield plain(text + b" " * 2**20, "a megabyte")
    for digits in (9, 4000, 5000, 50_000):
        fields = ((b"retry-after", b"9" * digits),)
        yield plain(b"", f"Retry-After of {digits} digits", status=429, fields=fields)


def named_answers() -> dict[str, Answer]:
    """By name. Made when asked for, since signed ones are soon too old."""
    return {answer.made_by: answer for answer in _named()}


OPAQUE, JWT = bearer(b"at_0123456789"), bearer(signed(GOOD))
