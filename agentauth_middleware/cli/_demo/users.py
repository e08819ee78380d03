"""The people of the demo, whose agents call the APIs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """A person that all servers know, each by another name."""

    name: str
    """In the APIs."""
    id: str
    """At the authorization server."""
    email: str
    account: str
    """At the agent provider."""


ALICE = User("Alice", "alice", "alice@example.com", "user-17")
BOB = User("Bob", "bob", "bob@example.com", "user-18")
