"""What the log says of a refusal: what was found, what was expected, what would help.

A check that refuses a token says what it found. A check that refuses a good token knows
only what it demands; the rest is added here, and only when a record is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._syntax.http import Request
from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware.access import Access
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import Issuer

__all__ = ["explain"]

_CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
_SCOPE_CLAIMS = ("scope", "scp", "permissions")


def explain(
    refusal: Refusal,
    issuer_named: Callable[[str], Issuer | None],
    request: Request | None,
) -> str:
    """The detail of *refusal*, with what its token has and the setting that may help.

    *issuer_named* gives the settings of an issuer. Names neither the token nor its
    subject.
    """
    if refusal.reason == Reason.UNMATCHED_PATH:
        setting = 'ResourceServer(unmatched="authenticated")'
        return f"no Route allows this method on this path; add one, or {setting}"
    if refusal.reason == Reason.NO_CREDENTIALS and request and request.authorization:
        return 'Authorization is of no scheme known here; expected "Bearer <token>"'
    access = refusal.access
    explanation = _EXPLANATIONS.get(refusal.reason)
    if access is None or explanation is None:
        return refusal.detail
    issuer = issuer_named(access.issuer)
    return refusal.detail if issuer is None else explanation(refusal, access, issuer)


def _lack_of_scopes(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    told = f"{refusal.detail}; has {_words(access.scopes)}"
    elsewhere = [
        name
        for name in _SCOPE_CLAIMS
        if name in access.claims and name not in issuer.scope_claims
    ]
    if not elsewhere:
        return told
    names = [*issuer.scope_claims, *elsewhere]
    setting = f"Issuer(scope_claims={names})"
    return f"{told}; {setting} if {one_of(elsewhere)} lists scopes"


def _withheld_scopes(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    limit = _words(access.scope_ceiling or ())
    return f"{_agent(access)} may use {limit} at most; see Issuer.agent_scopes"


def _lack_of_a_user(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    told = f"{refusal.detail}: the token marks no person"
    if access.mode != "unknown" or issuer.subjects == "users":
        return told
    if issuer.first_party_clients is not None and access.client_id is not None:
        return told
    if issuer.identity == "entra":
        return f"{told}; let the API's registration ask for the claim idtyp"
    if callable(issuer.identity) or issuer.identity in _SAY_IT_THEMSELVES:
        return told
    if access.client_id is None:
        return f"{told}, and no client: {_place_of_client(access)}"
    return f'{told}; Issuer(subjects="users") if sub is always one'


_SAY_IT_THEMSELVES = ("workos_blueprint",)
"""Dialects in which ``subjects="users"`` changes nothing."""


def _place_of_client(access: Access) -> str:
    elsewhere = [name for name in _CLIENT_CLAIMS if name in access.claims]
    if elsewhere:
        return f"Issuer(client_id_claims={elsewhere[:1]}) if that is the client"
    return "sub might be the client's own"


def _lack_of_an_agent(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    told = f"{refusal.detail}: the token names no agent"
    if "act" in access.claims:
        return told
    if access.client_id in (issuer.first_party_clients or ()):
        listed = "is one of Issuer.first_party_clients"
        return f"{told}; its client {quoted(access.client_id)} {listed}"
    told = f"{told} (no act); Issuer.identity says how its tokens name one"
    if issuer.first_party_clients is None and access.client_id is not None:
        return f"{told}, or Issuer(first_party_clients=[...]) if its client is one"
    return told


def _agent_where_none_may_act(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    told = f"{refusal.detail}: {_agent(access)}"
    if access.agent is None or access.agent.subject != access.client_id:
        return told
    if issuer.first_party_clients is None or "act" in access.claims:
        return told
    return f"{told}; add it to Issuer.first_party_clients if it is your own application"


def _unlisted_agent(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    listed = [
        name if isinstance(name, str) else name[1] for name in issuer.agents or ()
    ]
    return f"{_agent(access)}; expected {one_of(listed)} (Issuer.agents)"


def _weak_sign_in(refusal: Refusal, access: Access, issuer: Issuer) -> str:
    told: list[str] = []
    if refusal.acr_values:
        expected = one_of(refusal.acr_values)
        told.append(f"acr is {quoted(access.acr)}; expected {expected}")
    if refusal.max_age is not None:
        found = "no auth_time" if access.auth_time is None else "auth_time is too old"
        told.append(f"{found}; expected {refusal.max_age} s ago at most")
    return "; ".join(told)


_EXPLANATIONS: Mapping[str, Callable[[Refusal, Access, Issuer], str]] = {
    Reason.INSUFFICIENT_SCOPE: _lack_of_scopes,
    Reason.SCOPE_WITHHELD: _withheld_scopes,
    Reason.USER_REQUIRED: _lack_of_a_user,
    Reason.AGENT_REQUIRED: _lack_of_an_agent,
    Reason.AGENT_FORBIDDEN: _agent_where_none_may_act,
    Reason.AGENT_NOT_ALLOWED: _unlisted_agent,
    Reason.STEP_UP_REQUIRED: _weak_sign_in,
}


def _agent(access: Access) -> str:
    if access.agent is None:
        return "an agent without a name"
    return f"the agent {quoted(access.agent.subject)} of {access.agent.issuer}"


def _words(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes))[:200] or "none"
