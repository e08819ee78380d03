"""Finding the middlewares of an application, however deep they stand in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from agentauth_middleware import asgi, wsgi
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware.stores import Store
from agentauth_middleware.verifier import Verifier

__all__ = ["Middleware", "exchanged", "find_middlewares", "state_of", "store_of"]


class Middleware(Protocol):
    """What middlewares and verifiers keep to themselves, and this module alone reaches
    for.

    A middleware offers no other state to applications: for them that would be a back
    middleware.
    """

    _state: MiddlewareState
    _store: Store


def state_of(middleware: Middleware) -> MiddlewareState:
    return middleware._state  # pyright: ignore[reportPrivateUsage]


def store_of(middleware: Middleware) -> Store:
    return middleware._store  # pyright: ignore[reportPrivateUsage]


@contextmanager
def exchanged(
    middleware: Middleware, state: MiddlewareState
) -> Generator[None, None, None]:
    """Let *middleware* go by *state*; what it learns in between goes with it."""
    former = state_of(middleware)
    middleware._state = state  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        middleware._state = former  # pyright: ignore[reportPrivateUsage]


_INNER = (
    *("app", "application", "wsgi_app", "middleware_stack"),
    "_transport",  # httpx's clients; transports have an ``app``
    *("backend", "token_verifier", "_verifier"),  # the MCP SDK's auth, and ours in it
)
"""Where middleware, mounts, Flask, Starlette and test clients keep what is inside."""
_MIDDLEWARES = (asgi.AgentAuthMiddleware, wsgi.AgentAuthMiddleware, Verifier)


def find_middlewares(app: object) -> list[Middleware]:
    """The middlewares in front of, inside of or around *app*, from the outside in.

    A ``Verifier`` counts as one. *app* may also be a test client. A wrapper that keeps
    what it wraps to itself, such as a function, hides it.

    Raises:
        LookupError: there is none.
    """
    middlewares: list[Middleware] = []
    places, seen = deque([app]), {id(app)}
    while places:
        place = places.popleft()
        if isinstance(place, _MIDDLEWARES):
            middlewares.append(place)
        for inner in _inside(place):
            if id(inner) not in seen:
                seen.add(id(inner))
                places.append(inner)
    if not middlewares:
        raise LookupError(
            f"no middleware stands in front of {app!r}; give the AgentAuthMiddleware "
            "or the Verifier itself, or the application it was added to"
        )
    return middlewares


def _inside(place: Any) -> Iterator[object]:
    if hasattr(place, "build_middleware_stack") and place.middleware_stack is None:
        # As Starlette does itself, at the first request: no middleware exists before.
        place.middleware_stack = place.build_middleware_stack()
    for name in _INNER:
        inner = getattr(place, name, None)
        if inner is not None:
            yield inner
    routes = getattr(place, "routes", None)
    if isinstance(routes, list):
        yield from cast("list[object]", routes)
    mounts = getattr(place, "mounts", None)  # werkzeug's DispatcherMiddleware
    if isinstance(mounts, Mapping):
        yield from cast("Mapping[str, object]", mounts).values()
