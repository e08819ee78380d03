"""Actors, as ``act`` names them: the immediate actor outside, the first inside.

Only the outermost may decide anything; the inner ones are history (RFC 8693 §4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agentauth_middleware._core.tokens.identity.statement import Statement, actor_named
from agentauth_middleware._syntax.members import is_object, optional_text, text
from agentauth_middleware.access import Principal


class Actor(NamedTuple):
    """One actor, as it stands in the token."""

    namespace: str | None
    """The issuer of the actor's name: ``iss`` inside ``act``. Not the issuer of the
    token."""
    subject: str
    profile: str | None


def read_actor(act: object) -> Actor:
    """The actor in *act*.

    Does not look at anything else in there: ``exp``, ``aud`` or ``cnf`` of an actor
    mean nothing.

    Raises:
        ValueError: it is none.
    """
    if not is_object(act):
        raise ValueError("act is not an object")
    return Actor(
        optional_text(act, "iss"), text(act, "sub"), optional_text(act, "sub_profile")
    )


def read_actors(said: Statement) -> tuple[Actor, ...]:
    """The actors nested in the claims, outermost first.

    Raises:
        ValueError: one of them is malformed, or there are too many.
    """
    actors: list[Actor] = []
    holder: Any = said.claims
    while "act" in holder:
        holder = holder["act"]
        actors.append(read_actor(holder))
        check_length(actors, said)
    return tuple(actors)


def check_length(actors: Sequence[Actor], said: Statement) -> None:
    """Refuse too many actors, the immediate one included; they are never cut off."""
    if len(actors) > said.max_chain:
        raise ValueError(f"more than {said.max_chain} actors")


def is_the_subject(actor: Actor, said: Statement) -> bool:
    """Whether *actor* is the subject of the token. That is no delegation."""
    namespace = actor.namespace or said.issuer
    return (namespace, actor.subject) == (said.issuer, said.subject)


def principal(actor: Actor, said: Statement) -> Principal:
    """*actor*, with the profile that its token's issuer is entitled to give it.

    Only the issuer of an actor's name can say what the actor is, and issuers that the
    operator trusts for that namespace.
    """
    namespace = actor.namespace or said.issuer
    profile = actor.profile if said.speaks_for(namespace) else None
    return actor_named(namespace, actor.subject, profile)
