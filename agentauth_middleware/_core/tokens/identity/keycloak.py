"""``keycloak``: people and service accounts are subjects of one kind.

Only the name of a service account tells them apart: ``service-account-`` and the
client. A standard token exchange leaves no trace but another ``azp``, which names a
client and no agent; ``act`` is read as RFC 8693 says where there is one.
"""

from __future__ import annotations

from agentauth_middleware._core.tokens.identity.rfc8693 import (
    identity_of,
    read_delegation,
    subject_mode,
)
from agentauth_middleware._core.tokens.identity.statement import (
    Statement,
    may_be_person,
)
from agentauth_middleware._syntax.members import optional_text
from agentauth_middleware.access import Identity

_SERVICE_ACCOUNT = "service-account-"


def read_keycloak(said: Statement) -> Identity:
    """A subject whose ``preferred_username`` is no service account's is a person.

    Without that claim the dialect proves nothing, and ``subjects_are_users`` counts:
    service accounts would pass for people, if their tokens come without it.
    """
    actors = read_delegation(said)
    mode = subject_mode(said, actors)
    username = optional_text(said.claims, "preferred_username")
    if username is not None and mode in ("user", "unknown"):
        if username.lower().startswith(_SERVICE_ACCOUNT):
            mode = "service"
        elif said.subject is not None and may_be_person(said.profile):
            mode = "user"
    return identity_of(said, actors, mode)
