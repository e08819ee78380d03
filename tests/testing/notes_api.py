"""An API as its authors have it in production, one for each framework."""

from __future__ import annotations

from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route as PathRoute

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.access import Access, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.flask import AgentAuth
from agentauth_middleware.stores import MemoryStore, Store

RESOURCE = "https://api.example.com"
ISSUER = "https://as.example.com"
SERVER = ResourceServer(
    RESOURCE,
    issuers=[Issuer(ISSUER, jwks_uri=f"{ISSUER}/keys", algorithms=["RS256"])],
    routes=[
        Route("/write", scopes=["notes.read", "notes.write"]),
        Route("/person", user="required", agent="forbidden"),
        Route("/recent", max_age=300),
    ],
)


def starlette_app(
    server: ResourceServer = SERVER, *, store: Store | None = None
) -> Starlette:
    app = Starlette(routes=[PathRoute("/{rest:path}", tell)])
    app.add_middleware(AgentAuthMiddleware, resource_server=server, store=store)
    return app


async def tell(request: Request) -> PlainTextResponse:
    return PlainTextResponse(told(current_access()))


def flask_app(server: ResourceServer = SERVER, *, store: Store | None = None) -> Flask:
    app = Flask(__name__)
    AgentAuth(server, store=store or MemoryStore()).init_app(app)

    @app.get("/")
    @app.get("/<path:rest>")
    def tell(rest: str = "") -> str:
        return told(current_access())

    return app


def told(access: Access | None) -> str:
    """Who is calling, as a test compares it."""
    assert access is not None
    user = access.user and access.user.subject
    agent = access.agent and access.agent.subject
    scopes = " ".join(sorted(access.scopes))
    return f"{access.mode}: {user} by {agent} of {access.issuer} for '{scopes}'"
