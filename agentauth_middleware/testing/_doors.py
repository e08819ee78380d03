"""Finding the doors of an application, however deep they stand in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from agentauth_middleware import asgi, wsgi
from agentauth_middleware._core.middleware_state import Gate
from agentauth_middleware.stores import Store
from agentauth_middleware.verifier import Verifier

__all__ = ["Door", "exchanged", "find_doors", "gate_of", "store_of"]


class Door(Protocol):
    """What doors and verifiers keep to themselves, and this module alone reaches for.

    A door offers no other gate to applications: for them that would be a back door.
    """

    _gate: Gate
    _store: Store


def gate_of(door: Door) -> Gate:
    return door._gate  # pyright: ignore[reportPrivateUsage]


def store_of(door: Door) -> Store:
    return door._store  # pyright: ignore[reportPrivateUsage]


@contextmanager
def exchanged(door: Door, gate: Gate) -> Generator[None, None, None]:
    """Let *door* go by *gate*; what it learns in between goes with it."""
    former = gate_of(door)
    door._gate = gate  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        door._gate = former  # pyright: ignore[reportPrivateUsage]


_INNER = (
    *("app", "application", "wsgi_app", "middleware_stack"),
    "_transport",  # httpx's clients; transports have an ``app``
    *("backend", "token_verifier", "_verifier"),  # the MCP SDK's auth, and ours in it
)
"""Where middleware, mounts, Flask, Starlette and test clients keep what is inside."""
_DOORS = (asgi.AgentAuthMiddleware, wsgi.AgentAuthMiddleware, Verifier)


def find_doors(app: object) -> list[Door]:
    """The doors in front of, inside of or around *app*, from the outside in.

    A ``Verifier`` counts as one. *app* may also be a test client. A wrapper that keeps
    what it wraps to itself, such as a function, hides it.

    Raises:
        LookupError: there is none.
    """
    doors: list[Door] = []
    places, seen = deque([app]), {id(app)}
    while places:
        place = places.popleft()
        if isinstance(place, _DOORS):
            doors.append(place)
        for inner in _inside(place):
            if id(inner) not in seen:
                seen.add(id(inner))
                places.append(inner)
    if not doors:
        raise LookupError(
            f"no door stands in front of {app!r}; give the AgentAuthMiddleware or the "
            "Verifier itself, or the application it was added to"
        )
    return doors


def _inside(place: Any) -> Iterator[object]:
    if hasattr(place, "build_middleware_stack") and place.middleware_stack is None:
        # As Starlette does itself, at the first request: no door exists before.
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
