"""The ASGI middleware: an application behind it is an OAuth protected resource.

For any application, and for Starlette and FastAPI::

    app = AgentAuthMiddleware(app, server)
    app.add_middleware(AgentAuthMiddleware, resource_server=server)

Pure ASGI: bodies, streams and disconnects pass through untouched.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never

import anyio
from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware._core.decide import Anonymous, decide
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.policy.cross_origin import is_sent_with_preflights
from agentauth_middleware._core.publish.challenge import (
    Refusal,
    check_declared,
    is_scope_named,
    name_scopes,
)
from agentauth_middleware._core.revocations.log import read_on
from agentauth_middleware._io.drive import drive_async
from agentauth_middleware._io.perform import AsyncPerformer
from agentauth_middleware._middleware.arguments import check_arguments
from agentauth_middleware._middleware.audit import is_audited, write_audit
from agentauth_middleware._middleware.raised import answer_raised, refusal_in
from agentauth_middleware._middleware.unread_bodies import (
    UNREAD,
    Allowance,
    UnreadBody,
)
from agentauth_middleware._middleware.workers import warn_of_other_workers
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import CURRENT, LEEWAY, Access
from agentauth_middleware.errors import (
    ConfigurationError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.stores._users import note_user

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AgentAuthMiddleware", "Caller"]


class Caller(BaseUser):
    """What Starlette's ``request.user`` is for a request with an ``Access``."""

    __slots__ = ("access",)

    def __init__(self, access: Access) -> None:
        self.access = access

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        """The user's name where the token has one, else the subject."""
        user = self.access.user
        return (user and user.name) or self.identity

    @property
    def identity(self) -> str:
        """The subject. Unique only together with ``access.issuer``."""
        return self.access.subject or ""


class AgentAuthMiddleware:
    """Lets requests through to *app* that *resource_server* allows.

    The handler finds its ``Access`` in ``scope["agentauth.access"]``, in
    ``current_access()``, and as Starlette's ``request.user`` and ``request.auth``.
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
        """*store* is what processes share, by default this process's memory;
        *http_client* makes all requests to issuers, and is never closed here.
        *scopes_for* gives the scopes that the handler of a request will demand, beside
        those of its ``Route``. It is asked only when an answer has to name them.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        check_arguments(app, resource_server, store)
        self.app = app
        root = _application_root(app)
        self._state = MiddlewareState(resource_server, application_root=root)
        self._allowance = Allowance(resource_server)
        self._store = MemoryStore() if store is None else store
        note_user(self._store, resource_server)
        self._perform = AsyncPerformer(self._store, http_client)
        if self._state.fetches:
            with suppress(ConfigurationError):  # raised again as the server starts up
                self._perform.prepare()
        self._scopes_for = scopes_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(
                f"no middleware protects {scope['type']!r}; nobody is let in"
            )
        started = time.perf_counter()
        request = read_request(scope)
        if self._state.cross_origin.is_used:
            send = self._readable(request, send)
        procedure = decide(self._state, request, time.time)
        decision = await drive_async(procedure, self._perform)
        match decision:
            case Access():
                identify(scope, decision)
                self._audit(decision, request, started)
                await self._pass_on(decision, request, scope, receive, send)
            case Anonymous():
                self._audit(decision, request, started)
                if decision.challenge is not None:
                    send = self._challenging(decision.challenge, scope, send)
                if decision.is_preflight:
                    scope, receive = as_preflight(scope), without_body(receive)
                anonymous(scope, decision)
                await self._pass_on(None, request, scope, receive, send)
            case Refusal():
                self._audit(decision, request, started)
                refusal = self._name_scopes(decision, scope)
                follow_body(self._allowance, scope, receive)
                await respond(self._state.write_refusal(refusal), scope, send)
            case Response():
                follow_body(self._allowance, scope, receive)
                await respond(decision, scope, send)
            case _:
                assert_never(decision)

    def _readable(self, request: Request, send: Send) -> Send:
        """*send*, which lets pages of listed origins read all answers."""

        async def readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [_text(line) for line in message.get("headers", ())]
                opened = self._state.cross_origin.let_read(request, given)
                lines = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in opened]
                message = {**message, "headers": lines}
            await send(message)

        return readable

    def _challenging(self, refusal: Refusal, scope: Scope, send: Send) -> Send:
        """*send*, which adds our challenge to a 401 of the application's own."""
        if self._scopes_for is not None:
            scope = dict(scope)  # routers write into it

        async def challenging(message: Message) -> None:
            if message["type"] in _STARTS and message["status"] == 401:
                headers = list(message.get("headers", ()))
                ours = self._state.challenge(self._name_scopes(refusal, scope)).encode()
                if not any(_is_ours(line, ours) for line in headers):
                    headers.insert(0, (b"www-authenticate", ours))
                message = {**message, "headers": headers}
            await send(message)

        return challenging

    def _name_scopes(self, refusal: Refusal, scope: Scope) -> Refusal:
        if self._scopes_for is None or not is_scope_named(refusal):
            return refusal
        scopes = tuple(self._scopes_for(scope))
        source = "requires(...) or scopes_for"
        check_declared(scopes, self._state.server.scopes, source)
        return name_scopes(refusal, scopes)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """HTTP clients live as long as the application, where the server says so."""
        if self._state.fetches:
            try:
                self._perform.prepare()
            except ConfigurationError as fault:
                # Certificates or proxies in the environment. An exception would pass
                # for "knows no lifespan": the application would start without its own.
                await receive()
                message = f"agentauth-middleware: no HTTP client can be made: {fault}"
                await send({"type": "lifespan.startup.failed", "message": message})
                return
        if isinstance(self._store, MemoryStore):
            warn_of_other_workers(self._state.server)
        try:
            await self._read_log_before_serving()
            await self.app(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._perform.aclose()

    async def _read_log_before_serving(self) -> None:
        """A long log takes seconds, which no request should have to wait."""
        with suppress(UnavailableError):  # each request that needs it will say so
            await drive_async(
                read_on(self._state.revocations, time.time()), self._perform
            )

    async def _pass_on(
        self,
        access: Access | None,
        request: Request,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Run the application, and answer the refusals that its handlers raise."""
        answered = False
        if scope.get("method", "GET") not in _BODILESS:
            receive = follow_body(self._allowance, scope, receive)

        def noting(message: Message) -> Awaitable[None]:
            nonlocal answered
            answered = True
            return send(message)

        token = CURRENT.set(access)
        leeway = LEEWAY.set(self._state.server.leeway)
        try:
            await self.app(scope, receive, noting)
        except (RequestRefusedError, UnavailableError, ExceptionGroup) as raised:
            failure = refusal_in(raised)
            if answered or failure is None:
                raise
            answer = answer_raised(failure, access, self._state, request)
            await respond(answer, scope, send)
        finally:
            LEEWAY.reset(leeway)
            CURRENT.reset(token)

    def _audit(
        self, decision: Access | Anonymous | Refusal, request: Request, started: float
    ) -> None:
        if is_audited(decision):
            duration = time.perf_counter() - started
            write_audit(decision, self._state, request, duration)


_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Handlers that are reached with these read no body."""
_STARTS = ("http.response.start", "websocket.http.response.start")


def _text(line: tuple[bytes, bytes]) -> tuple[str, str]:
    return line[0].decode("latin-1"), line[1].decode("latin-1")


def _is_ours(line: tuple[bytes, bytes], challenge: bytes) -> bool:
    """Whether a header line leads where *challenge* does: a guard's refusal has one."""
    _, _, metadata = challenge.rpartition(b"resource_metadata=")
    return line[0].lower() == b"www-authenticate" and metadata in line[1]


def _application_root(app: object) -> str:
    """The prefix that ``FastAPI(root_path=...)`` takes off without the server's saying.

    Only asked of what is built like Starlette: elsewhere the name means other things.
    Other middleware in between keeps what it wraps as ``app``.
    """
    for _ in range(_MAX_WRAPPERS):
        if hasattr(app, "build_middleware_stack"):
            root: str = getattr(app, "root_path", "")
            return root
        app = getattr(app, "app", None)
    return ""


_MAX_WRAPPERS = 32


class _ScopeRequest(Request):
    """The core's view of a scope."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self.method = scope.get("method", "GET")
        self.path = scope["path"]
        self.mount = scope.get("root_path", "")
        self.query = scope.get("query_string", b"")
        self.authorization = [
            value for name, value in scope["headers"] if name == b"authorization"
        ]
        self._scope = scope

    @property
    def raw_path(self) -> bytes:
        return self._scope.get("raw_path") or b""

    @property
    def client(self) -> str | None:
        client = self._scope.get("client")
        return client[0] if client else None

    def header(self, name: str) -> str | None:
        wanted = name.encode("latin-1")
        lines = [value for key, value in self._scope["headers"] if key == wanted]
        return b", ".join(lines).decode("latin-1") if lines else None


def read_request(scope: Scope) -> Request:
    """What a decision on *scope* may depend on."""
    return _ScopeRequest(scope)


def follow_body(allowance: Allowance, scope: Scope, receive: Receive) -> Receive:
    """*receive*, so that ``respond`` knows what is left of the request's body."""
    if not allowance.is_used or not _announces_body(scope):
        return receive
    client = scope.get("client")
    unread = UnreadBody(allowance, receive, client[0] if client else None)
    scope[UNREAD] = unread
    return unread.receive


def _announces_body(scope: Scope) -> bool:
    """Whether a body comes with the request of *scope* (RFC 9112 §6)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return bool(value.strip(b" 0"))
        if name == b"transfer-encoding":
            return True
    return False


def identify(scope: Scope, access: Access) -> None:
    """Put *access* where Starlette's conventions and our own look for it."""
    scope["agentauth.access"] = access
    scope["user"] = Caller(access)
    scope["auth"] = AuthCredentials(_words(access.scopes))


@lru_cache(maxsize=1024)
def _words(scopes: frozenset[str]) -> tuple[str, ...]:
    """Scopes for Starlette; ``"authenticated"`` is what its guide asks for."""
    return (*sorted(scopes), "authenticated")


def anonymous(scope: Scope, decision: Anonymous) -> None:
    """Take from *scope* whatever ``Access`` it brought along."""
    scope.pop("agentauth.access", None)
    if isinstance(
        scope.get("user"), Caller
    ):  # an outer middleware's, of another resource
        del scope["user"]
        scope.pop("auth", None)
    if decision.challenge is None:
        scope.setdefault("user", UnauthenticatedUser())
        scope.setdefault("auth", AuthCredentials())


def as_preflight(scope: Scope) -> Scope:
    """*scope* with nothing that a preflight has not."""
    kept = [
        line
        for line in scope["headers"]
        if is_sent_with_preflights(line[0].decode("latin-1").lower())
    ]
    return {**scope, "headers": kept, "query_string": b""}


def without_body(receive: Receive) -> Receive:
    """*receive* for a request without a body, whatever the client sends.

    HTTP/2 announces a body by no header.
    """
    is_first = True

    async def receive_nothing() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await receive()
        while message["type"] == "http.request":
            message = await receive()
        return message

    return receive_nothing


async def respond(response: Response, scope: Scope, send: Send) -> None:
    """Send a complete answer; to a websocket handshake, before it is accepted.

    What is left of the request's body is read between the answer and its end.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            # Every server answers 403 to a close before the handshake is accepted.
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    body = b"" if scope.get("method") == "HEAD" else response.body
    await send({"type": f"{kind}.start", "status": response.status, "headers": headers})
    unread: UnreadBody | None = scope.get(UNREAD)
    if unread is not None and not unread.has_ended:
        await send({"type": f"{kind}.body", "body": body, "more_body": True})
        await unread.discard()
        body = b""
    await send({"type": f"{kind}.body", "body": body})
