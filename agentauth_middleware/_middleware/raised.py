"""Answers to refusals that are raised while a handler runs.

Whoever catches one first answers it, and all answer alike: a middleware what escapes
from its application, an error handler of the framework what would not get that far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.publish.challenge import (
    Refusal,
    check_declared,
    is_scope_named,
    name_scopes,
    refusal_for,
)
from agentauth_middleware._middleware.audit import is_audited, write_audit
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access, refusal_for_lack
from agentauth_middleware.errors import (
    InsufficientScopeError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.route import Route

__all__ = ["answer_raised", "refusal_in", "refusal_raised"]


def refusal_in(failure: Exception) -> RequestRefusedError | UnavailableError | None:
    """The refusal that *failure* is, or the first of a group of nothing else.

    An ``asyncio.TaskGroup`` raises groups. One with another error in it is a crash.
    """
    if isinstance(failure, RequestRefusedError | UnavailableError):
        return failure
    if not isinstance(failure, ExceptionGroup):
        return None
    group = cast("ExceptionGroup[Exception]", failure)
    found = [refusal_in(inner) for inner in group.exceptions]
    return None if None in found else found[0]


def answer_raised(
    failure: RequestRefusedError | UnavailableError,
    access: Access | None,
    state: MiddlewareState,
    request: Request,
) -> Response:
    """The answer to *request*, whose handler raised *failure*; with its record."""
    refusal = refusal_raised(failure, access, state, request)
    if is_audited(refusal):
        write_audit(refusal, state, request)
    return state.write_refusal(refusal)


def refusal_raised(
    failure: RequestRefusedError | UnavailableError,
    access: Access | None,
    state: MiddlewareState,
    request: Request,
) -> Refusal:
    """The refusal of *request*, whose handler raised *failure*.

    It names what the ``Route`` demands as well. The token has that, but a client may
    ask for no more than the answer names, and would then lack it.

    Raises:
        ConfigurationError: it names a scope that clients cannot ask for.
    """
    refusal = refusal_for(failure, access)
    if not (is_scope_named(refusal) or refusal.scopes):
        return refusal
    source = "requires(...) or require_scopes(...)"
    check_declared(refusal.scopes, state.server.scopes, source)
    try:
        route = state.routes.select(request)
    except (
        RequestRefusedError
    ):  # seen from inside a mount, where the middleware is outside
        return refusal
    route_first = [*_named_by(route, access), *refusal.scopes]
    return name_scopes(replace(refusal, scopes=()), route_first)


def _named_by(route: Route, access: Access | None) -> Sequence[str]:
    """What *route* has named to a client, or would have."""
    if access is None:
        return route.named_scopes
    lacking = refusal_for_lack(access, route.demands.scopes, *route.demands.choices)
    return lacking.scopes if isinstance(lacking, InsufficientScopeError) else ()
