"""Settings: what paths demand, for operators who cannot touch the handlers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

from agentauth_middleware._syntax.scopes import check_scopes, check_words
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import (
    check_flag,
    check_range,
    checked_items,
    replace_setting,
)
from agentauth_middleware.settings.demands import Demands

__all__ = ["Route"]

# Without what other frameworks write placeholders with, and what is in no decoded path
# by intention: taken literally, such a route would never match.
_PATTERN = re.compile(r"(?:/[^/{}*<>?%#]+|/\{[A-Za-z_][A-Za-z0-9_]*\})*(?:/\*?)?")
_METHOD = re.compile(r"[A-Z]+")


@dataclass(frozen=True)
class Route:
    """What the paths that match *pattern* demand.

    In a pattern ``{name}`` stands for one segment and a final ``*`` for the rest. It
    is matched against the path below the mount. The first route that matches counts.
    """

    pattern: str
    _: KW_ONLY
    methods: Sequence[str] | None = None
    """``GET`` includes ``HEAD`` and websocket handshakes; ``None`` is every method."""
    scopes: Sequence[str] = ()
    """All of them are needed."""
    any_scopes: Sequence[str] = ()
    """And one of these; the first is the one that clients are told to ask for."""
    public: bool = False
    """Nothing is checked and there is never an ``Access``."""
    optional: bool = False
    """Without credentials the request goes on without ``Access``; bad ones are
    refused all the same."""
    user: Literal["required"] | None = None
    agent: Literal["required", "forbidden"] | None = None
    max_age: int | None = None
    """Seconds since the user authenticated, at most (RFC 9470)."""
    acr_values: Sequence[str] = ()
    """One of these must be the token's ``acr``; in order of preference (RFC 9470)."""
    introspect: bool = False
    """Ask the token's issuer each time whether it is still good (RFC 7662)."""

    def __post_init__(self) -> None:
        key = f"Route({self.pattern!r})"
        if not _is_pattern(self.pattern):
            raise ConfigurationError(
                f"{key}: not a pattern; write the decoded path in segments such as "
                "/admin/{id}, with {name} (not <name>) for one whole segment and * "
                "only as the last one"
            )
        for flag in ("public", "optional", "introspect"):
            check_flag(getattr(self, flag), f"{key}.{flag}")
        for names in ("scopes", "any_scopes"):
            checked = check_scopes(getattr(self, names), f"{key}.{names}")
            replace_setting(self, names, checked)
        replace_setting(
            self, "acr_values", check_words(self.acr_values, f"{key}.acr_values")
        )
        replace_setting(
            self, "methods", _checked_methods(self.methods, f"{key}.methods")
        )
        if self.user not in (None, "required"):
            raise ConfigurationError(
                f'{key}.user: {self.user!r} is not "required"; write that, or leave it '
                "out"
            )
        if self.agent not in (None, "required", "forbidden"):
            raise ConfigurationError(
                f'{key}.agent: {self.agent!r} is neither "required" nor "forbidden"; '
                "write one of them, or leave it out"
            )
        if self.max_age is not None:
            check_range(self.max_age, f"{key}.max_age", 0, 2**31 - 1, whole=True)
        if self.public and (self.optional or self.introspect or self.demands_something):
            raise ConfigurationError(
                f"{key}: public checks nothing, so it excludes every other demand; "
                "use optional for a route that works with and without a token"
            )

    @cached_property
    def demands_something(self) -> bool:
        """Whether a good token alone is not enough."""
        return self.demands != Demands()

    @cached_property
    def demands(self) -> Demands:
        """What is checked of a good token."""
        return Demands(
            tuple(self.scopes),
            (tuple(self.any_scopes),) if self.any_scopes else (),
            self.user,
            self.agent,
            tuple(self.acr_values),
            self.max_age,
        )

    @cached_property
    def named_scopes(self) -> tuple[str, ...]:
        """What a challenge names: all that will do, and no more."""
        return self.demands.named_scopes


def _is_pattern(pattern: object) -> bool:
    if not isinstance(pattern, str) or not pattern.startswith("/"):
        return False
    return _PATTERN.fullmatch(pattern) is not None


def _checked_methods(methods: Sequence[str] | None, key: str) -> frozenset[str] | None:
    if methods is None:
        return None
    checked = frozenset(checked_items(methods, str, key))
    if not checked:
        raise ConfigurationError(f'{key}: empty; write ["GET"], or None for all')
    for method in checked:
        if not _METHOD.fullmatch(method):
            usual = method.upper()
            fix = usual if _METHOD.fullmatch(usual) else "GET"
            raise ConfigurationError(
                f"{key}: {method!r} is not a method in upper case; write {fix!r}"
            )
    return checked
