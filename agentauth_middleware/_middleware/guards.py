"""The guards of handlers: what they demand, and how a middleware finds out beforehand.

A guard raises what a middleware, or an error handler of the framework, then answers.
What it demands stays on the handler, so that an answer can name it before the handler
runs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Literal, ParamSpec, TypeVar, cast

from agentauth_middleware._core.policy.caller import check_policy
from agentauth_middleware.access import CURRENT, LEEWAY, Access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
)
from agentauth_middleware.settings.demands import Demands, both
from agentauth_middleware.settings.route import Route

__all__ = ["NO_CONTEXT", "declared_by", "require_access", "requires"]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


NO_CONTEXT = (
    "no middleware stands in front of this handler, or it runs in a thread without the "
    "request's context: install the middleware, or use copy_context().run"
)
_DEMANDS = "__agentauth_demands__"
"""The attribute of a guarded handler that says what it demands. Decorators that keep a
handler's name, as ``functools.wraps`` does, keep this too."""


def require_access(scopes: Sequence[str]) -> Access:
    """The ``Access`` of the request being handled, if it carries all of *scopes*.

    Raises:
        AuthenticationRequiredError: the request has none; answered 401.
        ConfigurationError: no middleware has seen the request.
        InsufficientScopeError: a scope is missing; answered 403.
        ActorRefusedError: its agent may not use one; answered 403.
    """
    access = _access_or_challenge(scopes)
    access.require_scopes(*scopes)
    return access


def _access_or_challenge(scopes: Iterable[str]) -> Access:
    try:
        access = CURRENT.get()
    except LookupError:
        raise ConfigurationError(NO_CONTEXT) from None
    if access is None:
        raise AuthenticationRequiredError(scopes)
    return access


def requires(
    *scopes: str,
    any_scopes: Sequence[str] = (),
    user: Literal["required"] | None = None,
    agent: Literal["required", "forbidden"] | None = None,
    acr_values: Sequence[str] = (),
    max_age: int | None = None,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Let a request reach the decorated handler only if it meets these demands.

    ::

        @requires("notes.write", agent="forbidden")
        def create(...): ...

    The demands are those of ``Route``. For functions and methods, plain or ``async``.
    It stands below the decorator that registers the handler. Without scopes, any
    ``Access`` will do. A request without ``Access`` is answered like one without
    credentials. Several add up, and are answered as one.

    Raises:
        ConfigurationError: a demand cannot be met by anybody.
    """
    _check_call(scopes)
    own = _read_demands(
        scopes=scopes,
        any_scopes=any_scopes,
        user=user,
        agent=agent,
        acr_values=acr_values,
        max_age=max_age,
    )

    def guard(
        handler: Callable[Parameters, Returned],
    ) -> Callable[Parameters, Returned]:
        below = _demands_of(handler)
        demands = own if below is None else both(own, below)

        @wraps(handler)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            access = _access_or_challenge(demands.named_scopes)
            check_policy(demands, access, LEEWAY.get(), time.time)
            return handler(*args, **kwargs)

        setattr(guarded, _DEMANDS, demands)
        if not iscoroutinefunction(handler):
            return guarded

        # Frameworks look at the function to tell whether to await it.
        @wraps(guarded)
        async def awaited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
            return await cast(Awaitable[Any], guarded(*args, **kwargs))

        return cast(Callable[Parameters, Returned], awaited)

    return guard


def _check_call(scopes: Sequence[object]) -> None:
    """Refuse the two ways in which decorators like this one are miswritten.

    Raises:
        ConfigurationError: shows how to write it.
    """
    for scope in scopes:
        if callable(scope):
            raise ConfigurationError("requires: write @requires(...) with parentheses")
        if isinstance(scope, list | tuple | set | frozenset):
            words = ", ".join(f'"{word}"' for word in cast(Iterable[object], scope))
            raise ConfigurationError(
                f"requires: {scope!r} is no scope; write requires({words})"
            )


def _read_demands(**demands: Any) -> Demands:
    """*demands* in the words of a ``Route``.

    Raises:
        ConfigurationError: in those of ``requires``.
    """
    try:
        return Route("/*", **demands).demands
    except ConfigurationError as fault:
        text = str(fault).removeprefix("Route('/*').")
        raise ConfigurationError(f"requires: {text}") from None


def declared_by(handler: object, method: str = "GET") -> tuple[str, ...]:
    """The scopes that clients need for *handler*, as far as ``requires`` says so.

    Where it is a class with a function for each method: of those for *method*.
    """
    demands = [_demands_of(handler)]
    if isinstance(handler, type):
        names = ("head", "get") if method == "HEAD" else (method.lower(),)
        functions = (getattr(handler, name, None) for name in names)
        demands.append(_demands_of(next(filter(None, functions), None)))
    return tuple(
        scope
        for demanded in demands
        if demanded is not None
        for scope in demanded.named_scopes
    )


def _demands_of(handler: object) -> Demands | None:
    demands: Demands | None = getattr(handler, _DEMANDS, None)
    return demands
