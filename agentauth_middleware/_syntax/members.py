"""Typed members of a JSON object from an untrusted source.

Everything here raises ``ValueError`` for a member that is not as the standards say. The
caller, which knows what the object is, turns that into a verdict.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeGuard, cast

Claims = dict[str, Any]
_MAX_INSTANT = 2.0**53
_MAX_DEPTH = 64
_WHITE_SPACE = " \t\r\n"
"""White space in JSON (RFC 8259 §2)."""
_OTHER_ENCODING = re.compile(rb"\xff\xfe|\xfe\xff|\0|[^\0]\0")
"""How JSON in UTF-16 or UTF-32 begins: with a byte order mark, or with a character of
ASCII, which has a zero byte beside it."""


def parse_object(raw: bytes, *, max_containers: float = math.inf) -> Claims:
    """The JSON object in *raw*: UTF-8, no member twice, no ``NaN``, of limited depth.

    Raises:
        ValueError: it is not one.
    """
    containers = _count_containers(raw)
    if containers > max_containers:
        raise ValueError("too many objects and arrays")
    try:
        text = raw.decode("utf-8").strip(_WHITE_SPACE)
        value, end = _decoder.raw_decode(text)
        if end != len(text):
            raise ValueError("something follows the object")
        if b"\\" in raw:
            _refuse_lone_surrogates(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if containers > _MAX_DEPTH and _is_deeper(value, _MAX_DEPTH):
        raise ValueError("nested too deeply")
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return cast(Claims, value)


def parse_document(raw: bytes) -> Claims:
    """``parse_object`` for files and what servers publish, which editors may have
    saved: a byte order mark is passed over.

    Raises:
        ValueError: it is no JSON object, or not in UTF-8.

    Source: RFC 8259 §8.1
    """
    if _OTHER_ENCODING.match(raw):
        raise ValueError("in UTF-16 or UTF-32; JSON must be in UTF-8")
    return parse_object(without_mark(raw))


def without_mark(raw: bytes) -> bytes:
    """*raw* without the byte order mark of UTF-8 at its beginning."""
    return raw.removeprefix(codecs.BOM_UTF8)


def _count_containers(raw: bytes) -> int:
    """How many objects and arrays *raw* can have at most, without reading it."""
    return raw.count(b"{") + raw.count(b"[")


def _is_deeper(value: object, levels: int) -> bool:
    """Whether *value* nests more than *levels* deep: too much to walk safely later."""
    if is_object(value):
        value = tuple(value.values())
    if not is_array(value):
        return False
    return not levels or any(_is_deeper(item, levels - 1) for item in value)


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether *value* is what a JSON object is here."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether *value* is what a JSON array is here, plain or frozen."""
    return isinstance(value, list | tuple)


def _object_of_unique_members(pairs: list[tuple[str, Any]]) -> Claims:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_object_of_unique_members,
    parse_constant=_refuse_constant,
    parse_float=_finite,
)


def _refuse_lone_surrogates(value: Any) -> None:
    """Half a surrogate pair is no text: it would fail wherever it is encoded."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def text(claims: Mapping[str, Any], name: str) -> str:
    """The non-empty string *name*, which must be there."""
    value = claims.get(name)
    if type(value) is not str or not value:
        raise ValueError(f"{name} is not a non-empty string")
    return value


def optional_text(claims: Mapping[str, Any], name: str) -> str | None:
    """The non-empty string *name*, or ``None`` if it is absent."""
    return text(claims, name) if name in claims else None


def instant(claims: Mapping[str, Any], name: str) -> float:
    """The NumericDate *name* in epoch seconds (RFC 7519 §2), which must be there.

    ``True`` is an ``int`` in Python, but not a date; infinity is not one either.
    """
    value = claims.get(name)
    if type(value) is not int and type(value) is not float:
        raise ValueError(f"{name} is not a number")
    if not 0 <= value <= _MAX_INSTANT:
        raise ValueError(f"{name} is out of range")
    return value


def optional_instant(claims: Mapping[str, Any], name: str) -> float | None:
    """The NumericDate *name*, or ``None`` if it is absent."""
    return instant(claims, name) if name in claims else None


def texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """*name* as one or several non-empty strings; empty if it is absent."""
    value: object = claims.get(name, ())
    if type(value) is str and value:
        return (value,)
    if not is_array(value):
        raise ValueError(f"{name} is neither a string nor an array")
    if not all(type(item) is str and item for item in value):
        raise ValueError(f"{name} has an item that is not a non-empty string")
    return tuple(value)


@lru_cache(maxsize=256)
def frozen_claims(payload: bytes) -> Mapping[str, Any]:
    """All members of *payload*, immutable to all depths."""
    claims: Mapping[str, Any] = freeze(parse_object(payload))
    return claims


def freeze(value: Any) -> Any:
    """*value*, with mappings and lists replaced by ones that cannot be changed."""
    if is_object(value):
        return MappingProxyType({name: freeze(item) for name, item in value.items()})
    if is_array(value):
        return tuple(freeze(item) for item in value)
    return value
