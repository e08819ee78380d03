"""What the pages show for applications that exist already, as their clients see it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
from flask_login import encode_cookie  # type: ignore[import-untyped]
from starlette.testclient import TestClient

from agentauth_middleware.testing import AgentTokens, assert_challenge, trusting
from tests.test_docs import ROOT, run

Client = httpx.Client | TestClient


@cache
def page(name: str) -> dict[str, Any]:
    return run(ROOT / "docs" / f"{name}.md")


def asgi_client(app: Any, origin: str) -> Client:
    return TestClient(app, base_url=origin, follow_redirects=False)


def wsgi_client(app: Any, origin: str) -> Client:
    return httpx.Client(transport=httpx.WSGITransport(app), base_url=origin)


@dataclass(frozen=True)
class Recipe:
    """An application that has people with a session at ``/notes``."""

    page: str
    app: str
    person: str
    agents_user: str
    """The account of the user for whom the agent acts."""
    log_in: Callable[[Client], Any]
    client: Callable[[Any, str], Client] = asgi_client
    origin: str = "https://notes.example.com"


RECIPES = [
    Recipe("fastapi", "existing", "carol", "carol", lambda on: on.post("/login")),
    Recipe(
        "flask",
        "existing",
        "ben",
        "ana",
        lambda on: on.post("/login", data={"name": "ben"}),
        wsgi_client,
    ),
    Recipe(
        "litestar",
        "served",
        "ana",
        "ana",
        lambda on: on.post("/login"),
        origin="https://api.example.com",
    ),
    Recipe(
        "starlette",
        "existing",
        "ben",
        "ana",
        lambda on: on.post("/login", content="ben"),
    ),
]


class Existing:
    """The application of a recipe, its clients and tokens for its agents."""

    def __init__(self, recipe: Recipe, app: Any, tokens: AgentTokens) -> None:
        self.recipe = recipe
        self._app = app
        self._tokens = tokens

    def client(self) -> Client:
        return self.recipe.client(self._app, self.recipe.origin)

    def bearer(self, *scopes: str, user: str = "user-1") -> dict[str, str]:
        token = self._tokens(user=user, agent="assistant", scopes=scopes)
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.page)
def existing(request: pytest.FixtureRequest) -> Generator[Existing, None, None]:
    recipe: Recipe = request.param
    app = page(recipe.page)[recipe.app]
    with trusting(app) as tokens:
        yield Existing(recipe, app, tokens)


def test_agent_without_a_token_is_led_to_the_issuer(existing: Existing) -> None:
    """One line beside the application's own 401, which is no redirect."""
    answer = existing.client().get("/notes")

    assert_challenge(answer, 401, scope="notes.read")


def test_agent_reads_the_notes_of_its_user(existing: Existing) -> None:
    answer = existing.client().get("/notes", headers=existing.bearer("notes.read"))

    assert answer.status_code == 200
    assert existing.recipe.agents_user in answer.text


def test_agent_without_the_scope_learns_which_to_ask_for(existing: Existing) -> None:
    answer = existing.client().get("/notes", headers=existing.bearer())

    assert_challenge(answer, 403, "insufficient_scope", scope="notes.read")


def test_agent_of_a_user_without_an_account_keeps_its_token(
    existing: Existing,
) -> None:
    headers = existing.bearer("notes.read", user="stranger")
    answer = existing.client().get("/notes", headers=headers)

    assert_challenge(answer, 403, "actor_unauthorized")


def test_bad_token_is_refused(existing: Existing) -> None:
    headers = existing.bearer("notes.read")
    headers["Authorization"] = headers["Authorization"][:-8] + "AAAAAAAA"
    answer = existing.client().get("/notes", headers=headers)

    assert_challenge(answer, 401, "invalid_token")


def test_person_logs_in_and_reads_as_before(existing: Existing) -> None:
    client = existing.client()
    existing.recipe.log_in(client)
    answer = client.get("/notes")

    assert answer.status_code == 200
    assert existing.recipe.person in answer.text
    assert "www-authenticate" not in answer.headers


def test_token_counts_and_the_cookie_beside_it_does_not(existing: Existing) -> None:
    client = existing.client()
    existing.recipe.log_in(client)
    good = client.get("/notes", headers=existing.bearer("notes.read"))
    stranger = existing.bearer("notes.read", user="stranger")

    assert existing.recipe.agents_user in good.text
    assert client.get("/notes", headers=stranger).status_code == 403
    assert existing.recipe.person in client.get("/notes").text


def test_agent_does_not_reach_what_no_route_names(existing: Existing) -> None:
    headers = existing.bearer("notes.read")

    answer = existing.client().post("/login", headers=headers)

    assert_challenge(answer, 403, "actor_unauthorized")


# What single pages add


def test_browser_is_redirected_to_the_login_page_of_flask_login() -> None:
    app = page("flask")["existing"]
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    answer = app.test_client().get("/notes", headers={"Accept": accept})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/login")


def test_remembered_person_of_flask_login_is_not_the_agents_user() -> None:
    """The cookie of "remember me" is read where the session has nobody."""
    app = page("flask")["existing"]
    with app.app_context():
        remembered = encode_cookie("ben")
    client = app.test_client()
    client.set_cookie("remember_token", remembered)
    with trusting(app) as token:
        good = token(user="user-1", scopes=["notes.read"])
        headers = {"Authorization": f"Bearer {good}"}

        assert client.get("/notes", headers=headers).text == "notes of ana"
        assert client.get("/notes").text == "notes of ben"


def test_cors_layer_that_was_there_first_stays_outside() -> None:
    """Pages can send preflights, and read the 401 and what it says."""
    app = page("fastapi")["existing"]
    origin = {"Origin": "https://app.example.com"}
    client = TestClient(app, base_url="https://notes.example.com")
    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = client.options("/notes", headers={**origin, **asked})
    refused = client.get(
        "/notes", headers={**origin, "Authorization": "Bearer e30.e30.e30"}
    )

    assert preflight.status_code == 200
    assert refused.status_code == 401
    for answer in (preflight, refused):
        assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


def test_fastapi_recipe_lets_agents_with_the_scope_change_notes() -> None:
    app = page("fastapi")["existing"]
    with trusting(app) as token:
        client = TestClient(app, base_url="https://notes.example.com")
        reads, writes = (
            {"Authorization": f"Bearer {token(user='user-1', scopes=[scope])}"}
            for scope in ("notes.read", "notes.write")
        )

        assert client.put("/notes/7", headers=writes).json() == "for carol, by an agent"
        assert_challenge(
            client.put("/notes/7", headers=reads),
            403,
            "insufficient_scope",
            scope="notes.write",
        )


# Mounted in another application, and several resources on one host


@dataclass(frozen=True)
class Mounted:
    page: str
    app: str
    client: Callable[[Any, str], Client]
    scope: str | None
    """What the first challenge asks for."""


@pytest.mark.parametrize(
    "mounted",
    [
        Mounted("flask", "host", wsgi_client, "notes.read"),
        Mounted("starlette", "site", asgi_client, None),
    ],
    ids=lambda mounted: mounted.page,
)
def test_mounted_application_is_protected_and_the_outer_one_open(
    mounted: Mounted,
) -> None:
    app = page(mounted.page)[mounted.app]
    client = mounted.client(app, "https://www.example.com")
    with trusting(app) as token:
        good = token(user="ana", scopes=["notes.read"])
        refused = client.get("/api/notes")
        answer = client.get("/api/notes", headers={"Authorization": f"Bearer {good}"})
    challenge = assert_challenge(refused, 401, scope=mounted.scope)
    metadata = client.get(challenge["resource_metadata"])

    assert (answer.status_code, "ana" in answer.text) == (200, True)
    assert metadata.json()["resource"] == "https://www.example.com/api"
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("scopes", [["notes.read"], []])
def test_refusals_of_mounted_handlers_are_answered(scopes: list[str]) -> None:
    app = page("flask")["host"]
    client = wsgi_client(app, "https://www.example.com")
    with trusting(app) as token:
        service = token(user=None, agent="job", scopes=scopes)
        answer = client.get(
            "/api/notes", headers={"Authorization": f"Bearer {service}"}
        )

    error = "actor_unauthorized" if scopes else "insufficient_scope"
    assert_challenge(answer, 403, error)


def test_api_and_mcp_server_on_one_host_are_two_resources() -> None:
    names = page("mcp")
    origin = "https://notes.example.com"
    client = TestClient(names["one_host"], base_url=origin)
    call = {"Accept": "application/json, text/event-stream"}
    with trusting(names["one_host"]) as token, client:
        tokens = {
            path: {
                "Authorization": "Bearer "
                + token(user="ana", scopes=["notes.read"], resource=f"{origin}{path}")
            }
            for path in ("/api", "/mcp")
        }
        api_refused, mcp_refused = client.get("/api/notes"), client.post("/mcp")
        notes = client.get("/api/notes", headers=tokens["/api"])
        wrong_api = client.get("/api/notes", headers=tokens["/mcp"])
        wrong_mcp = client.post("/mcp", headers=tokens["/api"])
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        reached = client.post("/mcp", json=ping, headers={**tokens["/mcp"], **call})

        for refused, path in ((api_refused, "/api"), (mcp_refused, "/mcp")):
            challenge = assert_challenge(refused, 401, scope="notes.read")
            metadata = client.get(challenge["resource_metadata"]).json()
            assert metadata["resource"] == f"{origin}{path}"
    assert notes.json() == "notes of ana"
    assert_challenge(wrong_api, 401, "invalid_token")
    assert_challenge(wrong_mcp, 401, "invalid_token")
    assert reached.status_code not in (401, 403, 404)
