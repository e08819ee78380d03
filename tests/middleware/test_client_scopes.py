"""Scopes with one name for clients and another in tokens, as at Entra.

The table of refusals once more, where clients are told ``api://…/notes.read`` and
tokens say ``notes.read``: what clients read changes, and nothing else does.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware import ConfigurationError, ResourceServer, asgi, wsgi
from agentauth_middleware._syntax.members import is_object
from agentauth_middleware.stores import MemoryStore
from tests.middleware.conftest import RunningMiddleware
from tests.support.application import asgi_application, wsgi_application
from tests.support.exchange import (
    MIDDLEWARES,
    HTTPRequest,
    Middleware,
    ask_asgi,
    ask_wsgi,
)
from tests.support.scenarios import (
    SCENARIOS,
    Expected,
    Issuers,
    Scenario,
    Token,
    challenges_of,
    resource_server,
    revoke_some,
)

PREFIX = "api://7d3c2b1a-90ab-4cde-8f01-23456789abcd/"
WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.fixture
def server(issuers: Issuers) -> ResourceServer:
    return resource_server(issuers.trusted, client_scope_prefix=PREFIX)


@pytest.fixture
def middleware(
    start_middleware: RunningMiddleware, issuers: Issuers, server: ResourceServer
) -> Middleware:
    store = MemoryStore()
    revoke_some(store, issuers)
    return start_middleware(server, store)


def for_clients(scopes: str) -> str:
    return " ".join(PREFIX + scope for scope in scopes.split())


def told_to_clients(expected: Expected) -> Expected:
    """*expected*, where each scope that a client reads has its name for clients."""

    changed: dict[str, Any] = {}
    for name in ("challenge", "body"):
        members: Any = getattr(expected, name)
        if is_object(members) and "scope" in members:
            changed[name] = {**members, "scope": for_clients(members["scope"])}
    return replace(expected, **changed)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_table_of_refusals_holds_with_the_names_for_clients(
    scenario: Scenario,
    middleware: Middleware,
    issuers: Issuers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the application sees of a token is among what is compared."""
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")
    answer = middleware.ask(scenario.request(issuers))
    expected = told_to_clients(scenario.expected)

    expected.check(answer)
    assert bool(middleware.seen) == expected.reaches
    assert PREFIX not in str([vars(record)["agentauth"] for record in caplog.records])


def test_scope_under_its_name_for_clients_is_no_scope_in_tokens(
    middleware: Middleware, issuers: Issuers
) -> None:
    token = Token(scopes=(PREFIX + "notes.read",)).mint(issuers)
    answer = middleware.get("/notes", {"Authorization": f"Bearer {token}"})

    assert answer.status == 403


def test_documents_name_scopes_as_clients_ask_for_them(middleware: Middleware) -> None:
    metadata = middleware.get(WELL_KNOWN).json()
    rows = middleware.get("/auth.md").body.decode().splitlines()
    meanings = {
        "notes.read": "Read your notes",
        "notes.write": "Write notes for you",
        "vault.open": "Open your vault",
    }

    assert metadata["scopes_supported"] == [PREFIX + scope for scope in meanings]
    for scope, meaning in meanings.items():
        assert f"| `{PREFIX}{scope}` | {meaning} |" in rows


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize(
    ("target", "settings"),
    [
        pytest.param("/notes", {}, id="ours"),
        pytest.param(
            "/answers/401", {"unauthenticated": "pass"}, id="beside the application's"
        ),
    ],
)
def test_scopes_of_handlers_are_named_as_clients_ask_for_them(
    kind: str, target: str, settings: dict[str, Any], server: ResourceServer
) -> None:
    changed = replace(server, routes=(), **settings)
    scopes = ["notes.write", "notes.read"]
    request = HTTPRequest("GET", target, ())
    if kind == "wsgi":
        blocking = wsgi.AgentAuthMiddleware(
            wsgi_application([]), changed, scopes_for=lambda environ: scopes
        )
        answer = ask_wsgi(blocking, request)
    else:
        awaiting = asgi.AgentAuthMiddleware(
            asgi_application([]), changed, scopes_for=lambda scope: scopes
        )
        answer = ask_asgi(awaiting, kind.removeprefix("asgi-"), request)
    ours = challenges_of(answer)[0]

    assert answer.status == 401
    assert ours.parameters["scope"] == for_clients("notes.write notes.read")


def test_scopes_of_handlers_are_declared_under_their_names_in_tokens(
    server: ResourceServer,
) -> None:
    with pytest.raises(ConfigurationError, match=r"write the name in tokens"):
        replace(server, scopes={PREFIX + "notes.read": "Read"}, routes=())
