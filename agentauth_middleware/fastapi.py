"""For FastAPI: a security class that gives a handler its ``Access``.

::

    auth = AgentAuth(server)
    auth.install(app)

    @app.get("/notes")
    def list_notes(
        caller: Annotated[Access, Security(auth, scopes=["notes.read"])]
    ) -> list[Note]: ...

Needs the extra ``fastapi``.
"""

# Annotations stay objects here: FastAPI reads those of ``AgentAuth.__call__``, and for
# the instance of a class it does not find the names that strings would refer to.

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import fastapi.routing
    from fastapi import FastAPI
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
except ModuleNotFoundError as missing:
    raise ImportError(
        "agentauth_middleware.fastapi needs FastAPI: "
        "pip install agentauth-middleware[fastapi]"
    ) from missing
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Scope

from agentauth_middleware._core.policy.route_table import RouteTable
from agentauth_middleware._core.publish.challenge import check_declared
from agentauth_middleware._core.publish.openapi import Guarded, describe_middleware
from agentauth_middleware._middleware.arguments import (
    check_resource_server,
    check_store,
)
from agentauth_middleware._middleware.guards import declared_by, demands_of, find_access
from agentauth_middleware._syntax.scopes import check_scopes
from agentauth_middleware.access import Access, refusal_for_lack
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
)
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.starlette import answer_refusals, find_route
from agentauth_middleware.stores import Store

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AgentAuth"]

_SECURITY, _REQUIRES = "Security(auth, scopes=...)", "requires(...)"
"""Where a handler's scopes may stand."""


class AgentAuth(SecurityBase):
    """Gives a handler the ``Access`` of its request, and FastAPI its OpenAPI entry.

    Depend on it with ``Security(auth, scopes=[...])``. The scopes of dependencies that
    lead to it add up. A token that lacks one is answered 403, and a request without
    credentials 401, both naming all that the operation needs: what its dependencies
    demand, each by itself, and what stands in ``requires``.
    """

    optional: "OptionalAgentAuth"
    """The same for handlers that serve requests without ``Access`` as well: those of
    people, with ``ResourceServer(unauthenticated="pass")``, or of anybody, at a
    ``Route(optional=True)``. It gives ``None`` for them, and binds all others."""

    def __init__(
        self,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: "httpx.AsyncClient | httpx2.AsyncClient | None" = None,
    ) -> None:
        """*store* and *http_client* are the middleware's, as for
        ``AgentAuthMiddleware``.

        Raises:
            ConfigurationError: *resource_server* or *store* is of the wrong kind.
        """
        check_resource_server(resource_server, "AgentAuth(ResourceServer(...))")
        check_store(store)
        self.model = HTTPBearer(
            description=(
                "An OAuth access token. Where to get one: "
                f"{resource_server.metadata_url}. "
                f"For agents: {resource_server.auth_md_url}"
            )
        )
        self.scheme_name = type(self).__name__
        self._resource_server = resource_server
        self._store = store
        self._http_client = http_client
        self._checked: set[tuple[str, tuple[str, ...]]] = set()
        """Scopes of handlers that are known to be in order, and where they stand."""
        self.optional = OptionalAgentAuth(
            self.model, self.scheme_name, self._find_access
        )

    def install(self, app: FastAPI) -> None:
        """Put the middleware in front of *app*, and let it answer refusals of handlers.

        Middleware added later stands outside of the middleware. ``CORSMiddleware`` does
        so too if it was added before: it is put in front of all other middleware, so
        that it sees preflights, and refusals are readable for pages.

        Raises:
            ConfigurationError: *app* has a middleware already.
        """
        added: list[object] = [middleware.cls for middleware in app.user_middleware]
        if AgentAuthMiddleware in added or _Middleware in added:
            raise ConfigurationError(
                "AgentAuth.install: this application has a middleware already; "
                "remove one"
            )
        app.add_middleware(
            _Middleware,
            check_routes=lambda: self._check_routes(app),
            resource_server=self._resource_server,
            store=self._store,
            http_client=self._http_client,
            scopes_for=self._declared_scopes,
        )
        _put_cors_outside(app)
        answer_refusals(app, self._resource_server)
        self._extend_openapi(app)

    async def __call__(
        self, connection: HTTPConnection, security_scopes: SecurityScopes
    ) -> Access:
        """What FastAPI calls for a handler that depends on this.

        Raises:
            AuthenticationRequiredError: the request has no ``Access``.
            ConfigurationError: a scope is not among those of the resource server.
            InsufficientScopeError: its token lacks one of *security_scopes*.
            ActorRefusedError: its agent may not use one of them.
        """
        access = self._find_access(connection, security_scopes.scopes)
        if access is None:
            needed = self._all_scopes(connection, security_scopes.scopes)
            raise AuthenticationRequiredError(needed)
        return access

    def _find_access(
        self, connection: HTTPConnection, scopes: Sequence[str]
    ) -> Access | None:
        """The ``Access`` of a request, if it has one, with all of *scopes*."""
        self._check_declared(scopes, _SECURITY)
        access = find_access()
        if access is not None and not access.has_scopes(*scopes):
            raise refusal_for_lack(access, self._all_scopes(connection, scopes))
        return access

    def _all_scopes(
        self, connection: HTTPConnection, scopes: Iterable[str]
    ) -> Iterable[str]:
        """*scopes*, and what else its operation demands."""
        return dict.fromkeys([*self._declared_scopes(connection.scope), *scopes])

    def _check_declared(self, scopes: Iterable[str], source: str) -> tuple[str, ...]:
        """*scopes*, if clients can ask for them."""
        listed = tuple(scopes)
        if (source, listed) not in self._checked:
            check_scopes(listed, source)
            check_declared(listed, self._resource_server.scopes, source)
            self._checked.add((source, listed))
        return listed

    def _check_routes(self, app: FastAPI) -> None:
        """Refuse a scope that clients cannot ask for, at any route that there is."""
        for route in _spread(app.routes):
            self._scopes_of(route)

    def _declared_scopes(self, scope: Scope) -> tuple[str, ...]:
        """All that the operation demands which *scope* will reach.

        Looked up where an answer has to name them and nowhere else, so that routes may
        be added at any time.
        """
        route = find_route(scope, scope["app"].routes, spread=_spread)
        return self._scopes_of(route, scope.get("method", ""))

    def _scopes_of(self, route: Any, method: str = "GET") -> tuple[str, ...]:
        """All that *route* demands, if clients can ask for it."""
        dependant = getattr(route, "dependant", None)
        if dependant is None:
            declared = declared_by(getattr(route, "endpoint", None), method)
            return self._check_declared(declared, _REQUIRES)
        found: dict[str, None] = {}
        for demand in _demanded(dependant):
            scopes = self._check_declared(demand.scopes, demand.source)
            found.update(dict.fromkeys(scopes))
        return tuple(found)

    def _extend_openapi(self, app: FastAPI) -> None:
        """In the way FastAPI documents for extending it."""
        generate = app.openapi
        table = RouteTable(self._resource_server, application_root=app.root_path)
        described: dict[str, Any] | None = None

        def openapi() -> dict[str, Any]:
            nonlocal described
            document = generate()
            if document is not described:  # generated anew
                describe_middleware(
                    document,
                    table,
                    scheme=self.scheme_name,
                    definition=self.model.model_dump(
                        mode="json", by_alias=True, exclude_none=True
                    ),
                    declared=self._declared_operations(app),
                    scope_prefix=self._resource_server.client_scope_prefix,
                    others_pass=self._resource_server.unauthenticated == "pass",
                    mount=app.root_path,
                )
                described = document
            return document

        app.openapi = openapi  # type: ignore[method-assign]

    def _declared_operations(
        self, app: FastAPI
    ) -> dict[tuple[str, str], Guarded | None]:
        """What the guards of each operation demand, by path and method."""
        declared: dict[tuple[str, str], Guarded | None] = {}
        for route in _spread(app.routes):
            for method in getattr(route, "methods", None) or ():
                if getattr(route, "dependant", None) is not None:
                    operation = route.path_format, method
                    declared.setdefault(operation, self._guarded(route))
        return declared

    def _guarded(self, route: Any) -> Guarded | None:
        demands = list(_demanded(route.dependant))
        if not demands:
            return None
        return Guarded(self._scopes_of(route), all(each.optional for each in demands))


class OptionalAgentAuth(SecurityBase):
    """What ``AgentAuth.optional`` is."""

    def __init__(
        self,
        model: HTTPBearer,
        scheme_name: str,
        find_access: Callable[[HTTPConnection, Sequence[str]], Access | None],
    ) -> None:
        self.model = model
        self.scheme_name = scheme_name
        self._find_access = find_access

    async def __call__(
        self, connection: HTTPConnection, security_scopes: SecurityScopes
    ) -> Access | None:
        """What FastAPI calls for a handler that depends on this.

        Raises:
            ConfigurationError: a scope is not among those of the resource server.
            InsufficientScopeError: the token lacks one of *security_scopes*.
            ActorRefusedError: its agent may not use one of them.
        """
        return self._find_access(connection, security_scopes.scopes)


def _put_cors_outside(app: FastAPI) -> None:
    """Move the CORS layers of *app* outward; all else stays where it is.

    Other middleware outside would run for requests that have not been checked.
    """
    app.user_middleware.sort(key=lambda middleware: not _is_cors(middleware.cls))


def _is_cors(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, CORSMiddleware)


class _Middleware(AgentAuthMiddleware):
    """The middleware, which FastAPI builds as it starts: by then there are routes to
    check.

    They are added after ``install``, as a rule.
    """

    def __init__(
        self,
        app: ASGIApp,
        resource_server: ResourceServer,
        *,
        store: Store | None,
        http_client: "httpx.AsyncClient | httpx2.AsyncClient | None",
        scopes_for: Callable[[Scope], Iterable[str]],
        check_routes: Callable[[], None],
    ) -> None:
        check_routes()
        super().__init__(
            app,
            resource_server,
            store=store,
            http_client=http_client,
            scopes_for=scopes_for,
        )


def _spread(routes: Sequence[BaseRoute]) -> Iterable[Any]:
    """Newer versions keep an included router as one route that stands for many."""
    contexts = getattr(fastapi.routing, "iter_route_contexts", iter)
    return contexts(routes)


class _Demand(NamedTuple):
    """What one guard demands, and where it stands."""

    source: str
    scopes: Sequence[str]
    optional: bool = False


def _demanded(dependant: Any) -> Iterator[_Demand]:
    """What is demanded by *dependant* and by all that it depends on.

    FastAPI has no public name for the scopes of ``Security`` and has changed the
    private one.
    """
    guard = dependant.call
    if isinstance(guard, AgentAuth | OptionalAgentAuth):
        is_optional = isinstance(guard, OptionalAgentAuth)
        for name in ("security_scopes", "parent_oauth_scopes", "own_oauth_scopes"):
            scopes = getattr(dependant, name, None) or ()
            yield _Demand(_SECURITY, scopes, is_optional)
    else:
        demands = demands_of(guard)
        if demands is not None:
            yield _Demand(_REQUIRES, demands.named_scopes, demands.optional)
    for below in dependant.dependencies:
        yield from _demanded(below)
