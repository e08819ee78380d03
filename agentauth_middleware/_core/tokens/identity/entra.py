"""``entra``: no ``act``, but numbers in "facets" of the subject and of the actor.

11 is an agent, 13 an account that was made for one. Users are (``tid``, ``oid``),
because ``sub`` is another one for each application; agents are their application,
``azp`` or ``appid``, in all their tokens.

These claims are optional ones that an API's registration has to ask for: ``idtyp`` for
users too, ``xms_act_fct`` and ``xms_sub_fct``. Without ``idtyp`` there is no user.
"""

from __future__ import annotations

from functools import lru_cache

from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    actor_named,
    contradiction,
    refuse_act,
    shown_text,
    user_of,
    with_extra,
)
from agentauth_middleware._syntax.members import optional_text, text
from agentauth_middleware.access import Identity, Principal

_AGENT = "11"
_AGENTS_ACCOUNT = "13"


def read_entra(said: Statement) -> Identity:
    """By ``idtyp`` and the facets; ``subjects_are_users`` makes no difference.

    Raises:
        ValueError: a claim that decides is malformed or missing.
        InvalidTokenError: ``idtyp`` contradicts a facet.
    """
    refuse_act(said, "entra")
    match optional_text(said.claims, "idtyp"):
        case "user":
            return _for_account(said)
        case "app":
            return _for_application(said)
        case _:
            return _for_nobody_knows(said)


def _for_nobody_knows(said: Statement) -> Identity:
    """Without ``idtyp`` nothing proves a person, but the facets may tell of agents."""
    subject = _facets(said, "xms_sub_fct") or frozenset()
    agent = _agent(said)
    if _AGENTS_ACCOUNT in subject:
        return Identity("agent_user_account", agent=agent)
    if agent is None and _AGENT in subject:
        agent = _acting_application(said)
    return Identity("unknown", agent=agent)


def _for_account(said: Statement) -> Identity:
    subject = _facets(said, "xms_sub_fct")
    agent = _agent(said)
    if subject is not None and _AGENTS_ACCOUNT in subject:
        if agent is not None:
            agent = with_extra(agent, **agent.extra, account=text(said.claims, "oid"))
        return Identity("agent_user_account", agent=agent)
    if subject is not None and _AGENT in subject:
        raise contradiction("idtyp is user, and the subject an agent")
    if agent is not None and subject is None:
        # It is unknown whether the agent acts for a person or from an account of its
        # own.
        return Identity("unknown", agent=agent)
    tenant, name = text(said.claims, "tid"), text(said.claims, "oid")
    user = user_of(said, name, profile="user", tenant=tenant)
    return Identity("user" if agent is None else "delegated", user, agent)


def _for_application(said: Statement) -> Identity:
    subject = _facets(said, "xms_sub_fct") or frozenset()
    if _AGENTS_ACCOUNT in subject:
        raise contradiction("idtyp is app, and the subject an agent's account")
    agent = _agent(said)
    if agent is None and _AGENT in subject:
        agent = _acting_application(said)
    return Identity("service" if agent is None else "agent", agent=agent)


def _agent(said: Statement) -> Principal | None:
    """The acting application, if something marks it as an agent."""
    actor = _facets(said, "xms_act_fct") or frozenset()
    if _AGENT in actor or "xms_par_app_azp" in said.claims:
        return _acting_application(said)
    return None


def _acting_application(said: Statement) -> Principal:
    name = "azp" if "azp" in said.claims else "appid"
    blueprint = shown_text(said.claims, "xms_par_app_azp")
    return _application(said.issuer, text(said.claims, name), blueprint)


@lru_cache(maxsize=4096)
def _application(issuer: str, name: str, blueprint: str | None) -> Principal:
    """One agent, shared by all its tokens. Its blueprint stands for every agent made
    from it, and so is no part of the key."""
    return with_extra(actor_named(issuer, name, "ai_agent"), blueprint=blueprint)


def _facets(said: Statement, name: str) -> frozenset[str] | None:
    """The numbers in *name*, in any order; ``None`` where it is absent."""
    facets = optional_text(said.claims, name)
    return None if facets is None else frozenset(facets.split(" "))
