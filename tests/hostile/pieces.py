"""What credentials are made worse with: values, members, bytes and ways to put them in.

Most are picked from lists of what has broken parsers before; some are made up.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.hostile.issuers import NOW, OTHER_ISSUER, TENANTS
from tests.support.tokens import ISSUER, RESOURCE, as_json

Members: TypeAlias = dict[str, Any]


def nested(levels: int, *, in_objects: bool = False) -> Any:
    """Arrays in arrays, or objects in objects."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if in_objects else [value]
    return value


def acting(levels: int) -> Members:
    """A chain of actors."""
    act: Members = {"sub": "agent-0"}
    for level in range(1, levels):
        act = {"sub": f"agent-{level}", "act": act}
    return act


NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**53, 2**53 + 1, 2**64, 10**20, 10**400, -(10**4000)),
    *(-0.0, 0.5, 5e-324, 1e308, float("nan"), float("inf"), float("-inf")),
    # None so near that it could matter how long the tests take.
    *(NOW - 100_000, NOW - 3600, NOW - 3600.5, NOW + 36_000, NOW + 36_000.5),
    *(NOW + 10**9, str(NOW - 3600), str(NOW + 36_000), f"{NOW}.0", "1e10", True, False),
)
TEXTS: tuple[str, ...] = (
    *("", " ", "a", "user-1", "client-1", "\0", "a\r\nb: c", "é", "\u202e", "\ufeff"),
    *("\U0001f600", "\ud800", "\udc00\ud800", "e\u0301", "\u0130", "ﬀ", "%00", "{}"),
    *("a" * 300, "a" * 5000, "é" * 1500, "a b  c", "\ta", '"', "\\", "' OR 1=1 --"),
    *("../../etc/passwd", "${jndi:ldap://x}", "__class__", "null", "NaN", "-"),
    *("ai_agent", "user", "user ai_agent", "service", "browser_app", "Bearer", "DPoP"),
)
NAMES_OF_SERVERS: tuple[str, ...] = (
    *(RESOURCE, f"{RESOURCE}/", f"{RESOURCE}//", RESOURCE.upper(), RESOURCE[:-1]),
    *(f"{RESOURCE}.evil", f"{RESOURCE}:443", f"{RESOURCE}?", f"{RESOURCE}#"),
    *(f" {RESOURCE}", RESOURCE.replace("https", "http"), RESOURCE.replace("a", "а")),  # noqa: RUF001
    *(ISSUER, f"{ISSUER}/", ISSUER.upper(), f"{ISSUER}:443", f"{ISSUER}/.", "https://"),
    *(OTHER_ISSUER, *TENANTS, "https://three.tenants.example", "https://[::1", "api"),
    *("https://one.tenants.example@evil.example", "https://a:99999999", "//", "urn:x"),
    "https://" + "a" * 3000 + ".tenants.example",
)
CONTAINERS: tuple[Any, ...] = (
    *([], [""], [None], ["a"], ["a", 1], [["a"]], {}, {"": ""}, {"a": {"a": 1}}),
    *([RESOURCE], [RESOURCE, 1], [RESOURCE, ""], [RESOURCE, "b"], {"0": RESOURCE}),
    *([f"{RESOURCE}/x"], ["a"] * 400, ["notes.read", "notes.write"], {"jkt": "x"}),
    *(nested(60), nested(70), nested(300), nested(60, in_objects=True)),
    *({"sub": "agent-1"}, {"sub": ""}, {"sub": 1}, {"sub": "a", "iss": OTHER_ISSUER}),
    *({"sub": "a", "iss": ""}, {"sub": "a", "sub_profile": "user"}, {"act": {}}),
    *(acting(5), acting(6), acting(60), {str(name): name for name in range(300)}),
)
MADE_UP = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)
LISTED: tuple[Any, ...] = (None, *NUMBERS, *TEXTS, *NAMES_OF_SERVERS, *CONTAINERS)
VALUES: st.SearchStrategy[Any] = st.sampled_from(LISTED) | MADE_UP

Edit: TypeAlias = Callable[[Members], Members]
"""A change of members."""


def edits(names: tuple[str, ...]) -> st.SearchStrategy[list[Edit]]:
    """One to three changes of members, mostly of those with these *names*."""
    name = st.sampled_from(names)
    one: st.SearchStrategy[Edit] = st.one_of(
        st.builds(_setting, st.sampled_from(TEXTS), VALUES),
        st.builds(_setting, name, VALUES),
        st.builds(_setting, name, VALUES),
        st.builds(_setting, name, st.sampled_from(NUMBERS)),
        st.builds(_without, name),
        st.builds(_wrapped, name),
        st.builds(_renamed, name, name | st.text(max_size=6)),
        st.builds(_like, name, name),
    )
    return st.lists(one, min_size=1, max_size=3)


def edited(members: Mapping[str, Any], changes: list[Edit]) -> Members:
    result = dict(members)
    for change in changes:
        result = change(result)
    return result


def _setting(name: str, value: Any) -> Edit:
    return lambda members: {**members, name: value}


def _without(name: str) -> Edit:
    return lambda members: {key: members[key] for key in members if key != name}


def _wrapped(name: str) -> Edit:
    """As the only item of an array."""
    return lambda members: {**members, name: [members.get(name)]}


def _renamed(name: str, other: str) -> Edit:
    return lambda members: {
        (other if key == name else key): value for key, value in members.items()
    }


def _like(name: str, other: str) -> Edit:
    """What is said of one thing, said of another."""
    return lambda members: {**members, name: members.get(other)}


# Of text that was JSON

RAW_MEMBERS: dict[str, bytes] = {
    "NaN": b'"x":NaN',
    "Infinity": b'"x":-Infinity',
    "number out of range": b'"exp":1e999',
    "number of 5000 digits": b'"exp":' + b"9" * 5000,
    "number of 5000 decimals": b'"x":0.' + b"9" * 5000,
    "huge exponent": b'"x":1e' + b"9" * 4000,
    "hexadecimal": b'"x":0x10',
    "leading zero": b'"x":010',
    "plus": b'"x":+1',
    "no digit before the point": b'"x":.5',
    "digit of another script": '"x":\u0661'.encode(),
    "aud twice": b'"aud":"x"',
    "iss twice": b'"iss":"https://evil.example"',
    "exp twice, the same": b'"exp":1',
    "iss twice, escaped": b'"\\u0069ss":"https://evil.example"',
    "alg twice": b'"alg":"none"',
    "active twice": b'"active":true',
    "twice inside": b'"x":{"a":1,"a":1}',
    "half a surrogate pair": b'"x":"\\ud800"',
    "half a surrogate pair as a name": b'"\\udfff":1',
    "two first halves": b'"sub\\ud83d":"\\ud83d\\ud83d"',
    "escaped NUL": b'"x":"\\u0000"',
    "bare NUL": b'"x":"\0"',
    "bare line break": b'"x":"\n"',
    "unknown escape": b'"x":"\\x41"',
    "cut escape": b'"x":"\\u12"',
    "byte of no text": b'"x":"\xff"',
    "UTF-8 of half a surrogate pair": b'"x":"\xed\xa0\x80"',
    "longer UTF-8 than needed": b'"x":"\xc0\xaf"',
    "beyond Unicode": b'"x":"\xf4\x90\x80\x80"',
    "cut UTF-8": b'"x":"\xe2\x82"',
    "single quotes": b"'x':1",
    "no quotes": b"x:1",
    "comment": b'/*x*/"x":1',
    "no value": b'"x":',
    "no name": b":1",
    "nothing": b"",
    "60 levels": b'"x":' + b"[" * 60 + b"]" * 60,
    "500 levels": b'"x":' + b"[" * 500 + b"]" * 500,
    "5000 levels": b'"x":' + b"[" * 5000 + b"]" * 5000,
    "1500 objects deep": b'"x":' + b'{"":' * 1500 + b"1" + b"}" * 1500,
    "5000 levels open": b'"x":' + b"[" * 5000,
    "many objects": b'"x":[' + b"{}," * 2000 + b"1]",
    "many members": b",".join(b'"x%d":1' % number for number in range(900)),
    "long string": b'"x":"' + b"a" * 9000 + b'"',
    "long name": b'"' + b"a" * 9000 + b'":1',
    "escapes only": b'"x":"' + b"\\u0041" * 1500 + b'"',
    "spaces": b" " * 9000 + b'"x":1',
}

Spoiling: TypeAlias = Callable[[bytes], bytes]
"""A change of a text that was a JSON object."""

WHOLE: dict[str, Spoiling] = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode("latin-1").encode("utf-16"),
    "UTF-16, big end first": lambda text: text.decode("latin-1").encode("utf-16-be"),
    "UTF-32": lambda text: text.decode("latin-1").encode("utf-32"),
    "UTF-7": lambda text: text.decode("latin-1").encode("utf-7"),
    "packed": zlib.compress,
    "array": lambda text: b"[" + text + b"]",
    "string": lambda text: as_json({"": text.decode("latin-1")})[4:-1],
    "NUL behind": lambda text: text + b"\0",
    "comma behind": lambda text: text + b",",
    "brace behind": lambda text: text + b"}",
    "another behind": lambda text: text + text,
    "spaces around": lambda text: b"\t\r\n " + text + b" \n",
    "other spaces around": lambda text: b"\x0b\x0c\xc2\xa0" + text,
    "line separator": lambda text: "\u2028".encode() + text,
    "trailing comma": lambda text: text[:-1] + b",}",
    "upper case": bytes.upper,
    "cut": lambda text: text[: len(text) // 2],
    "brace missing": lambda text: text[:-1],
    "nothing": lambda text: b"",
    "null": lambda text: b"null",
    "number": lambda text: b"1",
    "empty object": lambda text: b"{}",
    "only open brackets": lambda text: b"[" * 4000,
    "only open braces": lambda text: b'{"a":' * 1500,
}


def _with_first(member: bytes) -> Spoiling:
    return lambda text: b"{" + member + b"," + text[1:]


def _with_last(member: bytes) -> Spoiling:
    return lambda text: text[:-1] + b"," + member + b"}"


def _spliced(start: int, length: int, piece: bytes) -> Spoiling:
    def splice(text: bytes) -> bytes:
        at = start % (len(text) + 1)
        return text[:at] + piece + text[at + length :]

    return splice


_RAW = st.sampled_from(list(RAW_MEMBERS.values()))
SPOILINGS: st.SearchStrategy[Spoiling] = st.one_of(
    st.builds(_with_last, _RAW),
    st.builds(_with_first, _RAW),
    st.sampled_from(list(WHOLE.values())),
    st.builds(
        _spliced,
        st.integers(0, 400),
        st.integers(0, 12),
        st.binary(max_size=8)
        | st.sampled_from([b'"', b",", b"}", b"{", b"\\", b"0", b"\xff", b"[", b":"]),
    ),
)
