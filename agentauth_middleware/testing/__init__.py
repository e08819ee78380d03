"""For the tests of applications behind a middleware: an issuer that mints tokens.

Never for production: with a ``FakeIssuer`` one can act as any user.

A plugin gives pytest the fixtures ``act_as``, ``agent_token``, ``agentauth_app`` and
``agentauth_issuer``; ``ActAs`` and ``AgentTokens`` are the types of the first two.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentauth_middleware.testing._acting import ActAs
    from agentauth_middleware.testing._challenges import assert_challenge
    from agentauth_middleware.testing._issuer import FakeIssuer, ServedIssuer
    from agentauth_middleware.testing._provider import FakeProvider, provider_app
    from agentauth_middleware.testing._tokens import AgentTokens, TokenOptions
    from agentauth_middleware.testing._trust import trusting
else:
    # The plugin is in here, and loaded by every run of pytest: what is needed to sign
    # or to serve comes with the first test that asks for it.
    _PLACES = {
        "ActAs": "_acting",
        "AgentTokens": "_tokens",
        "FakeIssuer": "_issuer",
        "FakeProvider": "_provider",
        "ServedIssuer": "_issuer",
        "TokenOptions": "_tokens",
        "assert_challenge": "_challenges",
        "provider_app": "_provider",
        "trusting": "_trust",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


__all__ = [
    "ActAs",
    "AgentTokens",
    "FakeIssuer",
    "FakeProvider",
    "ServedIssuer",
    "TokenOptions",
    "assert_challenge",
    "provider_app",
    "trusting",
]
