"""The input of every dialect, and the principals that it makes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from agentauth_middleware._syntax.members import optional_text
from agentauth_middleware.access import Principal
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason

_SOFTWARE = frozenset({"ai_agent", "service", "browser_app", "native_app"})


class Statement(NamedTuple):
    """The claims of a token, and the operator's settings for its issuer."""

    claims: Mapping[str, Any]
    issuer: str
    subject: str | None
    client_id: str | None
    subjects_are_users: bool = False
    actor_issuers: Collection[str] = ()
    max_chain: int = 5

    @property
    def profile(self) -> str | None:
        """``sub_profile``: words for what the subject is."""
        return optional_text(self.claims, "sub_profile")

    @property
    def is_of_the_client(self) -> bool:
        """Whether the subject is the client itself."""
        return self.client_id is not None and self.subject == self.client_id

    @property
    def is_of_another_than_the_client(self) -> bool:
        """Not the opposite of the above: without a client id it is unknown."""
        return self.client_id is not None and self.subject != self.client_id

    def speaks_for(self, namespace: str) -> bool:
        """Whether the issuer may name the profile of an actor of *namespace*."""
        return namespace == self.issuer or namespace in self.actor_issuers


def has_word(profile: str | None, word: str) -> bool:
    """Whether *word* is one of a profile's words, in whatever case."""
    return profile is not None and word in profile.lower().split(" ")


def is_software(profile: str | None) -> bool:
    """Whether *profile* names software, whatever other words it has."""
    return profile is not None and not _SOFTWARE.isdisjoint(profile.lower().split(" "))


def may_be_person(profile: str | None) -> bool:
    """Whether the subject may be a person by *profile*: it says so, or is absent. With
    unknown words the subject is something else.
    """
    return (profile is None or has_word(profile, "user")) and not is_software(profile)


def contradiction(found: str) -> InvalidTokenError:
    """The error for a token that another dialect would read in another way."""
    return InvalidTokenError(Reason.CONTRADICTORY_PROFILES, found)


def refuse_act(said: Statement, dialect: str) -> None:
    """Refuse ``act`` in a dialect that has none: passed over, the request of an agent
    would be taken for the subject's own."""
    if "act" in said.claims:
        raise contradiction(f"{dialect} has no act")


def user_of(
    said: Statement,
    subject: str,
    *,
    profile: str | None = None,
    tenant: str | None = None,
) -> Principal:
    """The user, with what the token tells of them for display."""
    return Principal(
        said.issuer,
        subject,
        profile,
        shown_text(said.claims, "email"),
        _flag(said.claims, "email_verified"),
        shown_text(said.claims, "name"),
        tenant,
    )


def shown_text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim for display. It decides nothing, so one of a wrong type is left out and
    the request goes on."""
    value = claims.get(name)
    return value if isinstance(value, str) and value else None


def _flag(claims: Mapping[str, Any], name: str) -> bool | None:
    value = claims.get(name)
    return value if isinstance(value, bool) else None


@lru_cache(maxsize=4096)
def actor_named(issuer: str, subject: str, profile: str | None) -> Principal:
    """An actor. The few that an API sees are shared by all their tokens."""
    return Principal(issuer, subject, profile)


def with_extra(actor: Principal, **extra: str | None) -> Principal:
    """*actor* with what the token tells of it for audit, unless that is nothing."""
    told = {name: value for name, value in extra.items() if value is not None}
    if not told:
        return actor
    return Principal(actor.issuer, actor.subject, actor.profile, extra=told)
