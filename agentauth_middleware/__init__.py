"""Let agents in: make an API an OAuth protected resource that speaks auth.md."""

from __future__ import annotations

from agentauth_middleware.access import Access, Identity, Principal, current_access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AgentAuthError,
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route

__all__ = [
    "Access",
    "ActorRefusedError",
    "AgentAuthError",
    "AuthenticationRequiredError",
    "ConfigurationError",
    "Identity",
    "InsufficientScopeError",
    "Introspection",
    "InvalidRequestError",
    "InvalidTokenError",
    "Issuer",
    "Principal",
    "RequestRefusedError",
    "ResourceServer",
    "Route",
    "StepUpRequiredError",
    "TooManyRequestsError",
    "UnavailableError",
    "current_access",
]
