"""``auth0``: RFC 8693 without ``iss`` in ``act``, and profiles only if asked for.

An API gets ``sub_profile`` only if it opted in. Without it the names tell: users are
``connection|id`` there, and a client on its own is ``<client id>@clients``. An agent on
its own is then no more than a subject.
"""

from __future__ import annotations

from agentauth_middleware._core.tokens.identity.rfc8693 import (
    identity_of,
    read_delegation,
    subject_mode,
)
from agentauth_middleware._core.tokens.identity.statement import Statement
from agentauth_middleware.access import Identity, Mode


def read_auth0(said: Statement) -> Identity:
    """As RFC 8693 says; without a profile, a name must look like a user's."""
    actors = read_delegation(said)
    mode = subject_mode(said, actors)
    if said.profile is None and mode in ("user", "unknown"):
        mode = _mode_by_name(said.subject or "", mode)
    return identity_of(said, actors, mode)


def _mode_by_name(subject: str, mode: Mode) -> Mode:
    if subject.endswith("@clients"):
        return "service"
    return mode if "|" in subject else "unknown"
