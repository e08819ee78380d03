"""HTTP clients live as long as the application, or else as long as the event loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware import ConfigurationError, Issuer, ResourceServer, wsgi
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import LogPage, MemoryStore
from agentauth_middleware.verifier import Verifier
from tests.support.scripted_server import Connection, Server, serving
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    Exchange,
    bearer,
    exchange,
    http_scope,
    request,
)

LIFESPAN: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}}
STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


def publish_keys(connection: Connection) -> None:
    """A script: every request gets the issuer's keys, over one connection."""
    while connection.next_request() is not None:
        connection.reply(
            "Content-Type: application/json", body=json.dumps(ISSUER.jwks).encode()
        )


@pytest.fixture
def keys() -> Iterator[Server]:
    with serving(publish_keys) as server:
        yield server


def protected(app: ASGIApp, keys: Server, **settings: Any) -> AgentAuthMiddleware:
    """*app* behind a middleware that fetches the issuer's keys from *keys*."""
    return AgentAuthMiddleware(app, resource_server(keys), **settings)


def resource_server(keys: Server) -> ResourceServer:
    issuer = Issuer(ISSUER.issuer, jwks_uri=keys.url)
    return ResourceServer(RESOURCE, issuers=[issuer], insecure_loopback=True)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def get(app: ASGIApp) -> int:
    """The status of a request with a good token."""
    talk = await request(app, http_scope(headers=[("Authorization", bearer())]))
    return talk.status


async def is_left(keys: Server) -> bool:
    """Whether the issuer's server sees its client go."""
    return await anyio.to_thread.run_sync(keys.left.wait, 10)


@pytest.mark.anyio
async def test_lifespan_passes_through(keys: Server) -> None:
    seen: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await application(scope, receive, send)

    state: dict[str, object] = {}
    async with exchange(protected(note, keys), {**LIFESPAN, "state": state}) as talk:
        await talk.deliver(STARTUP)
        started = await talk.next_sent()
        await talk.deliver(SHUTDOWN)

    assert talk.taken == [STARTUP, SHUTDOWN]
    assert started == {"type": "lifespan.startup.complete"}
    assert talk.sent[1:] == [{"type": "lifespan.shutdown.complete"}]
    assert seen[0]["state"] is state


@pytest.mark.anyio
async def test_lifespan_failure_of_the_application_passes_through(keys: Server) -> None:
    """Servers take an error here for "does not know lifespan"."""

    async def unaware(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    async with exchange(protected(unaware, keys), LIFESPAN) as talk:
        await talk.deliver(STARTUP)

    assert isinstance(talk.raised, AssertionError)
    assert talk.sent == []


@pytest.mark.anyio
async def test_client_is_closed_at_shutdown(keys: Server) -> None:
    app = protected(application, keys)
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        await talk.next_sent()

        assert await get(app) == 204
        assert not keys.left.is_set()

        await talk.deliver(SHUTDOWN)

    assert await is_left(keys)


@pytest.mark.anyio
async def test_client_is_closed_when_the_lifespan_fails(keys: Server) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await application(scope, receive, send)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise OSError("disk full")

    app = protected(failing, keys)
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        await talk.next_sent()
        await get(app)
        await talk.deliver(SHUTDOWN)

    assert isinstance(talk.raised, OSError)
    assert await is_left(keys)


@pytest.mark.anyio
async def test_client_is_closed_when_the_lifespan_is_cancelled(keys: Server) -> None:
    """Some servers end it so, when they are told twice to stop."""
    app = protected(application, keys)
    talk = Exchange(app, LIFESPAN)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.run)
        await talk.deliver(STARTUP)
        await talk.next_sent()
        await get(app)
        tasks.cancel_scope.cancel()
    talk.close()

    assert await is_left(keys)


@pytest.mark.anyio
async def test_middleware_works_on_after_shutdown(keys: Server) -> None:
    """Tests start and stop one application many times."""
    app = protected(application, keys)
    for _ in range(2):
        async with exchange(app, LIFESPAN) as talk:
            await talk.deliver(STARTUP, SHUTDOWN)

    assert await get(app) == 204


@pytest.mark.anyio
async def test_client_is_made_at_startup(
    keys: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads its certificates then, which takes long; not again later."""
    app = protected(application, keys)
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        await talk.next_sent()
        junk = tmp_path / "certificates.pem"
        junk.write_text("junk")
        monkeypatch.setenv("SSL_CERT_FILE", str(junk))

        assert await get(app) == 204

        await talk.deliver(SHUTDOWN)


@pytest.mark.anyio
async def test_client_that_cannot_be_made_fails_the_startup(
    keys: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told the way servers understand: an exception would pass for "knows no lifespan",
    and the application would serve without its own startup."""
    junk = tmp_path / "certificates.pem"
    junk.write_text("junk")
    monkeypatch.setenv("SSL_CERT_FILE", str(junk))
    async with exchange(protected(application, keys), LIFESPAN) as talk:
        await talk.deliver(STARTUP, SHUTDOWN)

    assert talk.raised is None
    assert talk.taken == [STARTUP]
    assert [message["type"] for message in talk.sent] == ["lifespan.startup.failed"]
    assert "HTTP client" in talk.sent[0]["message"]


UNUSABLE = {
    "SSL_CERT_FILE": "/nowhere/bundle.pem",
    "HTTPS_PROXY": "gopher://user:a-secret@proxy.example:1",
    "all_proxy": "http://proxy.example:port",
}


@pytest.mark.anyio
@pytest.mark.parametrize("variable", UNUSABLE)
async def test_variable_that_prevents_a_client_is_named(
    variable: str, keys: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, UNUSABLE[variable])
    async with exchange(protected(application, keys), LIFESPAN) as talk:
        await talk.deliver(STARTUP, SHUTDOWN)

    assert [message["type"] for message in talk.sent] == ["lifespan.startup.failed"]
    assert f" {variable}: can" in talk.sent[0]["message"]
    assert "a-secret" not in talk.sent[0]["message"]


@pytest.mark.parametrize("variable", UNUSABLE)
def test_variable_that_prevents_a_client_is_an_error_where_there_is_no_startup(
    variable: str, keys: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, UNUSABLE[variable])
    server = resource_server(keys)
    with pytest.raises(ConfigurationError, match=f"{variable}: can"):
        wsgi.AgentAuthMiddleware(lambda environ, start_response: [], server)
    with pytest.raises(ConfigurationError, match=f"{variable}: can"):
        Verifier(server)


@pytest.mark.anyio
async def test_exclusion_that_httpx_does_not_know_is_no_hindrance(
    keys: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64,127.0.0.0/8")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    app = protected(application, keys)
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        started = await talk.next_sent()

        assert started["type"] == "lifespan.startup.complete"
        assert await get(app) == 204

        await talk.deliver(SHUTDOWN)


class ReadStore(MemoryStore):
    """Notes how often its log was read."""

    reads = 0

    def read_log(self, after: int) -> LogPage:
        self.reads += 1
        return super().read_log(after)


@pytest.mark.anyio
async def test_log_of_revocations_is_read_before_the_application_starts(
    keys: Server,
) -> None:
    """A long one takes seconds, which no request should have to wait."""
    store = ReadStore()
    seen: list[int] = []

    async def starting(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(store.reads)
        await application(scope, receive, send)

    app = protected(starting, keys, store=store)
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        await talk.next_sent()
        await talk.deliver(SHUTDOWN)

    assert seen == [1]


class BrokenStore(MemoryStore):
    def read_log(self, after: int) -> LogPage:
        raise UnavailableError("store_unreachable")


@pytest.mark.anyio
async def test_log_that_cannot_be_read_keeps_no_application_from_starting(
    keys: Server,
) -> None:
    """Public paths work without it, and each request that needs it says so."""
    app = protected(application, keys, store=BrokenStore())
    async with exchange(app, LIFESPAN) as talk:
        await talk.deliver(STARTUP)
        started = await talk.next_sent()
        status = await get(app)
        await talk.deliver(SHUTDOWN)

    assert started == {"type": "lifespan.startup.complete"}
    assert status == 503


@pytest.mark.anyio
async def test_given_client_is_left_open(keys: Server) -> None:
    async with httpx.AsyncClient() as client:
        app = protected(application, keys, http_client=client)
        async with exchange(app, LIFESPAN) as talk:
            await talk.deliver(STARTUP)
            await talk.next_sent()
            await get(app)
            await talk.deliver(SHUTDOWN)

        assert not client.is_closed
        assert not keys.left.is_set()

    assert await is_left(keys)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_client_is_made_on_first_use_and_closed_with_its_loop(
    backend: str, keys: Server
) -> None:
    """Mounted applications and some servers run no lifespan."""
    app = protected(application, keys)
    status = anyio.run(get, app, backend=backend)

    assert status == 204
    assert keys.left.wait(10)


@pytest.mark.parametrize(
    "backends", [("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "trio")]
)
def test_one_middleware_serves_several_loops_in_turn(backends: tuple[str, str]) -> None:
    """Each loop has to fetch; the client of an earlier one would be of no use to it."""
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(publish_keys)) for _ in range(4)]
        issuers = [
            Issuer(f"https://as{number}.example", jwks_uri=server.url)
            for number, server in enumerate(servers)
        ]
        middleware = AgentAuthMiddleware(
            application,
            ResourceServer(RESOURCE, issuers=issuers, insecure_loopback=True),
        )
        statuses = [
            anyio.run(get_from, middleware, issuer.issuer, backend=backend)
            for issuer, backend in zip(issuers, backends * 2, strict=True)
        ]

        assert statuses == [204] * 4
        assert all(server.left.wait(10) for server in servers)


async def get_from(app: ASGIApp, issuer: str) -> int:
    scope = http_scope(headers=[("Authorization", bearer(iss=issuer))])
    return (await request(app, scope)).status
