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

from typing import TYPE_CHECKING

try:
    from fastapi import FastAPI
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
except ModuleNotFoundError as missing:
    raise ImportError(
        "agentauth_middleware.fastapi needs FastAPI: "
        "pip install agentauth-middleware[fastapi]"
    ) from missing

from agentauth_middleware._io.raised import require_access
from agentauth_middleware.access import Access
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.resource_server import ResourceServer
from agentauth_middleware.starlette import answer_refusals
from agentauth_middleware.stores import Store

if TYPE_CHECKING:
    import httpx

__all__ = ["AgentAuth"]


class AgentAuth(SecurityBase):
    """Gives a handler the ``Access`` of its request, and FastAPI its OpenAPI entry.

    Depend on it with ``Security(auth, scopes=[...])``. The scopes of dependencies that
    lead to it add up; a token that lacks one is answered 403, naming all of them. A
    request without ``Access``, where a ``Route`` lets one through, is answered 401.
    """

    def __init__(
        self,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: "httpx.AsyncClient | None" = None,
    ) -> None:
        """*store* and *http_client* are the door's, as for ``AgentAuthMiddleware``."""
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

    def install(self, app: FastAPI) -> None:
        """Put the door in front of *app*, and let it answer refusals of handlers.

        Middleware added later stands outside of the door; so should CORS.

        Raises:
            ConfigurationError: *app* has a door already.
        """
        added: list[object] = [middleware.cls for middleware in app.user_middleware]
        if AgentAuthMiddleware in added:
            raise ConfigurationError(
                "AgentAuth.install: this application has a door already; remove one"
            )
        app.add_middleware(
            AgentAuthMiddleware,
            resource_server=self._resource_server,
            store=self._store,
            http_client=self._http_client,
        )
        answer_refusals(app, self._resource_server)

    async def __call__(self, security_scopes: SecurityScopes) -> Access:
        """What FastAPI calls for a handler that depends on this.

        Raises:
            AuthenticationRequiredError: the request has no ``Access``.
            ConfigurationError: a scope is not among those of the resource server.
            InsufficientScopeError: its token lacks one of *security_scopes*.
        """
        declared = self._resource_server.scopes
        undeclared = set(security_scopes.scopes) - declared.keys()
        if declared and undeclared:
            raise ConfigurationError(
                f"Security(auth, scopes=...): {', '.join(sorted(undeclared))} is not "
                "among ResourceServer.scopes; declare it there, so that clients can "
                "ask for it"
            )
        return require_access(security_scopes.scopes)
