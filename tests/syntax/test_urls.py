"""Identifiers compared to the letter, and the URLs derived from them."""

from __future__ import annotations

from typing import cast

import pytest

from agentauth_middleware._syntax.urls import (
    check_url,
    is_acceptable_url,
    issuer_metadata_urls,
    origin_of,
    path_of,
    same_identifier,
    well_known_url,
)
from agentauth_middleware.errors import ConfigurationError

GOOD = [
    "https://api.example.com",
    "https://api.example.com/",
    "https://api.example.com/tools",
    "https://api.example.com/tools/",
    "https://api.example.com:8443/tools",
    "https://api.example.com/tools?tenant=1",
    "https://xn--bcher-kva.example",
    "https://[2001:db8::1]:8443",
    "https://10.0.0.1",
    "https://api.example.com/a%20b",
    "https://api.example.com/...",
    "https://api.example.com/~user",
]


@pytest.mark.parametrize("url", GOOD)
def test_url_is_taken_as_it_is(url: str) -> None:
    assert check_url(url, "key", insecure_loopback=False) == url
    assert is_acceptable_url(url, insecure_loopback=False)


FAULTS = [
    ("", "is empty; write https://"),
    ("https://b\u00fccher.example", "percent-encode"),
    ("https://api.example.com/a b", "percent-encode"),
    ('https://api.example.com/"', "percent-encode"),
    ("https://api.example.com/\\", "percent-encode"),
    ("https://api.example.com\r\nx: y", "percent-encode"),
    ("https://api.example.com\n", "percent-encode"),
    ("https://[::1", "check host and port"),
    ("https://api.example.com:port", "check host and port"),
    ("https://api.example.com:99999", "check host and port"),
    ("api.example.com", "write https://"),
    ("//api.example.com", "write https://"),
    ("/tools", "write https://"),
    ("ftp://api.example.com", "write https://"),
    ("https://", "write https://"),
    ("https:///tools", "write https://"),
    ("javascript:alert(1)", "write https://"),
    ("HTTPS://api.example.com", "lower case"),
    ("https://user@api.example.com", "remove it"),
    ("https://user:secret@api.example.com", "remove it"),
    ("https://@api.example.com", "remove it"),
    ("https://api.example.com#part", "remove it"),
    ("https://api.example.com#", "remove it"),
    ("https://API.example.com", "lower case"),
    ("https://[2001:DB8::1]", "lower case"),
    ("https://api.example.com:443", "remove it"),
    ("https://api.example.com:", "remove it"),
    ("https://api.example.com/./tools", "path it stands for"),
    ("https://api.example.com/a/../tools", "path it stands for"),
    ("https://api.example.com/tools/..", "path it stands for"),
    ("https://api.example.com/%7Euser", "write it plainly"),
    ("https://api.example.com/%61", "write it plainly"),
    ("https://api.example.com/%2E%2E/x", "write it plainly"),
    ("http://api.example.com", "use https"),
    ("http://localhost:8000", "insecure_loopback=True"),
    ("http://127.0.0.1", "insecure_loopback=True"),
]


@pytest.mark.parametrize(("url", "fix"), FAULTS)
def test_url_with_a_fault_is_refused_with_its_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_url(url, "Issuer.jwks_uri", insecure_loopback=False)

    assert str(refused.value).startswith(f"Issuer.jwks_uri: {url!r} ")
    assert fix in str(refused.value)
    assert not is_acceptable_url(url, insecure_loopback=False)


@pytest.mark.parametrize("url", [None, 1, ["https://a.example"], b"https://a.example"])
def test_what_is_no_string_is_no_url(url: object) -> None:
    assert not is_acceptable_url(url, insecure_loopback=True)
    with pytest.raises(ConfigurationError, match=r"^key: .* is no text; write https:"):
        check_url(cast(str, url), "key", insecure_loopback=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://localhost:8000/x",
        "http://127.0.0.1",
        "http://[::1]:9",
    ],
)
def test_http_is_good_on_a_loopback_host_while_developing(url: str) -> None:
    assert check_url(url, "key", insecure_loopback=True) == url
    assert is_acceptable_url(url, insecure_loopback=True)
    assert not is_acceptable_url(url, insecure_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.2",
        "http://10.0.0.1",
        "http://0.0.0.0",
    ],
)
def test_http_is_never_good_elsewhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="use https"):
        check_url(url, "key", insecure_loopback=True)


def test_default_port_of_http_is_refused_as_well() -> None:
    with pytest.raises(ConfigurationError, match="default port"):
        check_url("http://localhost:80", "key", insecure_loopback=True)
    assert is_acceptable_url("http://localhost:443", insecure_loopback=True)


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://api.example.com", "https://api.example.com", ""),
        ("https://api.example.com/", "https://api.example.com", ""),
        (
            "https://api.example.com:8443/a/b?c=d",
            "https://api.example.com:8443",
            "/a/b",
        ),
        ("https://api.example.com/a/", "https://api.example.com", "/a/"),
    ],
)
def test_url_has_an_origin_and_a_path(url: str, origin: str, path: str) -> None:
    assert (origin_of(url), path_of(url)) == (origin, path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example/", "https://a.example", True),
        ("https://a.example:8443/", "https://a.example:8443", True),
        ("https://a.example/x", "https://a.example/x", True),
        ("https://a.example/x/", "https://a.example/x", False),
        ("https://a.example//", "https://a.example/", False),
        ("https://a.example?x=/", "https://a.example?x=", False),
        ("https://a.example/?x", "https://a.example?x", False),
        ("https://a.example", "https://A.example", False),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:443", False),
        ("https://a.example", "https://a.example.evil", False),
        ("https://a.example/x", "https://a.example/X", False),
        ("https://a.example/%78", "https://a.example/x", False),
        ("", "https://a.example", False),
        ("/", "https://a.example/", False),
        ("https://[", "https://a.example", False),
    ],
)
def test_identifiers_are_the_same_but_for_the_slash_of_an_origin(
    one: str, other: str, same: bool
) -> None:
    assert same_identifier(one, other) is same
    assert same_identifier(other, one) is same


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
        (
            "https://a.example/",
            "https://a.example/.well-known/oauth-protected-resource",
        ),
        (
            "https://a.example:8443/tools/v1",
            "https://a.example:8443/.well-known/oauth-protected-resource/tools/v1",
        ),
        (
            "https://a.example/tools?tenant=1",
            "https://a.example/.well-known/oauth-protected-resource/tools?tenant=1",
        ),
    ],
)
def test_metadata_url_is_inserted_before_the_path(resource: str, url: str) -> None:
    """RFC 9728 §3.1"""
    assert well_known_url(resource) == url


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://as.example.com/t1",
            (
                "https://as.example.com/.well-known/oauth-authorization-server/t1",
                "https://as.example.com/.well-known/openid-configuration/t1",
                "https://as.example.com/t1/.well-known/openid-configuration",
            ),
        ),
        (
            "https://as.example.com/t1/",
            (
                "https://as.example.com/.well-known/oauth-authorization-server/t1",
                "https://as.example.com/.well-known/openid-configuration/t1",
                "https://as.example.com/t1/.well-known/openid-configuration",
            ),
        ),
        *(
            (
                issuer,
                (
                    "https://as.example.com/.well-known/oauth-authorization-server",
                    "https://as.example.com/.well-known/openid-configuration",
                ),
            )
            for issuer in ("https://as.example.com", "https://as.example.com/")
        ),
    ],
)
def test_issuer_may_publish_its_metadata_in_several_places(
    issuer: str, urls: tuple[str, ...]
) -> None:
    """RFC 8414 §3.1 and §5, OpenID Connect Discovery 1.0 §4"""
    assert issuer_metadata_urls(issuer) == urls
