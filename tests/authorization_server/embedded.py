"""An embedded server with its surroundings: a provider, an agent, a protected API."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from agentauth_middleware import Issuer, ResourceServer, current_access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.authorization_server.minting import new_key
from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.testing import FakeProvider

if TYPE_CHECKING:
    from httpx2 import Response  # what TestClient answers with

ISSUER = "https://as.example.com"
RESOURCE = "https://api.example.com"
PROVIDER = "https://agents.example.org"
SCOPES = {"notes.read": "Read your notes", "notes.write": "Change your notes"}

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

ANA = "provider-user-1"
"""What the provider calls the user ``user-ana``, who is linked from the start."""


@dataclass
class Embedded:
    """The server under test and what the tests do to it."""

    server: AuthorizationServer
    client: TestClient
    provider: FakeProvider
    store: Store

    def register(self, assertion: str | None = None, **claims: Any) -> Response:
        """Present *assertion*, by default a good one with *claims* in it."""
        issuer = self.server.service.issuer
        presented = assertion or self.provider.id_jag(issuer, **claims)
        return self.post_registration(registration(presented))

    def post_registration(self, members: Any) -> Response:
        return self.client.post(path(self, "/agent/identity"), json=members)

    def identity_assertion(self, **claims: Any) -> str:
        """What an agent gets for a good ID-JAG."""
        answer = self.register(**claims)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["identity_assertion"]
        return found

    def exchange(self, assertion: str, **form: str) -> Response:
        return self.post_form(
            "/oauth2/token",
            {"grant_type": JWT_BEARER, "assertion": assertion, **form},
        )

    def post_form(self, path_: str, form: Mapping[str, str]) -> Response:
        return self.client.post(path(self, path_), data=dict(form))

    def access_token(self, **form: str) -> str:
        """A good one, for Ana, through all the steps."""
        answer = self.exchange(self.identity_assertion(), **form)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found

    def introspect(
        self,
        token: str | None,
        *,
        auth: str | None = None,
        accept: str | None = None,
        **form: str,
    ) -> Response:
        """Ask about *token*; *auth* and *accept* are header values."""
        sent = {"authorization": auth, "accept": accept}
        return self.client.post(
            path(self, "/oauth2/introspect"),
            data=form if token is None else {"token": token, **form},
            headers={name: value for name, value in sent.items() if value is not None},
        )

    def push(self, event: str | None = None, **claims: Any) -> Response:
        """Deliver *event*, by default that Ana disconnects, with *claims* in it."""
        issuer = self.server.service.issuer
        return self.client.post(
            path(self, "/agent/event/notify"),
            content=event or self.provider.revoked_event(issuer, **claims),
            headers={"content-type": "application/secevent+jwt"},
        )

    def relink(self) -> None:
        """Ana has confirmed the agent here, again."""
        self.server.relink(self.provider.issuer, ANA, "user-ana")

    def call_api(self, token: str) -> Response:
        """Call an API behind a middleware that has just been started."""
        issuer = self.server.service.issuer
        trusted = Issuer(issuer, jwks=self.server.service.signer.jwks)
        server = ResourceServer(RESOURCE, issuers=[trusted], scopes=SCOPES)
        middleware = AgentAuthMiddleware(API, server, store=self.store)
        return TestClient(middleware).get(
            "/notes", headers={"authorization": f"Bearer {token}"}
        )


def path(embedded: Embedded, path_: str) -> str:
    """The URL *path_* below the server's issuer."""
    return embedded.server.service.issuer.rstrip("/") + path_


async def who_am_i(request: Request) -> JSONResponse:
    """Who is calling, as the handler sees it."""
    access = current_access()
    assert access is not None
    return JSONResponse(
        {
            "user": access.user and access.user.subject,
            "agent": access.agent and access.agent.subject,
            "scopes": sorted(access.scopes),
        }
    )


API = Starlette(routes=[Route("/notes", who_am_i, methods=["GET", "POST"])])


@contextmanager
def embed(
    folder: Path,
    *,
    issuer: str = ISSUER,
    provider: FakeProvider | None = None,
    store: Store | None = None,
    **settings: Any,
) -> Generator[Embedded, None, None]:
    """A running server in *folder*; *settings* are ``AuthorizationServer``'s."""
    vouching = provider or FakeProvider(PROVIDER)
    shared = MemoryStore() if store is None else store
    database = folder / "server.db"
    if not database.exists():
        database.write_bytes(seeded(vouching.issuer))
    given: dict[str, Any] = {
        "resources": [resource_server(issuer)],
        "providers": [trusted(vouching)],
        **settings,
    }
    server = AuthorizationServer(issuer, database=database, store=shared, **given)
    with TestClient(server, issuer) as client:
        yield Embedded(server, client, vouching, shared)


@cache
def seeded(provider: str) -> bytes:
    """A database that knows Ana, who is linked to *provider*.

    Made once: each transaction waits for the disk.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, "server.db")
        state = State(file)
        state.add_user("user-ana", email="ana@example.com")
        state.link(provider, ANA, "user-ana")
        state.signing_keys(new_key())
        return file.read_bytes()


def resource_server(
    issuer: str = ISSUER,
    resource: str = RESOURCE,
    scopes: Mapping[str, str] = SCOPES,
) -> ResourceServer:
    return ResourceServer(
        resource, issuers=[Issuer(issuer)], scopes=scopes, insecure_loopback=True
    )


def trusted(provider: FakeProvider, **settings: Any) -> AgentProvider:
    """Settings that take the word of *provider*, whose keys are given."""
    given: dict[str, Any] = {"jwks": provider.jwks, **settings}
    return AgentProvider(provider.issuer, name="Example agents", **given)


def registration(assertion: str) -> dict[str, str]:
    """The body that presents *assertion*."""
    return {
        "type": "identity_assertion",
        "assertion_type": ID_JAG,
        "assertion": assertion,
    }


def claims_of(token: str) -> dict[str, Any]:
    return _decoded(token.split(".")[1])


def header_of(token: str) -> dict[str, Any]:
    return _decoded(token.split(".")[0])


def _decoded(segment: str) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    )
    return members


def encoded(members: Mapping[str, Any] | bytes) -> str:
    """One segment of a JWT."""
    raw = members if isinstance(members, bytes) else json.dumps(members).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def is_not_stored(answer: Response) -> bool:
    """Whether *answer* forbids caches to keep it, the old ones as well."""
    kept = (answer.headers.get("cache-control"), answer.headers.get("pragma"))
    return kept == ("no-store", "no-cache")
