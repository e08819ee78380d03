"""What the demo's authorization server and agent provider run, told by environment.

Each is a factory for uvicorn, in a process of its own.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.stores import SQLiteStore, Store
from agentauth_middleware.testing import FakeProvider, provider_app

SCOPES = {"notes.read": "Read your notes", "notes.write": "Add to your notes"}


def authorization_server(store: Store | None = None) -> AuthorizationServer:
    """The embedded server, for both APIs, with the demo's users and their links."""
    issuer = os.environ["AGENTAUTH_ISSUER"]
    provider = os.environ["DEMO_PROVIDER"]
    server = AuthorizationServer(
        issuer,
        resources=[
            ResourceServer(
                resource,
                name="Notes",
                issuers=[Issuer(issuer)],
                scopes=SCOPES,
                insecure_loopback=True,
            )
            for resource in os.environ["DEMO_RESOURCES"].split()
        ],
        providers=[AgentProvider(provider, name="Demo agents")],
        database=os.environ["DEMO_DATABASE"],
        store=store or SQLiteStore(os.environ["AGENTAUTH_STORE"]),
        insecure_loopback=True,
    )
    for seed in os.environ["DEMO_USERS"].split():
        user_id, email, account = seed.split(",")
        server.add_user(user_id, email=email)
        server.link(provider, account, user_id)
    return server


def agent_provider() -> Starlette:
    return provider_app(FakeProvider(os.environ["DEMO_PROVIDER"]))
