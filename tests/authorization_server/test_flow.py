"""The whole way on real HTTP: from the first 401 to the user who disconnects."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.testing import FakeProvider, provider_app
from tests.authorization_server.embedded import API, ID_JAG, JWT_BEARER, SCOPES
from tests.support.deadlines import try_within


class Site:
    """A loopback address that is known before its application is."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @contextmanager
    def serve(self, app: ASGIApp) -> Generator[None, None, None]:
        # An older uvicorn with uvloop would change the event loop of all later tests.
        config = uvicorn.Config(app, loop="asyncio", log_level="warning", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()
            self._socket.close()


class World:
    """A provider, an authorization server and an API, each at its own address."""

    def __init__(self, folder: Path, provider: Site, server: Site, api: Site) -> None:
        self.provider, self.server, self.api = provider.url, server.url, api.url
        self.http = httpx.Client(timeout=10)
        store = folder / "store.db"
        resource = ResourceServer(
            api.url,
            issuers=[Issuer(server.url)],
            scopes=SCOPES,
            routes=[
                Route("/notes", methods=("POST",), scopes=("notes.write",)),
                Route("/notes", scopes=("notes.read",)),
            ],
            insecure_loopback=True,
        )
        self.authorization_server = AuthorizationServer(
            server.url,
            resources=[resource],
            providers=[AgentProvider(provider.url, name="Example agents")],
            database=folder / "server.db",
            store=SQLiteStore(store),
            insecure_loopback=True,
        )
        # A store object of its own, as in a process of its own.
        self.middleware = AgentAuthMiddleware(API, resource, store=SQLiteStore(store))
        self.provider_app = provider_app(FakeProvider(provider.url))
        self.authorization_server.add_user("user-ana", email="ana@example.com")
        self.link()

    def link(self) -> None:
        self.authorization_server.relink(self.provider, "ana", "user-ana")

    def call(self, token: str | None = None, method: str = "GET") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.http.request(method, f"{self.api}/notes", headers=headers)

    def get(self, url: str) -> dict[str, Any]:
        answer = self.http.get(url)
        assert answer.status_code == 200, answer.text
        members: dict[str, Any] = answer.json()
        return members

    def discover(self) -> dict[str, Any]:
        """From a refused call to the metadata of the authorization server."""
        refused = self.call()
        assert refused.status_code == 401
        challenge = refused.headers["www-authenticate"]
        found = re.search(r'resource_metadata="([^"]+)"', challenge)
        assert found is not None
        (issuer,) = self.get(found[1])["authorization_servers"]
        metadata = self.get(f"{issuer}/.well-known/oauth-authorization-server")
        assert metadata["issuer"] == issuer
        return metadata

    def vouch(self, metadata: dict[str, Any]) -> str:
        """The provider's statement that the agent acts for Ana."""
        signed = self.http.post(
            f"{self.provider}/assertions",
            json={
                "audience": metadata["issuer"],
                "subject": "ana",
                "email": "ana@example.com",
            },
        )
        statement: str = signed.json()["assertion"]
        return statement

    def register(self, metadata: dict[str, Any]) -> httpx.Response:
        return self.http.post(
            metadata["agent_auth"]["identity_endpoint"],
            json={
                "type": "identity_assertion",
                "assertion_type": ID_JAG,
                "assertion": self.vouch(metadata),
            },
        )

    def exchange(
        self, metadata: dict[str, Any], assertion: str, scope: str
    ) -> httpx.Response:
        return self.http.post(
            metadata["token_endpoint"],
            data={"grant_type": JWT_BEARER, "assertion": assertion, "scope": scope},
        )

    def disconnect(self, metadata: dict[str, Any]) -> int:
        """Ana presses the button at the provider; what it was answered."""
        answer = self.http.post(
            f"{self.provider}/disconnect",
            json={
                "audience": metadata["issuer"],
                "subject": "ana",
                "events_endpoint": metadata["agent_auth"]["events_endpoint"],
            },
        )
        status: int = answer.json()["status"]
        return status


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    provider, server, api = Site(), Site(), Site()
    world = World(tmp_path, provider, server, api)
    with ExitStack() as sites:
        sites.enter_context(world.http)
        sites.enter_context(provider.serve(world.provider_app))
        sites.enter_context(server.serve(world.authorization_server))
        sites.enter_context(api.serve(world.middleware))
        yield world


def test_agent_walks_in_and_is_disconnected(world: World) -> None:
    metadata = world.discover()
    registered = world.register(metadata).json()
    assertion = registered["identity_assertion"]
    token = world.exchange(metadata, assertion, "notes.read").json()["access_token"]
    opened = world.call(token)
    narrow = world.call(token, "POST")

    assert opened.json() == {
        "user": "user-ana",
        "agent": registered["registration_id"],
        "scopes": ["notes.read"],
    }
    assert narrow.status_code == 403
    assert 'scope="notes.write"' in narrow.headers["www-authenticate"]

    assert world.disconnect(metadata) == 202
    late = try_within(
        1, lambda: world.call(token), until=lambda late: late.status_code != 200
    )
    refused = world.exchange(metadata, assertion, "notes.read")
    again = world.register(metadata)

    assert late.status_code == 401
    assert refused.json()["error"] == "invalid_grant"
    assert again.status_code == 401
    assert again.json()["error"] == "interaction_required"

    world.link()
    assertion = world.register(metadata).json()["identity_assertion"]
    new = world.exchange(metadata, assertion, "notes.read").json()["access_token"]

    assert world.call(new).status_code == 200
    assert world.call(token).status_code == 401


def requests_of(page: str) -> list[str]:
    """The fenced HTTP requests of a page."""
    return re.findall(r"^```http\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)


def test_auth_md_describes_every_step(world: World) -> None:
    """Where `skill` names the page that the agent has come from, it finds them there.

    The agent does what the page says, and nothing that it knows from elsewhere.
    """
    page_url = world.call().json()["auth_md"]
    page = world.http.get(page_url).text
    resource, documents, register, exchange, _ = requests_of(page)
    metadata_url = documents.splitlines()[0].removeprefix("GET ")
    metadata = world.get(metadata_url)
    assert (
        metadata["issuer"]
        in world.get(resource.removeprefix("GET "))["authorization_servers"]
    )
    assert metadata["agent_auth"]["skill"] == page_url

    registered = send(
        world.http,
        register,
        identity_endpoint=metadata["agent_auth"]["identity_endpoint"],
        ID_JAG=world.vouch(metadata),
    )
    issued = send(
        world.http,
        exchange,
        token_endpoint=metadata["token_endpoint"],
        identity_assertion=registered["identity_assertion"],
    )

    assert world.call(issued["access_token"]).status_code == 200


def send(http: httpx.Client, request: str, **values: str) -> dict[str, Any]:
    """Send *request* of a page, with *values* for what stands in angle brackets."""
    for name, value in values.items():
        request = request.replace(f"<{name.replace('ID_JAG', 'ID-JAG')}>", value)
    head, _, body = request.partition("\n\n")
    line, *fields = head.splitlines()
    method, url = line.split(" ")
    headers = dict(field.split(": ") for field in fields)
    answer = http.request(method, url, headers=headers, content=body)
    assert answer.status_code == 200, answer.text
    members: dict[str, Any] = answer.json()
    return members
