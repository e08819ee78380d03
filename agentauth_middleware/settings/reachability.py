"""Routes that can never match.

The first route that matches counts, so a route behind a wider one demands nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.route import Route

__all__ = ["check_reachable"]


def check_reachable(routes: Sequence[Route]) -> None:
    """Refuse a route if an earlier one matches all of its requests.

    Raises:
        ConfigurationError: names both.
    """
    for earlier, later in combinations(routes, 2):
        if _takes_methods(earlier, later) and _takes_paths(earlier, later):
            raise ConfigurationError(
                f"Route({later.pattern!r}): can never match, because "
                f"Route({earlier.pattern!r}) before it takes all its requests; put it "
                "first, or remove it"
            )


def _takes_methods(earlier: Route, later: Route) -> bool:
    if earlier.methods is None:
        return True
    taken = {*earlier.methods, *(["HEAD"] if "GET" in earlier.methods else [])}
    return later.methods is not None and set(later.methods) <= taken


def _takes_paths(earlier: Route, later: Route) -> bool:
    """Whether each path that *later* matches is one that *earlier* matches."""
    wide, narrow = earlier.pattern.split("/")[1:], later.pattern.split("/")[1:]
    for position, segment in enumerate(wide):
        if segment == "*":
            return True
        if position == len(narrow):
            return segment == ""  # a final slash, which is matched without as well
        other = narrow[position]
        is_any = segment.startswith("{") and other not in ("", "*")
        if segment != other and not is_any:
            return False
    return len(wide) == len(narrow)
