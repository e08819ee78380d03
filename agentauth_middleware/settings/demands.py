"""What a route, or a guard of a handler, demands of a good token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agentauth_middleware.errors import ConfigurationError

__all__ = ["Demands", "both"]


@dataclass(frozen=True, slots=True)
class Demands:
    """What a good token has to meet besides: at one route, or of several guards."""

    scopes: tuple[str, ...] = ()
    """All of them are needed."""
    choices: tuple[tuple[str, ...], ...] = ()
    """And one of each of these; the first of each is the preferred one."""
    user: Literal["required"] | None = None
    """Whether the token has to name a user."""
    agent: Literal["required", "forbidden"] | None = None
    """Whether an agent has to act, or may not take part."""
    acr_values: tuple[str, ...] = ()
    """One of these must be the token's ``acr``, where there are any (RFC 9470)."""
    max_age: int | None = None
    """Seconds since the user authenticated, at most (RFC 9470)."""
    optional: bool = False
    """Whether a request without ``Access`` meets them all. For guards of handlers: what
    a ``Route`` says of such requests is no matter of its demands."""

    @property
    def named_scopes(self) -> tuple[str, ...]:
        """What a challenge names: all that will do, and no more."""
        preferred = (choice[0] for choice in self.choices)
        return tuple(dict.fromkeys([*self.scopes, *preferred]))


def both(outer: Demands, inner: Demands) -> Demands:
    """Those of two guards of one handler, as one: for an answer in the right order
    that names all that is needed.

    Raises:
        ConfigurationError: no token can meet both.
    """
    if {outer.agent, inner.agent} == {"required", "forbidden"}:
        raise ConfigurationError(
            "requires: agent is required and forbidden for one handler; remove one"
        )
    ages = [age for age in (outer.max_age, inner.max_age) if age is not None]
    return Demands(
        (*outer.scopes, *inner.scopes),
        (*outer.choices, *inner.choices),
        outer.user or inner.user,
        outer.agent or inner.agent,
        _in_both(outer.acr_values, inner.acr_values),
        min(ages, default=None),
        outer.optional and inner.optional,
    )


def _in_both(outer: tuple[str, ...], inner: tuple[str, ...]) -> tuple[str, ...]:
    """The ``acr_values`` that meet two demands; of none at all, any will do."""
    if not (outer and inner):
        return outer or inner
    common = tuple(value for value in outer if value in inner)
    if not common:
        raise ConfigurationError(
            f"requires: acr_values are {' or '.join(outer)} and {' or '.join(inner)} "
            "for one handler, and no token has two; name one that is in both"
        )
    return common
