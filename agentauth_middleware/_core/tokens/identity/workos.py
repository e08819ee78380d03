"""``workos_blueprint`` and ``authkit_registration``, two kinds of one vendor's tokens.

Blueprint tokens turn RFC 8693 around: the agent is the subject, and ``act`` names its
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
    refuse_act,
    shown_text,
    with_extra,
)
from agentauth_middleware._syntax.members import is_object, optional_text
from agentauth_middleware.access import Identity, Mode, Principal
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason


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


def read_authkit_registration(said: Statement) -> Identity:
    """Tokens of an agent that registered by itself.

    How these tokens look is not published. This reading takes the agent to be
    ``registration_id``; or the subject, if a ``status`` or the profile marks it as a
    registration. ``status`` says whether a user has claimed it; without one the mode is
    ``"unknown"``. The user stands in the vendor's record of the registration and not in
    the token, so there is none.

    Raises:
        InvalidTokenError: it is over with the registration, or the token is of another
            kind, such as a blueprint's.
    """
    refuse_act(said, "authkit_registration")
    if has_word(said.profile, "user"):
        raise contradiction("the subject should be a registration, and is a user")
    mode = _registration_mode(optional_text(said.claims, "status"))
    registration = optional_text(said.claims, "registration_id")
    if "status" in said.claims or has_word(said.profile, "ai_agent"):
        registration = registration or said.subject
    if registration is None:
        return Identity("unknown")
    return Identity(mode, agent=actor_named(said.issuer, registration, "ai_agent"))


def _registration_mode(status: str | None) -> Mode:
    found = "" if status is None else status.strip().lower()
    if found in _ENDED:
        raise InvalidTokenError(_ENDED[found], f"the registration is {found}")
    if found in _INACTIVE:
        raise InvalidTokenError(Reason.REGISTRATION_INACTIVE, f"the status is {found}")
    if found == "unverified":
        return "agent_unclaimed"
    return "agent" if found == "verified" else "unknown"


_ENDED = {"expired": Reason.EXPIRED, "revoked": Reason.REVOKED}
_INACTIVE = frozenset(
    {
        *("suspended", "disabled", "deactivated", "inactive", "blocked"),
        *("deleted", "rejected", "cancelled", "canceled"),
    }
)
"""Words, in lower case, for a registration that does not count at present."""
