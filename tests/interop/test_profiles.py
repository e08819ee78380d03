"""Clients with the rules of deployed ones, against every way to set up a resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from agentauth_middleware import Issuer, ResourceServer, Route, asgi, wsgi
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.starlette import well_known_routes
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from tests.interop.profiles import (
    PROFILES,
    PYTHON_LIKE,
    RESOURCE_METADATA,
    SERVER_METADATA,
    STRICT,
    TYPESCRIPT_LIKE,
    Client,
    GaveUpError,
    Network,
    Profile,
)
from tests.support.application import asgi_application, wsgi_application
from tests.support.deadlines import try_within
from tests.support.exchange import (
    MIDDLEWARES,
    Answer,
    HTTPRequest,
    ask_asgi,
    ask_wsgi,
    running_middleware,
)

ORIGIN = "https://api.example.com"
AS = "https://as.example.com"


@dataclass(frozen=True)
class SetUp:
    """A way to set up a resource."""

    resource: str = ORIGIN
    issuer: str = AS
    mounted: bool = False
    """Its middleware is inside of an application that mounts it at its path."""
    neighbours: tuple[str, ...] = ()
    """Other resources of the same host, mounted as well."""


SET_UPS = {
    "root": SetUp(),
    "path": SetUp(f"{ORIGIN}/v1"),
    "mounted": SetUp(f"{ORIGIN}/v1", mounted=True),
    "two on one host": SetUp(
        f"{ORIGIN}/v2", mounted=True, neighbours=(f"{ORIGIN}/v1",)
    ),
    "issuer with path": SetUp(issuer=f"{AS}/t1"),
    "issuer with slash": SetUp(issuer=f"{AS}/"),
}


class World:
    """A resource, its authorization server, and clients that can reach both."""

    def __init__(self, kind: str, set_up: SetUp) -> None:
        self.issuer = FakeIssuer(set_up.issuer)
        self.store = MemoryStore()
        self._set_up = set_up
        path = set_up.issuer.removeprefix(AS).rstrip("/")
        self.server_metadata = {
            "issuer": set_up.issuer,
            "token_endpoint": f"{AS}/token",
        }
        documents = {f"{AS}{SERVER_METADATA}{path}": self.server_metadata}
        self.network = Network(ORIGIN, self._host(kind), documents)

    def client(self, profile: Profile, url: str | None = None) -> Client:
        return Client(profile, self.network, url or self._set_up.resource)

    def _host(self, kind: str) -> Callable[[HTTPRequest], Answer]:
        if not self._set_up.mounted:
            return running_middleware(
                kind, self._server(self._set_up.resource), self.store
            ).ask
        resources = (self._set_up.resource, *self._set_up.neighbours)
        servers = {
            resource.removeprefix(ORIGIN): self._server(resource)
            for resource in resources
        }
        if kind == "wsgi":
            return partial(ask_wsgi, _mounted_wsgi(servers, self.store))
        app = _mounted_asgi(servers, self.store)
        return partial(ask_asgi, app, kind.removeprefix("asgi-"))

    def _server(self, resource: str) -> ResourceServer:
        path = "" if self._set_up.mounted else resource.removeprefix(ORIGIN).rstrip("/")
        read, write = "notes.read", "notes.write"
        return ResourceServer(
            resource,
            issuers=[self.issuer.trust()],
            scopes={read: "Read your notes", write: "Write notes for you"},
            routes=[
                Route(f"{path}/notes", methods=["GET"], scopes=[read]),
                Route(f"{path}/notes", methods=["POST"], scopes=[read, write]),
            ],
            metadata_at_root=not self._set_up.neighbours,
        )


def _mounted_asgi(servers: Mapping[str, ResourceServer], store: MemoryStore) -> Any:
    documents = [
        route for server in servers.values() for route in well_known_routes(server)
    ]
    mounts = [
        Mount(path, asgi.AgentAuthMiddleware(asgi_application([]), server, store=store))
        for path, server in servers.items()
    ]
    return Starlette(routes=[*documents, *mounts])


def _mounted_wsgi(servers: Mapping[str, ResourceServer], store: MemoryStore) -> Any:
    mounts: dict[str, Any] = {}
    for path, server in servers.items():
        middleware = wsgi.AgentAuthMiddleware(wsgi_application([]), server, store=store)
        mounts |= {path: middleware, RESOURCE_METADATA + path: middleware}

    def nothing(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return []

    return DispatcherMiddleware(nothing, mounts)


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("set_up", SET_UPS.values(), ids=SET_UPS)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_client_gets_in_and_later_asks_for_more(
    kind: str, set_up: SetUp, profile: Profile
) -> None:
    world = World(kind, set_up)
    client = world.client(profile)
    refused = client.call("/notes")
    found = client.discover(refused)
    token = world.issuer.token(found.resource, scopes=found.scopes)
    lacking = client.call("/notes", token, "POST")
    union = found.scopes | client.scopes_of(lacking)
    larger = world.issuer.token(found.resource, scopes=union)

    assert refused.status == 401
    assert client.find("error", refused) is None
    assert found.scopes == {"notes.read"}
    assert found.issuer == set_up.issuer
    assert client.call("/notes", token).status == 200
    assert lacking.status == 403
    assert client.find("error", lacking) == "insufficient_scope"
    assert client.call("/notes", larger, "POST").status == 200


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_client_whose_token_was_revoked_starts_again(
    kind: str, profile: Profile
) -> None:
    world = World(kind, SetUp())
    client = world.client(profile)
    found = client.discover(client.call("/notes"))
    mint = partial(world.issuer.token, found.resource, scopes=found.scopes)
    token = mint(jti="first")
    assert client.call("/notes", token).status == 200
    revoke_blocking(world.store, found.issuer, token_id="first")
    answer = try_within(
        1, lambda: client.call("/notes", token), until=lambda late: late.status != 200
    )

    assert answer.status == 401
    assert client.find("error", answer) == "invalid_token"
    assert client.discover(answer).resource == found.resource
    assert client.discover(answer).issuer == found.issuer
    assert client.call("/notes", mint(jti="second")).status == 200


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_token_of_one_resource_is_no_good_at_its_neighbour(kind: str) -> None:
    set_up = SET_UPS["two on one host"]
    world = World(kind, set_up)
    here = world.client(PYTHON_LIKE)
    there = world.client(PYTHON_LIKE, set_up.neighbours[0])
    found = [client.discover(client.call("/notes")) for client in (here, there)]
    tokens = [world.issuer.token(one.resource, scopes=one.scopes) for one in found]

    assert [here.call("/notes", token).status for token in tokens] == [200, 401]
    assert [there.call("/notes", token).status for token in tokens] == [401, 200]


def deaf(profile: Profile) -> Profile:
    """One that reads no challenge, and guesses."""

    def find(lines: Sequence[str], name: str) -> None:
        return None

    return replace(profile, find=find)


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("set_up", SET_UPS.values(), ids=SET_UPS)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_client_that_reads_no_challenge_finds_the_metadata_too(
    kind: str, set_up: SetUp, profile: Profile
) -> None:
    client = World(kind, set_up).client(deaf(profile))
    found = client.discover(client.call("/notes"))

    assert found.resource.rstrip("/") == set_up.resource
    assert found.scopes == {"notes.read", "notes.write"}


# What goes wrong where a set-up is not as it should be: these guard the clients above
# against being too kind.


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_root_document_matters_to_a_resource_without_path(profile: Profile) -> None:
    root, path = World("wsgi", SetUp()), World("wsgi", SET_UPS["path"])
    for world in (root, path):
        world.network.gone.add(ORIGIN + RESOURCE_METADATA)
    lost, guided = root.client(deaf(profile)), path.client(deaf(profile))

    with pytest.raises(GaveUpError, match="resource metadata"):
        lost.discover(lost.call("/notes"))
    assert guided.discover(guided.call("/notes")).issuer == AS


@pytest.mark.parametrize(
    ("profile", "trusted", "named", "goes_on"),
    [
        pytest.param(PYTHON_LIKE, f"{AS}/", AS, False, id="Python-like, ours"),
        pytest.param(PYTHON_LIKE, AS, f"{AS}/", False, id="Python-like, theirs"),
        pytest.param(TYPESCRIPT_LIKE, f"{AS}/", AS, True, id="TypeScript-like, ours"),
        pytest.param(
            TYPESCRIPT_LIKE, AS, f"{AS}/", False, id="TypeScript-like, theirs"
        ),
        pytest.param(STRICT, f"{AS}/", AS, True, id="strict, ours"),
        pytest.param(STRICT, AS, f"{AS}/", True, id="strict, theirs"),
    ],
)
def test_slash_of_an_issuer_matters(
    profile: Profile, trusted: str, named: str, goes_on: bool
) -> None:
    """Ours is what the settings say, theirs what the server says of itself."""
    world = World("wsgi", SetUp(issuer=trusted))
    world.server_metadata["issuer"] = named
    client = world.client(profile)
    refused = client.call("/notes")

    if goes_on:
        assert client.discover(refused).issuer == named
    else:
        with pytest.raises(GaveUpError, match="issuer"):
            client.discover(refused)


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("slash_is", ["ours", "theirs"])
def test_middleware_takes_no_key_from_an_issuer_with_another_slash(
    kind: str, slash_is: str
) -> None:
    """503, which tells the operator; the client keeps its token."""
    with FakeIssuer.serve() as issuer:
        origin = issuer.issuer
        ours = f"{origin}/" if slash_is == "ours" else origin
        issuer.issuer = origin if slash_is == "ours" else f"{origin}/"
        issuer.replies[SERVER_METADATA] = (
            200,
            {"content-type": "application/json"},
            b'{"issuer": "%s", "jwks_uri": "%s/jwks.json"}'
            % (issuer.issuer.encode(), origin.encode()),
        )
        server = ResourceServer(ORIGIN, issuers=[Issuer(ours)], insecure_loopback=True)
        token = issuer.token(ORIGIN, iss=ours)
        answer = running_middleware(kind, server, None).get(
            "/notes", {"Authorization": f"Bearer {token}"}
        )

    assert answer.status == 503
    assert answer.field("retry-after")


def test_slash_of_a_resource_matters_to_some() -> None:
    """Why settings advise against it."""
    world = World("wsgi", SetUp(f"{ORIGIN}/mcp/"))
    refused = world.client(PYTHON_LIKE).call("/notes")

    for profile in PROFILES.values():
        assert world.client(profile).discover(refused).issuer == AS
    assert world.client(PYTHON_LIKE, f"{ORIGIN}/mcp").discover(refused).issuer == AS
    with pytest.raises(GaveUpError, match="resource"):
        world.client(TYPESCRIPT_LIKE, f"{ORIGIN}/mcp").discover(refused)
    with pytest.raises(GaveUpError, match="resource"):
        world.client(STRICT, f"{ORIGIN}/mcp").discover(refused)
