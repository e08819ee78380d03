"""Checks that several settings share: each names the key, the fault and the mend.

Settings are checked when built and frozen afterwards, so that nothing is ever checked
again while a request waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from agentauth_middleware.errors import ConfigurationError

Item = TypeVar("Item")


def replace_setting(settings: object, name: str, value: object) -> None:
    """Replace what was given by what was checked, in an instance still being built."""
    object.__setattr__(settings, name, value)


def checked_items(
    items: Iterable[object], kind: type[Item], key: str
) -> tuple[Item, ...]:
    """*items* as a tuple, if it is a list, or the like, of nothing but *kind*.

    Raises:
        ConfigurationError: it is not.
    """
    mend = f"write a list of {kind.__name__}"
    if isinstance(items, str) or not hasattr(items, "__iter__"):
        raise ConfigurationError(f"{key}: {items!r} is no list; {mend}")
    checked: list[Item] = []
    for item in items:
        if not isinstance(item, kind):
            raise ConfigurationError(f"{key}: {item!r} is no {kind.__name__}; {mend}")
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


def is_text(value: object) -> bool:
    """Whether *value* is a string with something in it."""
    return isinstance(value, str) and bool(value.strip())
