"""Several workers, each with a memory of its own: told to the operator, once."""

from __future__ import annotations

import logging

from agentauth_middleware._io.neighbours import is_second_process
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["warn_of_other_workers"]

_logger = logging.getLogger("agentauth_middleware")


def warn_of_other_workers(server: ResourceServer) -> None:
    """Warn if another process serves *server* as well, which has a ``MemoryStore``.

    One process of all warns. Does not notice workers on other hosts.
    """
    if is_second_process(f"MemoryStore {server.resource}"):
        _logger.warning(
            "several processes serve %s, each with a MemoryStore of its own: a "
            "revocation told to one is not enforced by the others; give all of them "
            "one store, AgentAuthMiddleware(..., store=SQLiteStore(path))",
            server.resource,
        )
