"""Guards of handlers that serve people as well: agents alone have to meet them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import APIKeyCookie
from flask import Flask
from flask import Response as FlaskResponse
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as PathRoute
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from agentauth_middleware import (
    Access,
    ConfigurationError,
    ResourceServer,
    Route,
    current_access,
)
from agentauth_middleware import flask as for_flask
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.starlette import declared_scopes, requires
from agentauth_middleware.wsgi import AgentAuthMiddleware as WSGIMiddleware
from tests.frameworks.notes_server import ISSUER, RESOURCE, SERVER, bearer
from tests.support.server_side import environ, serve

BESIDE = replace(
    SERVER, unauthenticated="pass", unmatched="authenticated", routes=[Route("/other")]
)
"""People come with a session; any agent with a good token reaches each handler."""
OPEN = replace(SERVER, routes=[Route("/notes", optional=True)])
"""Anybody may come without a token."""
PERSON = {"Cookie": "name=carol"}
KEY = {"Authorization": "Bearer sk_live_0123456789"}


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    challenge: str = ""


Get = Callable[[Mapping[str, str]], Answer]
Make = Callable[[ResourceServer], Get]


def caller(cookies: str | None) -> str | None:
    """Who is calling, as a handler beside other clients finds out."""
    access = current_access()
    if access is not None:
        return access.require_agent().subject
    return cookies.partition("=")[2] if cookies else None


def asking(client: TestClient) -> Get:
    def get(headers: Mapping[str, str]) -> Answer:
        response = client.get("/notes", headers=headers)
        challenge = response.headers.get("www-authenticate", "")
        return Answer(response.status_code, response.text, challenge)

    return get


def asking_wsgi(app: Any) -> Get:
    def get(headers: Mapping[str, str]) -> Answer:
        fields = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        answer = serve(app, environ("/notes", **fields))
        challenge = answer.headers.get("www-authenticate", "")
        return Answer(answer.status, answer.body.decode(), challenge)

    return get


def fastapi_security(server: ResourceServer) -> Get:
    app = FastAPI()
    auth = AgentAuth(server)

    @app.get("/notes", response_class=PlainTextResponse)
    def notes(
        request: Request,
        access: Annotated[
            Access | None, Security(auth.optional, scopes=["notes.write"])
        ],
    ) -> str:
        assert access is current_access()
        name = caller(request.headers.get("cookie"))
        if name is None:
            raise HTTPException(401)
        return name

    auth.install(app)
    return asking(TestClient(app))


def fastapi_requires(server: ResourceServer) -> Get:
    app = FastAPI()

    @app.get("/notes", response_class=PlainTextResponse)
    @requires("notes.write", optional=True)
    async def notes(request: Request) -> str:
        name = caller(request.headers.get("cookie"))
        if name is None:
            raise HTTPException(401)
        return name

    AgentAuth(server).install(app)
    return asking(TestClient(app))


def starlette(server: ResourceServer) -> Get:
    @requires("notes.write", optional=True)
    async def notes(request: Request) -> Response:
        name = caller(request.headers.get("cookie"))
        return PlainTextResponse(name or "", 200 if name else 401)

    app = Starlette(routes=[PathRoute("/notes", notes)])
    app.add_middleware(
        AgentAuthMiddleware, resource_server=server, scopes_for=declared_scopes
    )
    return asking(TestClient(app))


def flask(server: ResourceServer) -> Get:
    app = Flask(__name__)

    @app.get("/notes")
    @for_flask.requires("notes.write", optional=True)
    def notes() -> FlaskResponse:
        name = caller(flask_request.headers.get("Cookie"))
        return FlaskResponse(name or "", 200 if name else 401)

    for_flask.AgentAuth(server).init_app(app)
    return asking_wsgi(app)


def bare_asgi(server: ResourceServer) -> Get:
    @requires("notes.write", optional=True)
    def find_caller(cookies: str | None) -> str | None:
        return caller(cookies)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = find_caller(Request(scope).headers.get("cookie"))
        response = PlainTextResponse(name or "", 200 if name else 401)
        await response(scope, receive, send)

    return asking(
        TestClient(
            AgentAuthMiddleware(app, server, scopes_for=lambda _: ["notes.write"])
        )
    )


def bare_wsgi(server: ResourceServer) -> Get:
    @requires("notes.write", optional=True)
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name = caller(environ.get("HTTP_COOKIE"))
        start_response("200 OK" if name else "401 Unauthorized", [])
        return [(name or "").encode()]

    return asking_wsgi(
        WSGIMiddleware(app, server, scopes_for=lambda _: ["notes.write"])
    )


EVERYWHERE = pytest.mark.parametrize(
    "make",
    [fastapi_security, fastapi_requires, starlette, flask, bare_asgi, bare_wsgi],
)


@EVERYWHERE
def test_optional_guard_lets_a_person_through(make: Make) -> None:
    assert make(BESIDE)(PERSON) == Answer(200, "carol")
    assert make(BESIDE)({**PERSON, **KEY}) == Answer(200, "carol")


@EVERYWHERE
def test_optional_guard_lets_an_agent_with_the_scopes_through(make: Make) -> None:
    assert make(BESIDE)(bearer("notes.write")) == Answer(200, "agent-1")


@EVERYWHERE
@pytest.mark.parametrize("person", [{}, PERSON], ids=["alone", "with a session"])
def test_optional_guard_refuses_an_agent_that_lacks_a_scope(
    make: Make, person: Mapping[str, str]
) -> None:
    """A session that the agent has besides does not make it a person."""
    answer = make(BESIDE)({**person, **bearer("notes.read")})

    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.challenge
    assert 'scope="notes.write"' in answer.challenge


@EVERYWHERE
def test_optional_guard_lets_no_bad_token_pass_for_a_person(make: Make) -> None:
    bad = ISSUER.token("https://other.example.com", scopes=["notes.write"])
    answer = make(BESIDE)({**PERSON, "Authorization": f"Bearer {bad}"})

    assert answer.status == 401
    assert 'error="invalid_token"' in answer.challenge


@EVERYWHERE
def test_scopes_of_an_optional_guard_stand_in_the_applications_own_401(
    make: Make,
) -> None:
    answer = make(BESIDE)({})

    assert answer.status == 401
    assert answer.challenge.startswith('Bearer scope="notes.write", ')


@EVERYWHERE
def test_optional_guard_serves_anybody_at_an_optional_route(make: Make) -> None:
    assert make(OPEN)(PERSON) == Answer(200, "carol")
    assert make(OPEN)(bearer("notes.write")) == Answer(200, "agent-1")
    assert make(OPEN)(bearer("notes.read")).status == 403


@EVERYWHERE
def test_optional_guard_opens_no_path_that_the_middleware_closes(make: Make) -> None:
    """Where a token is needed for each request, it is an ordinary guard."""
    answer = make(SERVER)(PERSON)

    assert answer.status == 401
    assert make(SERVER)(bearer("notes.read")).status == 403
    assert make(SERVER)(bearer("notes.write")) == Answer(200, "agent-1")


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_guards_of_one_handler_are_optional_if_all_are(
    outer: bool, inner: bool
) -> None:
    @requires("notes.read", optional=outer)
    @requires("notes.write", optional=inner)
    def endpoint(request: Request) -> Response:
        return PlainTextResponse("")

    app = Starlette(routes=[PathRoute("/notes", endpoint)])
    app.add_middleware(AgentAuthMiddleware, resource_server=BESIDE)
    get = asking(TestClient(app))

    assert get(PERSON).status == (200 if outer and inner else 401)
    assert 'scope="notes.read notes.write"' in get(bearer("notes.write")).challenge
    assert get(bearer("notes.read", "notes.write")).status == 200


def test_optional_guard_makes_its_other_demands_of_agents() -> None:
    @requires(user="required", optional=True)
    def endpoint(request: Request) -> Response:
        return PlainTextResponse("")

    app = Starlette(routes=[PathRoute("/notes", endpoint)])
    app.add_middleware(AgentAuthMiddleware, resource_server=BESIDE)
    get = asking(TestClient(app))
    alone = ISSUER.token(RESOURCE, subject="agent-1", subject_profile="ai_agent")

    assert get(PERSON).status == 200
    assert get({"Authorization": f"Bearer {alone}"}).status == 403


def test_optional_guard_without_the_middleware_is_the_developers_fault() -> None:
    """A forgotten middleware must not make everybody a person."""

    @requires("notes.read", optional=True)
    def endpoint(request: Request) -> Response:
        raise AssertionError

    client = TestClient(Starlette(routes=[PathRoute("/notes", endpoint)]))

    with pytest.raises(ConfigurationError, match="install the middleware"):
        client.get("/notes")


def test_optional_is_a_flag() -> None:
    anything: Any = "agents"

    with pytest.raises(ConfigurationError, match=r"requires: optional"):
        requires("notes.read", optional=anything)


def test_optional_guard_names_all_that_the_operation_needs() -> None:
    app = FastAPI()
    auth = AgentAuth(BESIDE)

    @app.get("/notes", dependencies=[Security(auth.optional, scopes=["notes.read"])])
    @requires("notes.write", optional=True)
    def notes() -> None:
        raise HTTPException(401)

    auth.install(app)
    get = asking(TestClient(app))

    assert 'scope="notes.write notes.read"' in get({}).challenge
    assert 'scope="notes.write notes.read"' in get(bearer()).challenge


def test_misspelt_scope_of_an_optional_guard_is_refused_at_start() -> None:
    app = FastAPI()
    auth = AgentAuth(BESIDE)

    @app.get("/notes", dependencies=[Security(auth.optional, scopes=["notes.raed"])])
    def notes() -> None: ...

    auth.install(app)

    with pytest.raises(ConfigurationError, match=r"notes\.raed"), TestClient(app):
        pass


def test_optional_may_be_overridden_in_tests_of_the_application() -> None:
    app = FastAPI()
    auth = AgentAuth(BESIDE)

    @app.get("/notes", response_class=PlainTextResponse)
    def notes(access: Annotated[Access | None, Security(auth.optional)]) -> str:
        return "nobody" if access is None else access.subject or ""

    app.dependency_overrides[auth.optional] = lambda: Access(RESOURCE, "tester")
    auth.install(app)

    assert asking(TestClient(app))({}).text == "tester"


# OpenAPI


def security_of(server: ResourceServer, **guards: Callable[..., Any]) -> dict[str, Any]:
    """The entry ``security`` of operations with the dependencies *guards*."""
    app = FastAPI()
    for name, guard in guards.items():
        app.get(f"/{name}", dependencies=[Depends(guard)])(lambda: None)
    AgentAuth(server).install(app)
    paths = app.openapi()["paths"]
    return {name: paths[f"/{name}"]["get"].get("security") for name in guards}


auth = AgentAuth(BESIDE)


def in_optional(
    access: Annotated[Access | None, Security(auth.optional, scopes=["notes.read"])],
) -> None: ...


def in_required(access: Annotated[Access, Security(auth)]) -> None: ...


def in_both(
    access: Annotated[Access | None, Security(auth.optional, scopes=["notes.read"])],
    same: Annotated[Access, Security(auth)],
) -> None: ...


def in_cookie(
    access: Annotated[Access | None, Security(auth.optional, scopes=["notes.read"])],
    session: Annotated[str, Security(APIKeyCookie(name="name", auto_error=False))],
) -> None: ...


@requires("notes.read", optional=True)
def in_requires() -> None: ...


@requires(agent="forbidden", optional=True)
async def in_no_scopes() -> None: ...


def unguarded() -> None: ...


def test_openapi_says_that_a_token_is_optional_beside_other_clients() -> None:
    read = {"AgentAuth": ["notes.read"]}
    anything: dict[str, list[str]] = {"AgentAuth": []}
    security = security_of(
        BESIDE,
        optional=in_optional,
        required=in_required,
        both=in_both,
        cookie=in_cookie,
        requires=in_requires,
        no_scopes=in_no_scopes,
        unguarded=unguarded,
    )

    assert security == {
        "optional": [{}, read],
        "required": [anything],
        "both": [read],
        "cookie": [{"APIKeyCookie": []}, read],
        "requires": [{}, read],
        "no_scopes": [{}, anything],
        "unguarded": None,
    }


def test_openapi_says_that_a_token_is_optional_only_where_it_is() -> None:
    server = replace(SERVER, routes=[Route("/optional", optional=True)])
    read = {"AgentAuth": ["notes.read"]}
    security = security_of(server, optional=in_optional, requires=in_requires)

    assert security == {"optional": [{}, read], "requires": [read]}


def test_openapi_describes_the_refusals_of_an_optional_guard() -> None:
    app = FastAPI()
    app.get("/notes", dependencies=[Depends(in_optional)])(lambda: None)
    auth.install(app)
    document = app.openapi()

    assert {"401", "403", "503"} <= set(document["paths"]["/notes"]["get"]["responses"])
    assert "AgentAuth" in document["components"]["securitySchemes"]
