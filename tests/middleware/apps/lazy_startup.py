"""A Starlette application whose middleware is built as the server starts it up."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.asgi import AgentAuthMiddleware
from tests.support.server_side import RESOURCE


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, str]]:
    yield {"database": "is open"}


async def state(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.state.database)


SERVER = ResourceServer(
    RESOURCE, issuers=[Issuer(os.environ["ISSUER"])], insecure_loopback=True
)
app = Starlette(
    routes=[Route("/", state)],
    middleware=[Middleware(AgentAuthMiddleware, resource_server=SERVER)],
    lifespan=lifespan,
)
