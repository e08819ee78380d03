"""``okta``: the immediate actor in ``act``, the earlier ones in a list beside it.

Without ``act`` there is no agent, whatever the list says: who acts now is not among
those who acted before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentauth_middleware._core.tokens.identity.actors import (
    Actor,
    check_length,
    principal,
    read_actor,
)
from agentauth_middleware._core.tokens.identity.rfc8693 import (
    identity_of,
    read_delegation,
    subject_mode,
)
from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    shown_text,
    with_extra,
)
from agentauth_middleware._syntax.members import is_array, is_object
from agentauth_middleware.access import Identity


def read_okta(said: Statement) -> Identity:
    """As RFC 8693 says, with ``delegated_through`` as the chain, in its own order.

    ``origin``, where it all began, is among the agent's ``extra``.
    """
    actors = read_delegation(said)
    through = _read_through(said.claims)
    check_length(actors + through, said)
    found = identity_of(said, actors, subject_mode(said, actors))
    chain = found.chain + tuple(principal(actor, said) for actor in through)
    agent = found.agent
    if agent is not None:
        agent = with_extra(agent, **_origin(said.claims))
    return Identity(found.mode, found.user, agent, chain)


def _read_through(claims: Mapping[str, Any]) -> tuple[Actor, ...]:
    through = claims.get("delegated_through", ())
    if not is_array(through):
        raise ValueError("delegated_through is not an array")
    return tuple(read_actor(actor) for actor in through)


def _origin(claims: Mapping[str, Any]) -> dict[str, str | None]:
    origin = claims.get("origin")
    if not is_object(origin):
        return {}
    return {
        "origin": shown_text(origin, "sub"),
        "origin_profile": shown_text(origin, "sub_profile"),
    }
