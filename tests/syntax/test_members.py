"""The JSON guard, and typed members of an object that a stranger wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentauth_middleware._syntax.members import (
    freeze,
    frozen_claims,
    instant,
    is_array,
    is_object,
    optional_instant,
    optional_text,
    parse_document,
    parse_object,
    text,
    texts,
)


def nested_objects(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def nested_arrays(levels: int) -> bytes:
    return b'{"a":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("raw", "members"),
    [
        pytest.param(b"{}", {}, id="empty object"),
        pytest.param(b' {"a" : 1}\n', {"a": 1}, id="white space around"),
        pytest.param(b'{"a":{"b":1},"b":1}', {"a": {"b": 1}, "b": 1}, id="by level"),
        pytest.param(b'{"a":"\xc3\xa9"}', {"a": "é"}, id="UTF-8"),
        pytest.param(rb'{"a":"\u00e9"}', {"a": "é"}, id="escaped"),
        pytest.param(rb'{"a":"\ud83d\ude00"}', {"a": "😀"}, id="surrogate pair"),
        pytest.param(rb'{"a":"\\ud83d"}', {"a": r"\ud83d"}, id="escaped backslash"),
        pytest.param(b'{"a":1.5e3}', {"a": 1500.0}, id="float"),
    ],
)
def test_parse_object_reads(raw: bytes, members: Mapping[str, Any]) -> None:
    assert parse_object(raw) == members


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"aud":"a","aud":"b"}', id="member twice"),
        pytest.param(b'{"act":{"sub":"a","sub":"b"}}', id="inner member twice"),
        pytest.param(b'[{"a":1,"a":1}]', id="in an array, with equal values"),
        pytest.param(rb'{"sub":"a","\u0073ub":"b"}', id="twice by an escape"),
        pytest.param(b'{"exp":NaN}', id="NaN"),
        pytest.param(b'{"exp":Infinity}', id="Infinity"),
        pytest.param(b'{"exp":-Infinity}', id="minus Infinity"),
        pytest.param(b'{"a":1e999}', id="float out of range"),
        pytest.param(b'{"a":-1e999}', id="negative infinity"),
        pytest.param(b'{"a":%s}' % (b"9" * 5000), id="integer of 5000 digits"),
        pytest.param(b'["a"]', id="array"),
        pytest.param(b'"a"', id="string"),
        pytest.param(b"1", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"  ", id="white space"),
        pytest.param(b"{}{}", id="two objects"),
        pytest.param(b"{}x", id="text behind"),
        pytest.param(b'{"a":1', id="cut off"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":"\n"}', id="control character"),
        pytest.param(b'{"a":"\0"}', id="NUL"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="overlong UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(rb'{"a":"\ud800"}', id="lone high surrogate"),
        pytest.param(rb'{"a":"\udc00x"}', id="lone low surrogate"),
        pytest.param(rb'{"a":"\ude00\ud83d"}', id="pair in the wrong order"),
        pytest.param(rb'{"\ud800":1}', id="lone surrogate in a name"),
        pytest.param(rb'{"a":[{"b":"\ud800"}]}', id="lone surrogate inside"),
        pytest.param(nested_objects(1_000), id="objects 1000 deep"),
        pytest.param(nested_arrays(1_000), id="arrays 1000 deep"),
        pytest.param(nested_objects(100_000), id="objects 100000 deep"),
        pytest.param(nested_arrays(100_000), id="arrays 100000 deep"),
        pytest.param(rb'{"b":"\u0061",' + nested_objects(1_000)[1:], id="with escape"),
    ],
)
def test_parse_object_refuses(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(raw)


def test_document_may_begin_with_a_byte_order_mark() -> None:
    assert parse_document(b'\xef\xbb\xbf {"a": 1}') == {"a": 1}
    assert parse_document(b'{"a": "\xef\xbb\xbf"}') == {"a": "\ufeff"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_document_in_another_encoding_says_so(encoding: str) -> None:
    with pytest.raises(ValueError, match="must be in UTF-8"):
        parse_document('{"a": 1}'.encode(encoding))


@pytest.mark.parametrize(
    "raw", [b'{"a":1,"a":1}', b"[]", b"", b"\xef\xbb\xbf", nested_objects(1_000)]
)
def test_document_is_as_strict_as_an_object(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_document(raw)


@pytest.mark.parametrize("make", [nested_objects, nested_arrays])
def test_depth_has_a_limit_of_our_own(make: Callable[[int], bytes]) -> None:
    """Python's depends on its version, and on how deep it is called itself."""
    deepest = 64 if make is nested_objects else 63  # the object around them

    assert parse_object(make(deepest))
    with pytest.raises(ValueError, match="deep"):
        parse_object(make(deepest + 1))


def test_depth_is_that_of_the_deepest_place() -> None:
    beside = b'{"wide":[%s],"deep":%%s}' % b",".join([b"{}"] * 100)

    assert parse_object(beside % nested_objects(63))
    with pytest.raises(ValueError, match="deep"):
        parse_object(beside % nested_objects(64))


def test_width_has_no_limit() -> None:
    assert len(parse_object(b'{"a":[%s]}' % b",".join([b"{}"] * 1000))["a"]) == 1000


@pytest.mark.parametrize("levels", [20, 60, 100, 300, 500, 900])
@pytest.mark.parametrize("make", [nested_objects, nested_arrays])
def test_what_is_parsed_can_be_frozen(
    make: Callable[[int], bytes], levels: int
) -> None:
    """No handler that looks at ``claims`` is the first to find them too deep."""
    raw = make(levels)
    try:
        parse_object(raw)
    except ValueError:
        return

    assert frozen_claims(raw).keys() == {"a"}


def test_text_is_a_non_empty_string() -> None:
    assert text({"sub": "user-1"}, "sub") == "user-1"


@pytest.mark.parametrize(
    "members",
    [{}, {"sub": ""}, {"sub": None}, {"sub": 1}, {"sub": ["a"]}, {"sub": {"a": "b"}}],
    ids=json.dumps,
)
def test_text_refuses(members: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="sub"):
        text(members, "sub")


def test_optional_text_may_be_absent_but_not_null() -> None:
    assert optional_text({}, "acr") is None
    assert optional_text({"acr": "phr"}, "acr") == "phr"
    with pytest.raises(ValueError, match="acr"):
        optional_text({"acr": None}, "acr")


@pytest.mark.parametrize("value", [0, 1, 1_790_000_000, 1.5, 0.0, 2**53], ids=repr)
def test_instant_is_a_number_of_seconds(value: float) -> None:
    assert instant({"exp": value}, "exp") == value
    assert optional_instant({"exp": value}, "exp") == value


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, "1790000000", [1], {}),
        *(-1, -0.5, 2**53 + 1, 10**20, 10**400),
        *(float("nan"), float("inf"), float("-inf")),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_instant_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="exp"):
        instant({"exp": value}, "exp")
    with pytest.raises(ValueError, match="exp"):
        optional_instant({"exp": value}, "exp")


def test_instant_must_be_there_unless_optional() -> None:
    assert optional_instant({}, "nbf") is None
    with pytest.raises(ValueError, match="exp"):
        instant({}, "exp")


@pytest.mark.parametrize(
    ("members", "values"),
    [
        ({}, ()),
        ({"aud": "a"}, ("a",)),
        ({"aud": ["a", "b"]}, ("a", "b")),
        ({"aud": ("a",)}, ("a",)),
        ({"aud": []}, ()),
    ],
    ids=repr,
)
def test_texts_reads_one_or_several(
    members: Mapping[str, Any], values: tuple[str, ...]
) -> None:
    assert texts(members, "aud") == values


@pytest.mark.parametrize(
    "value",
    ["", None, 1, True, {"a": "b"}, ["a", ""], ["a", 1], [["a"]], [None]],
    ids=repr,
)
def test_texts_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="aud"):
        texts({"aud": value}, "aud")


def test_frozen_claims_cannot_be_changed_at_any_depth() -> None:
    frozen: Any = frozen_claims(b'{"a":{"b":[{"c":1}]}}')

    with pytest.raises(TypeError):
        frozen["x"] = 1
    with pytest.raises(TypeError):
        frozen["a"]["b"] = 1
    with pytest.raises(TypeError):
        frozen["a"]["b"][0] = 1
    with pytest.raises(TypeError):
        frozen["a"]["b"][0]["c"] = 2
    assert frozen == {"a": {"b": ({"c": 1},)}}


def test_freeze_leaves_what_it_was_given_alone() -> None:
    given: dict[str, Any] = {"keys": [{"kty": "EC"}]}
    frozen = freeze(given)
    given["keys"].append("more")
    given["keys"][0]["kty"] = "RSA"

    assert frozen == {"keys": ({"kty": "EC"},)}


def test_frozen_values_are_still_objects_and_arrays() -> None:
    frozen = freeze({"a": [1]})

    assert is_object(frozen)
    assert not is_array(frozen)
    assert is_array(frozen["a"])
    assert not is_object(frozen["a"])
    assert not is_array("text")
