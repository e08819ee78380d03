"""Reading ``WWW-Authenticate`` as an independent agent does.

One field may carry several challenges, and several fields may carry one each; commas
separate challenges as well as parameters.

Source: RFC 9110 §11.6.1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - grammar
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})")
_SCHEME = re.compile(rf"({_TOKEN})(?: +|$|(?=,))")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
_SEPARATORS = re.compile(r"[ \t,]*")


@dataclass(frozen=True)
class Challenge:
    """One challenge: a scheme, and its parameters by their names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def read_challenges(fields: Iterable[str]) -> list[Challenge]:
    """All challenges of the *fields* called ``WWW-Authenticate``.

    Raises:
        ValueError: one of them does not follow the grammar.
    """
    return [challenge for field in fields for challenge in _read_field(field)]


def _read_field(field: str) -> Iterable[Challenge]:
    position = _skip(field, 0)
    while position < len(field):
        scheme = _SCHEME.match(field, position)
        if scheme is None:
            raise ValueError(f"not a challenge: {field[position:]!r}")
        parameters, position = _read_parameters(field, scheme.end())
        yield Challenge(scheme[1], parameters)


def _read_parameters(field: str, position: int) -> tuple[dict[str, str], int]:
    if token68 := _TOKEN68.match(field, position):
        return {}, _pass_comma(field, token68.end())
    parameters: dict[str, str] = {}
    position = _skip(field, position)
    while parameter := _PARAMETER.match(field, position):
        parameters[parameter[1].lower()] = _unquote(parameter[2])
        position = _pass_comma(field, parameter.end())
    return parameters, position


def _pass_comma(field: str, position: int) -> int:
    """Where the next part begins; only a comma may stand before it."""
    following = _skip(field, position)
    if following < len(field) and "," not in field[position:following]:
        raise ValueError(f"not a challenge: {field[following:]!r}")
    return following


def _skip(field: str, position: int) -> int:
    separators = _SEPARATORS.match(field, position)
    return separators.end() if separators else position


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
