"""What a caller may do: which of its scopes count, and what a route or handler demands.

Which scopes count depends on the token, its agent and the settings, so it is found once
and kept with the token. What is demanded changes from request to request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agentauth_middleware._core.agent_names import ceiling_of, is_listed
from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.demands import Demands
from agentauth_middleware._core.operations import Clock
from agentauth_middleware.access import Access, refusal_for_lack
from agentauth_middleware.errors import InsufficientScopeError, StepUpRequiredError
from agentauth_middleware.issuer import Issuer
from agentauth_middleware.resource_server import ResourceServer


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


def refusal_of_agent(access: Access, issuer: Issuer) -> str | None:
    """Why the agent that *issuer* names may not act at all, if so."""
    if issuer.agents is None or not access.is_by_agent:
        return None
    return None if is_listed(access.agent, issuer.agents) else "agent_not_allowed"


def check_policy(demands: Demands, access: Access, leeway: int, clock: Clock) -> None:
    """Refuse what *demands* do not allow: step-up, then scope, then actor and user.

    Raises:
        StepUpRequiredError, InsufficientScopeError, ActorRefusedError

    Source: RFC 9470 §3, RFC 6750 §3.1
    """
    scopes = access.scopes
    is_lacking = not scopes.issuperset(demands.scopes)
    for choice in demands.choices:
        is_lacking = is_lacking or scopes.isdisjoint(choice)
    lacking = None
    if is_lacking:
        lacking = refusal_for_lack(access, demands.scopes, *demands.choices)
    acr_values, max_age = demands.acr_values, demands.max_age
    if (acr_values and access.acr not in acr_values) or (
        max_age is not None and not _is_recent(access, max_age, leeway, clock())
    ):
        # Told at once, so that the client does not have to come back for them.
        next_up = lacking.scopes if isinstance(lacking, InsufficientScopeError) else ()
        raise StepUpRequiredError(
            acr_values=acr_values, max_age=max_age, scopes=next_up
        )
    if lacking is not None:
        raise lacking
    if demands.user is not None:
        access.require_user()
    if demands.agent == "required":
        access.require_agent()
    elif demands.agent is not None:
        access.forbid_agents()


def _is_recent(access: Access, max_age: int, leeway: int, now: float) -> bool:
    """Whether the user signed in at most *max_age* seconds ago (RFC 9470 §4).

    A token that does not say when does not meet the requirement.
    """
    auth_time = access.auth_time
    if auth_time is None:
        return False
    return -leeway <= now - auth_time <= max_age + leeway
