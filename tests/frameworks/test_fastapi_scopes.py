"""What FastAPI handlers demand, named to whoever comes without it."""

# FastAPI reads the annotations of handlers, which here name things of their own test.

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from fastapi.security import OAuth2PasswordBearer
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from agentauth_middleware import Access, ConfigurationError, ResourceServer, Route
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.starlette import requires
from tests.frameworks.notes_server import ISSUER, RESOURCE, bearer
from tests.support.challenges import parse_strictly

SCOPES = ("read", "write", "share", "admin")
SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust()],
    scopes={scope: scope for scope in SCOPES},
    routes=[
        Route("/policy", scopes=["admin"]),
        Route("/api/spelt", scopes=["admin"]),
        Route("/optional", optional=True),
        Route("/health", public=True),
        Route("/openapi.json", public=True),
    ],
)

auth = AgentAuth(SERVER)
people = OAuth2PasswordBearer("/login", auto_error=False)


def reader(access: Annotated[Access, Security(auth, scopes=["read"])]) -> Access:
    return access


def sharer(access: Annotated[Access, Security(reader, scopes=["share"])]) -> Access:
    return access


def nobody() -> None:
    """Depends on nothing."""


Reader = Annotated[Access, Security(auth, scopes=["read"])]


def needed(headers: Mapping[str, str]) -> str | None:
    (challenge,) = parse_strictly(headers["www-authenticate"])
    return challenge.parameters.get("scope")


def asked_for(app: FastAPI, path: str, method: str = "GET") -> str | None:
    """The scopes that the answer to a request without credentials names."""
    response = TestClient(app).request(method, path)

    assert response.status_code == 401
    assert "error" not in response.headers["www-authenticate"]
    assert response.json().get("scope") is None
    return needed(response.headers)


def installed() -> FastAPI:
    app = FastAPI()
    auth.install(app)
    return app


def test_scopes_of_a_handler_are_in_the_first_challenge() -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    @app.post("/notes")
    def create_note(
        caller: Annotated[Access, Security(auth, scopes=["write"])],
    ) -> None: ...

    assert asked_for(app, "/notes") == "read"
    assert asked_for(app, "/notes", "POST") == "write"


def test_scopes_of_nested_dependencies_add_up() -> None:
    app = installed()

    @app.get("/notes/{number}")
    def show(
        number: int, caller: Annotated[Access, Security(sharer, scopes=["write"])]
    ) -> None: ...

    assert asked_for(app, "/notes/7") == "write share read"


def test_scopes_of_dependencies_side_by_side_add_up() -> None:
    app = installed()

    @app.get("/notes", dependencies=[Security(auth, scopes=["write"]), Depends(nobody)])
    def list_notes(
        caller: Reader, again: Annotated[Access, Depends(sharer)]
    ) -> None: ...

    assert asked_for(app, "/notes") == "write read share"


@pytest.mark.parametrize("scopes", [[], ["read"], ["share"]], ids=" ".join)
def test_refusal_of_one_dependency_names_what_the_others_need(
    scopes: list[str],
) -> None:
    app = installed()

    @app.get("/notes", dependencies=[Security(auth, scopes=["share"])])
    def list_notes(caller: Reader) -> None: ...

    response = TestClient(app).get("/notes", headers=bearer(*scopes))

    assert response.status_code == 403
    assert response.json()["scope"] == needed(response.headers) == "share read"


def test_scopes_of_the_application_and_of_routers_count() -> None:
    app = FastAPI(dependencies=[Security(auth, scopes=["read"])])
    auth.install(app)
    inner = APIRouter(dependencies=[Security(auth, scopes=["write"])])
    outer = APIRouter()

    @inner.get("/{number}")
    def show(number: int) -> None: ...

    outer.include_router(inner, prefix="/notes", dependencies=[Depends(sharer)])
    app.include_router(outer, prefix="/v1")

    assert asked_for(app, "/v1/notes/7") == "read share write"
    refused = TestClient(app).get("/v1/notes/7", headers=bearer("read"))
    assert needed(refused.headers) == "read share write"


def test_scopes_of_routes_added_later_count() -> None:
    app = installed()

    assert asked_for(app, "/notes") is None

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    assert asked_for(app, "/notes") == "read"

    router = APIRouter()
    app.include_router(router)

    @router.get("/late")
    def late(caller: Annotated[Access, Security(auth, scopes=["write"])]) -> None: ...

    app.include_router(router, prefix="/again")

    assert asked_for(app, "/again/late") == "write"


def test_scopes_of_the_route_come_first() -> None:
    """A client that asks for these and no more must not fail at the other."""
    app = installed()

    @app.get("/policy")
    def policy(caller: Reader) -> None: ...

    client = TestClient(app)

    assert asked_for(app, "/policy") == "admin read"
    for scopes in (["read"], ["admin"], []):
        response = client.get("/policy", headers=bearer(*scopes))
        assert response.status_code == 403
        assert needed(response.headers) == "admin read"
    assert client.get("/policy", headers=bearer("admin", "read")).status_code == 200


def test_scopes_of_requires_count() -> None:
    app = installed()

    @app.get("/notes")
    @requires("share")
    def list_notes(caller: Reader) -> None: ...

    assert asked_for(app, "/notes") == "share read"
    refused = TestClient(app).get("/notes", headers=bearer("share"))
    assert needed(refused.headers) == "share read"


def test_scopes_of_an_optional_route_are_named_by_the_handler() -> None:
    app = installed()

    @app.get("/optional", dependencies=[Security(auth, scopes=["share"])])
    def optional(caller: Reader) -> None: ...

    assert asked_for(app, "/optional") == "share read"


def test_scopes_of_other_schemes_are_not_ours() -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(
        caller: Reader, person: Annotated[str, Security(people, scopes=["staff"])]
    ) -> None: ...

    assert asked_for(app, "/notes") == "read"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("DELETE", "/notes"), ("GET", "/notes/seven/parts")],
)
def test_requests_that_reach_no_handler_are_asked_for_none(
    method: str, path: str
) -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    assert asked_for(app, path, method) is None


def test_scopes_of_a_mounted_application_count() -> None:
    app, mounted = installed(), FastAPI()

    @mounted.get("/{number}")
    def show(number: int, caller: Reader) -> None: ...

    app.mount("/notes", mounted)

    assert asked_for(app, "/notes/7") == "read"


def test_scopes_are_known_below_a_root_path() -> None:
    app = FastAPI()
    app.root_path = "/api"
    auth.install(app)

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    assert asked_for(app, "/notes") == "read"
    assert asked_for(app, "/api/notes") == "read"


def test_scopes_of_a_websocket_are_named() -> None:
    app = installed()

    @app.websocket("/live", dependencies=[Security(auth, scopes=["share"])])
    async def live(websocket: WebSocket, caller: Reader) -> None: ...

    for headers, status in (({}, 401), (bearer("share"), 403)):
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            TestClient(app).websocket_connect("/live", headers=headers),
        ):
            pass
        assert denied.value.status_code == status
        assert needed(denied.value.headers) == "share read"


def test_scopes_are_looked_up_for_no_request_that_is_let_through() -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    seen: list[str] = []
    (route,) = [route for route in app.routes if getattr(route, "path", "") == "/notes"]
    matches = route.matches

    def watched(scope: Any) -> Any:
        seen.append(scope["path"])
        return matches(scope)

    route.matches = watched  # type: ignore[method-assign]
    client = TestClient(app)
    client.get("/notes", headers=bearer("read"))
    routed_once = len(seen)
    client.get("/notes", headers=bearer("read"))

    assert len(seen) == 2 * routed_once
    assert routed_once == 1


@pytest.mark.parametrize("headers", [{}, bearer("read")], ids=["first", "granted"])
def test_scope_that_nobody_can_ask_for_is_named(headers: dict[str, str]) -> None:
    """The first request finds it, whoever makes that."""
    app = installed()

    @app.get("/notes", dependencies=[Security(auth, scopes=["raed"])])
    def list_notes(caller: Reader) -> None: ...

    with pytest.raises(ConfigurationError, match="raed"):
        TestClient(app).get("/notes", headers=headers)


def guarded_by_security(app: FastAPI) -> None:
    app.get("/notes", dependencies=[Security(auth, scopes=["raed"])])(nobody)


def guarded_by_requires(app: FastAPI) -> None:
    app.get("/notes")(requires("raed")(nobody))


MISSPELT = pytest.mark.parametrize(
    ("misspell", "source"),
    [(guarded_by_security, r"Security\("), (guarded_by_requires, r"requires\(")],
    ids=["Security", "requires"],
)


@MISSPELT
def test_misspelt_scope_is_found_as_the_application_starts(
    misspell: Callable[[FastAPI], None], source: str
) -> None:
    app = installed()
    misspell(app)

    with (
        pytest.raises(ConfigurationError, match=f"^{source}.*raed is not among"),
        TestClient(app),
    ):
        pass


@MISSPELT
@pytest.mark.parametrize("headers", [{}, bearer("read")], ids=["first", "lacking"])
def test_misspelt_scope_of_a_later_route_is_never_named_to_clients(
    misspell: Callable[[FastAPI], None], source: str, headers: dict[str, str]
) -> None:
    app = installed()
    client = TestClient(app)
    client.get("/health")  # the application has started
    misspell(app)

    with pytest.raises(ConfigurationError, match=f"^{source}.*raed is not among"):
        client.get("/notes", headers=headers)


@pytest.mark.parametrize("scope", ["read write", 'a"b', "offline_access"])
def test_what_is_no_scope_is_the_developers_fault(scope: str) -> None:
    app = FastAPI()
    lenient = AgentAuth(ResourceServer(RESOURCE, issuers=[ISSUER.trust()]))
    lenient.install(app)

    @app.get("/notes", dependencies=[Security(lenient, scopes=[scope])])
    def list_notes() -> None: ...

    with pytest.raises(ConfigurationError, match="Security"):
        TestClient(app).get("/notes")


# OpenAPI


def operation(app: FastAPI, path: str, method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = document(app)["paths"][path][method]
    return found


def document(app: FastAPI) -> dict[str, Any]:
    found: dict[str, Any] = TestClient(app).get("/openapi.json").json()
    return found


def test_openapi_names_the_scopes_of_each_operation_together() -> None:
    """Requirements beside each other would be alternatives."""
    app = installed()

    @app.get("/notes", dependencies=[Security(auth, scopes=["share"])])
    def list_notes(caller: Reader) -> None: ...

    @app.post("/notes")
    def create_note(caller: Annotated[Access, Security(sharer)]) -> None: ...

    @app.get("/any")
    def any_token(caller: Annotated[Access, Security(auth)]) -> None: ...

    @app.get("/policy")
    def policy(caller: Reader) -> None: ...

    @app.get("/guarded")
    @requires("share")
    def guarded() -> None: ...

    assert operation(app, "/guarded")["security"] == [{"AgentAuth": ["share"]}]
    assert operation(app, "/notes")["security"] == [{"AgentAuth": ["share", "read"]}]
    assert operation(app, "/notes", "post")["security"] == [
        {"AgentAuth": ["share", "read"]}
    ]
    assert operation(app, "/any")["security"] == [{"AgentAuth": []}]
    assert operation(app, "/policy")["security"] == [{"AgentAuth": ["admin", "read"]}]


def test_openapi_names_scopes_as_clients_ask_for_them() -> None:
    """And so does the challenge, while tokens have their own names."""
    entra = AgentAuth(replace(SERVER, client_scope_prefix="api://notes/"))
    app = FastAPI()
    entra.install(app)

    @app.get("/notes")
    @app.get("/policy")
    def list_notes(
        caller: Annotated[Access, Security(entra, scopes=["read"])],
    ) -> list[str]:
        return sorted(caller.scopes)

    assert operation(app, "/notes")["security"] == [{"AgentAuth": ["api://notes/read"]}]
    assert operation(app, "/policy")["security"] == [
        {"AgentAuth": ["api://notes/admin", "api://notes/read"]}
    ]
    assert asked_for(app, "/notes") == "api://notes/read"
    refused = TestClient(app).get("/notes", headers=bearer("write"))
    assert refused.status_code == 403
    assert needed(refused.headers) == refused.json()["scope"] == "api://notes/read"
    assert TestClient(app).get("/notes", headers=bearer("read")).json() == ["read"]


def test_openapi_tells_what_the_middleware_lets_through() -> None:
    """Also for handlers that do not ask who is calling."""
    app = installed()

    @app.get("/health")
    @app.get("/optional")
    @app.get("/hidden")
    def handler() -> None: ...

    assert "security" not in operation(app, "/health")
    assert "401" not in operation(app, "/health")["responses"]
    assert operation(app, "/optional")["security"] == [{}, {"AgentAuth": []}]
    assert operation(app, "/hidden")["security"] == [{"AgentAuth": []}]
    assert "AgentAuth" in document(app)["components"]["securitySchemes"]


def test_openapi_describes_the_refusals() -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    responses = operation(app, "/notes")["responses"]
    schemas = document(app)["components"]["schemas"]
    (schema,) = {
        responses[status]["content"]["application/json"]["schema"]["$ref"]
        for status in ("401", "403", "503")
    }
    described = schemas[schema.removeprefix("#/components/schemas/")]["properties"]
    answers = [
        TestClient(app).get("/notes", headers=headers) for headers in ({}, bearer())
    ]

    assert "WWW-Authenticate" in responses["401"]["headers"]
    assert "WWW-Authenticate" in responses["403"]["headers"]
    assert "Retry-After" in responses["503"]["headers"]
    assert all(responses[status]["description"] for status in ("401", "403", "503"))
    for answer in answers:
        assert str(answer.status_code) in responses
        assert answer.json().keys() <= described.keys()


def test_openapi_keeps_what_the_application_says() -> None:
    app = FastAPI()
    own: dict[str, Any] = {"description": "Mine", "headers": {"X-Mine": {"schema": {}}}}

    @app.get("/notes", responses={401: own, 503: {"$ref": "#/components/responses/x"}})
    def list_notes(
        caller: Reader, person: Annotated[str, Security(people, scopes=["staff"])]
    ) -> None: ...

    auth.install(app)
    described = operation(app, "/notes")

    assert described["responses"]["401"]["description"] == "Mine"
    assert described["responses"]["401"]["headers"].keys() == {
        "X-Mine",
        "WWW-Authenticate",
    }
    assert described["responses"]["503"]["$ref"] == "#/components/responses/x"
    assert "headers" not in described["responses"]["503"]
    assert {"OAuth2PasswordBearer": ["staff"]} in described["security"]
    assert {"AgentAuth": ["read"]} in described["security"]


def test_openapi_of_an_application_generated_anew_is_described_anew() -> None:
    app = installed()

    @app.get("/notes")
    def list_notes(caller: Reader) -> None: ...

    assert document(app) == document(app)

    @app.get("/late")
    def late(caller: Reader) -> None: ...

    app.openapi_schema = None

    assert "403" in operation(app, "/late")["responses"]


def test_openapi_below_a_root_path_is_told_of_its_routes() -> None:
    app = FastAPI()
    app.root_path = "/api"
    auth.install(app)

    @app.get("/policy")
    @app.get("/spelt")
    @app.get("/health")
    def handler() -> None: ...

    for path in ("/policy", "/spelt"):
        assert operation(app, path)["security"] == [{"AgentAuth": ["admin"]}]
    assert "security" not in operation(app, "/health")


def test_openapi_of_an_application_without_operations_is_left_alone() -> None:
    assert "AgentAuth" not in str(document(installed()))
