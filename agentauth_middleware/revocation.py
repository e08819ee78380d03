"""Taking access back: what an application's "disconnect" button calls.

A revocation is appended to the log of a store. Every door that shares the store
refuses the tokens it names within a second.
"""

from __future__ import annotations

import time

import anyio.to_thread

from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware.access import Principal
from agentauth_middleware.stores import Store

__all__ = ["revoke", "revoke_blocking"]


def revoke_blocking(
    store: Store,
    issuer: str,
    *,
    subject: str | None = None,
    agent: Principal | str | None = None,
    token_id: str | None = None,
) -> None:
    """Refuse, from now on, the tokens that *issuer* has issued up to this moment.

    With nothing else it is all of them. *subject* is one user's; with *agent* as well,
    only those with which this agent acts for them. *token_id* is one token (``jti``).

    Returns when the revocation is as durable as *store* makes it. Tokens issued later,
    in the next second or after, are good again: whether new ones are issued is the
    authorization server's affair. Tokens without ``iat`` count as older than any.

    Args:
        store: The one the doors use; with a ``MemoryStore``, the same object.
        issuer: As in the tokens' ``iss``.
        subject: As in their ``sub``, whatever your own name for the user is.
        agent: The immediate actor; a string is a subject of *issuer*'s.
        token_id: Excludes *subject* and *agent*.

    Raises:
        ValueError: the combination names nothing.
        UnavailableError: the store did not take it; nothing is revoked.
    """
    record = _revocation(issuer, subject, agent, token_id, time.time()).to_record()
    store.append_log(record)


async def revoke(
    store: Store,
    issuer: str,
    *,
    subject: str | None = None,
    agent: Principal | str | None = None,
    token_id: str | None = None,
) -> None:
    """``revoke_blocking``, for handlers that run in an event loop.

    Raises:
        ValueError: the combination names nothing.
        UnavailableError: the store did not take it; nothing is revoked.
    """
    record = _revocation(issuer, subject, agent, token_id, time.time()).to_record()
    await anyio.to_thread.run_sync(store.append_log, record)


def _revocation(
    issuer: str,
    subject: str | None,
    agent: Principal | str | None,
    token_id: str | None,
    now: float,
) -> Revocation:
    if not issuer or subject == "" or agent == "" or token_id == "":
        raise ValueError("an empty name names nothing; leave it out")
    if agent is not None and subject is None:
        raise ValueError("an agent's tokens are revoked for one subject: name it too")
    if token_id is not None and subject is not None:
        raise ValueError("a token_id names one token by itself; leave out the subject")
    if isinstance(agent, str):
        agent = Principal(issuer, agent)
    actor = (agent.issuer, agent.subject) if agent is not None else None
    return Revocation(issuer, now, subject, actor, token_id)
