"""Entries of the log of revocations, by names that a test can read."""

from __future__ import annotations

from math import inf

from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware.stores import Store

AT = 1_600_000_000.0


def entry(name: bytes, at: float = AT, forget_at: float = inf) -> CutOff:
    """What a process appends; its key is *name*."""
    return CutOff(name, at, forget_at, b"{}")


def append(store: Store, *names: bytes) -> None:
    """Append one entry for each of *names*."""
    store.append_log([entry(name) for name in names])


def names_of(page: LogPage) -> tuple[bytes, ...]:
    """The names of the entries in *page*, in their order."""
    return tuple(key for key, _ in page.entries)
