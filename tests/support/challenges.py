"""How clients read ``WWW-Authenticate``: by the grammar, or by regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Challenge:
    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case."""
    token68: str | None = None


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = (
    r'"(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]'
    r'|\\[\t \x21-\x7E\x80-\xFF])*"'
)
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t]*(?:,|\Z)| )")
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})[ \t]*(?=,|\Z)")
_TOKEN68 = re.compile(r"([A-Za-z0-9\-._~+/]+=*)[ \t]*(?=,|\Z)")
_SPACES = re.compile(r" +")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def parse_strictly(value: str) -> list[Challenge]:
    """The challenges of one field line, as whoever writes one has to write it.

    Raises:
        ValueError: it does not follow the grammar, or a parameter stands twice.

    Source: RFC 9110 §5.6.1.1, §11.2, §11.3, §11.6.1
    """
    challenges: list[Challenge] = []
    at: int | None = 0
    while at is not None:
        challenge, end = _challenge(value, at)
        challenges.append(challenge)
        at = _after_comma(value, end)
    return challenges


def _challenge(value: str, at: int) -> tuple[Challenge, int]:
    scheme = _SCHEME.match(value, at)
    if scheme is None:
        raise ValueError(f"no scheme in {value[at:]!r}")
    spaces = _SPACES.match(value, scheme.end())
    if spaces is None:
        return Challenge(scheme[1]), scheme.end()
    token68 = _TOKEN68.match(value, spaces.end())
    if token68 is not None:
        return Challenge(scheme[1], token68=token68[1]), token68.end()
    parameters, end = _parameters(value, spaces.end())
    return Challenge(scheme[1], parameters), end


def _parameters(value: str, at: int) -> tuple[dict[str, str], int]:
    """What stands up to the comma before the next scheme, and where that is."""
    found: dict[str, str] = {}
    parameter = _PARAMETER.match(value, at)
    if parameter is None:
        raise ValueError(f"no parameter in {value[at:]!r}")
    while True:
        name = parameter[1].lower()
        if name in found:
            raise ValueError(f"{name} stands twice")
        found[name] = _unquoted(parameter[2])
        end = parameter.end()
        following = _after_comma(value, end)
        parameter = None if following is None else _PARAMETER.match(value, following)
        if parameter is None:
            return found, end


def _after_comma(value: str, at: int) -> int | None:
    """Where the next member of the list begins; ``None`` at its end."""
    if at == len(value):
        return None
    comma = _COMMA.match(value, at)
    if comma is None:
        raise ValueError(f"no comma before {value[at:]!r}")
    return comma.end()


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def find_by_expression(lines: Iterable[str], name: str) -> str | None:
    """*name* as a client finds it that knows no grammar.

    Neither anchored nor aware of challenges, case-sensitive, and over all field lines.
    """
    found = re.search(rf'{name}=(?:"([^"]+)"|([^\s,]+))', ", ".join(lines))
    return found and (found[1] or found[2])


def find_in_bearer(lines: Iterable[str], name: str) -> str | None:
    """The same, as a client does it that looks at nothing but a Bearer challenge that
    comes first and has a parameter."""
    joined = ", ".join(lines)
    scheme, _, rest = joined.partition(" ")
    if scheme.lower() != "bearer" or not rest or rest.startswith(" "):
        return None
    return find_by_expression([joined], name)
