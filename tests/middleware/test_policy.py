"""What an operator demands, by path and by agent: met and unmet, whatever the
middleware.

The order is that of the table of refusals: step-up (13), scope (14), actor (15).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware.access import Identity
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from tests.middleware.conftest import RunningMiddleware
from tests.support.challenges import Challenge, parse_strictly
from tests.support.exchange import Answer, HTTPRequest, Middleware
from tests.support.scenarios import (
    METADATA_URL,
    RESOURCE,
    Expected,
    Issuers,
    Scenario,
    Token,
    actor_unauthorized,
    granted,
    insufficient_scope,
    invalid_token,
    no_credentials,
    passed,
    step_up,
)

ELSEWHERE = "https://agents.example.org"
SCOPES = {
    "notes.read": "Read your notes",
    "notes.write": "Write notes for you",
    "notes.admin": "Manage your notes",
    "mail.send": "Send mail for you",
}
IMPLIED = {"notes.admin": ["notes.write"], "notes.write": ["notes.read"]}
ROUTES = (
    Route("/public", public=True),
    Route("/optional", optional=True, scopes=["notes.read"]),
    Route("/read", scopes=["notes.read"]),
    Route("/write", scopes=["notes.write"]),
    Route("/either", any_scopes=["mail.send", "notes.read"]),
    Route("/both", scopes=["mail.send"], any_scopes=["notes.admin", "notes.read"]),
    Route("/strong", acr_values=["phr", "phrh"]),
    Route("/fresh", max_age=300),
    Route("/strong/write", acr_values=["phr"], max_age=300, scopes=["notes.write"]),
    Route("/users", user="required"),
    Route("/agents", agent="required"),
    Route("/people", agent="forbidden"),
    Route("/delegated", user="required", agent="required"),
    Route("/people/write", scopes=["notes.write"], agent="forbidden"),
    Route("/users/strong", user="required", max_age=300),
)
TRUST: Mapping[str, Any] = {
    "agents": ["agent-1", "reader", "nobody", (ELSEWHERE, "agent-1")],
    "agent_scopes": {
        "reader": ["notes.read"],
        "nobody": [],
        (ELSEWHERE, "agent-1"): ["mail.send"],
        "*": ["notes.write", "mail.send"],
    },
    "actor_issuers": [ELSEWHERE],
    "max_chain": 2,
}


def policy(issuers: Issuers, **settings: Any) -> ResourceServer:
    """The API of this table. *settings* are added or replace others."""
    members: dict[str, Any] = {
        "scopes": SCOPES,
        "implied_scopes": IMPLIED,
        "routes": ROUTES,
        **settings,
    }
    return ResourceServer(RESOURCE, issuers=[issuers.main.trust(**TRUST)], **members)


@pytest.fixture
def middleware(start_middleware: RunningMiddleware, issuers: Issuers) -> Middleware:
    return start_middleware(policy(issuers))


def last_reason(caplog: pytest.LogCaptureFixture) -> str:
    records = [record for record in caplog.records if record.name.endswith(".audit")]
    members: dict[str, str] = vars(records[-1])["agentauth"]
    return members["reason"]


def by_user(*scopes: str, **more: Any) -> Token:
    return Token(scopes=scopes, claims={"sub_profile": "user"}, **more)


def by_agent(*scopes: str, agent: str = "agent-1", **more: Any) -> Token:
    return Token(scopes=scopes, agent=agent, **more)


USER: dict[str, Any] = {"mode": "user", "user": "user-1"}
DELEGATED: dict[str, Any] = {"mode": "delegated", "user": "user-1", "agent": "agent-1"}
READER: dict[str, Any] = {**DELEGATED, "agent": "reader"}
STRONG: dict[str, Any] = {"signed_in": -5, "claims": {"acr": "phr"}}
SERVICE = Token(subject="client-1")
_NOTHING: tuple[str, ...] = ()
_ELSEWHERE = {"act": {"iss": ELSEWHERE, "sub": "agent-1"}}
_UNLISTED = {"act": {"iss": ELSEWHERE, "sub": "reader"}}
_CHAIN = {"act": {"sub": "agent-1", "act": {"sub": "agent-9"}}}
_LONG_CHAIN = {
    "act": {"sub": "agent-1", "act": {"sub": "agent-9", "act": {"sub": "agent-8"}}}
}
_WITHHELD = actor_unauthorized("scope_withheld")
_NOT_ALLOWED = actor_unauthorized("agent_not_allowed")

_SCOPES = (
    Scenario(
        "scope met",
        granted(**USER, scopes=("notes.read",)),
        by_user("notes.read"),
        target="/read",
    ),
    Scenario(
        "scope met by one that implies it",
        granted(**USER, scopes=("notes.admin", "notes.read", "notes.write")),
        by_user("notes.admin"),
        target="/read",
    ),
    Scenario(
        "scope missing: the narrow one is named",
        insufficient_scope("notes.read"),
        by_user("mail.send"),
        target="/read",
    ),
    Scenario(
        "scope not met by what it implies",
        insufficient_scope("notes.write"),
        by_user("notes.read"),
        target="/write",
    ),
    Scenario(
        "no credentials: the narrow scope is named",
        no_credentials("notes.read"),
        authorization=_NOTHING,
        target="/read",
    ),
    Scenario(
        "any scope met by the preferred one",
        granted(**USER, scopes=("mail.send",)),
        by_user("mail.send"),
        target="/either",
    ),
    Scenario(
        "any scope met by another",
        granted(**USER, scopes=("notes.read",)),
        by_user("notes.read"),
        target="/either",
    ),
    Scenario(
        "any scope met by what one implies",
        granted(**USER, scopes=("notes.read", "notes.write")),
        by_user("notes.write"),
        target="/either",
    ),
    Scenario(
        "any scope missing: the preferred one is named",
        insufficient_scope("mail.send"),
        by_user("x"),
        target="/either",
    ),
    Scenario(
        "any scope, no credentials: the preferred one is named",
        no_credentials("mail.send"),
        authorization=_NOTHING,
        target="/either",
    ),
    Scenario(
        "all and any met",
        granted(**USER, scopes=("mail.send", "notes.read")),
        by_user("mail.send", "notes.read"),
        target="/both",
    ),
    Scenario(
        "all met and any missing: both are named",
        insufficient_scope("mail.send notes.admin"),
        by_user("mail.send"),
        target="/both",
    ),
    Scenario(
        "any met and all missing: both are named",
        insufficient_scope("mail.send notes.admin"),
        by_user("notes.read"),
        target="/both",
    ),
    Scenario(
        "all and any, no credentials: both are named",
        no_credentials("mail.send notes.admin"),
        authorization=_NOTHING,
        target="/both",
    ),
)

_STEP_UP = (
    Scenario(
        "strong enough",
        granted(),
        Token(claims={"acr": "phrh"}),
        target="/strong",
    ),
    Scenario(
        "too weak",
        step_up(acr_values="phr phrh"),
        Token(claims={"acr": "pwd"}),
        target="/strong",
    ),
    Scenario("strength not stated", step_up(acr_values="phr phrh"), target="/strong"),
    Scenario("recent enough", granted(), Token(signed_in=-300), target="/fresh"),
    Scenario(
        "too long ago", step_up(max_age=300), Token(signed_in=-500), target="/fresh"
    ),
    Scenario("age not stated", step_up(max_age=300), target="/fresh"),
    Scenario(
        "13 before 14: step-up first, and told what scope comes next",
        step_up(scope="notes.write", acr_values="phr", max_age=300),
        by_user("notes.read"),
        target="/strong/write",
    ),
    Scenario(
        "13 before 14: step-up alone where the scope is there",
        step_up(acr_values="phr", max_age=300),
        by_user("notes.write"),
        target="/strong/write",
    ),
    Scenario(
        "13 before 14: step-up names no scope that the agent may not use",
        step_up(acr_values="phr", max_age=300),
        by_agent("notes.read", agent="reader"),
        target="/strong/write",
    ),
    Scenario(
        "14 after 13: scope missing after the step-up",
        insufficient_scope("notes.write"),
        Token(scopes=("notes.read",), **STRONG),
        target="/strong/write",
    ),
    Scenario(
        "13 before 15: step-up first, and no user next",
        step_up(max_age=300),
        SERVICE,
        target="/users/strong",
    ),
    Scenario(
        "13 before 15: step-up first, and the agent is not listed",
        step_up(max_age=300),
        by_agent(agent="agent-2"),
        target="/fresh",
    ),
)

_ACTORS = (
    Scenario("user met", granted(**USER), by_user(), target="/users"),
    Scenario(
        "user met through an agent", granted(**DELEGATED), by_agent(), target="/users"
    ),
    Scenario(
        "user not met by a service",
        actor_unauthorized("user_required"),
        SERVICE,
        target="/users",
    ),
    Scenario(
        "user not met by who might be one",
        actor_unauthorized("user_required"),
        target="/users",
    ),
    Scenario("agent met", granted(**DELEGATED), by_agent(), target="/agents"),
    Scenario(
        "agent not met by a user",
        actor_unauthorized("agent_required"),
        by_user(),
        target="/agents",
    ),
    Scenario("no agent met by a user", granted(**USER), by_user(), target="/people"),
    Scenario(
        "no agent met by a service",
        granted("service", subject="client-1"),
        SERVICE,
        target="/people",
    ),
    Scenario(
        "no agent not met",
        actor_unauthorized("agent_forbidden"),
        by_agent(),
        target="/people",
    ),
    Scenario("delegation met", granted(**DELEGATED), by_agent(), target="/delegated"),
    Scenario(
        "delegation not met by a user alone",
        actor_unauthorized("agent_required"),
        by_user(),
        target="/delegated",
    ),
    Scenario(
        "delegation not met by an agent alone",
        actor_unauthorized("user_required"),
        Token(
            subject="agent-1",
            claims={"sub_profile": "ai_agent"},
        ),
        target="/delegated",
    ),
    Scenario(
        "14 before 15: scope first, for an agent that is forbidden",
        insufficient_scope("notes.write"),
        by_agent("notes.read"),
        target="/people/write",
    ),
    Scenario(
        "14 before 15: scope first, for an agent that is not listed",
        insufficient_scope("notes.write"),
        by_agent("notes.read", agent="agent-2"),
        target="/write",
    ),
    Scenario(
        "15 before 17: not listed, where the application has nothing",
        _NOT_ALLOWED,
        by_agent(agent="agent-2"),
        target="/answers/404",
    ),
)

_AGENTS = (
    Scenario("listed agent", granted(**DELEGATED), by_agent()),
    Scenario(
        "listed agent of another namespace",
        granted(**DELEGATED, scopes=("mail.send",)),
        Token(claims=_ELSEWHERE, scopes=("mail.send", "notes.read")),
    ),
    Scenario("agent that is not listed", _NOT_ALLOWED, by_agent(agent="agent-2")),
    Scenario(
        "agent of another namespace, listed here alone",
        _NOT_ALLOWED,
        Token(claims=_UNLISTED),
    ),
    Scenario("user where agents are listed", granted(**USER), by_user()),
    Scenario(
        "service where agents are listed",
        granted("service", subject="client-1"),
        SERVICE,
    ),
    Scenario(
        "longest chain",
        granted(**DELEGATED),
        Token(claims=_CHAIN),
    ),
    Scenario(
        "too long a chain",
        invalid_token("malformed"),
        Token(claims=_LONG_CHAIN),
    ),
    Scenario(
        "12 before 13: too long a chain, and too weak",
        invalid_token("malformed"),
        Token(claims=_LONG_CHAIN),
        target="/strong",
    ),
)

_CEILINGS = (
    Scenario(
        "within the ceiling of all others",
        granted(**DELEGATED, scopes=("mail.send", "notes.read", "notes.write")),
        by_agent("notes.write", "mail.send"),
        target="/write",
    ),
    Scenario(
        "beyond the ceiling of all others",
        granted(**DELEGATED, scopes=("notes.read", "notes.write")),
        by_agent("notes.admin"),
        target="/write",
    ),
    Scenario(
        "within its own ceiling",
        granted(**READER, scopes=("notes.read",)),
        by_agent("notes.read", agent="reader"),
        target="/read",
    ),
    Scenario(
        "within its own ceiling by what is implied",
        granted(**READER, scopes=("notes.read",)),
        by_agent("notes.admin", agent="reader"),
        target="/read",
    ),
    Scenario(
        "missing within its own ceiling",
        insufficient_scope("notes.read"),
        by_agent(agent="reader"),
        target="/read",
    ),
    Scenario(
        "withheld by its own ceiling",
        _WITHHELD,
        by_agent("notes.write", agent="reader"),
        target="/write",
    ),
    Scenario(
        "missing beyond its own ceiling, and never asked for",
        _WITHHELD,
        by_agent("notes.read", agent="reader"),
        target="/write",
    ),
    Scenario(
        "any scope withheld, another missing: that one is named",
        insufficient_scope("notes.read"),
        by_agent("mail.send", agent="reader"),
        target="/either",
    ),
    Scenario(
        "any scope within its own ceiling",
        granted(**READER, scopes=("notes.read",)),
        by_agent("notes.read", agent="reader"),
        target="/either",
    ),
    Scenario(
        "all withheld, any there",
        _WITHHELD,
        by_agent("notes.read", "mail.send", agent="reader"),
        target="/both",
    ),
    Scenario(
        "no scope at all",
        _WITHHELD,
        by_agent("notes.read", agent="nobody"),
        target="/read",
    ),
    Scenario(
        "no scope at all, and none needed",
        granted("delegated", user="user-1", agent="nobody"),
        by_agent("notes.read", agent="nobody"),
    ),
    Scenario(
        "a user has no ceiling",
        granted(**USER, scopes=("notes.admin", "notes.read", "notes.write")),
        by_user("notes.admin"),
        target="/write",
    ),
)

_OPEN = (
    Scenario(
        "optional route without credentials",
        passed(),
        authorization=_NOTHING,
        target="/optional",
    ),
    Scenario(
        "optional route with the scope",
        granted(**USER, scopes=("notes.read",)),
        by_user("notes.read"),
        target="/optional",
    ),
    Scenario(
        "optional route without the scope",
        insufficient_scope("notes.read"),
        by_user(),
        target="/optional",
    ),
    Scenario(
        "optional route with an agent that is not listed",
        _NOT_ALLOWED,
        by_agent("notes.read", agent="agent-2"),
        target="/optional",
    ),
    Scenario(
        "public route with an agent that is not listed",
        passed(authorization=True),
        by_agent(agent="agent-2"),
        target="/public",
    ),
)

SCENARIOS = (*_SCOPES, *_STEP_UP, *_ACTORS, *_AGENTS, *_CEILINGS, *_OPEN)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_policy_is_kept_and_answered(
    scenario: Scenario,
    middleware: Middleware,
    issuers: Issuers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")
    answer = middleware.ask(scenario.request(issuers))

    scenario.expected.check(answer)
    assert bool(middleware.seen) == scenario.expected.reaches
    assert last_reason(caplog) == scenario.expected.reason


def test_policy_is_the_same_for_a_token_that_is_remembered(
    middleware: Middleware, issuers: Issuers
) -> None:
    """And for the same token on another path."""
    for token in {scenario.token.mint(issuers): None for scenario in SCENARIOS}:
        first = {path: ask(middleware, path, token) for path in PATHS}
        again = {path: ask(middleware, path, token) for path in reversed(PATHS)}

        assert again == first


PATHS = [route.pattern for route in ROUTES]


def ask(middleware: Middleware, path: str, token: str) -> Answer:
    return middleware.get(path, {"Authorization": f"Bearer {token}"})


def test_no_challenge_asks_for_a_scope_that_the_agent_may_not_use(
    middleware: Middleware, issuers: Issuers
) -> None:
    """Whatever it carries, and whatever the path."""
    may = {"reader": {"notes.read"}, "nobody": set[str]()}
    tokens = [
        (agent, by_agent(*scopes, agent=agent).mint(issuers))
        for agent in may
        for scopes in [(), ("notes.read",), ("notes.admin",), tuple(SCOPES)]
    ]

    for agent, token in tokens:
        for path in PATHS:
            for line in ask(middleware, path, token).lines("www-authenticate"):
                (challenge,) = parse_strictly(line)
                asked_for = challenge.parameters.get("scope", "").split()
                assert may[agent].issuperset(asked_for), (agent, path)


def test_refused_actor_learns_nothing_about_the_policy(
    middleware: Middleware, issuers: Issuers
) -> None:
    """Not listed, without a user, forbidden or held back: one answer."""
    tokens = [
        (by_agent(agent="agent-2"), "/"),
        (by_agent(), "/people"),
        (SERVICE, "/users"),
        (by_user(), "/agents"),
        (by_agent("notes.write", agent="reader"), "/write"),
    ]
    answers = {ask(middleware, path, token.mint(issuers)) for token, path in tokens}

    assert len(answers) == 1


# Settings that change a row


def _unclaimed(claims: Mapping[str, Any]) -> Identity:
    return Identity("agent_unclaimed")


@pytest.mark.parametrize(
    ("trust", "expected"),
    [
        pytest.param({"agents": ["user-1"]}, _NOT_ALLOWED, id="on no list"),
        pytest.param(
            {"agent_scopes": {"*": ["notes.read"]}}, _WITHHELD, id="one of all others"
        ),
        pytest.param(
            {"agent_scopes": {"user-1": ["notes.read"]}},
            granted("agent_unclaimed", scopes=("notes.read", "notes.write")),
            id="under no name",
        ),
    ],
)
def test_agent_without_a_name(
    trust: dict[str, Any],
    expected: Expected,
    start_middleware: RunningMiddleware,
    issuers: Issuers,
) -> None:
    """Nobody may reach further by not saying who they are."""
    trusted = issuers.main.trust(identity=_unclaimed, **trust)
    middleware = start_middleware(replace(policy(issuers), issuers=[trusted]))

    expected.check(
        ask(middleware, "/write", Token(scopes=("notes.write",)).mint(issuers))
    )


def test_api_with_other_clients_tells_agents_the_preferred_scope(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    """In the challenge that is added to a 401 of its own."""
    demanded = Route("/answers/401", scopes=["mail.send"], any_scopes=tuple(SCOPES)[:2])
    middleware = start_middleware(
        policy(issuers, routes=[demanded], unauthenticated="pass")
    )
    ours, theirs = middleware.get("/answers/401").lines("www-authenticate")

    assert parse_strictly(ours) == [
        Challenge(
            "Bearer",
            {"scope": "mail.send notes.read", "resource_metadata": METADATA_URL},
        )
    ]
    assert theirs == 'Basic realm="theirs"'


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param(
            by_agent(agent="agent-2"),
            actor_unauthorized("unmatched_path"),
            id="not listed either",
        ),
        pytest.param(by_user(), actor_unauthorized("unmatched_path"), id="good"),
        pytest.param(
            Token(claims=_LONG_CHAIN), invalid_token("malformed"), id="too long a chain"
        ),
    ],
)
def test_unmatched_path_is_refused_to_all_alike(
    token: Token,
    expected: Expected,
    start_middleware: RunningMiddleware,
    issuers: Issuers,
) -> None:
    middleware = start_middleware(policy(issuers, unmatched="refuse"))

    expected.check(ask(middleware, "/elsewhere", token.mint(issuers)))


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_scopes_are_demanded_of_every_method(
    method: str, middleware: Middleware, issuers: Issuers
) -> None:
    token = by_agent("notes.read", agent="reader").mint(issuers)
    fields = (("Authorization", f"Bearer {token}"),)

    assert middleware.ask(HTTPRequest(method, "/read", fields)).status == 200
    assert middleware.ask(HTTPRequest(method, "/write", fields)).status == 403
    assert len(middleware.seen) == 1
