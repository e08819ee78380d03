"""Refusals raised while a handler runs: the guard that raises, and what answers.

Whoever catches one first answers it, and all answer alike: a door what escapes from its
application, an error handler of the framework what would not get that far.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

from agentauth_middleware._core.challenge import (
    Refusal,
    is_scope_named,
    name_scopes,
    refusal_for,
)
from agentauth_middleware._core.gate import Gate
from agentauth_middleware._core.http import Request, Response
from agentauth_middleware._core.scopes import check_scopes
from agentauth_middleware._io.audit import is_audited, write_audit
from agentauth_middleware.access import CURRENT, Access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    RequestRefusedError,
    UnavailableError,
)

__all__ = [
    "answer_raised",
    "declared_by",
    "refusal_raised",
    "require_access",
    "requires",
]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


_DECLARED = "__agentauth_scopes__"
"""The attribute of a guarded handler that says what it demands. Decorators that keep a
handler's name, as ``functools.wraps`` does, keep this too."""


def require_access(scopes: Iterable[str]) -> Access:
    """The ``Access`` of the request being handled, if it carries all of *scopes*.

    Raises:
        AuthenticationRequiredError: the request has none; answered 401.
        ConfigurationError: no door has seen the request.
        InsufficientScopeError: a scope is missing; answered 403.
    """
    try:
        access = CURRENT.get()
    except LookupError:
        raise ConfigurationError(
            "no door stands in front of this handler, or it runs in a thread without "
            "the request's context: install the door, or use copy_context().run"
        ) from None
    if access is None:
        raise AuthenticationRequiredError(scopes)
    access.require_scopes(*scopes)
    return access


def requires(
    *scopes: str,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Let a request reach the decorated handler only if it carries all of *scopes*.

    ::

        @requires("notes.write")
        def create(...): ...

    For functions and methods, plain or ``async``. It stands below the decorator that
    registers the handler. Without scopes, any ``Access`` will do. A request without
    ``Access`` is answered like one without credentials. Several add up.

    Raises:
        ConfigurationError: one of *scopes* is not a scope.
    """
    asked = check_scopes(scopes, "requires")

    def guard(
        handler: Callable[Parameters, Returned],
    ) -> Callable[Parameters, Returned]:
        # All at once, so that the answer names what the guards below demand as well.
        needed = tuple(dict.fromkeys([*asked, *declared_by(handler)]))

        @wraps(handler)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            require_access(needed)
            return handler(*args, **kwargs)

        setattr(guarded, _DECLARED, needed)
        if not iscoroutinefunction(handler):
            return guarded

        # Frameworks look at the function to tell whether to await it.
        @wraps(guarded)
        async def awaited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
            return await cast(Awaitable[Any], guarded(*args, **kwargs))

        return cast(Callable[Parameters, Returned], awaited)

    return guard


def declared_by(handler: object, method: str = "GET") -> tuple[str, ...]:
    """The scopes that ``requires`` demands for *handler*.

    Where it is a class with a function for each method: of those for *method*.
    """
    declared: list[str] = [*getattr(handler, _DECLARED, ())]
    if isinstance(handler, type):
        names = ("head", "get") if method == "HEAD" else (method.lower(),)
        functions = (getattr(handler, name, None) for name in names)
        chosen = next((function for function in functions if function), None)
        declared += getattr(chosen, _DECLARED, ())
    return tuple(declared)


def answer_raised(
    failure: RequestRefusedError | UnavailableError,
    access: Access | None,
    gate: Gate,
    request: Request,
) -> Response:
    """The answer to *request*, whose handler raised *failure*; with its record."""
    refusal = refusal_raised(failure, access, gate, request)
    if is_audited(refusal):
        write_audit(refusal, gate, request)
    return gate.write_refusal(refusal)


def refusal_raised(
    failure: RequestRefusedError | UnavailableError,
    access: Access | None,
    gate: Gate,
    request: Request,
) -> Refusal:
    """The refusal of *request*, whose handler raised *failure*.

    It names what the ``Route`` demands as well. The token has that, but a client may
    ask for no more than the answer names, and would then lack it.
    """
    refusal = refusal_for(failure, access)
    if not is_scope_named(refusal):
        return refusal
    try:
        route = gate.routes.select(request)
    except RequestRefusedError:  # seen from inside a mount, where the door is outside
        return refusal
    route_first = [*route.scopes, *refusal.scopes]
    return name_scopes(replace(refusal, scopes=()), route_first)
