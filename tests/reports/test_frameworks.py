"""Frameworks, and clients and neighbours on the same host."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from flask import Blueprint, Flask
from flask_restful import Api, Resource  # type: ignore[import-untyped]
from starlette.middleware.cors import CORSMiddleware

from agentauth_middleware import (
    Access,
    InsufficientScopeError,
    Route,
    current_access,
)
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.flask import requires
from agentauth_middleware.testing import assert_challenge
from tests.reports.asking import MIDDLEWARES, RESOURCE, SCOPES, ask, bearer, server

READS = dict(bearer(subject="ana", agent="assistant", scopes=["notes.read"]))
WRITES = dict(bearer(subject="ana", agent="assistant", scopes=["notes.write"]))
BESIDE = server(scopes=SCOPES, unauthenticated="pass", unmatched="authenticated")


def test_guard_in_flask_restful() -> None:
    """With ``init_app`` before ``Api(app)`` a guard's 403 became a 500."""

    class Notes(Resource):  # type: ignore[misc]
        @requires("notes.write")
        def get(self) -> str:
            return "notes"

    app = Flask("restful")
    FlaskAgentAuth(server(scopes=SCOPES)).init_app(app)
    api: Any = Api(app)
    api.add_resource(Notes, "/notes")
    answer = app.test_client().get("/notes", headers=READS)

    assert_challenge(answer, 403, "insufficient_scope", scope="notes.write")


def test_guard_before_the_views_of_a_blueprint() -> None:
    """``requires`` in ``before_request`` of a blueprint guards all its views."""
    app, pages = Flask("blueprint"), Blueprint("pages", "pages")
    FlaskAgentAuth(server(scopes=SCOPES)).init_app(app)
    pages.before_request(requires("notes.write")(lambda: None))
    pages.add_url_rule("/notes", view_func=lambda: "notes")
    app.register_blueprint(pages)
    client = app.test_client()

    assert client.get("/notes", headers=WRITES).status_code == 200
    assert client.get("/notes", headers=READS).status_code == 403


def test_guard_of_a_yield_dependency() -> None:
    """``requires`` on a dependency of FastAPI that yields gave the handler the
    generator."""
    app = FastAPI()
    AgentAuth(server(scopes=SCOPES)).install(app)

    @requires("notes.write")
    def database() -> Any:
        yield "database"

    @app.get("/notes")
    def notes(opened: Annotated[str, Depends(database)]) -> str:
        return opened

    client = TestClient(app)

    assert client.get("/notes", headers=WRITES).json() == "database"
    assert client.get("/notes", headers=READS).status_code == 403


def test_refusal_in_a_task_group() -> None:
    """A refusal raised in a task of a group came out as a 500."""
    app = FastAPI()
    AgentAuth(server(scopes=SCOPES)).install(app)

    async def check() -> None:
        access = current_access()
        assert access is not None
        access.require_scopes("notes.write")

    @app.get("/notes")
    async def notes() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(check())

    assert TestClient(app).get("/notes", headers=READS).status_code == 403


def test_refusal_in_the_first_step_of_a_stream() -> None:
    """The status of a stream was sent before its first step, so a refusal there broke
    the response."""
    app = FastAPI()
    AgentAuth(server(scopes=SCOPES)).install(app)

    async def pieces() -> AsyncIterator[str]:
        access = current_access()
        assert access is not None
        access.require_scopes("notes.write")
        yield "notes"

    @app.get("/notes")
    async def notes() -> StreamingResponse:
        return StreamingResponse(pieces())

    client = TestClient(app)

    assert client.get("/notes", headers=WRITES).text == "notes"
    assert client.get("/notes", headers=READS).status_code == 403


def test_refusal_and_access_in_another_process() -> None:
    """A refusal could not be unpickled, as task queues do."""
    refusal = InsufficientScopeError(["notes.write"])
    access = Access(
        issuer="https://as.example.com", subject="ana", scopes=frozenset({"notes.read"})
    )

    for value in (refusal, access):
        again = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
        assert type(again) is type(value)
        assert str(again) == str(value)


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "bearer  "])
@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_empty_bearer_is_no_credential(kind: str, value: str) -> None:
    """An empty ``Authorization: Bearer`` was 400, and the MCP SDK's client never
    started OAuth."""
    answer = ask(kind, server(), (("Authorization", value),))

    assert answer.status == 401
    assert "error=" not in (answer.field("www-authenticate") or "")


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_neighbour_publishes_its_own_metadata(kind: str) -> None:
    """The metadata of another resource on the host was 404 with an empty body: it is
    the application's to answer."""
    path = "/.well-known/oauth-protected-resource"
    own = ask(kind, server(), path=path)
    neighbour = ask(kind, server(), path=f"{path}/mcp")

    assert own.json()["resource"] == RESOURCE
    assert (neighbour.status, "access" in neighbour.json()) == (200, True)


def notes_for_people_and_agents() -> FastAPI:
    app = FastAPI()
    auth = AgentAuth(BESIDE)
    auth.install(app)

    @app.get("/notes")
    def notes(
        access: Annotated[
            Access | None, Security(auth.optional, scopes=["notes.write"])
        ],
    ) -> str:
        return "for a person" if access is None else "for an agent"

    return app


def test_person_or_an_agent_with_this_scope() -> None:
    """A guard at the handler turned people away beside other clients, so that every
    path had to go into a central table."""
    client = TestClient(notes_for_people_and_agents())

    assert client.get("/notes").json() == "for a person"
    assert client.get("/notes", headers=WRITES).json() == "for an agent"
    assert_challenge(
        client.get("/notes", headers=READS),
        403,
        "insufficient_scope",
        scope="notes.write",
    )


def test_openapi_shows_the_token_as_an_alternative() -> None:
    """The document said nothing of guards beside other clients."""
    document = notes_for_people_and_agents().openapi()
    security = document["paths"]["/notes"]["get"]["security"]

    assert {} in security
    assert "notes.write" in json.dumps(security)


@pytest.mark.parametrize("cors_first", [True, False])
def test_cors_layer_stands_outside(cors_first: bool) -> None:
    """``install`` after ``CORSMiddleware`` left pages without CORS headers on a
    401."""
    app, origin = FastAPI(), {"Origin": "https://app.example.com"}
    auth = AgentAuth(server())
    if not cors_first:
        auth.install(app)
    app.add_middleware(CORSMiddleware, allow_origins=[origin["Origin"]])
    if cors_first:
        auth.install(app)
    answer = TestClient(app).get("/notes", headers=origin)

    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]


def test_flasks_own_401_gains_the_challenge() -> None:
    """An ``unauthorized_handler`` that answers 401 is enough for an agent to find its
    way, as with Flask-Login."""
    app = Flask("login")
    FlaskAgentAuth(BESIDE).init_app(app)
    app.add_url_rule("/notes", view_func=lambda: ("log in first", 401))
    answer = app.test_client().get("/notes")

    assert answer.text == "log in first"
    assert_challenge(answer, 401)


def test_fastapis_own_401_gains_the_challenge() -> None:
    """A ``HTTPException(401)`` of a dependency for people leads agents too."""
    app = FastAPI()
    AgentAuth(
        server(
            scopes=SCOPES,
            unauthenticated="pass",
            routes=[Route("/notes", scopes=["notes.read"])],
        )
    ).install(app)

    @app.get("/notes")
    def notes() -> None:
        raise HTTPException(401)

    assert_challenge(TestClient(app).get("/notes"), 401, scope="notes.read")
