"""``client_only``: an issuer that knows people and clients, and nothing of agents."""

from __future__ import annotations

from agentauth_middleware._core.tokens.identity.rfc8693 import identity_of
from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    contradiction,
    has_word,
    may_be_person,
    refuse_act,
)
from agentauth_middleware.access import Identity


def read_client_only(said: Statement) -> Identity:
    """A subject is the client, or a person where ``subjects_are_users``.

    Profiles never prove a person here; they can only rule one out.

    Raises:
        InvalidTokenError: the token speaks of an agent.
    """
    refuse_act(said, "client_only")
    if has_word(said.profile, "ai_agent"):
        raise contradiction("client_only has no agents")
    if has_word(said.profile, "service") or said.is_of_the_client:
        return identity_of(said, (), "service")
    is_user = (
        said.subject is not None
        and said.subjects_are_users
        and said.is_of_another_than_the_client
        and may_be_person(said.profile)
    )
    return identity_of(said, (), "user" if is_user else "unknown")
