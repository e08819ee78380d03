"""The state of one middleware: its settings made ready, and all that it remembers."""

from __future__ import annotations

from agentauth_middleware._core.issuers.trust import Trust
from agentauth_middleware._core.policy.cross_origin import CrossOrigin
from agentauth_middleware._core.policy.route_table import RouteTable
from agentauth_middleware._core.policy.scope_rules import ScopeRules
from agentauth_middleware._core.publish.own_urls import OwnUrls
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.throttles import Slots
from agentauth_middleware._core.tokens.remembered import RememberedTokens
from agentauth_middleware.settings.resource_server import ResourceServer


class MiddlewareState:
    """What decisions depend on, beside the request. The settings never change."""

    def __init__(self, server: ResourceServer, *, application_root: str = "") -> None:
        """*application_root* is a mount that the application assumes by itself.

        Raises:
            ConfigurationError: keys given in the settings cannot verify anything.
        """
        self.server = server
        self.application_root = application_root
        self.serves_other_clients = server.unauthenticated == "pass"
        """Whether requests without an agent's credential reach the API."""
        self.own_urls = OwnUrls(server)
        self.routes = RouteTable(server, application_root=application_root)
        self.cross_origin = CrossOrigin(server)
        self.trust = Trust(server)
        self.tokens = RememberedTokens(server.max_remembered_tokens, ScopeRules(server))
        self.revocations = RevocationView()
        self.log_reader = Slots(1)

    @property
    def fetches(self) -> bool:
        """Whether a document may have to be fetched at all."""
        issuers = self.server.listed_issuers
        return not issuers or any(
            issuer.jwks is None or issuer.introspection is not None
            for issuer in issuers
        )
