"""Writing refusals: the answer to the client, and the record for the operator.

A refusal is found by the middleware, or raised by a handler. The middleware answers
what escapes from its application; an error handler of the framework answers what would
not get that far. All of them use this writer, so all answers are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.policy.route_table import RouteTable
from agentauth_middleware._core.publish.challenge import (
    Refusal,
    challenge,
    check_declared,
    is_scope_named,
    name_scopes,
    refusal_for,
    render,
)
from agentauth_middleware._middleware.audit import is_audited, write_audit
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access, refusal_for_lack
from agentauth_middleware.errors import (
    InsufficientScopeError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route

__all__ = ["Failure", "RefusalWriter", "refusal_in"]

Failure: TypeAlias = RequestRefusedError | UnavailableError
"""What there is an answer to; every other exception is a crash."""


def refusal_in(failure: Exception) -> Failure | None:
    """The refusal that *failure* is, or the first of a group of nothing else.

    An ``asyncio.TaskGroup`` raises groups. One with another error in it is a crash.
    """
    if isinstance(failure, RequestRefusedError | UnavailableError):
        return failure
    if not isinstance(failure, ExceptionGroup):
        return None
    group = cast("ExceptionGroup[Exception]", failure)
    found = [refusal_in(inner) for inner in group.exceptions]
    return None if None in found else found[0]


class RefusalWriter:
    """Writes the refusals of one resource server. Knows its routes, URLs and issuers,
    and no keys or tokens."""

    def __init__(
        self,
        server: ResourceServer,
        *,
        routes: RouteTable | None = None,
        issuer_named: Callable[[str], Issuer | None] | None = None,
    ) -> None:
        """*routes* and *issuer_named*, which gives the settings of an issuer, are those
        of a middleware, where there is one to share them with."""
        self._server = server
        self._routes = RouteTable(server) if routes is None else routes
        listed = {issuer.issuer: issuer for issuer in server.listed_issuers}
        self._issuer_named = listed.get if issuer_named is None else issuer_named
        self._metadata_url = server.metadata_url
        self._auth_md_url = server.auth_md_url

    def write(self, refusal: Refusal) -> Response:
        """*refusal* as the answer to the request."""
        told = self._for_clients(refusal)
        return render(told, self._metadata_url, self._auth_md_url)

    def complete_challenges(
        self, headers: Sequence[tuple[str, str]], refusal: Refusal
    ) -> Sequence[tuple[str, str]]:
        """The *headers* of a 401 of the application's own, with the challenge of
        *refusal*, unless they have one of ours: a guard's refusal does."""
        ours = challenge(self._for_clients(refusal), self._metadata_url)
        _, _, metadata = ours.rpartition("resource_metadata=")
        for name, value in headers:
            if name.lower() == "www-authenticate" and metadata in value:
                return headers
        return [("www-authenticate", ours), *headers]

    def name_more_scopes(
        self, refusal: Refusal, scopes: Sequence[str], source: str
    ) -> Refusal:
        """*refusal*, naming *scopes* as well, where it names any.

        Raises:
            ConfigurationError: clients cannot ask for one of *scopes*, which stand in
                *source*.
        """
        check_declared(scopes, self._server.scopes, source)
        return name_scopes(refusal, scopes)

    def read_raised(
        self, failure: Failure, access: Access | None, request: Request
    ) -> Refusal:
        """The refusal of *request*, whose handler raised *failure*.

        It names what the ``Route`` demands as well. The token has that, but a client
        may ask for no more than the answer names, and would then lack it.

        Raises:
            ConfigurationError: it names a scope that clients cannot ask for.
        """
        refusal = refusal_for(failure, access)
        if not (is_scope_named(refusal) or refusal.scopes):
            return refusal
        source = "requires(...) or require_scopes(...)"
        check_declared(refusal.scopes, self._server.scopes, source)
        route = self._route_of(request)
        if route is None:
            return refusal
        route_first = [*_named_by(route, access), *refusal.scopes]
        return name_scopes(replace(refusal, scopes=()), route_first)

    def answer_raised(
        self, failure: Failure, access: Access | None, request: Request
    ) -> Response:
        """The answer to *request*, whose handler raised *failure*; with its record.

        Raises:
            ConfigurationError: as ``read_raised``.
        """
        refusal = self.read_raised(failure, access, request)
        self.audit_raised(refusal, request)
        return self.write(refusal)

    def audit_raised(self, refusal: Refusal, request: Request) -> None:
        """Write the record of a *refusal* that a handler raised."""
        if is_audited(refusal):
            self.audit(refusal, request, self._route_of(request))

    def audit(
        self,
        decision: Access | Anonymous | Refusal,
        request: Request | None,
        route: Route | None,
        duration: float | None = None,
    ) -> None:
        """Write the record of *decision*; *duration* is in seconds."""
        write_audit(decision, request, route, duration, self._issuer_named)

    def _for_clients(self, refusal: Refusal) -> Refusal:
        """*refusal* with the names by which clients ask for scopes."""
        if not self._server.client_scope_prefix:
            return refusal
        scopes = self._server.scopes_for_clients(refusal.scopes)
        return replace(refusal, scopes=scopes)

    def _route_of(self, request: Request) -> Route | None:
        try:
            return self._routes.select(request)
        except RequestRefusedError:
            return None  # inside a mount, the middleware outside saw another path


def _named_by(route: Route, access: Access | None) -> Sequence[str]:
    """What *route* has named to a client, or would have."""
    if access is None:
        return route.named_scopes
    lacking = refusal_for_lack(access, route.demands.scopes, *route.demands.choices)
    return lacking.scopes if isinstance(lacking, InsufficientScopeError) else ()
