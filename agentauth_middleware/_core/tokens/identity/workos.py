"""``workos_blueprint``: the tokens of agents made from a blueprint.

They turn RFC 8693 around: the agent is the subject, and ``act`` names its
user. The wrong reading gives one the other's rights, so that nothing is read from them
unless both profiles say who is who.
"""

from __future__ import annotations

from agentauth_middleware._core.tokens.identity.actors import (
    is_the_subject,
    principal,
    read_actor,
)
from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    actor_named,
    contradiction,
    has_word,
    may_be_person,
    shown_text,
    with_extra,
)
from agentauth_middleware._syntax.members import is_object
from agentauth_middleware.access import Identity, Principal


def read_workos_blueprint(said: Statement) -> Identity:
    """The agent in ``sub``, the user it acts for in ``act``.

    Earlier actors are not in these tokens. Does not check that the agent's session,
    or the user's, still lives: only the vendor knows.

    Raises:
        InvalidTokenError: the profiles do not say that it is this way around.
    """
    profile = said.profile
    if has_word(profile, "user"):
        raise contradiction(f"the subject should be an agent, and is {profile!r}")
    if "act" not in said.claims:
        return _without_user(said)
    agent, user = _blueprint_agent(said), _blueprint_user(said)
    if agent is None:
        raise contradiction(f"act names a user, and sub_profile is {profile!r}")
    return Identity("delegated", user, agent)


def _without_user(said: Statement) -> Identity:
    agent = _blueprint_agent(said)
    if agent is not None:
        return Identity("agent", agent=agent)
    if has_word(said.profile, "service") or said.is_of_the_client:
        return Identity("service")
    return Identity("unknown")


def _blueprint_agent(said: Statement) -> Principal | None:
    subject, profile = said.subject, said.profile
    if subject is None or not has_word(profile, "ai_agent"):
        return None
    intent = said.claims.get("intent")
    return with_extra(
        actor_named(said.issuer, subject, profile),
        session=shown_text(said.claims, "sid"),
        organization=shown_text(said.claims, "org_id"),
        intent=shown_text(intent, "text") if is_object(intent) else None,
    )


def _blueprint_user(said: Statement) -> Principal:
    actor = read_actor(said.claims["act"])
    if "act" in said.claims["act"]:
        raise ValueError("act is nested, and this dialect names no earlier actors")
    user = principal(actor, said)
    is_person = user.profile is not None and may_be_person(user.profile)
    if not is_person or is_the_subject(actor, said):
        raise contradiction(f"act should name a user, and is {user.profile!r}")
    return user
