"""A protected resource and its issuer, and what each middleware answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from agentauth_middleware import Introspection, Issuer, ResourceServer, asgi, wsgi
from agentauth_middleware.testing import FakeIssuer
from tests.support.application import asgi_application, wsgi_application
from tests.support.exchange import (
    MIDDLEWARES,
    Answer,
    HTTPRequest,
    ask_asgi,
    ask_wsgi,
)

__all__ = ["ISSUER", "MIDDLEWARES", "RESOURCE", "SCOPES", "ask", "bearer", "server"]

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer("https://as.example.com")
SCOPES = {"notes.read": "Read your notes", "notes.write": "Write notes for you"}


def server(*, trust: dict[str, Any] | None = None, **settings: Any) -> ResourceServer:
    """Settings that trust ``ISSUER``, as *trust* says."""
    given: dict[str, Any] = {"issuers": [ISSUER.trust(**(trust or {}))], **settings}
    return ResourceServer(RESOURCE, **given)


def bearer(**members: Any) -> tuple[tuple[str, str], ...]:
    """The header of a request with a token; *members* as for ``FakeIssuer.token``."""
    return (("Authorization", f"Bearer {ISSUER.token(RESOURCE, **members)}"),)


def ask(
    kind: str,
    server: ResourceServer,
    fields: tuple[tuple[str, str], ...] = (),
    path: str = "/notes",
    documents: Mapping[str, dict[str, Any] | bytes] | None = None,
    library: Any = httpx,
) -> Answer:
    """What middleware of *kind* answers that has remembered nothing yet.

    *documents* are what the URLs of the issuer answer to a client of *library*; bytes
    have no media type.
    """

    def reply(request: Any) -> Any:
        document = (documents or {})[str(request.url)]
        if isinstance(document, bytes):
            return library.Response(200, content=document)
        return library.Response(200, json=document)

    transport = library.MockTransport(reply)
    request = HTTPRequest("GET", path, fields)
    if kind == "wsgi":
        with library.Client(transport=transport) as client:
            blocking = wsgi.AgentAuthMiddleware(
                wsgi_application([]), server, http_client=client
            )
            return ask_wsgi(blocking, request)
    awaiting = asgi.AgentAuthMiddleware(
        asgi_application([]),
        server,
        http_client=library.AsyncClient(transport=transport),
    )
    return ask_asgi(awaiting, kind.removeprefix("asgi-"), request)


def introspecting() -> tuple[ResourceServer, str]:
    """A resource whose issuer has to be asked about tokens, and the URL to ask at."""
    url = "https://as.example.com/introspect"
    asked = Introspection("notes-api", client_secret="s", endpoint=url)
    issuer = Issuer(
        ISSUER.issuer, jwks=ISSUER.jwks, introspection=asked, scope_as_array=True
    )
    return server(issuers=[issuer]), url
