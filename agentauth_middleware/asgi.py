"""The ASGI middleware: an application behind it is an OAuth protected resource.

For any application, and for Starlette and FastAPI::

    app = AgentAuthMiddleware(app, server)
    app.add_middleware(AgentAuthMiddleware, resource_server=server)

Pure ASGI: bodies, streams and disconnects pass through untouched. The status of a
stream waits for its first piece; see ``asgi_first_piece``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, assert_never

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.revocations.log import read_on
from agentauth_middleware._core.tokens.remembered import Remembered
from agentauth_middleware._io.drive import drive_async
from agentauth_middleware._io.perform import AsyncPerformer
from agentauth_middleware._middleware.asgi_caller import Caller, anonymous, identify
from agentauth_middleware._middleware.asgi_exchange import (
    as_preflight,
    follow_body,
    read_request,
    respond,
    without_body,
)
from agentauth_middleware._middleware.asgi_first_piece import FirstPiece
from agentauth_middleware._middleware.body import MiddlewareBody
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import CURRENT, Access
from agentauth_middleware.errors import (
    ConfigurationError,
    UnavailableError,
)
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AgentAuthMiddleware", "Caller"]


class AgentAuthMiddleware(MiddlewareBody[Scope]):
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
        those of its ``Route``. It is called only when an answer has to name them.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        root = _application_root(app)
        super().__init__(app, resource_server, store, scopes_for, application_root=root)
        self.app = app
        self._perform = AsyncPerformer(self._store, http_client)
        if self._state.fetches:
            with suppress(ConfigurationError):  # raised again as the server starts up
                self._perform.prepare()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            if scope["type"] != "lifespan":
                raise RuntimeError(
                    f"the middleware cannot protect {scope['type']!r}; it is refused"
                )
            await self._run_lifespan(scope, receive, send)
            return
        started = perf_counter()
        request = read_request(scope)
        if self._state.cross_origin.is_used:
            send = self._readable(request, send)
        decision = self._decide(request)
        if not isinstance(decision, tuple):
            decision = await drive_async(decision, self._perform)
        outcome, route = decision
        match outcome:
            case Remembered(access=access):
                identify(scope, outcome)
                self._audit(access, request, route, started)
                await self._pass_on(access, request, scope, receive, send)
            case Anonymous():
                self._audit(outcome, request, route, started)
                if outcome.challenge is not None:
                    send = self._challenging(outcome.challenge, scope, send)
                if outcome.is_preflight:
                    scope, receive = as_preflight(scope), without_body(receive)
                anonymous(scope, outcome)
                await self._pass_on(None, request, scope, receive, send)
            case Refusal():
                self._audit(outcome, request, route, started)
                answer = self._refuse(outcome, scope)
                follow_body(self._allowance, scope, receive)
                await respond(answer, scope, send)
            case Response():
                follow_body(self._allowance, scope, receive)
                await respond(outcome, scope, send)
            case _:
                assert_never(outcome)

    async def _pass_on(
        self,
        access: Access | None,
        request: Request,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Run the application, and answer the refusals that its handlers raise."""
        if scope.get("method", "GET") not in _BODILESS:
            receive = follow_body(self._allowance, scope, receive)
        answering = FirstPiece(send)
        token = CURRENT.set(access)
        try:
            await self.app(scope, receive, answering.send)
            if not answering.has_begun:
                await answering.finish()
        except Exception as raised:
            failure = answering.refusal_in(raised)
            if failure is None:
                raise
            answer = self._writer.answer_raised(failure, access, request)
            await respond(answer, scope, send)
        finally:
            CURRENT.reset(token)

    def _readable(self, request: Request, send: Send) -> Send:
        """*send*, which lets pages of listed origins read all answers."""

        async def readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = _text_of(message.get("headers", ()))
                opened = self._state.cross_origin.let_read(request, given)
                message = {**message, "headers": _bytes_of(opened)}
            await send(message)

        return readable

    def _challenging(self, refusal: Refusal, scope: Scope, send: Send) -> Send:
        """*send*, which adds our challenge to a 401 of the application's own."""
        if self._scopes_for is not None:
            scope = dict(scope)  # routers write into it

        async def challenging(message: Message) -> None:
            if message["type"] in _STARTS and message["status"] == 401:
                given = _text_of(message.get("headers", ()))
                completed = self._complete_challenges(given, refusal, scope)
                message = {**message, "headers": _bytes_of(completed)}
            await send(message)

        return challenging

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
        self._warn_of_other_workers()
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


_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Handlers of these methods read no body."""
_STARTS = ("http.response.start", "websocket.http.response.start")


def _text_of(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
    ]


def _bytes_of(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers
    ]


def _application_root(app: object) -> str:
    """The prefix that ``FastAPI(root_path=...)`` takes off although the server does
    not name it.

    Looked for only in what is built like Starlette: elsewhere the attribute has other
    meanings. Other middleware in between keeps what it wraps as ``app``.
    """
    for _ in range(_MAX_WRAPPERS):
        if hasattr(app, "build_middleware_stack"):
            root: str = getattr(app, "root_path", "")
            return root
        app = getattr(app, "app", None)
    return ""


_MAX_WRAPPERS = 32
