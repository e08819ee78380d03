"""From claims to people and programs: who is the user, who is the agent.

A token answers only what it says. ``sub`` may be a person, a service or the client
itself, and nothing in plain OAuth tells which; what the token does not prove stays
``None``. The immediate actor is the outermost ``act``; the inner ones are history and
decide nothing (RFC 8693 §4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from agentauth_middleware._core.claims import is_object, optional_text, text
from agentauth_middleware.access import Mode, Principal
from agentauth_middleware.errors import InvalidTokenError

MAX_CHAIN = 5
"""Actors in a chain, the immediate one included. Deeper is refused, never cut off."""


class Identity(NamedTuple):
    """The part of an ``Access`` that says who."""

    user: Principal | None
    agent: Principal | None
    chain: tuple[Principal, ...]
    mode: Mode


def read_identity(
    claims: Mapping[str, Any],
    issuer: str,
    client_id: str | None,
    *,
    subjects_are_users: bool,
) -> Identity:
    """Who stands behind a token with plain RFC 8693 claims.

    Does not check whether *issuer* may speak for an ``act.iss`` other than its own:
    such an actor is keyed by that name and belongs to no list of yours by accident.

    Raises:
        ValueError: ``act`` or a ``sub_profile`` is not of the form demanded.
        InvalidTokenError: the profiles say that user and agent are swapped.

    Source: RFC 8693 §4.1
    """
    subject = optional_text(claims, "sub")
    actors = _actors(claims, issuer)
    if actors and (actors[0].issuer, actors[0].subject) == (issuer, subject):
        actors = ()  # somebody acting for themselves is no delegation
    kind = _kind(claims, subject, client_id)
    if actors and kind == "agent" and _is(actors[0].profile, "user"):
        raise InvalidTokenError("contradictory_profiles", "act names a user")
    if kind == "unknown" and (actors or subjects_are_users) and _may_be_human(claims):
        kind = "user"
    if subject is None:
        return Identity(None, *_split(actors), "unknown")
    user = _user(claims, issuer, subject) if kind == "user" else None
    if not actors:
        agent = _named(issuer, subject, "ai_agent") if kind == "agent" else None
        return Identity(user, agent, (), kind)
    mode = "delegated" if user is not None else kind
    return Identity(user, *_split(actors), mode)


def _split(
    actors: tuple[Principal, ...],
) -> tuple[Principal | None, tuple[Principal, ...]]:
    """The immediate actor, and the earlier ones."""
    return (actors[0], actors[1:]) if actors else (None, ())


def _kind(
    claims: Mapping[str, Any], subject: str | None, client_id: str | None
) -> Mode:
    """What the subject is: by its profile, or because it is the client itself."""
    profile = optional_text(claims, "sub_profile")
    if _is(profile, "ai_agent"):
        return "agent"
    if _is(profile, "service") or subject == client_id:
        return "service"
    return "user" if _is(profile, "user") else "unknown"


def _may_be_human(claims: Mapping[str, Any]) -> bool:
    """Whether nothing says that the subject is a piece of software."""
    profile = optional_text(claims, "sub_profile")
    return not (_is(profile, "browser_app") or _is(profile, "native_app"))


def _is(profile: str | None, word: str) -> bool:
    return profile is not None and word in profile.split(" ")


def _user(claims: Mapping[str, Any], issuer: str, subject: str) -> Principal:
    email, name = claims.get("email"), claims.get("name")
    verified = claims.get("email_verified")
    return Principal(
        issuer,
        subject,
        optional_text(claims, "sub_profile"),
        email if isinstance(email, str) else None,
        verified if isinstance(verified, bool) else None,
        name if isinstance(name, str) else None,
    )


def _actors(claims: Mapping[str, Any], issuer: str) -> tuple[Principal, ...]:
    """The chain of ``act``, outermost first."""
    if "act" not in claims:
        return ()
    actors: list[Principal] = []
    holder: Mapping[str, Any] = claims
    while "act" in holder:
        if len(actors) == MAX_CHAIN:
            raise ValueError(f"more than {MAX_CHAIN} actors")
        act = holder["act"]
        if not is_object(act):
            raise ValueError("act is not an object")
        namespace = optional_text(act, "iss") or issuer
        profile = optional_text(act, "sub_profile")
        # What somebody is, only the issuer of their name can say.
        known = profile if namespace == issuer else None
        actors.append(_named(namespace, text(act, "sub"), known))
        holder = act
    return tuple(actors)


@lru_cache(maxsize=4096)
def _named(issuer: str, subject: str, profile: str | None) -> Principal:
    """An actor. The few that an API sees are shared by all their tokens."""
    return Principal(issuer, subject, profile)
