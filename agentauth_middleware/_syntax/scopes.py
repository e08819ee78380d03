"""Scope words and sets of them (RFC 6749 §3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from agentauth_middleware.errors import ConfigurationError

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


_LONG = 1024
"""Characters. Longer values are not kept, so that the cache stays small."""


def parse_scopes(text: str) -> frozenset[str]:
    """The words of a ``scope`` member. Tokens that say the same share one set."""
    return _words(text) if len(text) > _LONG else _shared_words(text)


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split(" ") if word)


_shared_words = lru_cache(maxsize=1024)(_words)


def check_scopes(scopes: Iterable[str], key: str) -> tuple[str, ...]:
    """*scopes* as a tuple without repetitions, if each can stand in a challenge.

    Raises:
        ConfigurationError: one of them is no scope token; names *key*.
    """
    unique = check_words(scopes, key)
    if "offline_access" in unique:
        raise ConfigurationError(
            f"{key}: offline_access is between the client and the authorization "
            "server; a resource does not ask for it, so remove it"
        )
    return unique


def check_words(words: Iterable[str], key: str) -> tuple[str, ...]:
    """*words* as a tuple without repetitions, if they can be listed in a challenge.

    Raises:
        ConfigurationError: one of them cannot; names *key*.
    """
    if isinstance(words, str):
        raise ConfigurationError(
            f"{key}: {words!r} is one string; write a list, {[words]!r}"
        )
    if not hasattr(words, "__iter__"):
        raise ConfigurationError(f"{key}: {words!r} is no list; write a list, []")
    listed = tuple(words)
    for word in listed:
        if not _is_word(word):
            raise ConfigurationError(
                f"{key}: {word!r} is not one word; use printable ASCII without "
                "spaces, quotes and backslashes (RFC 6749 §3.3)"
            )
    return tuple(dict.fromkeys(listed))


def _is_word(word: object) -> bool:
    return isinstance(word, str) and _SCOPE_TOKEN.fullmatch(word) is not None
