"""Refusals and ``Access`` that go from one process to another."""

from __future__ import annotations

import copy
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


@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy])
def test_access_says_the_same_afterwards(again: Callable[[Any], Any]) -> None:
    issuer = "https://as.example.com"
    access = Access(
        issuer,
        user=Principal(issuer, "user-1"),
        agent=Principal(issuer, "agent-1", extra={"session": "7"}),
        mode="delegated",
        scopes=frozenset({"notes.read"}),
        payload=b'{"amr": ["pwd"]}',
    )
    found = again(access)

    assert found == access
    assert found.amr == ("pwd",)
    assert dict(found.agent.extra) == {"session": "7"}
