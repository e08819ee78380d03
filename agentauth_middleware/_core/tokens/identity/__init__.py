"""From claims to an identity: who is the user, who is the agent.

A token proves only what it says. ``sub`` may be a person, a service or the client
itself, and nothing in plain OAuth tells which; what the token does not prove stays
``None``. Issuers even write the same claims with opposite meanings, so that each is
read in the dialect its operator names: guessing could give an agent its user's rights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from agentauth_middleware._core.tokens.identity.actor_profile import (
    read_actor_profile,
    read_authmd,
)
from agentauth_middleware._core.tokens.identity.auth0 import read_auth0
from agentauth_middleware._core.tokens.identity.client_only import read_client_only
from agentauth_middleware._core.tokens.identity.clients import (
    with_clients_as_agents,
)
from agentauth_middleware._core.tokens.identity.entra import read_entra
from agentauth_middleware._core.tokens.identity.keycloak import read_keycloak
from agentauth_middleware._core.tokens.identity.okta import read_okta
from agentauth_middleware._core.tokens.identity.own_function import read_own
from agentauth_middleware._core.tokens.identity.rfc8693 import read_rfc8693
from agentauth_middleware._core.tokens.identity.statement import Statement
from agentauth_middleware._core.tokens.identity.workos import (
    read_workos_blueprint,
)
from agentauth_middleware._syntax.members import optional_text
from agentauth_middleware.access import Identity, IdentityDialect

_READERS: Mapping[IdentityDialect, Callable[[Statement], Identity]] = {
    "rfc8693": read_rfc8693,
    "actor_profile": read_actor_profile,
    "auth0": read_auth0,
    "entra": read_entra,
    "okta": read_okta,
    "workos_blueprint": read_workos_blueprint,
    "authmd": read_authmd,
    "keycloak": read_keycloak,
    "client_only": read_client_only,
}


def read_identity(
    claims: Mapping[str, Any],
    issuer: str,
    client_id: str | None,
    dialect: IdentityDialect | Callable[[Mapping[str, Any]], Identity] = "rfc8693",
    *,
    subjects_are_users: bool,
    first_party_clients: Collection[str] | None = None,
    actor_issuers: Collection[str] = (),
    max_chain: int = 5,
) -> Identity:
    """The identity in *claims*, in the *dialect* of *issuer*.

    *first_party_clients* are the clients that are no agents; ``None`` if clients tell
    nothing about that. *actor_issuers* are the namespaces besides its own in which
    *issuer* may name actors, *max_chain* how many a token may name. Only the immediate
    actor and the subject ever decide; a chain is history.

    Raises:
        ValueError: a claim that counts is not of the form demanded.
        InvalidTokenError: the claims contradict the dialect, or each other.
        TypeError: *dialect* is a function that returns what is no identity.
    """
    if callable(dialect):
        return read_own(claims, dialect)
    said = Statement(
        claims,
        issuer,
        subject=optional_text(claims, "sub"),
        client_id=client_id,
        subjects_are_users=subjects_are_users or first_party_clients is not None,
        actor_issuers=actor_issuers,
        max_chain=max_chain,
    )
    found = _READERS[dialect](said)
    if first_party_clients is None:
        return found
    return with_clients_as_agents(found, said, first_party_clients)
