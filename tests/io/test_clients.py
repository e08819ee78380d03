"""Both HTTP clients against a real server, which mostly misbehaves."""

from __future__ import annotations

import gc
import gzip
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

import anyio
import httpx
import httpx2
import pytest

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.clients import (
    AsyncHTTPClient,
    BlockingHTTPClient,
    Certificates,
)
from agentauth_middleware.errors import ConfigurationError
from tests.support.carrying_out import (
    KINDS,
    Get,
    client_of,
    everything_told,
    failure_of,
    fetch,
)
from tests.support.deadlines import try_within
from tests.support.io_certificates import over_tls, write_certificate
from tests.support.scripted_server import (
    Connection,
    Script,
    Server,
    answer_all,
    drip_headers,
    once,
)

Serve: TypeAlias = Callable[[Script], Server]

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def raw(answer: bytes) -> Script:
    """A script that answers with these bytes and hangs up."""

    def script(connection: Connection) -> None:
        connection.next_request()
        connection.send(answer)
        connection.hang_up()

    return script


# What is asked, and what is answered


def test_get_asks_for_json(get: Get, serve: Serve) -> None:
    server = serve(answer_all)
    get(fetch(server.url))
    request, *fields = server.requests[0].decode().split("\r\n")
    names_and_values = dict(field.lower().split(": ", 1) for field in fields)

    assert request == "GET /keys HTTP/1.1"
    assert names_and_values["accept"] == "application/json"
    assert names_and_values["accept-encoding"] == "gzip"


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Busy"])
def test_get_answers_with_any_status(get: Get, serve: Serve, status: str) -> None:
    server = serve(once("ETag: 7", "X-A: 1", "x-a: 2", body=b"{}", status=status))
    reply = get(fetch(server.url))

    assert reply.status == int(status[:3])
    assert reply.headers == {"content-length": "2", "etag": "7", "x-a": "1, 2"}
    assert reply.body == b"{}"


def test_get_follows_no_redirect(get: Get, serve: Serve) -> None:
    """Who answers at the configured URL must not choose whom else we trust."""
    elsewhere = serve(answer_all)
    server = serve(once(f"Location: {elsewhere.url}", status="302 Found"))
    reply = get(fetch(server.url))

    assert reply.status == 302
    assert elsewhere.requests == []


@pytest.mark.parametrize("location", ["https://[::1", "http://xn--/", "https://a:b"])
def test_get_survives_a_redirect_that_leads_nowhere(
    get: Get, serve: Serve, location: str
) -> None:
    """httpx reads where it leads, even if it is not followed."""
    server = serve(once(f"Location: {location}", status="302 Found"))

    assert failure_of(get, fetch(server.url)).reason == "upstream_unreachable"


def test_get_asks_for_the_media_type_it_is_told(get: Get, serve: Serve) -> None:
    server = serve(answer_all)
    get(fetch(server.url, accept="application/token-introspection+jwt"))

    assert server.fields()["accept"] == "application/token-introspection+jwt"


@pytest.mark.parametrize("etag", ['"7"', 'W/"7"'])
def test_get_asks_whether_the_document_is_still_the_same(
    get: Get, serve: Serve, etag: str
) -> None:
    server = serve(once(f"ETag: {etag}", status="304 Not Modified"))
    reply = get(fetch(server.url, etag=etag))

    assert server.fields()["if-none-match"] == etag
    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)


def test_get_asks_for_the_whole_document_where_its_etag_cannot_be_sent(
    get: Get, serve: Serve
) -> None:
    """Else one odd header would keep us from ever fetching it again."""
    server = serve(answer_all)
    reply = get(fetch(server.url, etag='"\u00e9"'))

    assert reply.status == 200
    assert "if-none-match" not in server.fields()


def test_form_is_posted(get: Get, serve: Serve) -> None:
    server = serve(answer_all)
    form = (("token", "a b+c&d=\u00e9%"), ("resource", "one"), ("resource", "two"))
    get(fetch(server.url, form=form))

    assert server.requests[0].startswith(b"POST /keys HTTP/1.1\r\n")
    assert server.fields()["content-type"] == "application/x-www-form-urlencoded"
    assert server.bodies == [b"token=a+b%2Bc%26d%3D%C3%A9%25&resource=one&resource=two"]


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
def test_posted_form_follows_no_redirect(get: Get, serve: Serve, status: str) -> None:
    """It holds somebody's token, which is nobody else's."""
    elsewhere = serve(answer_all)
    server = serve(once(f"Location: {elsewhere.url}", status=status))
    reply = get(fetch(server.url, form=(("token", "SECRET"),)))

    assert reply.status == int(status[:3])
    assert elsewhere.requests == []


def test_form_is_told_to_nobody_but_the_server(get: Get, nobodys_url: str) -> None:
    for form in ((("token", "SECRET"),), (("token", "SECRET\udc00"),)):
        asked = fetch(nobodys_url, form=form)
        failure = failure_of(get, asked)

        assert str(failure).startswith(f"POST {nobodys_url}: ")
        assert "SECRET" not in everything_told(failure)
        assert "SECRET" not in repr(asked)


# Size


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""]
    )


def with_length(body: bytes) -> Script:
    return once(body=body)


def in_chunks(body: bytes) -> Script:
    return raw(chunked(body[:600], body[600:]))


def until_closed(body: bytes) -> Script:
    return raw(b"HTTP/1.1 200 OK\r\n\r\n" + body)


def packed(body: bytes) -> Script:
    return once("Content-Encoding: gzip", body=gzip.compress(body))


@pytest.mark.parametrize("framed", [with_length, in_chunks, until_closed, packed])
def test_get_takes_a_body_of_the_limit_and_no_more(
    get: Get, serve: Serve, framed: Callable[[bytes], Script]
) -> None:
    just_right = b"x" * 1000

    assert get(fetch(serve(framed(just_right)).url)).body == just_right

    failure = failure_of(get, fetch(serve(framed(just_right + b"y")).url))

    assert failure.reason == "upstream_too_large"
    assert "longer than 1000 bytes" in str(failure)


def test_get_stops_reading_an_endless_body(get: Get, serve: Serve) -> None:
    def script(connection: Connection) -> None:
        connection.next_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    assert failure_of(get, fetch(serve(script).url)).reason == "upstream_too_large"


def test_get_does_not_unpack_beyond_the_limit(get: Get, serve: Serve) -> None:
    """64 MB of zeros in 64 kB: unpacked piece by piece it would fill the memory."""
    bomb = gzip.compress(bytes(64_000_000), compresslevel=9)
    server = serve(once("Content-Encoding: gzip", body=bomb))
    unpacked = fetch(server.url, max_bytes=len(bomb))
    peak = peak_bytes(lambda: failure_of(get, unpacked))

    assert peak < 8_000_000


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Time


def silence(connection: Connection) -> None:
    connection.next_request()
    connection.over.wait()


def pause_in_the_body(connection: Connection) -> None:
    connection.next_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    connection.over.wait()


def drip(connection: Connection) -> None:
    """No pause is long, but it never ends."""
    connection.next_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not connection.over.wait(0.01):
        connection.send(b" ")


@pytest.mark.parametrize("script", [silence, pause_in_the_body, drip])
def test_get_gives_up_in_time(get: Get, serve: Serve, script: Script) -> None:
    server = serve(script)
    failure = failure_of(get, fetch(server.url, timeout=0.1, max_bytes=10**6))

    assert failure.reason == "upstream_timeout"
    assert str(failure).startswith(f"GET {server.url}: ")


@pytest.mark.parametrize(
    "script", [drip_headers, silence, drip], ids=lambda s: s.__name__
)
def test_get_gives_up_on_time_and_not_later(
    get: Get, serve: Serve, script: Script
) -> None:
    """Also while the server sends a header byte by byte, which no read notices."""
    dripping = fetch(serve(script).url, timeout=0.5, max_bytes=10**6)
    before = time.monotonic()
    failure = failure_of(get, dripping)

    assert failure.reason == "upstream_timeout"
    assert time.monotonic() - before < 2 * 0.5


def test_blocking_get_leaves_few_threads_with_a_server_that_hangs(
    serve: Serve,
) -> None:
    """And asks other servers all the while, and that one again once it has ended."""
    hanging, other = serve(drip_headers), serve(answer_all)
    client = BlockingHTTPClient()
    ask = partial(failure_of, client.carry_out, fetch(hanging.url, timeout=0.05))
    refused = try_within(10, ask, lambda failure: str(failure).endswith("hang"))

    assert refused.reason == "upstream_timeout"
    assert str(refused) == f"{hanging.origin}: earlier requests hang"
    assert len(hanging.connections) <= 4
    assert client.carry_out(fetch(other.url)).status == 200

    for connection in hanging.connections:
        connection.hang_up()
    try_within(10, ask, lambda _: len(hanging.connections) > 4)

    assert len(hanging.connections) > 4

    client.close()


def test_blocking_get_needs_no_thread() -> None:
    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = BlockingHTTPClient(given)
        usual = threading.stack_size(1 << 46)  # More than there is.
        try:
            reply = client.carry_out(fetch("https://as.example/keys"))
        finally:
            threading.stack_size(usual)

    assert reply.status == 200


def test_blocking_get_keeps_the_context_of_its_caller() -> None:
    """Tracing set up by the operator must find the request that it belongs to."""
    trace = ContextVar("trace", default="none")
    trace.set("mine")

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=trace.get())

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        reply = BlockingHTTPClient(given).carry_out(fetch("https://as.example/keys"))

    assert reply.body == b"mine"


# Faults


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Connection.hang_up, id="closes at once"),
        pytest.param(raw(b""), id="closes without an answer"),
        pytest.param(raw(b"SECRET\r\n\r\n"), id="no HTTP"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nSECRET\r\n\r\n"), id="no header"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nSECRET"), id="cut off"
        ),
        pytest.param(once("Content-Encoding: gzip", body=b"SECRET"), id="no gzip"),
        pytest.param(
            once("Content-Encoding: gzip", body=gzip.compress(b"SECRET")[:-9]),
            id="gzip cut off",
        ),
        pytest.param(
            once("Content-Encoding: br", body=gzip.compress(b"SECRET")),
            id="not asked for",
        ),
        pytest.param(
            once("Content-Encoding: gzip, gzip", body=gzip.compress(b"SECRET")),
            id="packed twice",
        ),
    ],
)
def test_get_tells_a_fault_but_not_what_the_server_said(
    get: Get, serve: Serve, script: Script
) -> None:
    server = serve(script)
    failure = failure_of(get, fetch(server.url))

    assert failure.reason == "upstream_unreachable"
    assert str(failure).startswith(f"GET {server.url}: ")
    assert "SECRET" not in str(failure)


def test_get_tells_that_nobody_listens(get: Get, nobodys_url: str) -> None:
    failure = failure_of(get, fetch(nobodys_url))

    assert failure.reason == "upstream_unreachable"
    assert str(failure) == f"GET {nobodys_url}: ConnectError"
    assert isinstance(failure.__cause__, httpx.ConnectError)


def test_get_survives_a_bundle_of_certificates_that_is_gone(
    get: Get, nobodys_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since the start, when it would have been a ``ConfigurationError``."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    failure = failure_of(get, fetch(nobodys_url))

    assert failure.reason == "http_client_unusable"
    assert str(failure).startswith("SSL_CERT_FILE: cannot be read")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/keys",
        "as.example/keys",
        "https://",
        "https://[::1/keys",
        "https://as.example:port/keys",
        "https://as.example:99999/keys",
        "https://xn--/keys",
        "https://as..example/keys",
        f"https://{'a' * 64}.example/keys",
        "https://as.example/\0",
        "https://as.example/\udc00",
    ],
    ids=ascii,
)
def test_get_survives_a_url_that_is_none(get: Get, url: str) -> None:
    """Discovered documents name URLs: whatever they say must not become a 500."""
    assert failure_of(get, fetch(url)).reason == "upstream_unreachable"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path, "127.0.0.1")


def test_get_trusts_no_certificate_that_nobody_vouches_for(
    get: Get, serve: Serve, certificate: Path
) -> None:
    server = serve(over_tls(certificate, answer_all))
    url = server.url.replace("http:", "https:")
    failure = failure_of(get, fetch(url))

    assert failure.reason == "upstream_unreachable"
    assert server.requests == []

    trusting = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=trusting) as given:
        assert BlockingHTTPClient(given).carry_out(fetch(url)).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_certificates_are_not_read_again(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    server = serve(over_tls(certificate, answer_all))
    certificates = Certificates()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    certificates.check_environment()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    with client_of(kind, certificates=certificates) as get:
        reply = get(fetch(server.url.replace("http:", "https:")))

    assert reply.status == 200


# The lives of clients


def test_blocking_client_reuses_its_connection(serve: Serve) -> None:
    server = serve(answer_all)
    client = BlockingHTTPClient()
    client.carry_out(fetch(server.url))
    client.carry_out(fetch(server.url))
    client.close()

    assert len(server.requests) == 2
    assert len(server.connections) == 1
    assert server.left.wait(10)


@pytest.mark.anyio
async def test_async_client_reuses_its_connection(serve: Serve) -> None:
    server = serve(answer_all)
    client = AsyncHTTPClient()
    await client.carry_out(fetch(server.url))
    await client.carry_out(fetch(server.url))
    await client.aclose()

    assert len(server.requests) == 2
    assert len(server.connections) == 1
    assert server.left.wait(10)


def test_blocking_client_may_be_used_after_close(serve: Serve) -> None:
    server = serve(answer_all)
    client = BlockingHTTPClient()
    for _ in range(2):
        client.carry_out(fetch(server.url))
        client.close()

    assert len(server.connections) == 2


def test_dropped_blocking_client_closes_its_connection(serve: Serve) -> None:
    server = serve(answer_all)
    client = BlockingHTTPClient()
    client.carry_out(fetch(server.url))
    del client
    gc.collect()

    assert server.left.wait(10)


@BACKENDS
def test_async_client_serves_several_loops(serve: Serve, backend: str) -> None:
    """Each loop has a connection of its own, closed when the loop ends."""
    server = serve(answer_all)
    client = AsyncHTTPClient()

    async def twice() -> None:
        for _ in range(2):
            await client.carry_out(fetch(server.url))

    for number in range(1, 4):
        anyio.run(twice, backend=backend)

        assert server.left.wait(10)
        assert len(server.connections) == number

        server.left.clear()


def test_blocking_client_is_made_anew_after_a_fork(serve: Serve) -> None:
    """Two processes that write into one connection would read each other's answers."""
    server = serve(answer_all)
    program = """
import os, sys
from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.clients import BlockingHTTPClient

client = BlockingHTTPClient()
fetch = Fetch(sys.argv[1], "keys", timeout=5.0, max_bytes=1000)
assert client.carry_out(fetch).status == 200
child = os.fork()
assert client.carry_out(fetch).status == 200
if child == 0:
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", program, server.url])

    assert run.returncode == 0
    assert len(server.requests) == 3
    assert len(server.connections) == 2


def test_httpx_is_imported_with_the_first_client() -> None:
    program = """
import sys
import threading
import time
import anyio
from agentauth_middleware._io.perform import AsyncPerformer, BlockingPerformer
from agentauth_middleware.stores import MemoryStore

BlockingPerformer(MemoryStore())
performer = AsyncPerformer(MemoryStore())
assert "httpx" not in sys.modules
performer.prepare()
assert "httpx" in sys.modules
"""

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# Clients of the user


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"X-Asked": request.url.host}, text="{}")


def test_given_blocking_client_is_used_and_not_closed() -> None:
    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = BlockingHTTPClient(given)
        reply = client.carry_out(fetch("https://as.example/keys"))
        client.close()

        assert reply.headers["x-asked"] == "as.example"
        assert reply.body == b"{}"
        assert not given.is_closed


@pytest.mark.anyio
async def test_given_async_client_is_used_and_not_closed() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as given:
        client = AsyncHTTPClient(given)
        reply = await client.carry_out(fetch("https://as.example/keys"))
        await client.aclose()

        assert reply.headers["x-asked"] == "as.example"
        assert reply.body == b"{}"
        assert not given.is_closed


def test_given_blocking_client_follows_no_redirect_either(serve: Serve) -> None:
    elsewhere = serve(answer_all)
    server = serve(once(f"Location: {elsewhere.url}", status="302 Found"))
    with httpx.Client(follow_redirects=True) as given:
        reply = BlockingHTTPClient(given).carry_out(fetch(server.url))

    assert reply.status == 302
    assert elsewhere.requests == []


@pytest.mark.anyio
async def test_given_async_client_follows_no_redirect_either(serve: Serve) -> None:
    elsewhere = serve(answer_all)
    server = serve(once(f"Location: {elsewhere.url}", status="302 Found"))
    async with httpx.AsyncClient(follow_redirects=True) as given:
        reply = await AsyncHTTPClient(given).carry_out(fetch(server.url))

    assert reply.status == 302
    assert elsewhere.requests == []


def test_body_from_a_transport_without_a_wire_is_limited() -> None:
    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = BlockingHTTPClient(given)
        short = fetch("https://as.example/keys", max_bytes=1)

        assert failure_of(client.carry_out, short).reason == "upstream_too_large"


def test_client_of_the_other_kind_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"needs an httpx\.Client"):
        BlockingHTTPClient(cast(httpx.Client, httpx.AsyncClient()))
    with pytest.raises(ConfigurationError, match=r"needs an httpx\.AsyncClient"):
        AsyncHTTPClient(cast(httpx.AsyncClient, httpx.Client()))


# Clients of httpx2


LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
AS_USER = ("user", "a-secret")


@pytest.fixture
def giving(request: pytest.FixtureRequest) -> Callable[[ModuleType, str], Get]:
    """Both clients around one of the library's, which is closed by the test's end."""

    def give(library: ModuleType, kind: str) -> Get:
        if kind == "blocking":
            given = library.Client(auth=AS_USER, trust_env=False)
            request.addfinalizer(given.close)
            return BlockingHTTPClient(given).carry_out

        def carry_out(fetch: Fetch) -> Reply:
            async def exchange() -> Reply:
                async with library.AsyncClient(auth=AS_USER, trust_env=False) as given:
                    return await AsyncHTTPClient(given).carry_out(fetch)

            return anyio.run(exchange, backend=kind)

        return carry_out

    return give


@LIBRARIES
@pytest.mark.parametrize("kind", KINDS)
def test_client_of_either_library_may_be_given(
    library: ModuleType,
    kind: str,
    serve: Serve,
    giving: Callable[[ModuleType, str], Get],
) -> None:
    server = serve(once("Content-Encoding: gzip", body=gzip.compress(b"{}")))
    reply = giving(library, kind)(fetch(server.url))

    assert (reply.status, reply.body) == (200, b"{}")
    assert server.fields()["user-agent"].startswith(f"python-{library.__name__}/")
    assert "authorization" in server.fields()  # as the client that was given has it


@LIBRARIES
@pytest.mark.parametrize("kind", KINDS)
def test_faults_of_either_library_are_told(
    library: ModuleType,
    kind: str,
    serve: Serve,
    giving: Callable[[ModuleType, str], Get],
    nobodys_url: str,
) -> None:
    get, silent = giving(library, kind), serve(never_answers)
    garbled = serve(raw(b"This is no HTTP.\r\n\r\n"))
    reasons = [
        failure_of(get, asked).reason
        for asked in (
            fetch(nobodys_url),
            fetch(garbled.url),
            fetch("https://[::1/keys"),
            fetch("https://as.example/\0"),
            fetch(silent.url, timeout=0.1),
            fetch("https://127.0.0.1/keys", public_only=True),
        )
    ]

    assert reasons == [*["upstream_unreachable"] * 4, "upstream_timeout", REFUSED]


REFUSED = "upstream_refused"


def never_answers(connection: Connection) -> None:
    """Until the client hangs up."""
    while connection.next_request() is not None:
        pass


def test_client_is_of_httpx2_where_httpx_is_not_installed(serve: Serve) -> None:
    server = serve(answer_all)
    program = f"""
import sys
sys.modules["httpx"] = None
import anyio
from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.clients import AsyncHTTPClient, BlockingHTTPClient

fetch = Fetch({server.url!r}, "keys", timeout=5.0, max_bytes=1000)
assert BlockingHTTPClient().carry_out(fetch).status == 200
assert anyio.run(AsyncHTTPClient().carry_out, fetch).status == 200
"""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True)

    assert completed.stderr == b""
    agents = [server.fields(number)["user-agent"] for number in (0, 1)]
    assert all(agent.startswith("python-httpx2/") for agent in agents)
