"""Scope words and sets of them (RFC 6749 §3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from agentauth_middleware.errors import ConfigurationError

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


@lru_cache(maxsize=1024)
def parse_scopes(text: str) -> frozenset[str]:
    """The words of a ``scope`` member. Tokens that say the same share one set."""
    return frozenset(word for word in text.split(" ") if word)


def check_scopes(scopes: Iterable[str], key: str) -> tuple[str, ...]:
    """*scopes* as a tuple without repetitions, if each can stand in a challenge.

    Raises:
        ConfigurationError: one of them is no scope token; names *key*.
    """
    if isinstance(scopes, str):
        raise ConfigurationError(
            f"{key}: {scopes!r} is one string; write a tuple of scopes, ({scopes!r},)"
        )
    unique = tuple(dict.fromkeys(scopes))
    for scope in unique:
        if not _SCOPE_TOKEN.fullmatch(scope):
            raise ConfigurationError(
                f"{key}: {scope!r} is not a scope; use printable ASCII without "
                "spaces, quotes and backslashes (RFC 6749 §3.3)"
            )
        if scope == "offline_access":
            raise ConfigurationError(
                f"{key}: offline_access is between the client and the authorization "
                "server; a resource does not ask for it, so remove it"
            )
    return unique
