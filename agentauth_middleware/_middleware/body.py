"""What the ASGI and the WSGI middleware have in common: everything but a protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

from agentauth_middleware._core.decide import Anonymous, Decision, decide
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Procedure
from agentauth_middleware._core.publish.challenge import Refusal, is_scope_named
from agentauth_middleware._middleware.arguments import check_arguments
from agentauth_middleware._middleware.audit import is_audited
from agentauth_middleware._middleware.refusal_writer import RefusalWriter
from agentauth_middleware._middleware.unread_bodies import Allowance
from agentauth_middleware._middleware.workers import warn_of_other_workers
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.stores._users import note_user

__all__ = ["MiddlewareBody"]

Carrier = TypeVar("Carrier")
"""What a server hands over for a request: an ASGI scope, a WSGI environ."""


class MiddlewareBody(Generic[Carrier]):
    """The state of a middleware, and what it does with a decision."""

    def __init__(
        self,
        app: object,
        resource_server: ResourceServer,
        store: Store | None,
        scopes_for: Callable[[Carrier], Iterable[str]] | None,
        *,
        application_root: str = "",
    ) -> None:
        """
        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        check_arguments(app, resource_server, store)
        state = MiddlewareState(resource_server, application_root=application_root)
        self._take_state(state)
        self._allowance = Allowance(resource_server)
        self._store = MemoryStore() if store is None else store
        note_user(self._store, resource_server)
        self._scopes_for = scopes_for

    def _take_state(self, state: MiddlewareState) -> None:
        """Decide by *state* from now on."""
        self._state = state
        self._writer = RefusalWriter(
            state.server,
            routes=state.routes,
            issuer_named=state.trust.known_settings,
        )

    def _decide(self, request: Request) -> Decision | Procedure[Decision]:
        return decide(self._state, request, time.time)

    def _refuse(self, refusal: Refusal, carrier: Carrier) -> Response:
        """The answer to a request that reaches no handler."""
        return self._writer.write(self._name_scopes(refusal, carrier))

    def _complete_challenges(
        self, headers: Sequence[tuple[str, str]], refusal: Refusal, carrier: Carrier
    ) -> Sequence[tuple[str, str]]:
        """The *headers* of a 401 of the application's own, with our challenge."""
        named = self._name_scopes(refusal, carrier)
        return self._writer.complete_challenges(headers, named)

    def _name_scopes(self, refusal: Refusal, carrier: Carrier) -> Refusal:
        """*refusal*, naming the scopes that the handler would have demanded too.

        Raises:
            ConfigurationError: clients cannot ask for one of them.
        """
        if self._scopes_for is None or not is_scope_named(refusal):
            return refusal
        scopes = tuple(self._scopes_for(carrier))
        source = "requires(...) or scopes_for"
        return self._writer.name_more_scopes(refusal, scopes, source)

    def _audit(
        self,
        decision: Access | Anonymous | Refusal,
        request: Request,
        route: Route | None,
        started: float,
    ) -> None:
        """Write the record of *decision*; *started* is an instant of
        ``perf_counter``."""
        if is_audited(decision):
            duration = perf_counter() - started
            self._writer.audit(decision, request, route, duration)

    def _warn_of_other_workers(self) -> None:
        """Warn once if other workers do not learn what this process's store knows."""
        if isinstance(self._store, MemoryStore):
            warn_of_other_workers(self._state.server)
