"""Which resource servers use a store in this process."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["note_user", "users_of"]

_users: WeakKeyDictionary[Any, tuple[ResourceServer, ...]] = WeakKeyDictionary()


def note_user(store: object, server: ResourceServer) -> None:
    """Note that requests for *server* are decided with *store*."""
    known = users_of(store)
    if not any(server is user for user in known):
        with suppress(TypeError):  # a store that cannot be a weak key is not noted
            _users[store] = (*known, server)


def users_of(store: object) -> tuple[ResourceServer, ...]:
    """The resource servers that use *store* here, as far as they were noted."""
    try:
        return _users.get(store, ())
    except TypeError:
        return ()
