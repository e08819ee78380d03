"""Refusals and ``Access`` that go from one process to another."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from agentauth_middleware import (
    Access,
    ActorRefusedError,
    AgentAuthError,
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    Principal,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)

ERRORS: list[AgentAuthError] = [
    ConfigurationError("Issuer: fix it"),
    InvalidRequestError("odd_cursor", "found a cursor of 3"),
    InvalidTokenError("expired", "62 s ago"),
    AuthenticationRequiredError(["notes.read", "notes.write"]),
    InsufficientScopeError(["notes.read", "notes.write"]),
    StepUpRequiredError(acr_values=["mfa"], max_age=60, scopes=["notes.read"]),
    ActorRefusedError("not_their_note", "the note is another's"),
    TooManyRequestsError("budget", "of today", retry_after=3),
    UnavailableError("disk_full", "of the store", retry_after=7),
]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - what we pickled ourselves


@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_says_the_same_afterwards(
    error: AgentAuthError, again: Callable[[Any], Any]
) -> None:
    found = again(error)

    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.args == error.args
    assert vars(found) == vars(error)


def through_json(access: Access) -> Access:
    return Access.from_json(json.loads(json.dumps(access.to_json())))


ISSUER = "https://as.example.com"
FULL = Access(
    ISSUER,
    "user-1",
    Principal(ISSUER, "user-1", "user", "ana@example.com", True, "Ana", "acme"),
    Principal(ISSUER, "agent-1", extra={"session": "7"}),
    (Principal(ISSUER, "agent-0"),),
    "delegated",
    frozenset({"notes.read"}),
    "mail-app",
    ("https://api.example.com",),
    "token-7",
    1_760_000_000,
    1_760_000_900.5,
    1_759_999_000,
    "phr",
    b'{"amr": ["pwd"], "name": "\xc3\x85sa"}',
    frozenset({"notes.read", "notes.list"}),
    5,
)


@pytest.mark.parametrize(
    "access", [FULL, Access(ISSUER)], ids=["all members", "no members"]
)
@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy, through_json])
def test_access_says_the_same_afterwards(
    again: Callable[[Access], Access], access: Access
) -> None:
    found = again(access)

    assert found == access
    assert found.to_json() == access.to_json()  # also what is for display
    assert found.amr == access.amr


def test_access_read_from_json_cannot_be_changed() -> None:
    agent = through_json(FULL).agent
    assert agent is not None

    with pytest.raises(TypeError):
        agent.extra["session"] = "8"  # type: ignore[index]


def test_other_json_is_no_access() -> None:
    with pytest.raises(KeyError):
        Access.from_json({"issuer": ISSUER})
