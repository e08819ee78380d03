"""``actor_profile``: RFC 8693 with actors that are named in full; and ``authmd``.

An actor is (``act.iss``, ``act.sub``), and the issuer must be entitled to speak for
that namespace: its own, or one that the operator lists. For earlier actors the
entitlement is not checked, because they decide nothing.

Source: draft-mcguinness-oauth-actor-profile
"""

from __future__ import annotations

from dataclasses import replace

from agentauth_middleware._core.tokens.identity.actors import Actor
from agentauth_middleware._core.tokens.identity.rfc8693 import (
    identity_of,
    read_delegation,
    subject_mode,
)
from agentauth_middleware._core.tokens.identity.statement import Statement
from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware.access import Identity
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason


def read_actor_profile(said: Statement) -> Identity:
    """As RFC 8693 says, from actors that conform."""
    actors = read_delegation(said)
    _check_namespaces(actors, said)
    return identity_of(said, actors, subject_mode(said, actors))


def read_authmd(said: Statement) -> Identity:
    """Tokens of an auth.md authorization server, such as the embedded one.

    Once claimed, an agent is the actor for its user. Until then it is the subject, and
    there is no user.
    """
    identity = read_actor_profile(said)
    if identity.mode == "agent":
        return replace(identity, mode="agent_unclaimed")
    return identity


def _check_namespaces(actors: tuple[Actor, ...], said: Statement) -> None:
    for actor in actors:
        if actor.namespace is None:
            raise ValueError("act has no iss")
    if actors and not said.speaks_for(str(actors[0].namespace)):
        expected = one_of([said.issuer, *said.actor_issuers])
        raise InvalidTokenError(
            Reason.UNKNOWN_ACTOR_ISSUER,
            f"act.iss is {quoted(actors[0].namespace)}; expected {expected}, or another"
            " that Issuer(actor_issuers=...) lists",
        )
