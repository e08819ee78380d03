"""The WSGI middleware: an application behind it is an OAuth protected resource.

::

    app = AgentAuthMiddleware(app, server)

Plain WSGI. A list and the server's own file wrapper are passed on as they are; any
other body is iterated in the context of its request, so that ``current_access()``
holds while it streams.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, assert_never

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.tokens.remembered import Remembered
from agentauth_middleware._io.drive import drive
from agentauth_middleware._io.perform import BlockingPerformer
from agentauth_middleware._middleware.arguments import check_is_wsgi, check_remote_user
from agentauth_middleware._middleware.body import MiddlewareBody
from agentauth_middleware._middleware.refusal_writer import Failure, refusal_in
from agentauth_middleware._middleware.unread_bodies import UnreadInput
from agentauth_middleware._middleware.wsgi_exchange import (
    follow_body,
    make_preflight,
    read_request,
    respond,
)
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import CURRENT, Access
from agentauth_middleware.errors import RequestRefusedError, UnavailableError
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    import httpx
    import httpx2

__all__ = ["AgentAuthMiddleware"]

_ACCESS = "agentauth.access"


class AgentAuthMiddleware(MiddlewareBody["WSGIEnvironment"]):
    """Lets requests through to *app* that *resource_server* allows.

    The handler finds its ``Access`` in ``environ["agentauth.access"]`` and in
    ``current_access()``.
    """

    def __init__(
        self,
        app: WSGIApplication,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: httpx.Client | httpx2.Client | None = None,
        remote_user: Callable[[Access], str | None] | None = None,
        scopes_for: Callable[[WSGIEnvironment], Iterable[str]] | None = None,
    ) -> None:
        """*store* is what processes share, by default this process's memory;
        *http_client* makes all requests to issuers, and is never closed here.
        *remote_user* gives ``REMOTE_USER`` for a request with an ``Access``; without
        it such a request has none, and others keep what the front server said.
        *scopes_for* gives the scopes that the handler of a request will demand, beside
        those of its ``Route``. It is called only when an answer has to name them.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        super().__init__(app, resource_server, store, scopes_for)
        check_is_wsgi(app)
        check_remote_user(remote_user)
        self.app = app
        self._perform = BlockingPerformer(self._store, http_client)
        if self._state.fetches:
            self._perform.prepare()
        self._has_served = False
        self._remote_user = remote_user

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        started = perf_counter()
        if not self._has_served:
            self._begin_to_serve(environ)
        request = read_request(environ)
        unread = follow_body(self._allowance, environ, start_response)
        if self._state.cross_origin.is_used:
            start_response = self._readable(request, start_response)
        decision = self._decide(request)
        if not isinstance(decision, tuple):
            decision = drive(decision, self._perform)
        outcome, route = decision
        environ.pop(_ACCESS, None)
        match outcome:
            case Remembered(access=access):
                self._audit(access, request, route, started)
                self._identify(environ, access)
                return self._pass_on(access, request, environ, start_response, unread)
            case Anonymous():
                self._audit(outcome, request, route, started)
                if outcome.is_preflight:
                    make_preflight(environ)
                if outcome.challenge is not None:
                    start_response = self._challenging(
                        outcome.challenge, environ, start_response
                    )
                return self._pass_on(None, request, environ, start_response, unread)
            case Refusal():
                self._audit(outcome, request, route, started)
                answer = self._refuse(outcome, environ)
                return respond(answer, request, start_response, unread)
            case Response():
                return respond(outcome, request, start_response, unread)
            case _:
                assert_never(outcome)

    def _begin_to_serve(self, environ: WSGIEnvironment) -> None:
        """Once in each process that serves; one that only forks does not get here."""
        self._has_served = True
        if environ.get("wsgi.multiprocess"):
            self._warn_of_other_workers()

    def _readable(
        self, request: Request, start_response: StartResponse
    ) -> StartResponse:
        """*start_response*, which lets pages of listed origins read all answers."""

        def readable(
            status: str, headers: list[tuple[str, str]], *exc_info: Any
        ) -> Any:
            opened = self._state.cross_origin.let_read(request, headers)
            return start_response(status, opened, *exc_info)

        return readable

    def _challenging(
        self,
        refusal: Refusal,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> StartResponse:
        """*start_response*, which adds our challenge to a 401 of the application's."""
        if self._scopes_for is not None:
            environ = dict(environ)  # dispatchers write into it

        def challenging(
            status: str, headers: list[tuple[str, str]], *exc_info: Any
        ) -> Any:
            if status.startswith("401"):
                headers = [*self._complete_challenges(headers, refusal, environ)]
            return start_response(status, headers, *exc_info)

        return challenging

    def _identify(self, environ: WSGIEnvironment, access: Access) -> None:
        """Put *access* into *environ*; what the front server said of the user goes."""
        environ[_ACCESS] = access
        environ.pop("REMOTE_USER", None)
        if self._remote_user is not None:
            name = self._remote_user(access)
            if name is not None:
                environ["REMOTE_USER"] = name

    def _pass_on(
        self,
        access: Access | None,
        request: Request,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        unread: UnreadInput | None,
    ) -> Iterable[bytes]:
        """Run the application, and answer the refusals that its handlers raise.

        In one context from the call to the end of the body: what a framework sets in
        the first it resets in the second.
        """
        context = copy_context()
        context.run(CURRENT.set, access)
        if unread is not None:
            unread.is_untouched = False
        refuse = partial(self._answer_raised, access, request, start_response, unread)
        try:
            body = context.run(self.app, environ, start_response)
        except (RequestRefusedError, UnavailableError, ExceptionGroup) as raised:
            failure = refusal_in(raised)
            if failure is None:
                raise
            return refuse(failure)
        if unread is not None and unread.is_refused:
            return unread.discard_after(body)
        if isinstance(body, list | tuple) or _is_file(body, environ):
            return body
        return _Body(body, context, refuse)

    def _answer_raised(
        self,
        access: Access | None,
        request: Request,
        start_response: StartResponse,
        unread: UnreadInput | None,
        failure: Failure,
    ) -> Iterable[bytes]:
        refusal = self._writer.read_raised(failure, access, request)
        answer = self._writer.write(refusal)
        body = respond(answer, request, start_response, unread, sys.exc_info())
        # Not before: where the answer has begun, start_response has raised again.
        self._writer.audit_raised(refusal, request)
        return body


class _Body:
    """A streamed body, each step of which runs in the context of its request.

    Handlers written as generators run no line before the first step, so a refusal
    raised in it is answered as well.
    """

    def __init__(
        self,
        body: Iterable[bytes],
        context: Context,
        refuse: Callable[[Failure], Iterable[bytes]],
    ) -> None:
        self._body = body
        self._context = context
        self._refuse = refuse
        self._steps: Iterator[bytes] | None = None
        self._refused: Iterable[bytes] = ()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._steps is not None:
            return self._context.run(next, self._steps)
        try:
            self._steps = self._context.run(iter, self._body)
            return self._context.run(next, self._steps)
        except (RequestRefusedError, UnavailableError, ExceptionGroup) as raised:
            failure = refusal_in(raised)
            if failure is None:
                raise
            self._refused = self._refuse(failure)
            self._steps = iter(self._refused)
            return next(self._steps)

    def close(self) -> None:
        for body in (self._body, self._refused):
            close = getattr(body, "close", None)
            if close is not None:
                self._context.run(close)


def _is_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server will want to recognise *body* as its own file wrapper."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
