"""Values listed in a message to the operator, briefly, whatever was configured."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_MOST = 5
_MAX_LENGTH = 100


def one_of(values: Iterable[object]) -> str:
    """*values* as alternatives: ``'a', 'b' or 'c'``. Long lists are cut."""
    shown = [quoted(value) for value in islice(values, _MOST + 1)]
    if len(shown) > _MOST:
        shown[_MOST] = "others"
    if len(shown) < 2:
        return "".join(shown) or "nothing"
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def quoted(value: object) -> str:
    """*value* as Python writes it, without control characters; a long one is cut."""
    if isinstance(value, str) and len(value) > _MAX_LENGTH:
        return f"{value[:_MAX_LENGTH]!r}..."
    return repr(value)
