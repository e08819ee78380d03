"""Authorization servers with one fault each, for the demo to serve."""

from __future__ import annotations

import os
from collections.abc import Iterable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware.cli._demo.applications import authorization_server
from agentauth_middleware.stores import SQLiteStore

DOCUMENT = "/.well-known/oauth-authorization-server"


def another_issuer() -> ASGIApp:
    """Its metadata is somebody else's."""
    server = authorization_server()

    async def swapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == DOCUMENT:
            document = JSONResponse({"issuer": "https://other.example.com"})
            await document(scope, receive, send)
        else:
            await server(scope, receive, send)

    return swapped


class DeafStore(SQLiteStore):
    """Whatever is appended to its log is lost."""

    def append_log(self, entries: Iterable[CutOff]) -> None:
        return


def deaf_log() -> ASGIApp:
    """It acknowledges revocations and tells nobody."""
    return authorization_server(DeafStore(os.environ["AGENTAUTH_STORE"]))
