"""For servers built with the MCP SDK: the middleware that tells it who is calling.

::

    app = AgentAuthMiddleware(mcp.streamable_http_app(), server)

    @mcp.tool()
    @requires("notes.write")
    def add_note(text: str) -> str: ...

Prefer the middleware. For authors who want the SDK's own auth settings instead there is
``AgentAuthTokenVerifier``, with what the SDK makes of it.

Needs the extra ``mcp``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from math import floor
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

try:
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings
    from mcp.server.mcpserver.exceptions import ResourceError
except ModuleNotFoundError as missing:
    raise ImportError(
        "agentauth_middleware.mcp needs the MCP SDK: "
        "pip install agentauth-middleware[mcp]"
    ) from missing
from pydantic import Field, InstanceOf
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware import asgi
from agentauth_middleware._middleware import guards
from agentauth_middleware._middleware.refusal_writer import refusal_in
from agentauth_middleware._syntax.members import parse_object
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.verifier import Verifier

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = [
    "AgentAccessToken",
    "AgentAuthMiddleware",
    "AgentAuthTokenVerifier",
    "requires",
]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class AgentAccessToken(AccessToken):
    """What the SDK's ``get_access_token()`` gives, and the ``Access`` behind it."""

    token: str = Field(repr=False)
    access: InstanceOf[Access] = Field(exclude=True, repr=False)
    """Who is calling, on whose behalf, and what they may do."""

    @classmethod
    def from_access(
        cls, access: Access, *, resource: str, token: str
    ) -> AgentAccessToken:
        """*access* in the SDK's words.

        *resource* stands for the audience, which has been checked: the settings may
        accept another string than the one that the SDK compares.
        """
        expires_at = access.expires_at
        return cls(
            token=token,
            client_id=access.client_id or "",
            scopes=sorted(access.scopes),
            expires_at=None if expires_at is None else floor(expires_at),
            resource=resource,
            subject=access.subject,
            # The SDK tells principals apart by ``iss`` as well.
            claims={**parse_object(access.payload), "iss": access.issuer},
            access=access,
        )


class AgentAuthMiddleware(asgi.AgentAuthMiddleware):
    """The ASGI middleware, around an application of the MCP SDK.

    Beyond what the plain middleware does, the SDK learns who is calling: a session
    answers only to the client, the user and the agent that opened it, and to anybody
    else is not found; ``get_access_token()`` gives an ``AgentAccessToken``, whose
    ``token`` is empty, since no tool may pass it on. What ``requires`` refuses is
    answered by the middleware.
    """

    def __init__(
        self,
        app: ASGIApp,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        scopes_for: Callable[[Scope], Iterable[str]] | None = None,
    ) -> None:
        """As for the ASGI middleware."""
        super().__init__(
            app,
            resource_server,
            store=store,
            http_client=http_client,
            scopes_for=scopes_for,
        )
        self.app = _KnownCallers(app, resource_server)


class _Caller(asgi.Caller, AuthenticatedUser):
    """The user of a request, as our middleware has it and as the SDK looks for it."""

    def __init__(self, access: Access, token: AccessToken) -> None:
        asgi.Caller.__init__(self, access)
        AuthenticatedUser.__init__(self, token)


class _KnownCallers:
    """Stands between middleware and application, and tells the one about the other."""

    def __init__(self, app: ASGIApp, resource_server: ResourceServer) -> None:
        self.app = app
        self._resource_server = resource_server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        user = self._read_caller(scope)
        if user is not None:
            scope["user"] = user
        told = self._resource_server.scopes_for_clients
        answer = _Answer(send, told, waits=scope["method"] == "POST")
        known = auth_context_var.set(user)
        answering = _ANSWER.set(answer)
        try:
            await self.app(scope, receive, answer.send)
        finally:
            _ANSWER.reset(answering)
            auth_context_var.reset(known)
        await answer.finish()

    def _read_caller(self, scope: Scope) -> _Caller | None:
        access: Access | None = scope.get("agentauth.access")
        if access is None:
            return None
        resource = self._resource_server.resource
        token = AgentAccessToken.from_access(access, resource=resource, token="")
        if access.agent is not None:
            # The SDK compares this, too: another agent of the same user and client
            # shall not find the session. Tools that want the issuer have ``access``.
            agent = f"{access.agent.issuer} {access.agent.subject}"
            token.claims = {**(token.claims or {}), "iss": f"{access.issuer} {agent}"}
        return _Caller(access, token)


class _Answer:
    """What the application answers, held back until its first words.

    A tool is called after the SDK has begun a stream, and a refusal has a status. So
    the status of a POST, whose stream says nothing until a tool does, waits for that.
    """

    def __init__(
        self,
        send: Send,
        scopes_for_clients: Callable[[Iterable[str]], tuple[str, ...]],
        *,
        waits: bool,
    ) -> None:
        self.scopes_for_clients = scopes_for_clients
        self._send = send
        self._waits = waits
        self._held: Message | None = None
        self._refusal: RequestRefusedError | UnavailableError | None = None

    def refuse(self, refusal: RequestRefusedError | UnavailableError) -> None:
        """Answer with *refusal*, unless something has been said."""
        if self._waits and self._refusal is None:
            self._refusal = refusal

    async def send(self, message: Message) -> None:
        """What the application sends with."""
        if self._refusal is not None:
            return
        if self._waits and message["type"] == "http.response.start":
            self._held = message
            return
        await self._begin()
        await self._send(message)

    async def finish(self) -> None:
        """Say what is left, once the application has returned.

        Raises:
            RequestRefusedError, UnavailableError: a tool has refused in time.
        """
        if self._refusal is not None:
            raise self._refusal
        await self._begin()

    async def _begin(self) -> None:
        self._waits = False
        if self._held is not None:
            held, self._held = self._held, None
            await self._send(held)


_ANSWER: ContextVar[_Answer] = ContextVar("agentauth_mcp_answer")
"""That of the request which a tool is called for."""


def requires(
    *scopes: str,
    any_scopes: Sequence[str] = (),
    user: Literal["required"] | None = None,
    agent: Literal["required", "forbidden"] | None = None,
    acr_values: Sequence[str] = (),
    max_age: int | None = None,
    optional: bool = False,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Let a call reach the decorated tool only if it meets these demands.

    The demands are those of ``Route``; without any, each ``Access`` will do. With
    *optional* a call without ``Access`` reaches the tool as well. It stands below
    ``@mcp.tool()``; for resources and prompts too. A refusal, also one that the tool
    raises itself, is answered by the middleware: a missing scope with 403 and the
    scopes, so that the client asks its user for them and calls again. Once the answer
    has begun, since the tool has reported progress or taken 15 seconds, the model is
    told instead.

    Raises:
        ConfigurationError: no token can meet a demand.
    """
    guard = guards.requires(
        *scopes,
        any_scopes=any_scopes,
        user=user,
        agent=agent,
        acr_values=acr_values,
        max_age=max_age,
        optional=optional,
    )

    def refuse(
        tool: Callable[Parameters, Returned],
    ) -> Callable[Parameters, Returned]:
        guarded = guard(tool)

        if iscoroutinefunction(guarded):

            @wraps(guarded)
            async def awaited(
                *args: Parameters.args, **kwargs: Parameters.kwargs
            ) -> Any:
                with _refusals_answered():
                    return await cast(Awaitable[Any], guarded(*args, **kwargs))

            return cast(Callable[Parameters, Returned], awaited)

        @wraps(guarded)
        def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            with _refusals_answered():
                return guarded(*args, **kwargs)

        return called

    return refuse


@contextmanager
def _refusals_answered() -> Generator[None, None, None]:
    """Tell the middleware of a refusal, and the SDK in its own words."""
    try:
        yield
    except (RequestRefusedError, UnavailableError, ExceptionGroup) as raised:
        failure = refusal_in(raised)
        if failure is None:
            raise
        answer = _ANSWER.get(None)
        if answer is not None:
            answer.refuse(failure)
        # Of the SDK's errors the one that tools and resources may both raise; any other
        # it takes for a crash.
        raise ResourceError(_told(failure, answer)) from failure


def _told(
    failure: RequestRefusedError | UnavailableError, answer: _Answer | None
) -> str:
    """What a model may read of *failure*: no more than a client is told."""
    if isinstance(failure, UnavailableError):
        return "temporarily unavailable: try again later"
    if isinstance(failure, InsufficientScopeError):
        scopes = failure.scopes
        if answer is not None:
            scopes = answer.scopes_for_clients(scopes)
        return f"{failure.description}: {' '.join(scopes)}"
    return failure.description


class AgentAuthTokenVerifier:
    """The SDK's ``TokenVerifier``: tokens are good here that are good by a middleware.

    ::

        verifier = AgentAuthTokenVerifier(server)
        mcp = MCPServer("Notes", token_verifier=verifier, auth=verifier.settings())

    The SDK asks it, and answers: 401 with ``invalid_token`` whatever is wrong and also
    where there is no token, 403 for a scope that all requests need, and 500 where the
    middleware answers 503. It publishes metadata with the first issuer alone, and no
    ``auth.md``. ``current_access()`` knows nothing; ``get_access_token()`` gives an
    ``AgentAccessToken``. Tokens within the leeway after their expiry are refused.
    """

    def __init__(
        self,
        resource_server: ResourceServer | Verifier,
        *,
        store: Store | None = None,
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
    ) -> None:
        """*store* and *http_client* are those of the ``Verifier`` that is made here; a
        given one has its own.

        Raises:
            ConfigurationError: an argument is of the wrong kind or excludes another.
        """
        if not isinstance(resource_server, Verifier):
            self._verifier = Verifier(
                resource_server, store=store, http_client=http_client
            )
        elif store is None and http_client is None:
            self._verifier = resource_server
        else:
            raise ConfigurationError(
                "AgentAuthTokenVerifier: a Verifier has a store and an http_client of "
                "its own; give them to it"
            )

    def settings(self, required_scopes: Iterable[str] = ()) -> AuthSettings:
        """The SDK's auth settings, from those of the resource server.

        *required_scopes* are needed for every request, and all that its metadata tells
        clients to ask for.

        Raises:
            ConfigurationError: the resource server's settings name no issuer, or
                clients know *required_scopes* by other names.
        """
        server = self._verifier.resource_server
        required = list(required_scopes)
        if required and server.client_scope_prefix:
            raise ConfigurationError(
                "required_scopes: the SDK tells clients what it looks for in tokens, "
                "and ResourceServer.client_scope_prefix says that they ask for it by "
                "another name; put the middleware in front of the application"
            )
        if not server.authorization_servers:
            raise ConfigurationError(
                "ResourceServer.authorization_servers: names no issuer, and the SDK's "
                "metadata needs one; list the one at which clients get their tokens, "
                "or put the middleware in front of the application"
            )
        return AuthSettings.model_validate(
            {
                "issuer_url": server.authorization_servers[0],
                "resource_server_url": server.resource,
                "required_scopes": required or None,
                # The verifier checks the audience itself.
                "validate_token_resource": False,
            }
        )

    async def verify_token(self, token: str) -> AgentAccessToken | None:
        """What the SDK calls. ``None`` is a verdict: *token* is no good.

        Raises:
            TooManyRequestsError: its issuer may not be asked again yet; likewise.
            UnavailableError: keys, introspection or the log are out of reach. Never a
                verdict: a client that is answered 401 throws its token away.
            RequestRefusedError: another refusal that is none about *token*.
        """
        try:
            access = await self._verifier.verify(token)
        except (InvalidRequestError, InvalidTokenError):
            return None
        resource = self._verifier.resource_server.resource
        return AgentAccessToken.from_access(access, resource=resource, token=token)
