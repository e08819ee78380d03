"""Refusals as values, and how one is written: status, challenge, body.

The rows of the table every refusal is in:

====== =================================== ========================================
status challenge                           situation
====== =================================== ========================================
400    ``error="invalid_request"``         malformed, twice, or two methods at once
401    no ``error``                        no credentials
401    ``error="invalid_token"``           a verdict about the token
401    ``insufficient_user_authentication``  the user must authenticate again
403    ``error="insufficient_scope"``      a good token that does not reach this far
403    ``error="actor_unauthorized"``      policy denies this user or this agent
429    none; ``Retry-After``               too many requests
503    none; ``Retry-After``               our trouble, never the token's
====== =================================== ========================================

Sources: RFC 9110 §11.6.1, RFC 6750 §3, RFC 9470 §3, RFC 9728 §5.1
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from agentauth_middleware._syntax.http import EXPOSED, Response
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
    RequestRefusedError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)

_TRY_AGAIN = "the token could not be checked right now; keep it and try again later"
_OUTSIDE_QUOTED = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request does not reach the application, for its sender and for the log."""

    status: int
    reason: str
    """A stable code for logs and tests; the sender never sees it."""
    error: str | None = None
    """The OAuth error code."""
    description: str = ""
    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    retry_after: int | None = None
    """Seconds."""
    access: Access | None = field(default=None, compare=False)
    """What the token said, where it was good. For the log."""
    detail: str = field(default="", compare=False)
    """What was found and expected. For the log."""


def refusal_for(
    failure: RequestRefusedError | UnavailableError, access: Access | None = None
) -> Refusal:
    """The refusal that *failure* stands for: the one place that turns one into it."""
    if isinstance(failure, UnavailableError):
        return Refusal(
            status=failure.status,
            reason=failure.reason,
            error=failure.error,
            description=_TRY_AGAIN,
            retry_after=failure.retry_after,
            access=access,
            detail=str(failure),
        )
    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age = retry_after = None
    match failure:
        case AuthenticationRequiredError() | InsufficientScopeError():
            scopes = failure.scopes
        case StepUpRequiredError():
            scopes, acr_values = failure.scopes, failure.acr_values
            max_age = failure.max_age
        case TooManyRequestsError():
            retry_after = failure.retry_after
        case _:
            pass
    return Refusal(
        failure.status,
        failure.reason,
        failure.error,
        failure.description,
        scopes,
        acr_values,
        max_age,
        retry_after,
        access,
        str(failure),
    )


def is_scope_named(refusal: Refusal) -> bool:
    """Whether *refusal* tells the client which scopes to ask for."""
    return refusal.error == InsufficientScopeError.error or (
        refusal.status == AuthenticationRequiredError.status and refusal.error is None
    )


def name_scopes(refusal: Refusal, scopes: Iterable[str]) -> Refusal:
    """*refusal*, naming *scopes* as well, so that the client asks once and for enough.
    Scopes that its agent may not use are left out: no token would help.
    """
    named = dict.fromkeys([*refusal.scopes, *scopes])
    ceiling = None if refusal.access is None else refusal.access.scope_ceiling
    usable = (scope for scope in named if ceiling is None or scope in ceiling)
    return replace(refusal, scopes=tuple(usable))


def check_declared(
    scopes: Iterable[str], declared: Collection[str], source: str
) -> None:
    """Refuse to name a scope that is not declared: clients would ask for it forever. If
    none is *declared*, any scope is allowed.

    Raises:
        ConfigurationError: names *source*, which is where *scopes* stand.
    """
    undeclared = [scope for scope in scopes if scope not in declared]
    if declared and undeclared:
        raise ConfigurationError(
            f"{source}: {', '.join(undeclared)} is not among ResourceServer.scopes; "
            "declare it there, so that clients can ask for it"
        )


def quoted(value: str) -> str:
    """*value* as a quoted-string; characters that are not allowed in one become an
    apostrophe.

    ``"`` and ``\\`` are outside the sets of RFC 6750 §3, so nothing is ever escaped:
    clients that read challenges with regular expressions would stumble over it.
    """
    return '"' + _OUTSIDE_QUOTED.sub("'", value) + '"'


@lru_cache(maxsize=256)
def render(refusal: Refusal, metadata_url: str, auth_md_url: str) -> Response:
    """The answer to a refused request; for ``HEAD`` the middleware leaves out the
    body."""
    body = json.dumps(_members(refusal, metadata_url, auth_md_url)).encode()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("access-control-expose-headers", EXPOSED),
    ]
    if _is_challenged(refusal):
        headers.append(("www-authenticate", challenge(refusal, metadata_url)))
    if refusal.retry_after is not None:
        headers.append(("retry-after", str(refusal.retry_after)))
    return Response(refusal.status, tuple(headers), body)


def _is_challenged(refusal: Refusal) -> bool:
    return refusal.status in (400, 401, 403)


def challenge(refusal: Refusal, metadata_url: str) -> str:
    """The Bearer challenge of *refusal*, with at least ``resource_metadata``.

    Source: RFC 6750 §3, RFC 9728 §5.1
    """
    parameters = [
        f"{name}={quoted(str(value))}" for name, value in _parameters(refusal)
    ]
    return "Bearer " + ", ".join(
        [*parameters, f"resource_metadata={quoted(metadata_url)}"]
    )


def _parameters(refusal: Refusal) -> list[tuple[str, str | int]]:
    """The members that challenge and body share, in the order clients expect."""
    found: list[tuple[str, str | int]] = []
    if refusal.error:
        found.append(("error", refusal.error))
        found.append(("error_description", refusal.description))
    if refusal.scopes:
        found.append(("scope", " ".join(refusal.scopes)))
    if refusal.acr_values:
        found.append(("acr_values", " ".join(refusal.acr_values)))
    if refusal.max_age is not None:
        found.append(("max_age", refusal.max_age))
    return found


def _members(
    refusal: Refusal, metadata_url: str, auth_md_url: str
) -> dict[str, str | int]:
    """The body for agents that read; a refusal without an error code has a detail."""
    members: dict[str, str | int] = {"detail": refusal.description}
    if refusal.error:
        members = dict(_parameters(refusal))
    if not _is_challenged(refusal):
        return members
    return {**members, "resource_metadata": metadata_url, "auth_md": auth_md_url}
