"""The MCP Python SDK: its reading of challenges, its OAuth client, its whole client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

import httpx2
import jwt
import pytest
from anyio import to_thread

from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import SQLiteStore
from tests.examples.programs import free_port, running
from tests.interop.authorization import AGENT, USER, Authorization
from tests.interop.conftest import Notes
from tests.support.deadlines import try_within

pytest.importorskip("mcp", reason="see the group interop of pyproject.toml")

from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    create_oauth_metadata_request,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
    handle_auth_metadata_response,
    handle_protected_resource_response,
)
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from mcp_types import TextContent
from pydantic import AnyUrl

pytestmark = [pytest.mark.interop, pytest.mark.anyio]


class Storage:
    """What a program keeps for the SDK."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def oauth_client(url: str, storage: Storage) -> OAuthClientProvider:
    """The SDK's client, with a user who says yes at once."""
    returned: list[AuthorizationCodeResult] = []

    async def visit(url: str) -> None:
        async with httpx2.AsyncClient() as browser:
            response = await browser.get(url)
        query = dict(parse_qsl(urlsplit(response.headers["location"]).query))
        returned.append(AuthorizationCodeResult(**query))

    async def come_back() -> AuthorizationCodeResult:
        return returned.pop()

    metadata = OAuthClientMetadata(
        client_name=AGENT,
        redirect_uris=[AnyUrl("http://127.0.0.1/callback")],
        token_endpoint_auth_method="none",
    )
    return OAuthClientProvider(url, metadata, storage, visit, come_back)


async def get_json(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    return await client.send(create_oauth_metadata_request(url))


async def first(
    urls: list[str], ask: Callable[[str], Awaitable[Any]]
) -> tuple[str, Any]:
    """The first of *urls* that answers with anything, and what it is."""
    for url in urls:
        found = await ask(url)
        if found is not None:
            return url, found
    raise AssertionError(f"nothing at {urls}")


@pytest.mark.parametrize("reads_challenge", [True, False])
async def test_sdk_discovers_the_example(notes: Notes, reads_challenge: bool) -> None:
    async with httpx2.AsyncClient() as client:
        refused = await client.get(f"{notes.url}/notes")
        named = extract_resource_metadata_from_www_auth(refused)
        urls = build_protected_resource_metadata_discovery_urls(
            named if reads_challenge else None, f"{notes.url}/notes"
        )

        async def resource_metadata(url: str) -> Any:
            return await handle_protected_resource_response(await get_json(client, url))

        async def server_metadata(url: str) -> Any:
            _, found = await handle_auth_metadata_response(await get_json(client, url))
            return found

        url, resource = await first(urls, resource_metadata)
        issuer = str(resource.authorization_servers[0])
        servers = build_oauth_authorization_server_metadata_discovery_urls(
            issuer, notes.url
        )
        _, server = await first(servers, server_metadata)

    assert named == url == notes.metadata_url
    assert extract_scope_from_www_auth(refused) == "notes.read"
    assert str(resource.resource) == notes.url
    assert str(server.issuer) == issuer == notes.issuer.issuer


async def test_sdk_gets_a_token_and_later_one_for_more(
    notes: Notes, anyio_backend_name: str
) -> None:
    """It asks for what it had and what the refusal says it lacks."""
    storage = Storage()
    storage.tokens = OAuthToken(
        access_token=notes.token("notes.read"), scope="notes.read"
    )
    auth = oauth_client(notes.url, storage)
    note = {"text": f"from {anyio_backend_name}"}
    async with httpx2.AsyncClient(auth=auth) as client:
        read = await client.get(f"{notes.url}/notes")
        before = len(notes.authorization.authorization_requests)
        written = await client.post(f"{notes.url}/notes", json=note)
        listed = await client.get(f"{notes.url}/notes")
    (asked,) = notes.authorization.authorization_requests[before:]

    assert read.status_code == 200
    assert written.status_code == 201
    assert written.json() in listed.json()["notes"]
    assert asked["resource"] == notes.url
    assert set(asked["scope"].split()) == {"notes.read", "notes.write"}


async def test_sdk_starts_again_when_its_token_is_no_good(notes: Notes) -> None:
    storage = Storage()
    storage.tokens = OAuthToken(access_token="not-a-token")
    auth = oauth_client(notes.url, storage)
    async with httpx2.AsyncClient(auth=auth) as client:
        response = await client.get(f"{notes.url}/notes")

    assert response.status_code == 200
    assert storage.tokens.access_token != "not-a-token"


async def test_sdk_starts_when_it_has_sent_an_empty_token(notes: Notes) -> None:
    """As a program does whose variable with the token is empty; a 400 ends there."""
    sent: list[bytes] = []

    async def record(request: httpx2.Request) -> None:
        sent.extend(value for _, value in request.headers.raw if value == b"Bearer")

    storage = Storage()
    auth = oauth_client(notes.url, storage)
    async with httpx2.AsyncClient(
        auth=auth,
        headers={"Authorization": "Bearer"},
        event_hooks={"request": [record]},
    ) as client:
        response = await client.get(f"{notes.url}/notes")

    assert sent
    assert response.status_code == 200
    assert storage.tokens is not None


async def test_sdk_calls_a_tool_of_an_mcp_server(
    mcp_url: str, authorization: Authorization
) -> None:
    auth = oauth_client(mcp_url, Storage())
    async with (
        httpx2.AsyncClient(auth=auth, timeout=20) as http_client,
        Client(streamable_http_client(mcp_url, http_client=http_client)) as client,
    ):
        tools = await client.list_tools()
        told = await client.call_tool("who_am_i", {})
        added = await client.call_tool("add_note", {"text": "from an agent"})
    asked = authorization.authorization_requests[-1]

    assert [tool.name for tool in tools.tools] == ["who_am_i", "add_note"]
    assert told.structured_content == {"user": USER, "agent": AGENT}
    assert cast(TextContent, added.content[0]).text == "from an agent"
    assert asked["resource"] == mcp_url
    assert asked["scope"] == "notes.read notes.write"


# Further than one token goes


@contextmanager
def serving_mcp(
    factory: str, authorization: Authorization, **environment: str
) -> Generator[str, None, None]:
    """Where the server of *factory* answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    given = {
        "AGENTAUTH_ISSUER": authorization.issuer.issuer,
        "AGENTAUTH_RESOURCE": url,
        **environment,
    }
    app = f"tests.interop.mcp_server:{factory}"
    command = ["uvicorn", "--factory", app, "--port", str(port)]
    with running(command, given) as program:
        program.wait_for_line("Uvicorn running on")
        yield url
    assert not [line for line in program.lines if "Traceback" in line]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp") / "agentauth.db"


@pytest.fixture(scope="module")
def guarded_url(
    authorization: Authorization, store: Path
) -> Generator[str, None, None]:
    """An MCP server one of whose tools needs more than the others."""
    with serving_mcp(
        "create_guarded_app", authorization, AGENTAUTH_STORE=str(store)
    ) as url:
        yield url


@pytest.fixture(scope="module")
def verified_url(authorization: Authorization) -> Generator[str, None, None]:
    """An MCP server with the SDK's own auth settings."""
    with serving_mcp("create_verified_app", authorization) as url:
        yield url


Mode = Literal["auto", "legacy"]
"""The current revision of the protocol, and those before it, with sessions."""
# On trio the SDK leaves the streams of a session to the garbage collector.
in_both_modes = pytest.mark.parametrize(
    ("anyio_backend", "mode"),
    [("asyncio", "auto"), ("trio", "auto"), ("asyncio", "legacy")],
)


@asynccontextmanager
async def connected(
    url: str, storage: Storage, mode: Mode = "auto"
) -> AsyncGenerator[Client, None]:
    """The SDK's client, which gets its tokens by itself."""
    auth = oauth_client(url, storage)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=20) as http_client,
        Client(
            streamable_http_client(url, http_client=http_client), mode=mode
        ) as client,
    ):
        yield client


def words(request: Any) -> set[str]:
    return set(request["scope"].split())


@in_both_modes
async def test_sdk_asks_for_more_when_a_tool_needs_it(
    guarded_url: str, authorization: Authorization, mode: Mode
) -> None:
    """Discovery, 401, token, tool call; 403, a token for both, and the call again."""
    storage = Storage()
    before = len(authorization.authorization_requests)
    async with connected(guarded_url, storage, mode) as client:
        told = await client.call_tool("who_am_i", {})
        (first,) = authorization.authorization_requests[before:]
        added = await client.call_tool("add_note", {"text": "from an agent"})
        again = await client.call_tool("add_note", {"text": "without asking"})
    (_, second) = authorization.authorization_requests[before:]

    assert told.structured_content == {"user": USER, "agent": AGENT}
    assert words(first) == {"notes.read"}
    assert words(second) == {"notes.read", "notes.write"}
    assert cast(TextContent, added.content[0]).text == "from an agent"
    assert not again.is_error


@in_both_modes
async def test_sdk_gets_a_new_token_when_its_own_is_revoked(
    guarded_url: str, authorization: Authorization, store: Path, mode: Mode
) -> None:
    storage = Storage()
    async with connected(guarded_url, storage, mode) as client:
        await client.call_tool("who_am_i", {})
        assert storage.tokens is not None
        old = storage.tokens.access_token
        await to_thread.run_sync(revoke_token, store, authorization, old)
        await to_thread.run_sync(await_refusal, guarded_url, old)
        told = await client.call_tool("who_am_i", {})

    assert told.structured_content == {"user": USER, "agent": AGENT}
    assert storage.tokens.access_token != old


def revoke_token(store: Path, authorization: Authorization, token: str) -> None:
    claims = jwt.decode(token, options={"verify_signature": False})
    issuer = authorization.issuer.issuer
    revoke_blocking(SQLiteStore(store), issuer, token_id=claims["jti"])


def await_refusal(url: str, token: str) -> None:
    """Return when *token* is refused, which is promised within a second."""

    def status() -> int:
        authorization = {"authorization": f"Bearer {token}"}
        return httpx2.get(url, headers=authorization).status_code

    assert try_within(1, status, until=lambda status: status == 401) == 401


async def test_sdk_finds_a_server_with_the_sdks_own_settings(
    verified_url: str, authorization: Authorization
) -> None:
    async with connected(verified_url, Storage()) as client:
        told = await client.call_tool("who_am_i", {})
    asked = authorization.authorization_requests[-1]

    assert told.structured_content == {"user": USER, "agent": AGENT}
    assert asked["resource"] == verified_url
    assert words(asked) == {"notes.read"}


async def test_sdk_asks_for_more_with_the_sdks_own_settings(
    verified_url: str, authorization: Authorization
) -> None:
    """Its 403 names no scope, so the client asks for all that the metadata names."""
    storage = Storage()
    little = authorization.issuer.token(
        verified_url, subject=USER, agent=AGENT, scopes=["notes.write"]
    )
    storage.tokens = OAuthToken(access_token=little, scope="notes.write")
    async with connected(verified_url, storage) as client:
        told = await client.call_tool("who_am_i", {})
    asked = authorization.authorization_requests[-1]

    assert told.structured_content == {"user": USER, "agent": AGENT}
    assert words(asked) == {"notes.read", "notes.write"}
