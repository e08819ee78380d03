"""Who is known to the server from the start."""

from __future__ import annotations

from typing import NamedTuple


class Client(NamedTuple):
    client_id: str
    secret: str
    grant_type: str


AGENT = Client("agent", "secret-of-the-agent", "client-credentials")
API = Client("api", "of: the+API, 100% & more/?=", "client-credentials")
LEGACY = Client("legacy", "secret-of-the-legacy-client", "password")
"""Users tell it their password."""

USER, PASSWORD = "alice", "password-of-alice"
