"""Agents that a token names as its OAuth client are agents in every respect.

For routes, for the lists of agents and of what they may do, for revocation, in the
audit record and in what the log says. Tokens are plain ones without ``act``.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from agentauth_middleware import ResourceServer, Route
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from tests.middleware.conftest import RunningMiddleware
from tests.support.exchange import Answer, Middleware

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer("https://as.example.com")
OWN, AGENT, OTHER = "notes-web", "assistant", "summarizer"
"""Clients: the operator's own application, and two others."""
SCOPES = {"notes.read": "Read your notes", "notes.write": "Write notes for you"}
ROUTES = [
    Route("/people", agent="forbidden"),
    Route("/agents", agent="required"),
    Route("/delegated", user="required", agent="required"),
    Route("/write", scopes=["notes.write"]),
]


def server(**trust: Any) -> ResourceServer:
    issuer = ISSUER.trust(first_party_clients=[OWN], **trust)
    return ResourceServer(RESOURCE, issuers=[issuer], scopes=SCOPES, routes=ROUTES)


def token(client: str, subject: str = "ana", **claims: Any) -> str:
    """A token from before what the test does."""
    return ISSUER.token(
        RESOURCE,
        subject=subject,
        client_id=client,
        scopes=SCOPES,
        iat=int(time.time()) - 100,
        **claims,
    )


def ask(middleware: Middleware, path: str, bearer: str) -> Answer:
    return middleware.get(path, {"Authorization": f"Bearer {bearer}"})


def record_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The last audit record."""
    members: dict[str, Any] = vars(caplog.records[-1])["agentauth"]
    return members


@pytest.fixture(autouse=True)
def _audit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")


@pytest.mark.parametrize(
    ("path", "own", "agent", "service"),
    [
        ("/people", "user", "agent_forbidden", "service"),
        ("/agents", "agent_required", "delegated", "agent_required"),
        ("/delegated", "agent_required", "delegated", "user_required"),
        ("/any", "user", "delegated", "service"),
    ],
)
def test_routes_tell_clients_apart(
    path: str,
    own: str,
    agent: str,
    service: str,
    start_middleware: RunningMiddleware,
    caplog: pytest.LogCaptureFixture,
) -> None:
    middleware = start_middleware(server())
    found: list[str] = []
    for bearer in (token(OWN), token(AGENT), token(AGENT, subject=AGENT)):
        answer = ask(middleware, path, bearer)
        reason = record_of(caplog)["reason"]
        assert answer.status == (403 if "_" in reason else 200)
        found.append(reason)

    assert found == [own, agent, service]


def test_application_sees_the_client_as_the_agent(
    start_middleware: RunningMiddleware,
) -> None:
    middleware = start_middleware(server())
    own = ask(middleware, "/any", token(OWN)).json()["access"]
    agents = ask(middleware, "/any", token(AGENT)).json()["access"]

    assert (own["mode"], own["user"], own["agent"]) == ("user", "ana", None)
    assert (agents["mode"], agents["user"]) == ("delegated", "ana")
    assert agents["agent"] == AGENT


def test_only_listed_clients_may_act(
    start_middleware: RunningMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = start_middleware(server(agents=[AGENT]))

    assert ask(middleware, "/any", token(AGENT)).status == 200
    assert ask(middleware, "/any", token(OWN)).status == 200
    assert ask(middleware, "/any", token(OTHER)).status == 403
    assert record_of(caplog)["reason"] == "agent_not_allowed"


@pytest.mark.parametrize("name", [AGENT, "*"])
def test_clients_reach_no_further_than_agents_may(
    name: str, start_middleware: RunningMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = start_middleware(server(agent_scopes={name: ["notes.read"]}))
    seen = ask(middleware, "/any", token(AGENT)).json()["access"]

    assert seen["scopes"] == ["notes.read"]
    assert ask(middleware, "/write", token(AGENT)).status == 403
    assert record_of(caplog)["reason"] == "scope_withheld"
    assert ask(middleware, "/write", token(OWN)).status == 200


@pytest.mark.parametrize(
    ("revoked", "refused"),
    [
        ({"subject": "ana", "agent": AGENT}, {"ana's agent"}),
        ({"agent": AGENT}, {"ana's agent", "ben's agent"}),
        ({"subject": "ana"}, {"ana's agent", "another agent", "own application"}),
    ],
    ids=["of one person", "of all", "all of a person"],
)
def test_revocation_reaches_the_client_as_the_agent_it_is(
    revoked: dict[str, Any],
    refused: set[str],
    start_middleware: RunningMiddleware,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    middleware = start_middleware(server(), store)
    tokens = {
        "ana's agent": token(AGENT),
        "ben's agent": token(AGENT, subject="ben"),
        "another agent": token(OTHER),
        "own application": token(OWN),
    }
    revoke_blocking(store, ISSUER.issuer, **revoked)
    caplog.clear()
    statuses = {
        name: ask(middleware, "/any", bearer).status for name, bearer in tokens.items()
    }

    assert {name for name, status in statuses.items() if status == 401} == refused
    assert set(statuses.values()) == {200, 401}
    reasons = [vars(record)["agentauth"]["reason"] for record in caplog.records]
    assert reasons.count("revoked") == len(refused)


def test_audit_record_names_the_client_as_the_agent(
    start_middleware: RunningMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = start_middleware(server())
    agents: list[Any] = []
    for client in (AGENT, OWN):
        ask(middleware, "/any", token(client))
        record = record_of(caplog)
        assert record["client_id"] == client
        agents.append(record["agent"])

    assert agents == [f"{ISSUER.issuer} {AGENT}", None]


@pytest.mark.parametrize(
    ("path", "client", "claims", "line"),
    [
        pytest.param(
            "/people",
            AGENT,
            {},
            "agent_forbidden (GET /people, route /people): mode is delegated: the "
            f"agent '{AGENT}' of {ISSUER.issuer}; add it to Issuer.first_party_clients "
            "if it is your own application",
            id="an agent that may be an application",
        ),
        pytest.param(
            "/people",
            OWN,
            {"act": {"sub": OWN}},
            "agent_forbidden (GET /people, route /people): mode is delegated: the "
            f"agent '{OWN}' of {ISSUER.issuer}",
            id="an agent by act",
        ),
        pytest.param(
            "/agents",
            OWN,
            {},
            "agent_required (GET /agents, route /agents): mode is user: the token "
            f"names no agent; its client '{OWN}' is one of Issuer.first_party_clients",
            id="an application that may be an agent",
        ),
        pytest.param(
            "/delegated",
            AGENT,
            {"sub": AGENT},
            "user_required (GET /delegated, route /delegated): mode is service: the "
            "token marks no person",
            id="no person",
        ),
    ],
)
def test_log_says_which_setting_made_the_client_what_it_is(
    path: str,
    client: str,
    claims: dict[str, Any],
    line: str,
    start_middleware: RunningMiddleware,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = ask(start_middleware(server()), path, token(client, **claims))

    assert answer.status == 403
    assert caplog.records[-1].getMessage() == f"refused: {line}"


def test_log_names_the_client_that_is_on_no_list(
    start_middleware: RunningMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    ask(start_middleware(server(agents=[AGENT])), "/any", token(OTHER))

    assert caplog.records[-1].getMessage() == (
        f"refused: agent_not_allowed (GET /any, route /*): the agent '{OTHER}' of "
        f"{ISSUER.issuer}; expected '{AGENT}' (Issuer.agents)"
    )
