"""The embedded authorization server: for services without one that supports agents.

An ASGI application of its own. It registers agents for which a trusted provider vouches
(auth.md, dialect C), issues access tokens in which user and agent are both named, and
withdraws them when the provider says so. Resource servers may ask it about tokens.
"""

from __future__ import annotations

from agentauth_middleware.authorization_server.app import AuthorizationServer
from agentauth_middleware.authorization_server.settings import (
    AgentProvider,
    IntrospectionClient,
)

__all__ = ["AgentProvider", "AuthorizationServer", "IntrospectionClient"]
