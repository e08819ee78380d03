"""The MCP TypeScript SDK, in both of its lines."""

from __future__ import annotations

import pytest

from tests.interop.authorization import AGENT, USER, Authorization
from tests.interop.conftest import Node, Notes

pytestmark = pytest.mark.interop

# The modules that have each part.
SDKS = {
    "1": {
        "auth": "@modelcontextprotocol/sdk/client/auth.js",
        "client": "@modelcontextprotocol/sdk/client/index.js",
        "transport": "@modelcontextprotocol/sdk/client/streamableHttp.js",
    },
    "2": dict.fromkeys(("auth", "client", "transport"), "@modelcontextprotocol/client"),
}


@pytest.mark.parametrize("line", SDKS)
def test_sdk_discovers_the_example(notes: Notes, node: Node, line: str) -> None:
    told = node("mcp_discovery.mjs", sdk=SDKS[line]["auth"], url=f"{notes.url}/notes")

    assert told["status"] == 401
    assert told["challenge"]["resourceMetadataUrl"] == notes.metadata_url
    assert told["named"] == told["guessed"]
    assert told["named"]["resource"] == notes.url
    assert told["resource"] in (notes.url, f"{notes.url}/")
    assert told["server"]["issuer"] == notes.issuer.issuer


@pytest.mark.parametrize("line", SDKS)
def test_sdk_discovers_an_mcp_server(
    mcp_url: str, authorization: Authorization, node: Node, line: str
) -> None:
    told = node("mcp_discovery.mjs", sdk=SDKS[line]["auth"], url=mcp_url)

    assert told["named"] == told["guessed"]
    assert told["named"]["resource"] == told["resource"] == mcp_url
    assert told["server"]["issuer"] == authorization.issuer.issuer


@pytest.mark.parametrize("line", SDKS)
def test_sdk_gets_a_token_and_calls_a_tool(
    mcp_url: str, authorization: Authorization, node: Node, line: str
) -> None:
    told = node("mcp_client.mjs", url=mcp_url, **SDKS[line])
    asked = authorization.authorization_requests[-1]

    assert told["tools"] == ["who_am_i", "add_note"]
    assert told["told"] == {"user": USER, "agent": AGENT}
    assert asked["resource"] == mcp_url
    assert asked["scope"] == "notes.read notes.write"
