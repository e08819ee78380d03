"""What is asked of a good token, whoever asks: a route or the guards of a handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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

    @property
    def named_scopes(self) -> tuple[str, ...]:
        """What a challenge names: all that will do, and no more."""
        preferred = (choice[0] for choice in self.choices)
        return tuple(dict.fromkeys([*self.scopes, *preferred]))
