"""An MCP server that was written for nobody in particular, behind our door."""

from __future__ import annotations

import os

from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp

from agentauth_middleware import Issuer, ResourceServer, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware


def create_app() -> ASGIApp:
    server = ResourceServer(
        os.environ["AGENTAUTH_RESOURCE"],
        issuers=[Issuer(os.environ["AGENTAUTH_ISSUER"])],
        scopes={"notes.read": "Read your notes", "notes.write": "Add to your notes"},
        insecure_loopback=True,
    )
    mcp = MCPServer("Notes")
    mcp.tool()(who_am_i)
    mcp.tool()(add_note)
    return AgentAuthMiddleware(mcp.streamable_http_app(), server)


def who_am_i() -> dict[str, str]:
    """Tell for whom the caller acts, and which agent it is."""
    access = current_access()
    assert access is not None
    user, agent = access.require_delegation()
    return {"user": user.subject, "agent": agent.subject}


def add_note(text: str) -> str:
    """Add a note."""
    access = current_access()
    assert access is not None
    access.require_scopes("notes.write")
    return text
