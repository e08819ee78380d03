"""The security class for FastAPI."""

# FastAPI reads the annotations of handlers, which here name things of their own test.

import dataclasses
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Security, WebSocket
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.testclient import WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import (
    Access,
    ConfigurationError,
    InvalidTokenError,
    Principal,
    ResourceServer,
)
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from tests.frameworks.notes_server import ISSUER, RESOURCE, SERVER, bearer

PAGE = "https://app.example.org"

auth = AgentAuth(SERVER)


def reader(access: Annotated[Access, Security(auth, scopes=["notes.read"])]) -> Access:
    return access


def make_app() -> FastAPI:
    app = FastAPI()
    auth.install(app)

    @app.get("/any")
    def any_token(caller: Annotated[Access, Security(auth)]) -> str | None:
        return caller.subject

    @app.get("/depends")
    def depends(caller: Annotated[Access, Depends(auth)]) -> str | None:
        return caller.subject

    @app.get("/optional")
    @app.get("/one")
    async def one_scope(
        caller: Annotated[Access, Security(auth, scopes=["notes.read"])],
    ) -> str | None:
        return caller.require_agent().subject

    @app.get("/nested")
    def nested(
        caller: Annotated[Access, Security(reader, scopes=["notes.write"])],
    ) -> list[str]:
        return sorted(caller.scopes)

    @app.get("/siblings", dependencies=[Security(auth, scopes=["notes.write"])])
    def siblings(caller: Annotated[Access, Security(reader)]) -> list[str]:
        return sorted(caller.scopes)

    @app.get("/me")
    def me(caller: Annotated[Access, Security(auth)]) -> Principal:
        return caller.require_user()

    @app.get("/me/anything")
    def me_as_it_is(caller: Annotated[Access, Security(auth)]) -> Any:
        return caller.user

    @app.get("/me/dictionary")
    def me_as_a_dictionary(
        caller: Annotated[Access, Security(auth)],
    ) -> dict[str, Any]:
        return dataclasses.asdict(caller.require_user())

    @app.get("/public")
    def public() -> str:
        return "well"

    @app.websocket("/live")
    async def live(
        websocket: WebSocket,
        caller: Annotated[Access, Security(auth, scopes=["notes.read"])],
    ) -> None:
        await websocket.accept()
        await websocket.send_text(str(caller.subject))
        await websocket.close()

    return app


client = TestClient(make_app())


@pytest.mark.parametrize("path", ["/any", "/depends"])
def test_security_gives_the_access(path: str) -> None:
    response = client.get(path, headers=bearer(subject="alice"))

    assert (response.status_code, response.json()) == (200, "alice")


@pytest.mark.parametrize("path", ["/me", "/me/anything", "/me/dictionary"])
def test_user_may_be_returned_as_it_is(path: str) -> None:
    headers = bearer(subject="alice", email="alice@example.com", name="Alice")
    response = client.get(path, headers=headers)

    told: dict[str, Any] = response.json()

    assert response.status_code == 200
    assert told.keys() == {field.name for field in dataclasses.fields(Principal)}
    assert (told["issuer"], told["subject"]) == (ISSUER.issuer, "alice")
    assert (told["email"], told["name"]) == ("alice@example.com", "Alice")
    assert told["profile"] is None


@pytest.mark.parametrize(
    ("path", "scopes", "status", "needed"),
    [
        ("/one", ["notes.read"], 200, None),
        ("/one", ["notes.write"], 403, "notes.read"),
        ("/one", [], 403, "notes.read"),
        ("/nested", ["notes.read", "notes.write"], 200, None),
        ("/nested", ["notes.read"], 403, "notes.write notes.read"),
        ("/nested", ["notes.write"], 403, "notes.write notes.read"),
        ("/siblings", ["notes.read", "notes.write"], 200, None),
        ("/siblings", ["notes.read"], 403, "notes.write notes.read"),
        ("/siblings", ["notes.write"], 403, "notes.write notes.read"),
    ],
)
def test_security_demands_the_scopes(
    path: str, scopes: list[str], status: int, needed: str | None
) -> None:
    """Those on the way to ``auth`` add up, and an answer names all of the operation."""
    response = client.get(path, headers=bearer(*scopes))

    assert response.status_code == status
    if needed is not None:
        assert response.json()["error"] == "insufficient_scope"
        assert response.json()["scope"] == needed


@pytest.mark.parametrize("path", ["/one", "/optional"])
def test_security_without_credentials_is_challenged(path: str) -> None:
    """By the middleware, or by ``auth`` where a route lets the request through."""
    response = client.get(path)

    assert response.status_code == 401
    assert "error" not in response.json()
    assert SERVER.metadata_url in response.headers["www-authenticate"]


def test_security_guards_a_websocket() -> None:
    headers = bearer("notes.read", subject="alice")
    with client.websocket_connect("/live", headers=headers) as websocket:
        greeting = websocket.receive_text()
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/live", headers=bearer()),
    ):
        pass

    assert greeting == "alice"
    assert denied.value.status_code == 403
    assert denied.value.json()["scope"] == "notes.read"


def test_openapi_carries_the_scheme_and_which_operations_need_it() -> None:
    document: dict[str, Any] = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]

    def needed(path: str) -> list[str]:
        requirements = document["paths"][path]["get"].get("security", [])
        return [name for requirement in requirements for name in requirement]

    assert list(schemes) == ["AgentAuth"]
    assert schemes["AgentAuth"]["type"] == "http"
    assert schemes["AgentAuth"]["scheme"] == "bearer"
    assert SERVER.metadata_url in schemes["AgentAuth"]["description"]
    assert SERVER.auth_md_url in schemes["AgentAuth"]["description"]
    assert needed("/public") == []
    assert needed("/any") == ["AgentAuth"]
    assert needed("/nested") == ["AgentAuth"]


def test_auth_may_be_overridden_in_tests_of_the_application() -> None:
    app = make_app()
    app.dependency_overrides[auth] = lambda: Access(ISSUER.issuer, "tester")
    response = TestClient(app).get("/any", headers=bearer())

    assert response.json() == "tester"


def test_install_refuses_a_second_middleware() -> None:
    twice, beside = FastAPI(), FastAPI()
    auth.install(twice)
    beside.add_middleware(AgentAuthMiddleware, resource_server=SERVER)

    for app in (twice, beside):
        with pytest.raises(ConfigurationError, match="has a middleware already"):
            auth.install(app)


class Outsider:
    """Any other middleware. It tells where it stands: it answers what it is asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/answered-early":
            await PlainTextResponse("the data")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "and others"])
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_install_stands_inside_of_cors_whichever_comes_first(
    is_first: bool, others: bool
) -> None:
    """And nothing else that was there comes to stand outside with it."""
    app = FastAPI()

    def add_cors() -> None:
        app.add_middleware(
            CORSMiddleware, allow_origins=[PAGE], allow_headers=["authorization"]
        )

    if is_first:
        add_cors()
    if others:
        app.add_middleware(Outsider)
    AgentAuth(SERVER).install(app)
    if not is_first:
        add_cors()
    client = TestClient(app)
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = client.options("/any", headers=asked)
    refused = client.get("/any", headers={"Origin": PAGE})
    early = client.get("/answered-early")

    assert preflight.status_code == 200
    assert refused.status_code == 401
    for answer in (preflight, refused):
        assert answer.headers["access-control-allow-origin"] == PAGE
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
    assert early.status_code == 401


def test_install_gives_the_middleware_the_store() -> None:
    store = MemoryStore()
    app = FastAPI()
    AgentAuth(SERVER, store=store).install(app)
    headers = bearer(subject="alice")
    revoke_blocking(store, ISSUER.issuer, subject="alice")
    response = TestClient(app).get("/", headers=headers)

    assert response.status_code == 401
    assert response.json()["error"] == InvalidTokenError.error


def test_install_gives_the_middleware_the_http_client() -> None:
    fetched: list[str] = []

    async def note(request: httpx.Request) -> None:
        fetched.append(request.url.path)

    http_client = httpx.AsyncClient(event_hooks={"request": [note]})
    with FakeIssuer.serve() as issuer:
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )
        app = FastAPI()
        AgentAuth(server, http_client=http_client).install(app)
        token = issuer.token(RESOURCE)
        response = TestClient(app).get(
            "/", headers={"Authorization": f"Bearer {token}"}
        )

    assert response.status_code == 404
    assert fetched == issuer.requests != []


def test_scope_that_nobody_can_ask_for_is_the_developers_fault() -> None:
    app = make_app()

    @app.get("/misspelt")
    def misspelt(
        caller: Annotated[Access, Security(auth, scopes=["notes.raed"])],
    ) -> str:
        return "never"

    with pytest.raises(ConfigurationError, match=r"notes\.raed"):
        TestClient(app).get("/misspelt", headers=bearer("notes.read"))
