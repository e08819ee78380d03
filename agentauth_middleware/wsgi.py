"""The WSGI middleware: an application behind it is an OAuth protected resource.

::

    app = AgentAuthMiddleware(app, server)

Plain WSGI. A list and the server's own file wrapper are passed on as they are; any
other body is iterated in the context of its request, so that ``current_access()``
holds while it streams.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, assert_never

from agentauth_middleware._core.decide import Anonymous, decide
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.policy.cross_origin import is_sent_with_preflights
from agentauth_middleware._core.publish.challenge import (
    Refusal,
    check_declared,
    is_scope_named,
    name_scopes,
)
from agentauth_middleware._io.drive import drive
from agentauth_middleware._io.perform import BlockingPerformer
from agentauth_middleware._middleware.arguments import (
    check_arguments,
    check_is_wsgi,
    check_remote_user,
)
from agentauth_middleware._middleware.audit import is_audited, write_audit
from agentauth_middleware._middleware.raised import refusal_in, refusal_raised
from agentauth_middleware._middleware.unread_bodies import (
    UNREAD,
    Allowance,
    UnreadInput,
)
from agentauth_middleware._middleware.workers import warn_of_other_workers
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import CURRENT, LEEWAY, Access
from agentauth_middleware.errors import RequestRefusedError, UnavailableError
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.stores._users import note_user

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    import httpx
    import httpx2

__all__ = ["AgentAuthMiddleware"]

_ACCESS = "agentauth.access"


class AgentAuthMiddleware:
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
        those of its ``Route``. It is asked only when an answer has to name them.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        check_arguments(app, resource_server, store)
        check_is_wsgi(app)
        check_remote_user(remote_user)
        self.app = app
        self._state = MiddlewareState(resource_server)
        self._allowance = Allowance(resource_server)
        self._store = MemoryStore() if store is None else store
        note_user(self._store, resource_server)
        self._perform = BlockingPerformer(self._store, http_client)
        if self._state.fetches:
            self._perform.prepare()
        self._looks_for_workers = isinstance(self._store, MemoryStore)
        self._remote_user = remote_user
        self._scopes_for = scopes_for

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        started = time.perf_counter()
        if self._looks_for_workers:
            self._look_for_workers(environ)
        request = read_request(environ)
        unread: UnreadInput | None = None
        if _announces_body(environ) and self._allowance.is_used:
            unread = UnreadInput(self._allowance, environ, start_response)
            environ[UNREAD] = unread
        if self._state.cross_origin.is_used:
            start_response = self._readable(request, start_response)
        decision = drive(decide(self._state, request, time.time), self._perform)
        environ.pop(_ACCESS, None)
        match decision:
            case Access():
                self._audit(decision, request, started)
                self._identify(environ, decision)
                return self._pass_on(decision, request, environ, start_response, unread)
            case Anonymous():
                self._audit(decision, request, started)
                if decision.is_preflight:
                    make_preflight(environ)
                if decision.challenge is not None:
                    start_response = self._challenging(
                        decision.challenge, environ, start_response
                    )
                return self._pass_on(None, request, environ, start_response, unread)
            case Refusal():
                self._audit(decision, request, started)
                refusal = self._name_scopes(decision, environ)
                answer = self._state.write_refusal(refusal)
                return respond(answer, request, start_response, unread)
            case Response():
                return respond(decision, request, start_response, unread)
            case _:
                assert_never(decision)

    def _look_for_workers(self, environ: WSGIEnvironment) -> None:
        """Once in each process that serves; one that only forks does not get here."""
        self._looks_for_workers = False
        if environ.get("wsgi.multiprocess"):
            warn_of_other_workers(self._state.server)

    def _name_scopes(self, refusal: Refusal, environ: WSGIEnvironment) -> Refusal:
        if self._scopes_for is None or not is_scope_named(refusal):
            return refusal
        scopes = tuple(self._scopes_for(environ))
        source = "requires(...) or scopes_for"
        check_declared(scopes, self._state.server.scopes, source)
        return name_scopes(refusal, scopes)

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
                ours = self._state.challenge(self._name_scopes(refusal, environ))
                if not any(_is_ours(line, ours) for line in headers):
                    headers = [("WWW-Authenticate", ours), *headers]
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
        context.run(LEEWAY.set, self._state.server.leeway)
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
        failure: RequestRefusedError | UnavailableError,
    ) -> Iterable[bytes]:
        refusal = refusal_raised(failure, access, self._state, request)
        answer = self._state.write_refusal(refusal)
        body = respond(answer, request, start_response, unread, sys.exc_info())
        # Not before: where the answer has begun, start_response has raised again.
        if is_audited(refusal):
            write_audit(refusal, self._state, request)
        return body

    def _audit(
        self, decision: Access | Anonymous | Refusal, request: Request, started: float
    ) -> None:
        if is_audited(decision):
            duration = time.perf_counter() - started
            write_audit(decision, self._state, request, duration)


class _Body:
    """A streamed body, each step of which runs in the context of its request.

    Handlers written as generators run no line before the first step, so a refusal
    raised in it is answered as well.
    """

    def __init__(
        self,
        body: Iterable[bytes],
        context: Context,
        refuse: Callable[[RequestRefusedError | UnavailableError], Iterable[bytes]],
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


def _announces_body(environ: WSGIEnvironment) -> bool:
    """Whether a body comes with the request of *environ* (RFC 9112 §6)."""
    length: str | None = environ.get("CONTENT_LENGTH")
    if length:
        return bool(length.strip(" 0"))
    return "HTTP_TRANSFER_ENCODING" in environ


def make_preflight(environ: WSGIEnvironment) -> None:
    """Take from *environ* what a preflight has not: credentials, query, body."""
    for key in list(environ):
        name = key.removeprefix("HTTP_").replace("_", "-").lower()
        if key.startswith("HTTP_") and not is_sent_with_preflights(name):
            del environ[key]
    environ.pop("CONTENT_TYPE", None)
    environ["CONTENT_LENGTH"] = "0"
    environ["QUERY_STRING"] = ""
    environ["wsgi.input"] = BytesIO()


def _is_ours(line: tuple[str, str], challenge: str) -> bool:
    """Whether a header line leads where *challenge* does: a guard's refusal has one."""
    _, _, metadata = challenge.rpartition("resource_metadata=")
    return line[0].lower() == "www-authenticate" and metadata in line[1]


def _is_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server will want to recognise *body* as its own file wrapper."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class _EnvironRequest(Request):
    """The core's view of an environ, whose strings are bytes in disguise (PEP 3333)."""

    __slots__ = ("_environ",)

    def __init__(self, environ: WSGIEnvironment) -> None:
        path = _decoded(environ.get("PATH_INFO", ""))
        self.mount = _decoded(environ.get("SCRIPT_NAME", ""))
        if self.mount and path and not path.startswith("/"):
            path = f"/{path}"  # as frameworks read it; the mount must not swallow it
        self.path = self.mount + path
        self.method = environ["REQUEST_METHOD"]
        self.query = environ.get("QUERY_STRING", "").encode("latin-1")
        authorization = environ.get("HTTP_AUTHORIZATION")
        self.authorization = (
            () if authorization is None else (authorization.encode("latin-1"),)
        )
        self._environ = environ

    @property
    def raw_path(self) -> bytes:
        environ = self._environ
        raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        return raw.encode("latin-1")

    @property
    def client(self) -> str | None:
        address: str | None = self._environ.get("REMOTE_ADDR")
        return address or None

    def header(self, name: str) -> str | None:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
        value: str | None = self._environ.get(key)
        return value


def read_request(environ: WSGIEnvironment) -> Request:
    """What a decision on *environ* may depend on."""
    return _EnvironRequest(environ)


def _decoded(text: str) -> str:
    """*text* as the characters it means; plain ASCII, as nearly always, as it is.

    Bytes that are no UTF-8 become lone surrogates, by which the core knows them.
    """
    if text.isascii():
        return text
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def respond(
    response: Response,
    request: Request,
    start_response: StartResponse,
    unread: UnreadInput | None = None,
    exc_info: Any = None,
) -> Iterable[bytes]:
    """Send a complete answer; *exc_info* lets it replace one that has only begun.

    *unread* is the request's body, which is then read on.
    """
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    headers = list(response.headers)
    if exc_info is None:
        start_response(status, headers)
    else:
        start_response(status, headers, exc_info)
    body = [] if request.method == "HEAD" else [response.body]
    return body if unread is None else unread.discard_after(body)
