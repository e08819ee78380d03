"""The credential of a request, and what is no credential."""

from __future__ import annotations

import time

import pytest

from agentauth_middleware._core.tokens.credential import (
    MAX_CREDENTIAL_BYTES,
    check_form,
    find_token,
)
from agentauth_middleware.errors import InvalidRequestError
from tests.support.deciding import request


def found(
    *lines: bytes, query: bytes = b"", ignore_query: bool = False
) -> bytes | None:
    """The token of a request with these field lines, its form checked."""
    token = find_token(
        request(authorization=lines, query=query), ignore_query=ignore_query
    )
    if token is not None:
        check_form(token)
    return token


def refused_for(*lines: bytes, query: bytes = b"") -> str:
    with pytest.raises(InvalidRequestError) as refused:
        found(*lines, query=query)
    return refused.value.reason


@pytest.mark.parametrize(
    ("line", "token"),
    [
        pytest.param(b"Bearer abc", b"abc", id="Bearer"),
        pytest.param(b"bearer abc", b"abc", id="lower case"),
        pytest.param(b"BEARER abc", b"abc", id="upper case"),
        pytest.param(b"bEaReR abc", b"abc", id="mixed case"),
        pytest.param(b"Bearer   abc", b"abc", id="several spaces"),
        pytest.param(b"BEARER   abc", b"abc", id="several spaces, upper case"),
        pytest.param(b" \tBearer abc \t", b"abc", id="white space around"),
        pytest.param(b"Bearer abc=", b"abc=", id="padded"),
        pytest.param(b"Bearer abc==", b"abc==", id="padded twice"),
        pytest.param(b"Bearer AZaz09-._~+/", b"AZaz09-._~+/", id="all characters"),
        pytest.param(b"Bearer a.b.c", b"a.b.c", id="JWT"),
    ],
)
def test_bearer_token_is_found(line: bytes, token: bytes) -> None:
    assert found(line) == token


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="no field"),
        pytest.param((b"",), id="empty"),
        pytest.param((b" \t ",), id="white space"),
        pytest.param((b"Basic dXNlcjpwYXNz",), id="Basic"),
        pytest.param((b'Digest username="x", realm="y"',), id="Digest"),
        pytest.param((b"Token abc",), id="Token"),
        pytest.param((b"Negotiate",), id="a scheme alone"),
        pytest.param((b"BearerX",), id="BearerX"),
        pytest.param((b"Bearer-Token abc",), id="Bearer-Token"),
        pytest.param((b"XBearer abc",), id="XBearer"),
        pytest.param((b"abc",), id="a token alone"),
        pytest.param((b"Negotiate " + b"a" * 50_000,), id="a long one"),
    ],
)
def test_other_schemes_are_no_credentials(lines: tuple[bytes, ...]) -> None:
    assert found(*lines) is None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Bearer\tabc", id="tab"),
        pytest.param(b"Bearer \tabc", id="space and tab"),
        pytest.param(b"Bearer,abc", id="comma"),
        pytest.param(b"Bearer=abc", id="equals"),
        pytest.param(b"Bearer:abc", id="colon"),
        pytest.param(b"Bearer/abc", id="slash"),
        pytest.param(b"Bearer abc def", id="two tokens"),
        pytest.param(b"Bearer abc,Bearer def", id="joined lines"),
        pytest.param(b"Bearer abc, Bearer def", id="joined lines with a space"),
        pytest.param(b"Bearer abc,", id="comma behind"),
        pytest.param(b"Bearer =abc", id="padding before"),
        pytest.param(b"Bearer a=b", id="padding inside"),
        pytest.param(b"Bearer ===", id="padding alone"),
        pytest.param(b'Bearer "abc"', id="quoted"),
        pytest.param(b'Bearer token="abc"', id="parameter"),
        pytest.param(b"Bearer abc\x00", id="NUL"),
        pytest.param(b"Bearer a\nb", id="line break"),
        pytest.param(b"Bearer abc\n", id="line break behind"),
        pytest.param(b"Bearer a\x7fb", id="DEL"),
        pytest.param(b"Bearer \xc3\xa9", id="not ASCII"),
        pytest.param(b"Bearer abc;", id="semicolon"),
        pytest.param(b"Bearer a%20b", id="percent"),
        pytest.param(b'"Bearer abc"', id="all quoted"),
        pytest.param(b"\xc3\xa9 abc", id="scheme not ASCII"),
        pytest.param(b",Bearer abc", id="comma in front"),
    ],
)
def test_malformed_credential_is_refused(line: bytes) -> None:
    assert refused_for(line) == "malformed_credential"


@pytest.mark.parametrize(
    "line", [b"Bearer", b"bearer ", b"BEARER  ", b"Bearer\t", b" Bearer \t "]
)
def test_scheme_alone_is_no_credential(line: bytes) -> None:
    """As the MCP SDK's client sends it before it has a token."""
    assert find_token(request(authorization=[line])) is None


@pytest.mark.parametrize("token", [b"Bearer abc", b"bearer abc"])
def test_scheme_before_a_token_is_pointed_out(token: bytes) -> None:
    """As in ``Verifier.verify``, which takes the bare token."""
    with pytest.raises(InvalidRequestError, match="Bearer before it; leave that out"):
        check_form(token)


@pytest.mark.parametrize(
    "lines",
    [
        (b"Bearer abc", b"Bearer def"),
        (b"Bearer abc", b"Bearer abc"),
        (b"Basic abc", b"Bearer def"),
        (b"", b"Bearer def"),
    ],
    ids=["two", "the same twice", "two schemes", "one empty"],
)
def test_two_field_lines_are_refused(lines: tuple[bytes, ...]) -> None:
    assert refused_for(*lines) == "duplicate_authorization"


def test_credential_has_a_limit() -> None:
    longest = b"a" * (MAX_CREDENTIAL_BYTES - len(b"Bearer "))

    assert MAX_CREDENTIAL_BYTES == 16_384
    assert found(b"Bearer " + longest) == longest
    assert refused_for(b"Bearer a" + longest) == "credential_too_long"


# Tokens in the query


QUERIES_WITH_TOKEN = [
    b"access_token=abc",
    b"access_token",
    b"access_token=",
    b"a=b&access_token=abc",
    b"access%5Ftoken=abc",
    b"%61ccess_token=abc",
    b"%61%63%63%65%73%73%5f%74%6f%6b%65%6e=abc",
    b"%61%63%63%65%73%73%5F%74%6F%6B%65%6E=abc",
    b"access_toke%6E&a=b",
    b"&access_token=abc",
    b"a=b&&%61ccess_token",
    b"access_token=abc&access_token=def",
    b"token=abc&access_token=def",
    b"access_token==&",
    b"&" * 5000 + b"access_token=abc",
    b"a=%C3%A9&access_token=abc",
    b"a=\xff&access_token=abc",
]


@pytest.mark.parametrize("query", QUERIES_WITH_TOKEN)
def test_token_in_the_query_beside_the_header_is_refused(query: bytes) -> None:
    assert refused_for(b"Bearer abc", query=query) == "two_methods"


@pytest.mark.parametrize("query", QUERIES_WITH_TOKEN)
def test_token_in_the_query_is_never_a_credential(query: bytes) -> None:
    assert found(query=query) is None
    assert found(b"Basic abc", query=query) is None


@pytest.mark.parametrize("query", QUERIES_WITH_TOKEN)
def test_token_in_the_query_is_ignored_where_the_name_means_something_else(
    query: bytes,
) -> None:
    assert found(b"Bearer abc", query=query, ignore_query=True) == b"abc"


@pytest.mark.parametrize(
    "query",
    [
        b"page=2",
        b"token=abc",
        b"Access_Token=abc",
        b"%41ccess_token=abc",
        b"ACCESS_TOKEN=abc",
        b"access%5ftoKen=abc",
        b"access%255Ftoken=abc",
        b"access_token2=abc",
        b"access_token%3Dabc",
        b"access_token%26=abc",
        b"access_token+=abc",
        b"access_token;=abc",
        b"+access_token=abc",
        b"my_access_token=abc",
        b"my%5Faccess_token=abc",
        b"a=b?access_token=c",
        b"a=b;access_token=c",
        b"q=access_token",
        b"q=access_token=abc",
        b"q=&q=%61ccess_token",
        b"x_access_token=abc",
        b"access_token_type=abc",
        b"q=caf%C3%A9",
        b"caf%C3%A9=q",
        b"q=%FF",
        b"token=%FF",
        b"%E2%98%83",
        b"token=caf\xc3\xa9",
        b"token=\xff",
        b"%",
        b"%zz",
        b"%2",
        b"&&=&%&",
        b"token=" + b"&" * 5000,
    ],
)
def test_other_queries_do_not_matter(query: bytes) -> None:
    """Whatever they are: they are the application's."""
    assert found(b"Bearer abc", query=query) == b"abc"


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"&", id="separators"),
        pytest.param(b"token&", id="names"),
        pytest.param(b"%", id="percent signs"),
        pytest.param(b"%61", id="encoded letters"),
        pytest.param(b"&access_toke", id="nearly the name"),
        pytest.param(b"&%61%63%63%65%73%73%5f%74%6f%6b%65", id="nearly, encoded"),
        pytest.param(b"&a%63c%65ss_token!", id="the name and more"),
    ],
)
def test_hostile_query_costs_little(piece: bytes) -> None:
    """Servers let lines of 64 KiB through; a request costs us a fraction of that."""
    query = b"access_tokens&%=" + piece * (65_536 // len(piece))
    started = time.thread_time()
    for _ in range(10):
        assert found(b"Bearer abc", query=query) == b"abc"

    assert time.thread_time() - started < 0.1


def test_query_that_is_searched_has_a_limit() -> None:
    longest = b"&" * 131_072

    assert found(b"Bearer abc", query=longest) == b"abc"
    assert refused_for(b"Bearer abc", query=longest + b"&") == "query_too_long"


@pytest.mark.parametrize("scheme", [b"Basic ", b"Negotiate ", b"x" * 20_000])
def test_long_credential_of_another_scheme_is_none(scheme: bytes) -> None:
    assert found(scheme + b"x" * 40_000) is None


@pytest.mark.parametrize("scheme", [b"bEARER ", b" \tBearer ", b"@"])
def test_long_credential_in_a_strange_spelling_is_refused(scheme: bytes) -> None:
    reasons = ("credential_too_long", "malformed_credential")

    assert refused_for(scheme + b"x" * 20_000) in reasons


@pytest.mark.parametrize("scheme", [b"Basic ", b"", b" "])
def test_no_more_than_so_much_is_read_whatever_the_scheme(scheme: bytes) -> None:
    assert refused_for(scheme + b"x" * 65_536) == "credential_too_long"
