"""Where processes share what must not be forgotten: replays and revocations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware.stores._memory import MemoryStore
from agentauth_middleware.stores._protocol import Store

if TYPE_CHECKING:
    from agentauth_middleware.stores._sqlite import SQLiteStore
else:

    def __getattr__(name):
        # The middlewares import this package for MemoryStore; sqlite3 is loaded for
        # those who ask for it.
        if name == "SQLiteStore":
            from agentauth_middleware.stores._sqlite import SQLiteStore

            return SQLiteStore
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CutOff", "LogPage", "MemoryStore", "SQLiteStore", "Store"]
