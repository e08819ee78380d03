"""The embedded authorization server, for the agents of an MCP server."""

from __future__ import annotations

import json
import os

from starlette.types import ASGIApp

from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.stores import SQLiteStore
from tests.interop.authorization import USER
from tests.interop.mcp_server import resource_server

PROVIDER = "https://agents.example.org"
PROVIDERS_USER = "provider-user-1"


def create_app() -> ASGIApp:
    keys = json.loads(os.environ["AGENTAUTH_PROVIDER_KEYS"])
    server = AuthorizationServer(
        os.environ["AGENTAUTH_EMBEDDED"],
        resources=[resource_server()],
        providers=[AgentProvider(PROVIDER, name="Example agents", jwks=keys)],
        database=os.environ["AGENTAUTH_DATABASE"],
        store=SQLiteStore(os.environ["AGENTAUTH_STORE"]),
        insecure_loopback=True,
    )
    server.add_user(USER, email=f"{USER}@example.com")
    server.link(PROVIDER, PROVIDERS_USER, USER)
    return server
