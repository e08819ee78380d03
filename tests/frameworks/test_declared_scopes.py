"""What ``requires`` demands, named to requests without credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any, Protocol

import httpx
import pytest
from flask import Blueprint, Flask
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from agentauth_middleware import (
    ConfigurationError,
    InsufficientScopeError,
    ResourceServer,
)
from agentauth_middleware import Route as Policy
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.flask import AgentAuth
from agentauth_middleware.starlette import declared_scopes, requires
from agentauth_middleware.wsgi import AgentAuthMiddleware as WSGIMiddleware
from tests.frameworks.notes_server import ISSUER, RESOURCE, bearer
from tests.support.challenges import parse_strictly

SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust()],
    routes=[
        Policy("/policy", scopes=["admin"]),
        Policy("/optional", optional=True),
        Policy("/agents", agent="forbidden"),
    ],
)


class Headers(Protocol):
    def __getitem__(self, key: str, /) -> str: ...


def needed(headers: Headers) -> str | None:
    (challenge,) = parse_strictly(headers["WWW-Authenticate"])
    return challenge.parameters.get("scope")


# Starlette


@requires("read")
async def listing(request: Request) -> Response:
    return PlainTextResponse("")


class Methods(HTTPEndpoint):
    @requires("read")
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("")

    @requires("write")
    def post(self, request: Request) -> Response:
        return PlainTextResponse("")


@requires("share")
async def live(websocket: WebSocket) -> None: ...


def starlette(*routes: BaseRoute) -> TestClient:
    app = Starlette(routes=routes)
    app.add_middleware(
        AgentAuthMiddleware, resource_server=SERVER, scopes_for=declared_scopes
    )
    return TestClient(app)


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", "/notes", "read"),
        ("HEAD", "/notes", "read"),
        ("POST", "/notes", None),
        ("GET", "/methods", "read"),
        ("HEAD", "/methods", "read"),
        ("POST", "/methods", "write"),
        ("DELETE", "/methods", None),
        ("GET", "/inside/notes", "read"),
        ("GET", "/nowhere", None),
        ("GET", "/policy", "admin read"),
    ],
)
def test_declared_scopes_of_starlette(
    method: str, path: str, scopes: str | None
) -> None:
    client = starlette(
        Route("/notes", listing),
        Route("/policy", listing),
        Route("/methods", Methods),
        Mount("/inside", routes=[Route("/notes", listing)]),
    )
    response = client.request(method, path)

    assert response.status_code == 401
    assert needed(response.headers) == scopes


def test_declared_scopes_of_a_websocket() -> None:
    client = starlette(WebSocketRoute("/live", live))
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/live"),
    ):
        pass

    assert needed(denied.value.headers) == "share"


# Flask


def logged(view: Callable[[], str]) -> Callable[[], str]:
    """A decorator that knows nothing of ours."""

    @wraps(view)
    def calling() -> str:
        return view()

    return calling


class Notes(MethodView):
    @requires("read")
    def get(self) -> str:
        return ""

    @requires("write")
    def post(self) -> str:
        return ""


class Guarded(MethodView):
    decorators = [requires("share")]  # noqa: RUF012 - as Flask types it

    def get(self) -> str:
        return ""


def create_app() -> Flask:
    app = Flask(__name__)
    AgentAuth(SERVER).init_app(app)
    bp = Blueprint("pages", __name__, url_prefix="/pages")
    inner = Blueprint("inner", __name__, url_prefix="/inner")

    @app.get("/notes")
    @app.get("/policy")
    @app.get("/optional")
    @logged
    @requires("read")
    @requires("share")
    def listing() -> str:
        return ""

    app.add_url_rule("/methods", view_func=Notes.as_view("methods"))
    app.add_url_rule("/guarded", view_func=Guarded.as_view("guarded"))

    @bp.get("/notes")
    @inner.get("/notes")
    @requires("read")
    def page() -> str:
        return ""

    @bp.before_request
    @requires("pages")
    def guard() -> None: ...

    bp.register_blueprint(inner)
    app.register_blueprint(bp)
    return app


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", "/notes", "read share"),
        ("HEAD", "/notes", "read share"),
        ("POST", "/notes", None),
        ("GET", "/methods", "read"),
        ("HEAD", "/methods", "read"),
        ("POST", "/methods", "write"),
        ("GET", "/guarded", "share"),
        ("GET", "/pages/notes", "pages read"),
        ("GET", "/pages/inner/notes", "pages read"),
        ("GET", "/nowhere", None),
        ("GET", "/policy", "admin read share"),
        ("GET", "/optional", "read share"),
    ],
)
def test_declared_scopes_of_flask(method: str, path: str, scopes: str | None) -> None:
    response = create_app().test_client().open(path, method=method)

    assert response.status_code == 401
    assert needed(response.headers) == scopes


def test_declared_scopes_of_a_view_added_later() -> None:
    app = create_app()

    @app.get("/late")
    @requires("write")
    def late() -> str:
        return ""

    assert needed(app.test_client().get("/late").headers) == "write"


def test_requires_names_what_stands_below_it_as_well() -> None:
    client = create_app().test_client()

    for scopes in (["read"], ["share"], []):
        response = client.get("/notes", headers=bearer(*scopes))
        assert response.status_code == 403
        assert needed(response.headers) == "read share"
    assert client.get("/notes", headers=bearer("read", "share")).status_code == 200


def test_refusal_of_a_handler_names_what_the_route_needs() -> None:
    """Else a client might ask for the one and lose the other."""
    response = create_app().test_client().get("/policy", headers=bearer("admin"))

    assert response.status_code == 403
    assert needed(response.headers) == "admin read share"


@pytest.mark.parametrize("streams", [False, True], ids=["at once", "streaming"])
def test_refusal_that_reaches_the_middleware_names_what_the_route_needs(
    streams: bool,
) -> None:
    def raising(environ: Any, start_response: Any) -> Iterator[bytes]:
        raise InsufficientScopeError(["read"])
        yield b""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        body = raising(environ, start_response)
        return body if streams else iter(list(body))

    # The middleware tells the server of the failure, which is right and no failure
    # here.
    transport = httpx.WSGITransport(
        WSGIMiddleware(app, SERVER), raise_app_exceptions=False
    )
    with httpx.Client(transport=transport, base_url=RESOURCE) as client:
        response = client.get("/policy", headers=bearer("admin"))

    assert response.status_code == 403
    assert needed(response.headers) == "admin read"


def test_scopes_are_named_as_clients_ask_for_them() -> None:
    """Also where a handler or the framework answers, in Flask and in Starlette."""
    entra = replace(SERVER, client_scope_prefix="api://notes/")
    flask = Flask(__name__)
    AgentAuth(entra).init_app(flask)
    flask.get("/notes")(requires("read", "share")(lambda: "notes"))
    star = Starlette(routes=[Route("/notes", requires("share")(listing))])
    star.add_middleware(
        AgentAuthMiddleware, resource_server=entra, scopes_for=declared_scopes
    )

    for client in (flask.test_client(), TestClient(star)):
        for headers in ({}, bearer("read")):
            response = client.get("/notes", headers=headers)
            assert response.status_code == (403 if headers else 401)
            named = (needed(response.headers) or "").split()
            assert set(named) == {"api://notes/read", "api://notes/share"}
        assert client.get("/notes", headers=bearer("read", "share")).status_code == 200


def test_refusal_of_the_route_names_what_the_handler_needs() -> None:
    for response in (
        create_app().test_client().get("/policy", headers=bearer("read")),
        starlette(Route("/policy", listing)).get("/policy", headers=bearer("read")),
    ):
        assert response.status_code == 403
        assert (needed(response.headers) or "").startswith("admin read")


# Scopes that nobody can ask for


LISTED = replace(SERVER, scopes={"read": "Read", "admin": "Administer"})
MISSPELT = "raed is not among ResourceServer.scopes"


def misspelt_in_starlette() -> Starlette:
    app = Starlette(
        routes=[
            Route("/notes", requires("raed")(listing)),
            Route("/by-hand", raising_by_hand),
        ]
    )
    app.add_middleware(
        AgentAuthMiddleware, resource_server=LISTED, scopes_for=declared_scopes
    )
    return app


def raising_by_hand(request: Request) -> Response:
    raise InsufficientScopeError(["raed"])


def misspelt_in_flask() -> Flask:
    app = Flask(__name__)
    app.testing = True
    AgentAuth(LISTED).init_app(app)

    @app.get("/notes")
    @requires("raed")
    def notes() -> str:
        return ""

    @app.get("/by-hand")
    def by_hand() -> str:
        raise InsufficientScopeError(["raed"])

    return app


@pytest.mark.parametrize(
    "client",
    [
        lambda: TestClient(misspelt_in_starlette()),
        lambda: misspelt_in_flask().test_client(),
    ],
    ids=["Starlette", "Flask"],
)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/notes", {}, id="no credentials"),
        pytest.param("/notes", bearer("read"), id="scope missing"),
        pytest.param("/by-hand", bearer("read"), id="raised by hand"),
    ],
)
def test_misspelt_scope_is_the_developers_fault(
    client: Callable[[], Any], path: str, headers: dict[str, str]
) -> None:
    """Named to clients, they would ask for it forever."""
    with pytest.raises(ConfigurationError, match=MISSPELT):
        client().get(path, headers=headers)


def test_init_app_checks_the_views_that_there_are() -> None:
    app = Flask(__name__)

    @app.get("/notes")
    @requires("raed")
    def notes() -> str:
        return ""

    with pytest.raises(ConfigurationError, match=f"requires.*{MISSPELT}"):
        AgentAuth(LISTED).init_app(app)


# The middlewares' own


def asgi_status(asked: list[str], headers: dict[str, str], path: str) -> int:
    def scopes_for(scope: Any) -> list[str]:
        asked.append(scope["path"])
        return ["read"]

    async def handler(request: Request) -> Response:
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/{path:path}", handler)])
    middleware = AgentAuthMiddleware(app, SERVER, scopes_for=scopes_for)
    return TestClient(middleware).get(path, headers=headers).status_code


def wsgi_status(asked: list[str], headers: dict[str, str], path: str) -> int:
    def scopes_for(environ: Any) -> list[str]:
        asked.append(environ["PATH_INFO"])
        return ["read"]

    app = Flask(__name__)

    @app.get("/<path:path>")
    def view(path: str) -> str:
        return ""

    app.wsgi_app = WSGIMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, SERVER, scopes_for=scopes_for
    )
    return app.test_client().get(path, headers=headers).status_code


@pytest.mark.parametrize("get", [asgi_status, wsgi_status])
@pytest.mark.parametrize(
    ("path", "headers", "status", "is_asked"),
    [
        pytest.param("/notes", {}, 401, True, id="no credentials"),
        pytest.param("/policy", bearer("read"), 403, True, id="scope missing"),
        pytest.param("/notes", bearer(), 200, False, id="granted"),
        pytest.param("/optional", {}, 200, False, id="optional"),
        pytest.param("/agents", bearer(), 403, False, id="agent refused"),
        pytest.param(
            "/notes", {"Authorization": "Bearer x.y.z"}, 401, False, id="bad token"
        ),
    ],
)
def test_middleware_asks_for_scopes_only_when_the_answer_names_them(
    get: Callable[[list[str], dict[str, str], str], int],
    path: str,
    headers: dict[str, str],
    status: int,
    is_asked: bool,
) -> None:
    asked: list[str] = []

    assert get(asked, headers, path) == status
    assert asked == ([path] if is_asked else [])
