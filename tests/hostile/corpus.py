"""Credentials with names, the same in every run: each sort of trouble once.

``GOOD_ONES`` look like trouble and are none: to refuse those would be a fault as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tests.hostile.credentials import (
    ALGORITHMS,
    ENDS,
    GOOD_TOKEN,
    OTHER_KINDS,
    RESPELLINGS,
    SCHEMES,
    SIGNATURES,
    TYPES,
    Credential,
    bearer,
)
from tests.hostile.issuers import (
    ATTACKER,
    CURVE,
    GOOD,
    MAIN,
    NOW,
    OTHER,
    OTHER_ISSUER,
    UNUSED,
    signed,
    signing_input,
)
from tests.hostile.pieces import RAW_MEMBERS, WHOLE, nested
from tests.support.tokens import as_json, base64url, header

MEGABYTE = 2**20


def _payloads() -> Iterator[tuple[str, bytes]]:
    text = as_json(GOOD)
    for name, member in RAW_MEMBERS.items():
        yield f"payload with {name}", signed(text[:-1] + b"," + member + b"}")
    for name, spoil in WHOLE.items():
        yield f"payload: {name}", signed(spoil(text))
    for claims in OTHER_KINDS:
        if claims:
            yield (
                f"payload of another kind: {', '.join(claims)}",
                signed({**GOOD, **claims}),
            )
    for name in GOOD:
        if name in ("iss", "sub", "exp", "iat"):
            yield f"payload without {name}", signed({**GOOD, name: None})
        yield f"payload with {name} in an array", signed({**GOOD, name: [GOOD[name]]})
        yield f"payload with {name} nested", signed({**GOOD, name: nested(65)})


def _times() -> Iterator[tuple[str, bytes]]:
    for name in ("exp", "iat", "nbf", "auth_time"):
        for value in _NO_TIMES:
            if value in (None, "") and name in ("nbf", "auth_time"):
                continue  # It says nothing, and need not be there.
            # Processes that share the tests have to agree on their names.
            shown = str(value)[:20].replace(str(NOW + 36_000), "LATER")
            yield f"{name} is {shown}", signed({**GOOD, name: value})
    for name, instant in (("exp", NOW - 3600), ("iat", 2**40), ("nbf", 2**40)):
        yield f"{name} in the wrong direction", signed({**GOOD, name: instant})


_NO_TIMES: tuple[Any, ...] = (
    *(None, True, "", str(NOW + 36_000), [NOW + 36_000], {}, -1, 2**53 + 1, 10**20),
    *(10**400, 1e308, -1e308, float("nan"), float("inf")),
)


def _headers() -> Iterator[tuple[str, bytes]]:
    text = as_json(header(MAIN))
    for name, member in RAW_MEMBERS.items():
        yield f"header with {name}", signed(GOOD, MAIN, b"{" + member + b"," + text[1:])
    for name, spoil in WHOLE.items():
        yield f"header: {name}", signed(GOOD, MAIN, spoil(text))
    for typ in TYPES:
        yield f"typ {typ!r}", signed(GOOD, MAIN, header(MAIN, typ=typ))
    for alg in ALGORITHMS:
        yield f"alg {alg!r}", signed(GOOD, MAIN, header(MAIN, alg=alg))
    for name in ("crit", "b64", "zip"):
        yield f"header has {name}", signed(GOOD, MAIN, {**header(MAIN), name: None})
    for name in ("alg", "kid", "typ"):
        for value in _NO_TEXTS:
            head = {**header(MAIN), name: value}
            yield f"{name} is {str(value)[:20]}", signed(GOOD, MAIN, head)


_NO_TEXTS: tuple[Any, ...] = (None, 1, True, [], ["main"], {}, "a" * 257, "a" * 9000)


def _signatures() -> Iterator[tuple[str, bytes]]:
    for signer in (CURVE, MAIN):
        data = signing_input(header(signer), GOOD)
        raw = signer.sign(data)
        for name, change in SIGNATURES.items():
            signature = base64url(change(raw))
            yield f"{signer.kid} signature: {name}", data + b"." + signature
    yield "by a key of an unused algorithm", signed(GOOD, UNUSED)
    yield "by the other issuer's key", signed(GOOD, OTHER)
    yield "by the attacker's key", signed(GOOD, ATTACKER)
    yield "of the other issuer by our key", signed({**GOOD, "iss": OTHER_ISSUER})


def _spellings() -> Iterator[tuple[str, bytes]]:
    for name, respell in RESPELLINGS.items():
        for which, segment in enumerate(("header", "payload", "signature")):
            segments = GOOD_TOKEN.split(b".")
            segments[which] = respell(segments[which])
            yield f"{segment} spelt: {name}", b".".join(segments)
    for dots in (0, 1, 2, 3, 4, 5, 1000):
        yield f"{dots} dots only", b"." * dots
    yield "a good token twice", GOOD_TOKEN + b"." + GOOD_TOKEN
    yield "encrypted", base64url(b'{"alg":"dir","enc":"A128GCM"}') + b"." * 3 + b".x"
    yield (
        "PBES2 with much to count",
        base64url(b'{"alg":"PBES2-HS256+A128KW","p2c":2147483647}') + b".a.b.c.d",
    )
    yield "opaque", b"at_0123456789"
    yield "a digit", b"0"


def _fields() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    for scheme in SCHEMES:
        yield f"scheme {scheme!r}", (scheme + GOOD_TOKEN,)
    for end in ENDS:
        yield f"end {end!r}", (b"Bearer " + GOOD_TOKEN + end,)
    for byte in (
        b"\x00",
        b"\r",
        b"\n",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"%",
        b"\\",
        b"\x1f",
    ):
        yield f"byte {byte!r} inside", (b"Bearer " + GOOD_TOKEN.replace(b".", byte, 1),)
    yield "no field", ()
    yield "empty field", (b"",)
    yield "no token", (b"Bearer ",)
    yield "the good field twice", bearer(GOOD_TOKEN) * 2
    yield "an empty field beside it", (b"", *bearer(GOOD_TOKEN))
    yield "another scheme beside it", (*bearer(GOOD_TOKEN), b"Basic eDp5")
    yield "1000 fields", (b"Bearer x",) * 1000


def _large() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """What a front server lets through that has no limit of its own."""
    for piece in (
        b"a",
        b".",
        b"=",
        b" ",
        b",",
        b"\xff",
        b"\0",
        b"Bearer ",
        b"e30.",
        b"/",
    ):
        much = piece * (MEGABYTE // len(piece))
        yield f"a megabyte of {piece!r}", (much,)
        yield f"a megabyte of {piece!r} as the token", (b"Bearer " + much,)
        yield (
            f"a megabyte of {piece!r} behind the token",
            (b"Bearer " + GOOD_TOKEN + much,),
        )
    yield "a megabyte of claims", bearer(signed({**GOOD, "x": "a" * MEGABYTE}))
    yield "a megabyte of brackets", bearer(signed(b"[" * MEGABYTE))
    yield "a megabyte of header", bearer(signed(GOOD, MAIN, b"{" * MEGABYTE))
    yield "a megabyte of digits", bearer(signed(b'{"exp":' + b"9" * MEGABYTE))
    # The most that is looked at.
    for name, piece in {
        "brackets": b"[",
        "objects": b"{},",
        "digits": b"9",
        "escapes": b"\\u0041",
        "quotes": b'"",',
        "members": b'"":1,',
        "spaces": b" ",
        "zeros": b"\0",
    }.items():
        text = b'{"iss":"https://as.example.com","x":[' + piece * (12_000 // len(piece))
        yield f"12 kB of {name}, open", bearer(signed(text))
        yield f"12 kB of {name}, closed", bearer(signed(text + b"0]}"))


def _named() -> Iterator[tuple[str, Credential]]:
    tables: Iterable[Iterable[tuple[str, bytes]]] = (
        _payloads(),
        _times(),
        _headers(),
        _signatures(),
        _spellings(),
    )
    for table in tables:
        for name, token in table:
            yield name, Credential(bearer(token), name)
    for fields in (_fields(), _large()):
        for name, lines in fields:
            yield name, Credential(lines, name)


CORPUS: dict[str, Credential] = dict(_named())

GOOD_ONES = frozenset(
    {
        "payload with number of 5000 decimals",
        "header with number of 5000 decimals",
        "payload with alg twice",
        "payload with active twice",
        "payload with escaped NUL",
        "payload with 60 levels",
        "payload with many members",
        "payload with long string",
        "payload with long name",
        "payload with escapes only",
        "payload with spaces",
        "payload: UTF-7",
        "payload: spaces around",
        "payload of another kind: nonce, at_hash",
        "payload of another kind: typ",
        "payload of another kind: typ, token_use",
        "payload of another kind: vct, _sd",
        "payload with aud in an array",
        "header with aud twice",
        "header with iss twice",
        "header with exp twice, the same",
        "header with iss twice, escaped",
        "header with active twice",
        "header with escaped NUL",
        "header with 60 levels",
        "header: spaces around",
        "typ 'at+jwt'",
        "typ 'AT+JWT'",
        "typ 'application/at+jwt'",
        "alg 'EdDSA'",
        "alg 'Ed25519'",
        "scheme b'Bearer '",
        "scheme b'bearer '",
        "scheme b'BEARER   '",
        "scheme b' Bearer '",
        "scheme b'\\tBearer '",
        "end b''",
        "end b' '",
        "end b'\\t'",
    }
)
"""What looks like trouble and is none. Of a type that says what it is, a token may
carry whatever else its issuer likes."""
