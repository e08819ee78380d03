"""The documents at the root of a host whose middleware stands inside a ``Mount``."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from agentauth_middleware import ResourceServer
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.starlette import well_known_routes
from tests.frameworks.notes_server import ISSUER

HOST = "https://api.example.com"
METADATA = "/.well-known/oauth-protected-resource"


def resource_server(path: str, *, metadata_at_root: bool = True) -> ResourceServer:
    return ResourceServer(
        HOST + path, issuers=[ISSUER.trust()], metadata_at_root=metadata_at_root
    )


async def greet(request: Request) -> Response:
    return PlainTextResponse("hello")


def mounted(server: ResourceServer, path: str) -> Mount:
    inner = Starlette(routes=[Route("/", greet)])
    return Mount(path, AgentAuthMiddleware(inner, server))


def visiting(*routes: BaseRoute) -> TestClient:
    return TestClient(Starlette(routes=routes), base_url=HOST)


NOTES = resource_server("/notes")


def client_of_notes() -> TestClient:
    return visiting(*well_known_routes(NOTES), mounted(NOTES, "/notes"))


@pytest.mark.parametrize("path", [f"{METADATA}/notes", METADATA])
def test_metadata_of_a_mounted_middleware_is_served_at_the_root(path: str) -> None:
    response = client_of_notes().get(path)

    assert response.status_code == 200
    assert response.json()["resource"] == f"{HOST}/notes"


@pytest.mark.parametrize("path", ["/auth.md", "/notes/auth.md"])
def test_auth_md_of_a_mounted_middleware_is_served_at_the_root(path: str) -> None:
    response = client_of_notes().get(path)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/markdown")


def test_challenge_of_a_mounted_middleware_leads_to_its_metadata() -> None:
    client = client_of_notes()
    refused = client.get("/notes/")
    metadata = client.get(refused.json()["resource_metadata"])

    assert refused.status_code == 401
    assert metadata.json()["resource"] == f"{HOST}/notes"


def test_mounted_middleware_still_lets_through_and_refuses() -> None:
    client = client_of_notes()
    token = ISSUER.token(f"{HOST}/notes")
    response = client.get("/notes/", headers={"Authorization": f"Bearer {token}"})

    assert (response.status_code, response.text) == (200, "hello")


@pytest.mark.parametrize("path", [f"{METADATA}/notes", METADATA])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_well_known_routes_serve_a_slash_too_many_without_a_redirect(
    method: str, path: str
) -> None:
    """A client that follows none would find nothing; middlewares at the root send
    none."""
    client = client_of_notes()
    with_slash = client.request(method, f"{path}/", follow_redirects=False)
    without = client.request(method, path, follow_redirects=False)

    assert with_slash.status_code == without.status_code < 300
    assert with_slash.content == without.content


@pytest.mark.parametrize(
    "resource", [f"{HOST}/notes", f"{HOST}/notes/", HOST, f"{HOST}/"]
)
def test_well_known_routes_serve_every_spelling_of_their_resource(
    resource: str,
) -> None:
    server = ResourceServer(resource, issuers=[ISSUER.trust()])
    client = visiting(*well_known_routes(server))
    path = urlsplit(server.metadata_url).path.rstrip("/")

    for url in (server.metadata_url, path, f"{path}/"):
        response = client.get(url, follow_redirects=False)
        assert response.status_code == 200
        assert response.json()["resource"] == server.resource


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("POST", 405)]
)
def test_well_known_routes_answer_as_the_middleware_does(
    method: str, status: int
) -> None:
    response = client_of_notes().request(method, f"{METADATA}/notes")

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == "*"


def test_well_known_routes_of_several_resources_keep_to_their_own() -> None:
    servers = [
        resource_server(path, metadata_at_root=False) for path in ("/notes", "/mail")
    ]
    routes = [route for server in servers for route in well_known_routes(server)]
    client = visiting(*routes)

    for server in servers:
        assert client.get(server.metadata_url).json()["resource"] == server.resource
        assert client.get(server.auth_md_url).status_code == 200
    assert client.get(METADATA).status_code == 404
    assert client.get("/auth.md").status_code == 404


def test_well_known_routes_serve_a_resource_whose_path_is_encoded() -> None:
    server = resource_server("/caf%C3%A9")
    response = visiting(*well_known_routes(server)).get(server.metadata_url)

    assert response.status_code == 200
    assert response.json()["resource"] == server.resource
