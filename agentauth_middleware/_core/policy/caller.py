"""What a caller may do: what a route or a handler demands of a good token.

It changes from request to request. Which scopes count does not: ``scope_rules``.
"""

from __future__ import annotations

from agentauth_middleware.access import Access, refusal_for_lack
from agentauth_middleware.errors import (
    InsufficientScopeError,
    RequestRefusedError,
    StepUpRequiredError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.agent_names import is_listed
from agentauth_middleware.settings.demands import Demands
from agentauth_middleware.settings.issuer import Issuer


def refusal_of_agent(access: Access, issuer: Issuer) -> str | None:
    """Why the agent that *issuer* names may not act at all, if so."""
    if issuer.agents is None or not access.is_by_agent:
        return None
    return None if is_listed(access.agent, issuer.agents) else Reason.AGENT_NOT_ALLOWED


def check_policy(demands: Demands, access: Access, now: float) -> None:
    """Refuse what *demands* do not allow: step-up, then scope, then actor and user.

    *now* is in epoch seconds.

    Raises:
        StepUpRequiredError: the user has to sign in again, or by other means.
        InsufficientScopeError: a scope is missing that another token may have.
        ActorRefusedError: a scope is missing that the agent may not use; or the user or
            the agent is missing, or an agent takes part where none may.

    Source: RFC 9470 §3, RFC 6750 §3.1
    """
    lack = _lack(demands, access)
    if not _is_signed_in_well(demands, access, now):
        # Named at once, so that the client does not need a second step for them.
        next_up = lack.scopes if isinstance(lack, InsufficientScopeError) else ()
        raise StepUpRequiredError(
            acr_values=demands.acr_values, max_age=demands.max_age, scopes=next_up
        )
    if lack is not None:
        raise lack
    if demands.user == "required":
        access.require_user()
    if demands.agent == "required":
        access.require_agent()
    elif demands.agent == "forbidden":
        access.forbid_agents()


def _lack(demands: Demands, access: Access) -> RequestRefusedError | None:
    """What to raise for the scopes that are missing, if there are any."""
    scopes = access.scopes
    if scopes.issuperset(demands.scopes) and (
        not demands.choices or not any(map(scopes.isdisjoint, demands.choices))
    ):
        return None
    return refusal_for_lack(access, demands.scopes, *demands.choices)


def _is_signed_in_well(demands: Demands, access: Access, now: float) -> bool:
    """Whether the user signed in as *demands* want it: how, and how long ago."""
    if demands.acr_values and access.acr not in demands.acr_values:
        return False
    if demands.max_age is None:
        return True
    return _is_recent(access, demands.max_age, now)


def _is_recent(access: Access, max_age: int, now: float) -> bool:
    """Whether the user signed in at most *max_age* seconds ago (RFC 9470 §4).

    A token that does not say when does not meet the requirement.
    """
    auth_time = access.auth_time
    if auth_time is None:
        return False
    return -access.leeway <= now - auth_time <= max_age + access.leeway
