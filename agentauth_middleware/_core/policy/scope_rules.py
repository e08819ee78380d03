"""The scopes that count: with all that they imply, limited to those of the agent.

That depends on the token, its agent and the settings alone, so it is found once and
kept with the token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware.access import Access
from agentauth_middleware.settings.agent_names import ceiling_of
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer


class ScopeRules:
    """Which scopes imply which, and how far agents reach, for one resource server."""

    def __init__(self, server: ResourceServer) -> None:
        self._implied = _closure(server.implied_scopes)
        self._expanded: BoundedMap[frozenset[str], frozenset[str]] = BoundedMap(2048)
        """Tokens that say the same share one set."""

    def apply(self, access: Access, issuer: Issuer) -> Access:
        """*access* with the scopes that count, as far as its agent may use them."""
        scopes = self._expand(access.scopes)
        ceiling = None
        if access.is_by_agent:
            ceiling = ceiling_of(access.agent, issuer.agent_scopes)
        if ceiling is not None:
            ceiling = self._expand(ceiling)
            return replace(access, scopes=scopes & ceiling, scope_ceiling=ceiling)
        return access if scopes is access.scopes else replace(access, scopes=scopes)

    def _expand(self, scopes: frozenset[str]) -> frozenset[str]:
        if not self._implied:
            return scopes
        expanded = self._expanded.get(scopes)
        if expanded is None:
            implied = (self._implied.get(scope, frozenset()) for scope in scopes)
            expanded = scopes.union(*implied)
            self._expanded.put(scopes, expanded)
        return expanded


def _closure(implied: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """What each scope implies, however indirectly."""
    return {scope: frozenset(_reached(scope, implied)) for scope in implied}


def _reached(scope: str, implied: Mapping[str, Sequence[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [scope]
    while waiting:
        found = waiting.pop()
        if found not in reached:
            reached.add(found)
            waiting.extend(implied.get(found, ()))
    return reached
