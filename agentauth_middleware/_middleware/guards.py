"""Guards of handlers: what they demand, and how the middleware finds it beforehand.

A guard raises an error, which the middleware or an error handler of the framework
answers. Its demands are kept on the handler, so that a challenge can name them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Literal, ParamSpec, TypeVar, cast

from agentauth_middleware._core.policy.caller import check_policy
from agentauth_middleware.access import CURRENT, Access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
)
from agentauth_middleware.settings.demands import Demands, both
from agentauth_middleware.settings.route import Route

__all__ = ["NO_CONTEXT", "declared_by", "demands_of", "find_access", "requires"]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


NO_CONTEXT = (
    "no middleware stands in front of this handler, or it runs in a thread without the "
    "request's context: install the middleware, or use copy_context().run"
)
_DEMANDS = "__agentauth_demands__"
"""The attribute of a guarded handler that says what it demands. Decorators that keep a
handler's name, as ``functools.wraps`` does, keep this too."""


def find_access() -> Access | None:
    """The ``Access`` of the request being handled, if it has one.

    Raises:
        ConfigurationError: no middleware has seen the request.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise ConfigurationError(NO_CONTEXT) from None


def requires(
    *scopes: str,
    any_scopes: Sequence[str] = (),
    user: Literal["required"] | None = None,
    agent: Literal["required", "forbidden"] | None = None,
    acr_values: Sequence[str] = (),
    max_age: int | None = None,
    optional: bool = False,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Let a request reach the decorated handler only if it meets these demands.

    ::

        @requires("notes.write", agent="forbidden")
        def create(...): ...

    The demands are those of ``Route``. For functions and methods, plain or ``async``.
    It stands below the decorator that registers the handler. Without scopes, any
    ``Access`` will do. A request without ``Access`` is answered like one without
    credentials. With *optional* such a request reaches the handler, and only one with
    an ``Access`` has to meet the demands: for handlers that serve people as well.
    Several guards add up, and are answered as one; they are optional if all of them
    are.

    Raises:
        ConfigurationError: no token can meet a demand.
    """
    _check_call(scopes)
    own = _read_demands(
        scopes=scopes,
        any_scopes=any_scopes,
        user=user,
        agent=agent,
        acr_values=acr_values,
        max_age=max_age,
        optional=optional,
    )

    def guard(
        handler: Callable[Parameters, Returned],
    ) -> Callable[Parameters, Returned]:
        below = demands_of(handler)
        demands = own if below is None else both(own, below)

        @wraps(handler)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            _check(demands)
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


def _check(demands: Demands) -> None:
    access = find_access()
    if access is not None:
        check_policy(demands, access, time.time())
    elif not demands.optional:
        raise AuthenticationRequiredError(demands.named_scopes)


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
        route = Route("/*", **demands)
    except ConfigurationError as fault:
        text = str(fault).removeprefix("Route('/*').")
        raise ConfigurationError(f"requires: {text}") from None
    return replace(route.demands, optional=route.optional)


def declared_by(handler: object, method: str = "GET") -> tuple[str, ...]:
    """The scopes that clients need for *handler*, as far as ``requires`` says so.

    Where it is a class with a function for each method: of those for *method*.
    """
    demands = [demands_of(handler)]
    if isinstance(handler, type):
        names = ("head", "get") if method == "HEAD" else (method.lower(),)
        functions = (getattr(handler, name, None) for name in names)
        demands.append(demands_of(next(filter(None, functions), None)))
    return tuple(
        scope
        for demanded in demands
        if demanded is not None
        for scope in demanded.named_scopes
    )


def demands_of(handler: object) -> Demands | None:
    """What ``requires`` demands of requests for *handler*, if it guards it."""
    demands: Demands | None = getattr(handler, _DEMANDS, None)
    return demands
