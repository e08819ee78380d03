"""MCP servers that were written for nobody in particular, and what stands before them.

Each is a factory for uvicorn: with our middleware alone, with the middleware that also
tells the SDK who is calling, and with the SDK's own auth settings.
"""

from __future__ import annotations

import os

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp

from agentauth_middleware import Access, Issuer, ResourceServer, Route, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.mcp import (
    AgentAccessToken,
    AgentAuthTokenVerifier,
    requires,
)
from agentauth_middleware.mcp import AgentAuthMiddleware as MCPMiddleware
from agentauth_middleware.stores import SQLiteStore

SCOPES = {"notes.read": "Read your notes", "notes.write": "Add to your notes"}


def create_app() -> ASGIApp:
    """With nothing but the middleware in front of it."""
    mcp = MCPServer("Notes")
    mcp.tool()(who_am_i)
    mcp.tool()(add_note)
    return AgentAuthMiddleware(mcp.streamable_http_app(), resource_server())


def create_guarded_app() -> ASGIApp:
    """Every request needs a scope, and one of the tools another."""
    mcp = MCPServer("Notes")
    mcp.tool()(who_am_i)
    mcp.tool()(requires("notes.write")(add_note))
    server = resource_server(Route("/mcp", scopes=["notes.read"]))
    store = SQLiteStore(os.environ["AGENTAUTH_STORE"])
    return MCPMiddleware(mcp.streamable_http_app(), server, store=store)


def create_verified_app() -> ASGIApp:
    """With the SDK's own auth settings."""
    verifier = AgentAuthTokenVerifier(resource_server())
    mcp = MCPServer(
        "Notes",
        token_verifier=verifier,
        auth=verifier.settings(required_scopes=["notes.read"]),
    )
    mcp.tool()(who_am_i)
    return mcp.streamable_http_app()


def resource_server(*routes: Route) -> ResourceServer:
    """The settings; the first of the issuers is the one that MCP clients use."""
    return ResourceServer(
        os.environ["AGENTAUTH_RESOURCE"],
        issuers=[Issuer(url) for url in os.environ["AGENTAUTH_ISSUER"].split()],
        scopes=SCOPES,
        routes=routes,
        insecure_loopback=True,
    )


def who_am_i() -> dict[str, str]:
    """Tell for whom the caller acts, and which agent it is."""
    user, agent = access().require_delegation()
    return {"user": user.subject, "agent": agent.subject}


def add_note(text: str) -> str:
    """Add a note."""
    access().require_scopes("notes.write")
    return text


def access() -> Access:
    """As the middleware tells it, or else the SDK."""
    known = get_access_token()
    found = known.access if isinstance(known, AgentAccessToken) else current_access()
    assert found is not None
    return found
