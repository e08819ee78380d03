"""Which proxy the environment names, for which hosts, and what is said of a bad one."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from agentauth_middleware._io.clients import Certificates
from agentauth_middleware._io.proxies import find_proxy
from agentauth_middleware.errors import ConfigurationError


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names none; put there what a test wants."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "http://p:1", id="of the scheme"),
        pytest.param({"https_proxy": "http://p:1"}, "http://p:1", id="lower case"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, None, id="of another scheme"),
        pytest.param({"ALL_PROXY": "p:1"}, "http://p:1", id="of all, without a scheme"),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other,as.example"},
            None,
            id="not for this host",
        ),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None, id="not for any"
        ),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other"},
            "http://p:1",
            id="not for another",
        ),
    ],
)
def test_find_proxy_reads_the_environment(
    no_proxies: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    for name, value in environment.items():
        no_proxies.setenv(name, value)

    assert find_proxy("https", "as.example:8443") == proxy


@pytest.mark.parametrize(
    ("exclusions", "excluded", "others"),
    [
        ("as.example", ["as.example", "a.as.example"], ["bas.example", "as.example.x"]),
        (".as.example", ["a.as.example"], ["bas.example"]),
        ("*.as.example", ["a.as.example"], ["as.example", "bas.example"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.1.2.3", "10.example", "[::a00:1]"]),
        ("10.0.0.1/8", ["10.1.2.3"], ["11.1.2.3"]),
        ("10.1.2.3", ["10.1.2.3"], ["10.1.2.4"]),
        ("fd07:b51a:cc66:f0::/64", ["[fd07:b51a:cc66:f0::1]"], ["[fd07::1]", "a.b"]),
        ("[::1], ::2", ["[::1]", "[::2]", "[0:0::2]"], ["[::3]"]),
        ("*", ["as.example", "10.1.2.3", "[::1]"], []),
        ("a b,/,10.0.0.0/99,[", [], ["as.example", "10.0.0.0"]),
        ("", [], ["as.example"]),
    ],
)
@pytest.mark.parametrize("port", ["", ":8443"])
def test_hosts_that_are_excluded_have_no_proxy(
    exclusions: str,
    excluded: list[str],
    others: list[str],
    port: str,
    no_proxies: pytest.MonkeyPatch,
) -> None:
    no_proxies.setenv("HTTPS_PROXY", "http://p:1")
    no_proxies.setenv("NO_PROXY", exclusions)
    proxies = {host: find_proxy("https", host + port) for host in excluded + others}

    assert proxies == dict.fromkeys(excluded) | dict.fromkeys(others, "http://p:1")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTP_PROXY", "gopher://user:a-secret@p:1"),
        ("https_proxy", "socks6://user:a-secret@p:1"),
        ("ALL_PROXY", "http://user:a-secret@p:port"),
        ("all_proxy", "http://user:a-secret@p:\x01"),
    ],
)
def test_proxy_that_cannot_be_used_is_named_and_not_shown(
    variable: str, url: str, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv(variable, url)
    with pytest.raises(ConfigurationError) as refused:
        Certificates().check_environment()

    assert str(refused.value).startswith(f"{variable}: cannot be used as a proxy")
    assert "a-secret" not in str(refused.value)


@pytest.mark.skipif(find_spec("socksio") is not None, reason="socksio is installed")
def test_socks_without_its_package_says_what_to_install(
    no_proxies: pytest.MonkeyPatch,
) -> None:
    no_proxies.setenv("ALL_PROXY", "socks5://user:a-secret@p:1")
    with pytest.raises(ConfigurationError) as refused:
        Certificates().check_environment()

    assert str(refused.value).startswith("ALL_PROXY: a SOCKS proxy")
    assert "httpx[socks]" in str(refused.value)
    assert "a-secret" not in str(refused.value)


def test_good_proxies_are_no_error(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("HTTP_PROXY", "p:1")
    no_proxies.setenv("HTTPS_PROXY", "https://user:pass@p.example")
    no_proxies.setenv("ALL_PROXY", "http://[::1]:1")

    Certificates().check_environment()
