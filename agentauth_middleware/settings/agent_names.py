"""How settings name agents: which of them may act, and how far each reaches.

A subject alone is one of the issuer's own namespace. Once checked, every name is a
namespace and a subject, so that the same subject elsewhere is another agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from agentauth_middleware._syntax.members import is_object
from agentauth_middleware._syntax.scopes import check_scopes
from agentauth_middleware.access import Principal
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import shown

__all__ = ["AgentName", "ceiling_of", "checked_agents", "checked_ceilings", "is_listed"]

AgentName: TypeAlias = str | tuple[str, str]
"""An agent: its subject at the issuer itself, or the namespace and the subject."""
_OTHERS = "*"
"""All agents that are not named."""


def checked_agents(
    agents: Iterable[object], namespaces: Sequence[str]
) -> tuple[AgentName, ...]:
    """*agents*, each as namespace and subject.

    *namespaces* are those in which the issuer may name agents, its own first.

    Raises:
        ConfigurationError: one of them names no agent, or one of another namespace.
    """
    key = "Issuer.agents"
    if isinstance(agents, str) or not hasattr(agents, "__iter__"):
        raise ConfigurationError(
            f'{key}: {shown(agents)} is no list; write ["agent-1"]'
        )
    return tuple(_checked_agent(name, namespaces, key) for name in agents)


def checked_ceilings(
    agent_scopes: Mapping[AgentName, Sequence[str]],
    agents: Sequence[AgentName] | None,
    namespaces: Sequence[str],
) -> Mapping[AgentName, Sequence[str]]:
    """*agent_scopes*, with each name as namespace and subject.

    *namespaces* are those in which the issuer may name agents, its own first.

    Raises:
        ConfigurationError: a name is of no agent, of one of another namespace, or of
            none of *agents*; or a scope is none.
    """
    key = "Issuer.agent_scopes"
    if not is_object(agent_scopes):
        raise ConfigurationError(f'{key}: no mapping; write {{"*": ["x.read"]}}')
    ceilings: dict[AgentName, tuple[str, ...]] = {}
    for name, scopes in agent_scopes.items():
        named = name if name == _OTHERS else _checked_agent(name, namespaces, key)
        ceilings[named] = check_scopes(scopes, f"{key}[{name!r}]")
        if agents is not None and named not in (*agents, _OTHERS):
            raise ConfigurationError(
                f"{key}[{name!r}]: is not among Issuer.agents, so it never acts; add "
                "it there"
            )
    return MappingProxyType(ceilings)


def _checked_agent(
    name: object, namespaces: Sequence[str], key: str
) -> tuple[str, str]:
    """*name* as namespace and subject."""
    parts = (namespaces[0], name) if isinstance(name, str) else name
    match parts:
        case (str() as namespace, str() as subject) if namespace and subject:
            pass
        case _:
            raise ConfigurationError(
                f"{key}: {name!r} names no agent; write its subject, or "
                "(issuer, subject)"
            )
    if namespace not in namespaces:
        raise ConfigurationError(
            f"{key}: {name!r} is of a namespace in which this issuer may name no "
            f"agents; add {namespace!r} to Issuer.actor_issuers"
        )
    return namespace, subject


def is_listed(agent: Principal | None, agents: Iterable[AgentName]) -> bool:
    """Whether *agent* is one of *agents*. An agent without a name is on no list."""
    return agent is not None and (agent.issuer, agent.subject) in agents


def ceiling_of(
    agent: Principal | None, ceilings: Mapping[AgentName, Sequence[str]]
) -> frozenset[str] | None:
    """The scopes that *agent* may use at most; ``None`` for no limit.

    An agent without a name counts as one of all others. Otherwise a named agent could
    escape its limit by not naming itself.
    """
    scopes = ceilings.get(_OTHERS)
    if agent is not None:
        scopes = ceilings.get((agent.issuer, agent.subject), scopes)
    return None if scopes is None else frozenset(scopes)
