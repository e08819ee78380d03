"""Those who act, as ``act`` names them: the immediate actor outside, the first inside.

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
    """Whose name for the actor it is: ``iss``. Not the one who says so."""
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
    """The actors nested in what is *said*, outermost first.

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
    """Whether *actor* is whom the token is about: that is no delegation."""
    namespace = actor.namespace or said.issuer
    return (namespace, actor.subject) == (said.issuer, said.subject)


def principal(actor: Actor, said: Statement) -> Principal:
    """*actor*, with the profile that its token's issuer is entitled to give it.

    What somebody is, only the issuer of their name can say, and whom the operator
    believes about that.
    """
    namespace = actor.namespace or said.issuer
    profile = actor.profile if said.speaks_for(namespace) else None
    return actor_named(namespace, actor.subject, profile)
