"""Checks that several settings share: each names the key, the fault and the fix.

Settings are checked when built and frozen afterwards, so that nothing is ever checked
again while a request waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import iscoroutinefunction
from typing import Any, TypeGuard, TypeVar

from agentauth_middleware.errors import ConfigurationError

__all__ = [
    "check_flag",
    "check_plain_function",
    "check_range",
    "check_secret",
    "check_text",
    "checked_items",
    "is_text",
    "replace_setting",
    "shown",
]

Item = TypeVar("Item")


def replace_setting(settings: object, name: str, value: object) -> None:
    """Replace what was given by what was checked, in an instance still being built."""
    object.__setattr__(settings, name, value)


def checked_items(
    items: Iterable[object], kind: type[Item], key: str
) -> tuple[Item, ...]:
    """*items* as a tuple, if it is a list, or the like, of nothing but *kind*.

    An iterator is refused: it can be read only once.

    Raises:
        ConfigurationError: it is not.
    """
    name = kind.__name__
    fix = f"write a list{' of str' if name == 'str' else f', [{name}(...)]'}"
    is_text = isinstance(items, str)
    if name == "str" and is_text:
        fix = f"write a list, {[items]!r}"
    if is_text or isinstance(items, Iterator) or not hasattr(items, "__iter__"):
        raise ConfigurationError(f"{key}: {shown(items)} is no list; {fix}")
    checked: list[Item] = []
    for item in items:
        if not isinstance(item, kind):
            raise ConfigurationError(f"{key}: {shown(item)} is no {name}; {fix}")
        checked.append(item)
    return tuple(checked)


def check_range(
    number: object,
    key: str,
    least: float,
    most: float,
    *,
    whole: bool = False,
    unit: str = "seconds",
) -> None:
    """Refuse what is no number from *least* to *most*, as ``True`` is not.

    Raises:
        ConfigurationError: it is none.
    """
    if (
        isinstance(number, int if whole else int | float)
        and not isinstance(number, bool)
        and least <= number <= most
    ):
        return
    kind = "a whole number" if whole else "a number"
    raise ConfigurationError(
        f"{key}: {number!r} is not {kind} of {unit} from {least} to {most}"
    )


def check_flag(flag: object, key: str) -> None:
    """Refuse what is not a flag: ``"no"`` would count as true.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(flag, bool):
        raise ConfigurationError(f"{key}: {flag!r} is no flag; write True or False")


def check_text(value: object, key: str, fix: str) -> None:
    """Refuse what is no text, has nothing in it, or has more lines than one.

    Raises:
        ConfigurationError: *value* is that; it shows, so it must be no secret.
    """
    if not is_text(value):
        raise ConfigurationError(f"{key}: {shown(value)} is no text or empty; {fix}")
    if not value.isprintable():
        raise ConfigurationError(
            f"{key}: {value!r} has a line break or other control character; remove it"
        )


def check_secret(secret: object, key: str) -> None:
    """Refuse what cannot be sent as it was meant. The message must not tell it.

    Raises:
        ConfigurationError: *secret* cannot.
    """
    if not isinstance(secret, str):
        kind = type(secret).__name__
        raise ConfigurationError(f"{key}: is no text but {kind}; give a string")
    if not secret.strip():
        raise ConfigurationError(
            f"{key}: empty; set the environment variable that it comes from"
        )
    if not secret.isprintable():
        raise ConfigurationError(
            f"{key}: has a line break or other control character; strip what comes "
            "from a file"
        )


def check_plain_function(function: Any, key: str) -> None:
    """Refuse a function that has to be awaited: settings are used where nothing can be.

    Raises:
        ConfigurationError: it has to be.
    """
    # An object with such a method may stand for a function.
    if any(map(iscoroutinefunction, (function, function.__call__))):
        raise ConfigurationError(
            f"{key}: {function!r} has to be awaited; write a plain function"
        )


def is_text(value: object) -> TypeGuard[str]:
    """Whether *value* is a string with something in it."""
    return isinstance(value, str) and bool(value.strip())


def shown(value: object) -> str:
    """*value* in a message: in full if it is plain, else only its type.

    The whole of anything else would be long, and might have a secret in it.
    """
    if value is None or isinstance(value, str | int | float | type):
        return repr(value)
    return type(value).__name__
