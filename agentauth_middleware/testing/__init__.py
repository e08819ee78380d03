"""For the tests of applications behind a door: an issuer that mints tokens.

Never for production: whoever holds a ``FakeIssuer`` is everybody.
"""

from __future__ import annotations

from agentauth_middleware.testing._issuer import FakeIssuer, ServedIssuer
from agentauth_middleware.testing._provider import FakeProvider, provider_app

__all__ = ["FakeIssuer", "FakeProvider", "ServedIssuer", "provider_app"]
