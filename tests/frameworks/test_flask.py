"""The extension for Flask."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from flask import Blueprint, Flask, Response, jsonify, request

from agentauth_middleware import ConfigurationError, Principal, ResourceServer
from agentauth_middleware.flask import AgentAuth, access
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from tests.frameworks.notes_server import ISSUER, RESOURCE, SERVER, bearer


def create_app(auth: AgentAuth | None = None) -> Flask:
    app = Flask(__name__)
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    @pages.get("/optional")
    def who() -> str:
        return f"{access.subject} by {access.require_agent().subject}"

    @pages.get("/public")
    def maybe() -> str:
        return "known" if bool(access) else "unknown"

    @pages.get("/me")
    def me() -> Response:
        return jsonify(access.user)

    @pages.get("/account")
    def account() -> str:
        return str(request.remote_user)

    app.register_blueprint(pages)
    (auth or AgentAuth(SERVER)).init_app(app)
    return app


def test_access_is_that_of_the_request() -> None:
    client = create_app().test_client()

    assert client.get("/", headers=bearer(subject="alice")).text == "alice by agent-1"
    assert client.get("/", headers=bearer(subject="bob")).text == "bob by agent-1"


def test_user_may_be_returned_as_json() -> None:
    headers = bearer(subject="alice", email="alice@example.com", name="Alice")
    response = create_app().test_client().get("/me", headers=headers)

    told: dict[str, Any] = response.get_json()

    assert response.status_code == 200
    assert told.keys() == {field.name for field in dataclasses.fields(Principal)}
    assert (told["issuer"], told["subject"]) == (ISSUER.issuer, "alice")
    assert (told["email"], told["name"]) == ("alice@example.com", "Alice")
    assert told["profile"] is None


def test_access_without_one_answers_as_without_credentials() -> None:
    client = create_app().test_client()
    by_handler = client.get("/optional")
    by_middleware = client.get("/")

    assert by_handler.status_code == by_middleware.status_code == 401
    assert by_handler.data == by_middleware.data
    assert (
        by_handler.headers["WWW-Authenticate"]
        == by_middleware.headers["WWW-Authenticate"]
    )


def test_access_without_one_is_false() -> None:
    response = create_app().test_client().get("/public")

    assert response.text == "unknown"


def test_access_outside_of_requests_can_be_looked_at_but_not_used() -> None:
    """Test runners and debuggers look at everything that a module has."""
    assert not bool(access)
    assert "unbound" in repr(access)
    assert not isinstance(access, type)
    with pytest.raises(ConfigurationError, match="install the middleware"):
        print(access.subject)  # noqa: T201 - any use will do


def test_access_in_a_thread_without_context_is_the_developers_fault() -> None:
    """The token is good: answered 401, its agent would throw it away."""
    app = create_app()
    app.testing = True

    @app.get("/thread")
    def in_a_thread() -> str:
        with ThreadPoolExecutor(1) as threads:
            return str(threads.submit(lambda: access.subject).result())

    with pytest.raises(ConfigurationError, match="copy_context"):
        app.test_client().get("/thread", headers=bearer())


def test_init_app_serves_the_documents() -> None:
    client = create_app().test_client()
    document = client.get("/.well-known/oauth-protected-resource").json

    assert document is not None
    assert document["resource"] == RESOURCE
    assert client.get("/auth.md").status_code == 200


def test_init_app_refuses_a_second_middleware() -> None:
    app = create_app()

    with pytest.raises(ConfigurationError, match="has a middleware already"):
        AgentAuth(SERVER).init_app(app)


def test_init_app_serves_several_applications() -> None:
    """As application factories in tests do."""
    auth = AgentAuth(SERVER)

    for app in (create_app(auth), create_app(auth)):
        assert app.test_client().get("/", headers=bearer()).status_code == 200


def test_init_app_gives_the_middleware_the_store() -> None:
    store = MemoryStore()
    client = create_app(AgentAuth(SERVER, store=store)).test_client()
    headers = bearer(subject="alice")
    revoke_blocking(store, ISSUER.issuer, subject="alice")
    response = client.get("/", headers=headers)

    assert response.status_code == 401
    assert response.json is not None
    assert response.json["error"] == "invalid_token"


def test_init_app_gives_the_middleware_the_name_for_remote_user() -> None:
    auth = AgentAuth(SERVER, remote_user=lambda granted: granted.subject)
    client = create_app(auth).test_client()

    assert client.get("/account", headers=bearer(subject="alice")).text == "alice"


def test_init_app_gives_the_middleware_the_http_client() -> None:
    fetched: list[str] = []

    def note(request: httpx.Request) -> None:
        fetched.append(request.url.path)

    with (
        FakeIssuer.serve() as issuer,
        httpx.Client(event_hooks={"request": [note]}) as http_client,
    ):
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )
        client = create_app(AgentAuth(server, http_client=http_client)).test_client()
        token = issuer.token(RESOURCE, agent="agent-1")
        response = client.get("/", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 200
    assert fetched == issuer.requests != []
