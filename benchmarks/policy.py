"""What dialect and policy add to a request, whose token is remembered.

Middlewares with the same issuer, the same tokens and as many routes. One reads
identities as plainly as can be and demands nothing. One has a dialect, a list of
agents, ceilings, a hierarchy, and routes with scopes. One demands all else of every
request as well.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from agentauth_middleware import ResourceServer, Route
from agentauth_middleware.testing import FakeIssuer
from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import Rounds
from benchmarks.scene import RESOURCE, NewTokens, Scene
from benchmarks.sides import Call, Calls, Side
from benchmarks.signatures import bare_check, check_name

__all__ = ["measure_policy"]

_TOKENS = 50
_MANY = 100
_AGENT = "agt_assistant"
_SCOPES = {
    "notes.read": "Read your notes",
    "notes.write": "Write notes for you",
    "notes.admin": "Manage your notes",
    "mail.send": "Send mail in your name",
}
_PLAIN = "demands nothing"
_SCOPED = "dialect, agents and scopes"
_STRICT = "all of that, user, agent and step-up"
_RS256 = check_name("RS256")
_EVERYTHING: dict[str, Any] = {
    "user": "required",
    "agent": "required",
    "acr_values": ["phr", "phrh"],
    "max_age": 86_400,
}
_PATTERNS = ("/admin/*", "/notes", "/notes/{id}")


def measure_policy(
    side: Side, scene: Scene, new: NewTokens, rounds: Rounds
) -> Iterator[Row]:
    """The rows of one protocol.

    Raises:
        AssertionError: the middleware does not do what is measured.
    """
    issuer = scene.issuers["RS256"]
    calls = _in_turn(issuer)
    contestants = {_RS256: bare_check(issuer, "RS256", new["RS256"])}
    for name, server in (
        (_PLAIN, _plain(issuer)),
        (_SCOPED, _policed(issuer)),
        (_STRICT, _policed(issuer, **_EVERYTHING)),
    ):
        middleware = side.middleware(side.bare, server, scene.store)
        for call in calls(0):
            assert side.answer(middleware, call).status == 200
        if name != _PLAIN:
            _check_policed(side, middleware, issuer)
        contestants[name] = side.batch(middleware, calls)

    timings = rounds.take_turns(contestants)
    group = f"policy, {side.name}"
    yield Row(group, f"remembered token, {_PLAIN}", timings.time(_PLAIN), "µs")
    for name, target in ((_SCOPED, targets.POLICY), (_STRICT, None)):
        yield Row(
            group,
            f"added by {name}",
            timings.time(name, minus=_PLAIN),
            "µs",
            timings.ratio(name, of=_RS256, minus=_PLAIN),
            _RS256,
            target,
        )


def _plain(issuer: FakeIssuer) -> ResourceServer:
    return ResourceServer(
        RESOURCE,
        issuers=[issuer.trust()],
        scopes=_SCOPES,
        routes=[Route(pattern) for pattern in _PATTERNS],
    )


def _policed(issuer: FakeIssuer, **demands: Any) -> ResourceServer:
    trusted = issuer.trust(
        identity="auth0",
        agents=[_AGENT, "agt_other"],
        agent_scopes={_AGENT: ["notes.write", "mail.send"], "*": []},
    )
    routes = [
        Route(
            pattern,
            scopes=["notes.read"],
            any_scopes=["mail.send", "notes.write"],
            **demands,
        )
        for pattern in _PATTERNS
    ]
    return ResourceServer(
        RESOURCE,
        issuers=[trusted],
        scopes=_SCOPES,
        implied_scopes={
            "notes.admin": ["notes.write"],
            "notes.write": ["notes.read"],
        },
        routes=routes,
    )


def _check_policed(side: Side, middleware: Any, issuer: FakeIssuer) -> None:
    """Stop the run unless *middleware* has dialect and policy."""
    access = side.answer(middleware, _bearer(_mint(issuer, "notes.admin"))).access

    assert access is not None
    assert access.mode == "delegated"
    assert access.agent is not None
    assert access.agent.subject == _AGENT
    assert access.scopes == {"notes.read", "notes.write"}

    assert side.answer(middleware, _bearer(_mint(issuer, "notes.read"))).status == 403


def _mint(issuer: FakeIssuer, scope: str) -> str:
    """As Auth0 would, for an API that has asked for profiles."""
    return issuer.token(
        RESOURCE,
        subject=f"auth0|{secrets.token_hex(12)}",
        scopes=[scope],
        expires_in=3600,
        sub_profile="user",
        client_profile="service ai_agent",
        act={"sub": _AGENT, "sub_profile": "ai_agent", "client_id": "client-1"},
        acr="phr",
        auth_time=int(time.time()),
    )


def _in_turn(issuer: FakeIssuer) -> Calls:
    calls = [_bearer(_mint(issuer, "notes.admin")) for _ in range(_TOKENS)]
    calls *= _MANY // len(calls)
    return lambda _: calls


def _bearer(token: str) -> Call:
    return Call("/notes/1", f"Bearer {token}")
