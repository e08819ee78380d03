"""What a handler may do with an ``Access``, and which refusals it may raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from agentauth_middleware import (
    Access,
    ActorRefusedError,
    AgentAuthError,
    AuthenticationRequiredError,
    InsufficientScopeError,
    InvalidTokenError,
    Principal,
    RequestRefusedError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
    current_access,
)
from agentauth_middleware.access import Mode

assert_type(current_access(), Access | None)


def look(access: Access) -> None:
    assert_type(access.user, Principal | None)
    assert_type(access.agent, Principal | None)
    assert_type(access.chain, tuple[Principal, ...])
    assert_type(access.mode, Mode)
    assert_type(access.scopes, frozenset[str])
    assert_type(access.subject, str | None)
    assert_type(access.audience, tuple[str, ...])
    assert_type(access.expires_at, float | None)
    assert_type(access.claims, Mapping[str, Any])
    assert_type(access.amr, tuple[str, ...])
    assert_type(access.authorization_details, tuple[Mapping[str, Any], ...])


def demand(access: Access) -> tuple[str, str]:
    """The guards give what they demand, so that nobody has to rule out ``None``."""
    access.require_scopes("notes.read", "notes.write")
    access.forbid_agents()
    assert_type(access.has_scopes("notes.read"), bool)
    assert_type(access.require_user(), Principal)
    assert_type(access.require_agent(), Principal)
    user, agent = access.require_delegation()
    assert_type(agent.extra, Mapping[str, str])
    assert_type(user.tenant, str | None)
    return f"{user.issuer} {user.subject}", agent.subject


def tell(access: Access) -> str:
    """Every mode is named here; a new one would be an error in this function."""
    match access.mode:
        case "user" | "delegated":
            return "for a user"
        case "agent" | "agent_unclaimed" | "agent_user_account":
            return "an agent of its own accord"
        case "service":
            return "a service"
        case "unknown":
            return "who knows"


def refuse(reason: str) -> None:
    refusals: list[RequestRefusedError] = [
        ActorRefusedError("not_their_note"),
        AuthenticationRequiredError(["notes.read"]),
        InsufficientScopeError(("notes.read",)),
        InvalidTokenError(reason),
        StepUpRequiredError(acr_values=["phr"], max_age=60),
        TooManyRequestsError(reason, retry_after=30),
    ]
    errors: list[AgentAuthError] = [*refusals, UnavailableError("mail_down")]
    for error in refusals:
        assert_type(error.reason, str)
        assert_type(error.status, int)
    raise errors[0]


def err(access: Access, principal: Principal) -> None:
    """What must not pass."""
    print(access.user.subject)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    print(current_access().scopes)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    access.scopes = frozenset({"admin"})  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    access.scopes.add("admin")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    access.claims["sub"] = "admin"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    access.require_scopes(["notes.read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(access.mode == "human")  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    principal.extra["session"] = "s"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    principal.email.lower()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    TooManyRequestsError("slow_down")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
