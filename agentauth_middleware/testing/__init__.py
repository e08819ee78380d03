"""For the tests of applications behind a door: an issuer that mints tokens.

Never for production: whoever holds a ``FakeIssuer`` is everybody.
"""

from __future__ import annotations

from agentauth_middleware.testing._issuer import FakeIssuer, ServedIssuer

__all__ = ["FakeIssuer", "ServedIssuer"]
