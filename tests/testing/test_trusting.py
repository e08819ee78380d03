"""Middlewares that trust a fake issuer: found anywhere, for a while, and in tests
only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Router
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from agentauth_middleware import Issuer, ResourceServer, UnavailableError
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import ActorRefusedError, InvalidTokenError
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import LogPage, MemoryStore
from agentauth_middleware.testing import FakeIssuer, trusting
from agentauth_middleware.verifier import Verifier
from agentauth_middleware.wsgi import AgentAuthMiddleware as WSGIMiddleware
from tests.testing.notes_api import (
    ISSUER,
    RESOURCE,
    SERVER,
    flask_app,
    starlette_app,
)

ROOT = Path(__file__).parents[2]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def starlette_bare() -> Starlette:
    return Starlette(routes=starlette_app().routes)


def fastapi_app() -> FastAPI:
    app = FastAPI(routes=starlette_app().routes)
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    app.add_middleware(GZipMiddleware)
    return app


def flask_behind_proxy() -> Any:
    app = flask_app()
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return app


ASGI: dict[str, Callable[[], Any]] = {
    "Starlette": starlette_app,
    "FastAPI": fastapi_app,
    "wrapped": lambda: AgentAuthMiddleware(starlette_bare(), SERVER),
    "wrapped again": lambda: CORSMiddleware(
        AgentAuthMiddleware(starlette_bare(), SERVER)
    ),
    "mounted": lambda: Starlette(routes=[Mount("/", starlette_app())]),
    "middleware in a mount": lambda: Router(
        [Mount("/", AgentAuthMiddleware(starlette_bare(), SERVER))]
    ),
}
WSGI: dict[str, Callable[[], Any]] = {
    "Flask": flask_app,
    "Flask behind a proxy": flask_behind_proxy,
    "wrapped": lambda: WSGIMiddleware(flask_app().wsgi_app, SERVER),
    "dispatched to": lambda: DispatcherMiddleware(
        flask_behind_proxy(), {"/api": flask_app()}
    ),
}


@pytest.mark.parametrize("make", ASGI.values(), ids=ASGI)
def test_asgi_middleware_is_found_and_trusts_for_a_while(
    make: Callable[[], Any],
) -> None:
    app = make()
    with trusting(app) as agent_token:
        headers = bearer(agent_token())
        inside = TestClient(app).get("/any", headers=headers)
    # A middleware that still knew the token would let it in.
    outside = TestClient(app).get("/any", headers=headers)

    assert inside.status_code == 200
    assert outside.status_code == 401


@pytest.mark.parametrize("make", WSGI.values(), ids=WSGI)
def test_wsgi_middleware_is_found_and_trusts_for_a_while(
    make: Callable[[], Any],
) -> None:
    app = make()
    with trusting(app) as agent_token:
        headers = bearer(agent_token())
        inside = [Client(app).get(path, headers=headers) for path in ("/", "/api/")]
    outside = Client(app).get("/", headers=headers)

    assert {answer.status_code for answer in inside} == {200}
    assert outside.status_code == 401


def test_verifier_trusts_for_a_while() -> None:
    verifier = Verifier(SERVER)
    with trusting(verifier) as agent_token:
        token = agent_token(user="ana", agent="assistant", scopes=["notes.read"])
        user, agent = verifier.verify_blocking(token).require_delegation()
        awaited = anyio.run(verifier.verify, token)
    with pytest.raises(InvalidTokenError):
        verifier.verify_blocking(token)

    assert (user.subject, agent.subject) == ("ana", "assistant")
    assert awaited.scopes == {"notes.read"}


def test_verifier_refuses_what_a_test_revokes() -> None:
    store = MemoryStore()
    verifier = Verifier(SERVER, store=store)
    with trusting(verifier) as agent_token:
        token = agent_token(user="ana")
        verifier.verify_blocking(token)
        revoke_blocking(store, ISSUER, subject="ana")
        for revoked in (token, agent_token.revoked(user="ben")):
            with pytest.raises(InvalidTokenError):
                verifier.verify_blocking(revoked)


def test_middleware_without_an_application_is_named() -> None:
    with (
        pytest.raises(
            LookupError, match=r"no middleware stands in front of .*Starlette"
        ),
        trusting(starlette_bare()),
    ):
        pass


def test_token_of_the_real_issuer_is_refused_meanwhile() -> None:
    real = FakeIssuer(ISSUER)
    app = starlette_app()
    with trusting(app):
        answer = TestClient(app).get("/", headers=bearer(real.token(RESOURCE)))

    assert answer.status_code == 401


def test_what_the_settings_demand_is_demanded() -> None:
    client = TestClient(starlette_app())
    with trusting(client) as agent_token:
        headers = bearer(agent_token(scopes=["notes.read"]))

        assert client.get("/write", headers=headers).status_code == 403
        assert client.get("/person", headers=headers).status_code == 403


def test_mount_that_the_application_assumes_is_kept() -> None:
    """Else a path below it would fall under no ``Route``."""
    inner = FastAPI(routes=starlette_app().routes)
    inner.root_path = "/api"
    middleware = AgentAuthMiddleware(inner, SERVER)
    with trusting(middleware) as agent_token:
        answer = TestClient(middleware).get("/api/write", headers=bearer(agent_token()))

    assert answer.status_code == 403


def test_metadata_names_the_real_issuer() -> None:
    client = TestClient(starlette_app())
    with trusting(client):
        metadata = client.get("/.well-known/oauth-protected-resource").json()

    assert metadata["authorization_servers"] == [ISSUER]


def test_revocation_counts_from_the_next_request() -> None:
    store = MemoryStore()
    client = TestClient(starlette_app(store=store))
    with trusting(client) as agent_token:
        headers = bearer(agent_token(user="ana"))
        before = client.get("/", headers=headers)
        revoke_blocking(store, ISSUER, subject="ana")
        after = client.get("/", headers=headers)

    assert (before.status_code, after.status_code) == (200, 401)


def test_revocation_of_an_earlier_test_does_not_count() -> None:
    """Else whoever is given a new token within the same second would be refused."""
    store = PagedStore()
    client = TestClient(starlette_app(store=store))
    for _ in range(2):
        with trusting(client) as agent_token:
            headers = bearer(agent_token(user="ana", claims={"iat": 1}))

            assert client.get("/", headers=headers).status_code == 200

        for number in range(3):
            revoke_blocking(store, ISSUER, subject="ana" if number else "bob")


def test_revocation_counts_for_whoever_trusts_within() -> None:
    client = TestClient(starlette_app())
    with trusting(client, issuer := FakeIssuer()) as agent_token:
        headers = bearer(agent_token.revoked())
        with trusting(client, issuer):
            answer = client.get("/", headers=headers)

    assert answer.status_code == 401


def test_store_that_fails_is_noticed() -> None:
    store = FailingStore()
    client = TestClient(starlette_app(store=store))
    with trusting(client) as agent_token:
        store.fails = True

        assert client.get("/", headers=bearer(agent_token())).status_code == 503


class PagedStore(MemoryStore):
    """Gives its log one record at a time."""

    def read_log(self, after: int) -> LogPage:
        page = super().read_log(after)
        if len(page.entries) <= 1:
            return page
        return LogPage(after + 1, page.entries[:1], is_last=False)


class FailingStore(MemoryStore):
    fails = False

    def read_log(self, after: int) -> LogPage:
        if self.fails:
            raise UnavailableError("store_down")
        return super().read_log(after)


OUTSIDE = """
import sys
import pytest
from agentauth_middleware.testing import pytest_plugin, trusting
from tests.testing.notes_api import starlette_app

try:
    with trusting(starlette_app()):
        print("trusted")
except RuntimeError as refusal:
    print(refusal)
"""


def test_no_middleware_trusts_outside_of_a_run() -> None:
    """Not in a process that a test started, nor where pytest is merely imported."""
    assert "PYTEST_CURRENT_TEST" in os.environ
    run = subprocess.run(
        [sys.executable, "-c", OUTSIDE],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert run.stdout.startswith(
        "a middleware trusts a fake issuer only while pytest runs"
    )


def test_policy_of_the_settings_binds_in_tests_too() -> None:
    """Agents that the settings do not list are refused, and ceilings hold."""
    real = Issuer(
        "https://as.example.com",
        agents=["assistant", ("https://elsewhere.example", "other")],
        agent_scopes={"assistant": ["notes.read"]},
        actor_issuers=["https://elsewhere.example"],
        max_chain=1,
    )
    verifier = Verifier(ResourceServer(RESOURCE, issuers=[real]))

    with trusting(verifier) as tokens:
        usual = verifier.verify_blocking(tokens(scopes=["notes.read", "notes.write"]))

        assert usual.require_agent().subject == "assistant"
        assert usual.scopes == {"notes.read"}
        with pytest.raises(ActorRefusedError):
            verifier.verify_blocking(tokens(agent="stranger"))
