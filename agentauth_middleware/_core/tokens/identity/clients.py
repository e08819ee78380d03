"""Clients as agents, for issuers whose tokens name the agent as their OAuth client.

Most authorization servers know no ``act``: an agent there is a client to which a person
gave consent. Nothing in a token tells it from the operator's own application, so the
operator lists those.
"""

from __future__ import annotations

from collections.abc import Collection

from agentauth_middleware._core.tokens.identity.statement import Statement, actor_named
from agentauth_middleware.access import Identity, is_by_agent


def with_clients_as_agents(
    found: Identity, said: Statement, first_party_clients: Collection[str]
) -> Identity:
    """*found*, with the client as the agent if the token names none.

    A subject that is not proven to be a person does not become one here: then only the
    agent is known.
    """
    if "act" in said.claims or is_by_agent(found):
        return found
    if said.subject is None or said.is_of_the_client or found.mode == "service":
        return Identity("service")
    if said.client_id is None:
        return Identity("unknown")
    if said.client_id in first_party_clients:
        return found
    agent = actor_named(said.issuer, said.client_id, None)
    return Identity("delegated" if found.user else found.mode, found.user, agent)
