"""The MCP Python SDK: its reading of challenges, its OAuth client, its whole client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from tests.interop.authorization import AGENT, USER, Authorization
from tests.interop.conftest import Notes

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
    assert extract_scope_from_www_auth(refused) is None
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
