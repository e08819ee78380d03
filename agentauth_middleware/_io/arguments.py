"""What a door is built from: checked as it is built, not at the first request."""

from __future__ import annotations

from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.resource_server import ResourceServer

__all__ = ["check_arguments", "check_remote_user"]


def check_arguments(app: object, resource_server: object, store: object) -> None:
    """Refuse what neither door can work with.

    Raises:
        ConfigurationError: names the argument, its fault and the mend.
    """
    if not isinstance(resource_server, ResourceServer):
        raise ConfigurationError(
            f"resource_server: {resource_server!r} is no ResourceServer; write "
            "AgentAuthMiddleware(app, ResourceServer(...))"
        )
    if not callable(app):
        raise ConfigurationError(
            f"app: {app!r} is no application; write AgentAuthMiddleware(app, "
            "resource_server)"
        )
    if store is not None and not _is_store(store):
        raise ConfigurationError(
            f"store: {store!r} is no store; write MemoryStore() or "
            'SQLiteStore("tokens.db")'
        )


def _is_store(store: object) -> bool:
    """Whether *store* has what doors ask of it; a class of stores is none."""
    return hasattr(store, "read_log") and not isinstance(store, type)


def check_remote_user(remote_user: object) -> None:
    """Refuse the name of a claim where a function is wanted.

    Raises:
        ConfigurationError: names the argument, its fault and the mend.
    """
    if remote_user is not None and not callable(remote_user):
        raise ConfigurationError(
            f"remote_user: {remote_user!r} is no function; write "
            "lambda access: access.subject"
        )
