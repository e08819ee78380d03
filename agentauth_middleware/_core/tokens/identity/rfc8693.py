"""``rfc8693``: ``act`` acts for ``sub`` (RFC 8693 §4.1).

Other dialects that keep these places share the rule. They differ in what proves the
subject to be a person or not, and in what they demand of actors.
"""

from __future__ import annotations

from agentauth_middleware._core.tokens.identity.actors import (
    Actor,
    is_the_subject,
    principal,
    read_actors,
)
from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    actor_named,
    contradiction,
    has_word,
    is_software,
    may_be_person,
    user_of,
)
from agentauth_middleware.access import Identity, Mode, Principal


def read_rfc8693(said: Statement) -> Identity:
    """A subject is a person if its profile says so; and, where it has none, if it is
    acted for or with ``subjects_are_users``."""
    actors = read_delegation(said)
    return identity_of(said, actors, subject_mode(said, actors))


def read_delegation(said: Statement) -> tuple[Actor, ...]:
    """The actors, outermost first.

    Raises:
        InvalidTokenError: by their profiles the roles are reversed.
    """
    actors = read_actors(said)
    check_roles(said, actors)
    return actors


def check_roles(said: Statement, actors: tuple[Actor, ...]) -> None:
    """Refuse an actor that is a person, unless the subject is one too.

    Some issuers put the agent in ``sub`` and the user in ``act``: read as RFC 8693
    says, the agent would have the user's rights. A refusal needs no trust, so it does
    not matter here whether the issuer may speak for the actor.
    """
    if not actors or not has_word(actors[0].profile, "user"):
        return
    if is_software(said.profile) or not has_word(said.profile, "user"):
        raise contradiction(f"act names a user, and sub_profile is {said.profile!r}")


def subject_mode(said: Statement, actors: tuple[Actor, ...]) -> Mode:
    """What the subject is: by its profile, else by the setting ``subjects``.

    ``"user"``, ``"agent"``, ``"service"`` or ``"unknown"``. A subject without a profile
    is a person if one of *actors* acts for it, or the operator says so; in either case
    only beside a client of another name, because the subject might be the client.
    """
    profile, subject = said.profile, said.subject
    if has_word(profile, "ai_agent") and subject is not None:
        return "agent"
    if has_word(profile, "service") or said.is_of_the_client:
        return "service"
    if subject is None or not may_be_person(profile):
        return "unknown"
    if has_word(profile, "user"):
        return "user"
    acted_for = bool(actors) and not is_the_subject(actors[0], said)
    if said.is_of_another_than_the_client and (acted_for or said.subjects_are_users):
        return "user"
    return "unknown"


def identity_of(said: Statement, actors: tuple[Actor, ...], mode: Mode) -> Identity:
    """Who acts for a subject of *mode*: its agent, or an agent itself.

    A subject that is its own actor is not acted for. Earlier actors stay in the chain,
    so an agent is not forgotten because of such a step.
    """
    user = _user(said) if mode == "user" else None
    if not actors or is_the_subject(actors[0], said):
        agent = _subject(said) if mode == "agent" else None
        chain = tuple([principal(actor, said) for actor in actors[1:]])
        return Identity(mode, user, agent, chain)
    agent, *earlier = [principal(actor, said) for actor in actors]
    return Identity("delegated" if user else mode, user, agent, tuple(earlier))


def _user(said: Statement) -> Principal | None:
    subject = said.subject
    return None if subject is None else user_of(said, subject, profile=said.profile)


def _subject(said: Statement) -> Principal | None:
    subject = said.subject
    return None if subject is None else actor_named(said.issuer, subject, said.profile)
