"""What handlers raise, and the answer that must come of it at either middleware."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)
from tests.support.server_side import SERVER

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Expected:
    """An answer, as far as it differs from others of its kind."""

    status: int
    error: str | None
    members: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the challenge, and of the body where it has an error."""
    retry_after: str | None = None

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        assert status == self.status
        assert headers["content-type"] == "application/json"
        assert headers["content-length"] == str(len(body))
        assert headers["cache-control"] == "no-store"
        assert headers.get("retry-after") == self.retry_after
        told = json.loads(body)
        assert told.get("error") == self.error
        if status in (429, 503):
            assert "www-authenticate" not in headers
        else:
            self._check_challenge(headers["www-authenticate"], told)

    def _check_challenge(self, challenge: str, told: dict[str, Any]) -> None:
        scheme, _, parameters = challenge.partition(" ")
        found = dict(_PARAMETER.findall(parameters))
        description = found.pop("error_description", None)
        expected = {name: str(value) for name, value in self.members.items()}
        if self.error is not None:
            expected["error"] = self.error
        assert scheme == "Bearer"
        assert found == {**expected, "resource_metadata": SERVER.metadata_url}
        links = {
            "resource_metadata": SERVER.metadata_url,
            "auth_md": SERVER.auth_md_url,
        }
        if self.error is None:
            assert told == {"detail": told["detail"], **links}
        else:
            assert description
            assert told == {
                "error": self.error,
                "error_description": description,
                **self.members,
                **links,
            }


RAISED = [
    pytest.param(
        lambda: InvalidRequestError("odd_cursor"),
        Expected(400, "invalid_request"),
        id="invalid request",
    ),
    pytest.param(AuthenticationRequiredError, Expected(401, None), id="no credentials"),
    pytest.param(
        lambda: AuthenticationRequiredError(["mail.send"]),
        Expected(401, None, {"scope": "mail.send"}),
        id="no credentials and scopes",
    ),
    pytest.param(
        lambda: InvalidTokenError("stolen"),
        Expected(401, "invalid_token"),
        id="invalid token",
    ),
    pytest.param(
        lambda: StepUpRequiredError(
            acr_values=["phr", "mfa"], max_age=300, scopes=["mail.send"]
        ),
        Expected(
            401,
            "insufficient_user_authentication",
            {"scope": "mail.send", "acr_values": "phr mfa", "max_age": 300},
        ),
        id="step-up",
    ),
    pytest.param(
        lambda: InsufficientScopeError(["mail.read", "mail.send"]),
        Expected(403, "insufficient_scope", {"scope": "mail.read mail.send"}),
        id="insufficient scope",
    ),
    pytest.param(
        lambda: ActorRefusedError("not_this_agent", "agent-7 is on the list"),
        Expected(403, "actor_unauthorized"),
        id="actor refused",
    ),
    pytest.param(
        lambda: TooManyRequestsError("budget", retry_after=3),
        Expected(429, "temporarily_unavailable", retry_after="3"),
        id="too many requests",
    ),
    pytest.param(
        lambda: UnavailableError("mailbox_unreachable", "port 25", retry_after=7),
        Expected(503, "temporarily_unavailable", retry_after="7"),
        id="unavailable",
    ),
]
"""For parameters *make*, which makes what is raised, and *expected*."""


def _scopes(access: Access) -> None:
    access.require_scopes("mail.read", "mail.send")


_SCOPES = Expected(403, "insufficient_scope", {"scope": "mail.read mail.send"})
_ACTOR = Expected(403, "actor_unauthorized")
_SERVICE = {"subject": "client-1"}
_DELEGATED = {"agent": "agent-1"}

GUARDS = [
    pytest.param({"scopes": ["mail.read"]}, _scopes, _SCOPES, id="require_scopes"),
    pytest.param(_SERVICE, Access.require_user, _ACTOR, id="require_user"),
    pytest.param({}, Access.require_agent, _ACTOR, id="require_agent"),
    pytest.param({}, Access.require_delegation, _ACTOR, id="require_delegation"),
    pytest.param(_DELEGATED, Access.forbid_agents, _ACTOR, id="forbid_agents"),
]
"""For parameters *token*, *demand* and *expected*: guards that are not met."""

Make = Callable[[], RequestRefusedError | UnavailableError]
Demand = Callable[[Access], object]
