"""Taking access back: what an application's "disconnect" button calls.

A revocation is appended to the log of a store. Every middleware that shares the store
refuses the tokens it names within a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from enum import Enum

import anyio.to_thread

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware._core.revocations.cut_offs import (
    DEFAULT_RETENTION,
    Revocation,
)
from agentauth_middleware._core.revocations.reach import (
    doubt_about_issuer,
    fault_of_agent,
    misspelling_of_issuer,
    settings_of,
)
from agentauth_middleware.access import Principal
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.stores._users import users_of

__all__ = ["revoke", "revoke_blocking"]

_logger = logging.getLogger("agentauth_middleware")


class _LeftOut(Enum):
    LEFT_OUT = "left out"


_LEFT_OUT = _LeftOut.LEFT_OUT


def revoke_blocking(
    store: Store,
    issuer: Issuer | str,
    *,
    subject: str | _LeftOut | None = _LEFT_OUT,
    agent: Principal | str | _LeftOut | None = _LEFT_OUT,
    token_id: str | _LeftOut | None = _LEFT_OUT,
    retention: float | None = None,
) -> None:
    """Refuse, from now on, the tokens that *issuer* has issued up to this moment.

    With nothing else it is all of them. *subject* is one user's; *agent* is those with
    which this agent acts for anybody; both together, for this user alone. *token_id* is
    one token (``jti``).

    Returns when the revocation is as durable as *store* makes it. Tokens issued later,
    in the next second or after, are good again: whether new ones are issued is the
    authorization server's own. Tokens without ``iat`` count as older than any.

    What can match no token is refused, as far as that can be told: from an ``Issuer``,
    or from the settings of the middleware that uses the same *store* object. A warning
    is logged for an issuer whose tokens none of that middleware accepts, since another
    process may accept them.

    Args:
        store: The one the middleware uses; with a ``MemoryStore``, the same object.
        issuer: As in the tokens' ``iss``; or its settings.
        subject: As in their ``sub``, whatever your own name for the user is.
        agent: The immediate actor; a string is a subject of *issuer*'s.
        token_id: Excludes *subject* and *agent*.
        retention: Seconds after which every token that this refuses has expired, and
            the log may forget it; ``math.inf`` for tokens without ``exp``. By default
            what the settings of the middleware that uses *store* say, else 400 days.

    Raises:
        ValueError: the combination names nothing, or can match no token. ``None`` names
            nothing either: a token that lacks ``jti`` must not revoke all others.
        UnavailableError: the store did not take it; nothing is revoked.
    """
    store.append_log([_cut_off(store, issuer, subject, agent, token_id, retention)])


async def revoke(
    store: Store,
    issuer: Issuer | str,
    *,
    subject: str | _LeftOut | None = _LEFT_OUT,
    agent: Principal | str | _LeftOut | None = _LEFT_OUT,
    token_id: str | _LeftOut | None = _LEFT_OUT,
    retention: float | None = None,
) -> None:
    """``revoke_blocking``, for handlers that run in an event loop.

    Raises:
        ValueError: the combination names nothing, or can match no token.
        UnavailableError: the store did not take it; nothing is revoked.
    """
    cut_off = _cut_off(store, issuer, subject, agent, token_id, retention)
    await anyio.to_thread.run_sync(store.append_log, [cut_off])


def _cut_off(
    store: Store,
    issuer: Issuer | str,
    subject: str | _LeftOut | None,
    agent: Principal | str | _LeftOut | None,
    token_id: str | _LeftOut | None,
    retention: float | None,
) -> CutOff:
    """What to append, once it is known to name something."""
    for name, value in (("subject", subject), ("agent", agent), ("token_id", token_id)):
        if value is None or value == "":
            raise ValueError(
                f"{name} is {value!r}, which names nothing; leave it out only if all "
                "others are meant"
            )
    revocation = _revocation(
        issuer.issuer if isinstance(issuer, Issuer) else issuer,
        None if isinstance(subject, _LeftOut) else subject,
        None if isinstance(agent, _LeftOut) else agent,
        None if isinstance(token_id, _LeftOut) else token_id,
        time.time(),
    )
    if isinstance(issuer, Issuer):
        _check_agent(revocation, [issuer])
    else:
        _check_reach(revocation, store)
    if retention is None:
        retention = _retention(revocation.issuer, store)
    return revocation.to_cut_off(retention)


def _retention(issuer: str, store: Store) -> float:
    """The longest for which a user of *store* in this process may take its tokens."""
    servers = users_of(store)
    return max(
        (server.retention_of(issuer) for server in servers), default=DEFAULT_RETENTION
    )


def _revocation(
    issuer: str,
    subject: str | None,
    agent: Principal | str | None,
    token_id: str | None,
    now: float,
) -> Revocation:
    if not issuer:
        raise ValueError("an empty issuer names nothing; write it as in tokens' iss")
    if token_id is not None and (subject is not None or agent is not None):
        raise ValueError("a token_id names one token by itself; leave out the others")
    if isinstance(agent, str):
        agent = Principal(issuer, agent)
    actor = (agent.issuer, agent.subject) if agent is not None else None
    return Revocation(issuer, now, subject, actor, token_id)


def _check_reach(revocation: Revocation, store: Store) -> None:
    """Compare *revocation* with what the users of *store* in this process accept.

    Raises:
        ValueError: it can match no token.
    """
    servers = users_of(store)
    misspelt = misspelling_of_issuer(revocation.issuer, servers)
    if misspelt is not None:
        raise ValueError(f"no token can match: {misspelt}")
    _check_agent(revocation, settings_of(revocation.issuer, servers))
    doubt = doubt_about_issuer(revocation.issuer, servers)
    if isinstance(store, MemoryStore) and not servers:
        doubt = (
            "tokens were revoked in a MemoryStore that no middleware of this process "
            "uses so far; give revoke(...) the store that the middleware has"
        )
    if doubt is not None:
        _logger.warning("%s", doubt)


def _check_agent(revocation: Revocation, issuers: Sequence[Issuer]) -> None:
    """
    Raises:
        ValueError: none of *issuers*, if there are any, names such an agent.
    """
    if revocation.agent is None:
        return
    faults = [fault_of_agent(issuer, revocation.agent) for issuer in issuers]
    if faults and None not in faults:
        raise ValueError(f"no token can match: {faults[0]}")
