"""Identities of tokens of all dialects, read and written down in short."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from agentauth_middleware._core.tokens.identity import read_identity
from agentauth_middleware.access import Identity, IdentityDialect, Principal
from agentauth_middleware.errors import InvalidTokenError
from tests.support.tokens import ISSUER

AGENTS = "https://agents.example.org"
DIALECTS: tuple[IdentityDialect, ...] = get_args(IdentityDialect)


def identity(
    claims: Mapping[str, Any],
    dialect: IdentityDialect | Callable[[Mapping[str, Any]], Identity] = "rfc8693",
    *,
    client_id: str | None = "client-1",
    users: bool = False,
    first_party: Collection[str] | None = None,
    actor_issuers: Collection[str] = (),
) -> Identity:
    """What *dialect* makes of *claims* of ``ISSUER``."""
    return read_identity(
        claims,
        ISSUER,
        client_id,
        dialect,
        subjects_are_users=users,
        first_party_clients=first_party,
        actor_issuers=actor_issuers,
    )


def verdict(claims: Mapping[str, Any], dialect: IdentityDialect, **how: Any) -> str:
    """Mode, user, agent and chain in a line, or the reason why it is refused."""
    try:
        found = identity(claims, dialect, **how)
    except InvalidTokenError as refused:
        return f"401 {refused.reason}"
    except ValueError:
        return "401 malformed"
    return written(found)


def written(found: Identity) -> str:
    """Such as ``delegated: ana by tool after agent``."""
    parts = [found.mode + ":"]
    if found.user is not None:
        parts += [found.user.subject]
    if found.agent is not None:
        parts += ["by", found.agent.subject]
    if found.chain:
        parts += ["after", *(actor.subject for actor in found.chain)]
    return " ".join(parts)


def who(principal: Principal | None) -> tuple[str, str] | None:
    return None if principal is None else (principal.issuer, principal.subject)
