"""URLs from somebody else's document lead into no private network."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import httpx
import pytest

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.addresses import (
    AddressCounts,
    NotPublicError,
    check_host,
    is_public,
    public_addresses,
)
from agentauth_middleware._io.clients import (
    AsyncHTTPClient,
    BlockingHTTPClient,
)
from tests.support.carrying_out import KINDS, Get, client_of, failure_of, fetch
from tests.support.io_certificates import over_tls, write_certificate
from tests.support.scripted_server import Script, Server, answer_all

Serve: TypeAlias = Callable[[Script], Server]

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
PRIVATE = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:224.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "2130706433.",
        "0x7f000001",
        "0x7f.1",
        "0X7F.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "2852039166",
        "169.254.43518",
        "::1",
        "::ffff:127.0.0.1",
        "0:0:0:0:0:ffff:7f00:1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "api.localhost",
        "api.localhost.",
        "%31%32%37.0.0.1",
        "as.example%00",
        "",
        ".",
        "a..b",
    ],
)
def test_host_that_says_it_is_private_is_refused(host: str) -> None:
    with pytest.raises(NotPublicError):
        check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "as.example",
        "as.example.",
        "xn--bcher-kva.example",
        "a_b.example",
        "mylocalhost.example",
        "localhost.example",
        "8.8.8.8",
        "2606:4700:4700::1111",
    ],
)
def test_host_that_may_be_public_is_not_refused(host: str) -> None:
    check_host(host)


# In both clients. There are no public addresses in here: those to be found are handed
# in, and what looks them up for real is not tried.


def found(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    """Looks up *addresses*, whatever the name is."""
    return partial(public_addresses, look_up=lambda host, port: addresses)


def unchecked(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    """As if *addresses*, of this machine, had been found to be public."""
    return lambda host, port: addresses


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="private"),
        pytest.param(["8.8.8.8", "127.0.0.1"], id="private too"),
        pytest.param(["127.0.0.1", "8.8.8.8"], id="private first"),
        pytest.param(["8.8.8.8", "fe80::1%1"], id="link-local"),
        pytest.param(["8.8.8.8", "::ffff:10.0.0.1"], id="mapped"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_name_with_a_private_address_is_refused(
    serve: Serve, kind: str, addresses: list[str]
) -> None:
    server = serve(answer_all)
    url = server.url.replace("127.0.0.1", "as.example")
    with client_of(kind, find_addresses=found(*addresses)) as get:
        failure = failure_of(get, fetch(url, public_only=True))

    assert failure.reason == "upstream_refused"
    assert str(failure) == f"GET {url}: not a public address"
    assert server.connections == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "127。0。0。1"]
)
def test_url_with_a_private_address_is_refused(
    get: Get, serve: Serve, host: str
) -> None:
    """Full stops of another alphabet become dots where names are encoded."""
    server = serve(answer_all)
    url = server.url.replace("127.0.0.1", host)

    assert failure_of(get, fetch(url, public_only=True)).reason == "upstream_refused"
    assert server.connections == []


def test_name_is_looked_up_by_the_system(get: Get) -> None:
    """``.invalid`` names nothing (RFC 6761 §6.4): neither refused nor found."""
    asked = fetch("https://as.invalid/keys", public_only=True)

    assert failure_of(get, asked).reason == "upstream_unreachable"


@pytest.mark.parametrize("kind", KINDS)
def test_look_up_that_hangs_is_given_up_in_time(kind: str) -> None:
    over = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        over.wait(10)
        return []

    with client_of(kind, find_addresses=hang) as get:
        asked = fetch("https://as.example/keys", timeout=0.1, public_only=True)
        before = time.monotonic()
        failure = failure_of(get, asked)
        over.set()

    assert failure.reason == "upstream_timeout"
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("kind", KINDS)
def test_connection_goes_to_the_address_that_was_checked(
    serve: Serve, kind: str
) -> None:
    """And is not left to a second look-up, which would find nothing here."""
    server = serve(answer_all)
    url = server.url.replace("127.0.0.1", "as.invalid")
    with client_of(kind, find_addresses=unchecked("127.0.0.1")) as get:
        reply = get(fetch(url, public_only=True))

    assert reply.status == 200
    assert f"http://{server.fields()['host']}/keys" == url


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]],
    ids=["last", "first"],
)
def test_other_addresses_are_tried_while_nobody_listens(
    serve: Serve, kind: str, addresses: list[str]
) -> None:
    server = serve(answer_all)
    url = server.url.replace("127.0.0.1", "as.invalid")
    with client_of(kind, find_addresses=unchecked(*addresses)) as get:
        assert get(fetch(url, public_only=True)).status == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "is_trusted"),
    [("as.invalid", True), ("127.0.0.1", False), ("other.invalid", False)],
)
def test_certificate_has_to_be_for_the_name(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    is_trusted: bool,
) -> None:
    """Not for the address, though the connection is made to that."""
    certificate = write_certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serve(over_tls(certificate, answer_all))
    url = server.url.replace("http://127.0.0.1", "https://as.invalid")
    with client_of(kind, find_addresses=unchecked("127.0.0.1")) as get:
        if is_trusted:
            assert get(fetch(url, public_only=True)).status == 200
        else:
            failure_of(get, fetch(url, public_only=True))

            assert server.requests == []


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_is_for_a_name_without_its_final_dot(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Which a URL may have, and no certificate has (RFC 6066 §3)."""
    certificate = write_certificate(tmp_path, "as.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serve(over_tls(certificate, answer_all))
    url = server.url.replace("http://127.0.0.1", "https://as.invalid.")
    with client_of(kind, find_addresses=unchecked("127.0.0.1")) as get:
        assert get(fetch(url, public_only=True)).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_connection_serves_no_other_name(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whose certificate was never seen: who can answer for one name would for all."""
    certificate = write_certificate(tmp_path, "as.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serve(over_tls(certificate, answer_all))
    with client_of(kind, find_addresses=unchecked("127.0.0.1")) as get:
        for name in ("as", "other"):
            url = server.url.replace("http://127.0.0.1", f"https://{name}.invalid")
            asked = fetch(url, public_only=True)
            if name == "as":
                get(asked)
            else:
                failure_of(get, asked)

    assert len(server.requests) == 1


# Proxies


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_is_left_to_look_the_name_up(
    serve: Serve, no_proxies: pytest.MonkeyPatch, kind: str
) -> None:
    """Machines that need one often cannot; but what is private by itself is refused."""
    proxy = serve(answer_all)
    no_proxies.setenv("HTTP_PROXY", proxy.origin)
    with client_of(kind, find_addresses=found("10.0.0.1")) as get:
        reply = get(fetch("http://as.example/keys", public_only=True))
        refused = [
            failure_of(get, fetch(url, public_only=True)).reason
            for url in ("http://localhost/keys", "http://0x7f.1/keys")
        ]

    assert reply.status == 200
    assert [request.split(b"\r\n")[0] for request in proxy.requests] == [
        b"GET http://as.example/keys HTTP/1.1"
    ]
    assert refused == ["upstream_refused"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_address_that_was_checked_goes_past_the_proxy_as_its_name_does(
    serve: Serve, no_proxies: pytest.MonkeyPatch, kind: str
) -> None:
    server, proxy = serve(answer_all), serve(answer_all)
    no_proxies.setenv("HTTP_PROXY", proxy.origin)
    no_proxies.setenv("NO_PROXY", "as.invalid")
    url = server.url.replace("127.0.0.1", "as.invalid")
    with client_of(kind, find_addresses=unchecked("127.0.0.1")) as get:
        get(fetch(url, public_only=True))

    assert len(server.requests) == 1
    assert proxy.requests == []


# Clients of the user


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=request.url.host)


URLS = ("https://as.invalid/keys", "https://127.1/keys", "https://localhost/keys")


def test_given_blocking_client_asks_no_host_that_says_it_is_private() -> None:
    """Where its connections go nobody here knows, so no name is looked up either."""
    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = BlockingHTTPClient(given)
        allowed, *refused = [fetch(url, public_only=True) for url in URLS]

        assert client.carry_out(allowed).body == b"as.invalid"
        assert {failure_of(client.carry_out, one).reason for one in refused} == {
            "upstream_refused"
        }


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_given_async_client_asks_no_host_that_says_it_is_private(backend: str) -> None:
    given = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    client = AsyncHTTPClient(given)
    allowed, *refused = [fetch(url, public_only=True) for url in URLS]

    def carry_out(fetch: Fetch) -> Reply:
        return anyio.run(client.carry_out, fetch, backend=backend)

    assert carry_out(allowed).body == b"as.invalid"
    assert {failure_of(carry_out, one).reason for one in refused} == {
        "upstream_refused"
    }


# How long each address may take


@pytest.mark.parametrize(
    ("addresses", "share"),
    [
        (["10.0.0.1"], 6.0),
        (["10.0.0.1", "10.0.0.1"], 6.0),
        (["10.0.0.1", "::1"], 2.0),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], 1.5),
        ([], 6.0),
    ],
)
def test_time_is_divided_over_the_addresses(addresses: list[str], share: float) -> None:
    """And one share is left for the exchange."""
    counts = AddressCounts(lambda host, port: addresses)

    assert counts.share(6.0, "as.example", 443) == share


def test_addresses_are_counted_once_a_minute() -> None:
    now, asked, addresses = 0.0, [("", 0)], ["10.0.0.1"]

    def look_up(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return addresses

    counts = AddressCounts(look_up, lambda: now)
    counts.share(6.0, "as.example", 443)
    now = 59.5
    counts.share(6.0, "as.example", 443)

    assert asked[1:] == [("as.example", 443)]

    now, addresses = 60.0, ["10.0.0.1", "10.0.0.2"]

    assert counts.share(6.0, "as.example", 443) == 2.0
    assert len(asked) == 3


@pytest.mark.parametrize("fault", [OSError("no network"), UnicodeError("no name")])
def test_name_that_cannot_be_looked_up_is_left_to_the_client(fault: Exception) -> None:
    def look_up(host: str, port: int) -> list[str]:
        raise fault

    assert AddressCounts(look_up).share(6.0, "as.example", 443) == 6.0
