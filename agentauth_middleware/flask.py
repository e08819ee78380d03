"""For Flask: an extension, a decorator and a proxy.

::

    AgentAuth(server).init_app(app)

    @app.post("/notes")
    @requires("notes.write")
    def create_note() -> str:
        return f"for {access.require_user().subject}"

Needs the extra ``flask``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, cast

try:
    from flask import Flask, request
    from flask.wrappers import Response
except ModuleNotFoundError as missing:
    raise ImportError(
        "agentauth_middleware.flask needs Flask: "
        "pip install agentauth-middleware[flask]"
    ) from missing
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.local import LocalProxy

from agentauth_middleware._core.publish.challenge import check_declared
from agentauth_middleware._middleware.arguments import (
    check_resource_server,
    check_store,
)
from agentauth_middleware._middleware.guards import NO_CONTEXT, declared_by, requires
from agentauth_middleware._middleware.refusal_writer import (
    Failure,
    RefusalWriter,
    refusal_in,
)
from agentauth_middleware._middleware.unread_bodies import UNREAD, UnreadInput
from agentauth_middleware._middleware.wsgi_exchange import read_request
from agentauth_middleware._syntax.http import Response as Answer
from agentauth_middleware.access import CURRENT, Access, current_access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.wsgi import AgentAuthMiddleware

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    import httpx
    import httpx2

__all__ = ["AgentAuth", "access", "requires"]


class _NoAccessError(AuthenticationRequiredError, RuntimeError):
    """Answered like a request without credentials.

    ``RuntimeError`` is how werkzeug's proxies hear that they stand for nothing at the
    moment, so that ``repr``, ``bool`` and test runners that look around do not fail.
    """


class _NoContextError(ConfigurationError, RuntimeError):
    """No middleware has seen what is running: the developer's fault and no caller's."""


def _access() -> Access:
    try:
        found = CURRENT.get()
    except LookupError:
        raise _NoContextError(NO_CONTEXT) from None
    if found is None:
        raise _NoAccessError
    return found


access: Access = cast(Access, LocalProxy(_access))
"""The ``Access`` of the request being handled.

Using it where there is none raises ``AuthenticationRequiredError``, answered 401. A
handler that serves requests with and without one asks ``current_access()``. Where no
middleware has seen the request, as in a thread of your own, it is a
``ConfigurationError``.
"""


class AgentAuth:
    """The extension. One may serve several applications, each gets a middleware of its
    own.

    With ``store=None`` each middleware has a store in memory of its own as well.
    """

    def __init__(
        self,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: httpx.Client | httpx2.Client | None = None,
        remote_user: Callable[[Access], str | None] | None = None,
    ) -> None:
        """All but *resource_server* are the middleware's, as for
        ``AgentAuthMiddleware``.

        Raises:
            ConfigurationError: *resource_server* or *store* is of the wrong kind.
        """
        check_resource_server(resource_server, "AgentAuth(ResourceServer(...))")
        check_store(store)
        self._resource_server = resource_server
        self._store = store
        self._http_client = http_client
        self._remote_user = remote_user

    def init_app(self, app: Flask) -> None:
        """Put the middleware in front of *app*, and let it answer refusals of handlers.

        What wraps ``app.wsgi_app`` later stands outside of the middleware; so should
        ``ProxyFix``.

        Raises:
            ConfigurationError: *app* has a middleware already, or a view with a scope
                that clients cannot ask for; or the issuers' keys are wrong.
        """
        if "agentauth" in app.extensions:
            raise ConfigurationError(
                "AgentAuth.init_app: this application has a middleware already; call "
                "init_app once for each application"
            )
        check_declared(
            _scopes_of_views(app), self._resource_server.scopes, "requires(...)"
        )
        middleware = AgentAuthMiddleware(
            app.wsgi_app,
            self._resource_server,
            store=self._store,
            http_client=self._http_client,
            remote_user=self._remote_user,
            scopes_for=lambda environ: _declared_scopes(app, environ),
        )
        app.wsgi_app = middleware  # type: ignore[method-assign]
        app.extensions["agentauth"] = self
        _answer_refusals(app, RefusalWriter(self._resource_server))


def _declared_scopes(app: Flask, environ: WSGIEnvironment) -> list[str]:
    """What ``requires`` demands of the view that a request will reach.

    Looked up where an answer has to name it and nowhere else, so that views may be
    added at any time. What runs before the view, as that of a blueprint, counts too.
    """
    asked = app.request_class(environ, populate_request=False)
    try:
        adapter = app.create_url_adapter(asked)
        endpoint = adapter.match()[0] if adapter is not None else ""
    except HTTPException:  # no view will be reached
        return []
    return list(_scopes_at(app, endpoint, asked.method))


def _scopes_of_views(app: Flask) -> Iterator[str]:
    """What ``requires`` demands of the views that there are."""
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            yield from _scopes_at(app, rule.endpoint, method)


def _scopes_at(app: Flask, endpoint: str, method: str) -> Iterator[str]:
    for guard in _guards(app, endpoint):
        yield from declared_by(guard, method)


def _guards(app: Flask, endpoint: str) -> Iterator[Any]:
    """Whatever runs for *endpoint*: what stands before it, and its view."""
    folders = endpoint.split(".")[:-1]
    blueprints = [".".join(folders[: depth + 1]) for depth in range(len(folders))]
    for name in (None, *blueprints):
        yield from app.before_request_funcs.get(name, ())
    view = app.view_functions.get(endpoint)
    yield view
    yield getattr(view, "view_class", None)


def _answer_refusals(app: Flask, writer: RefusalWriter) -> None:
    """Without this Flask answers 500 before anything can reach the middleware.

    Handlers of the application may give the answer another body. The status and headers
    that the standards demand are restored afterwards.

    Refusals are caught where they are raised. Flask-RESTful and Flask-RESTX replace
    ``app.handle_user_exception``, before or after this, and would answer 500.
    """
    handle = partial(type(app).handle_user_exception, app)

    def answer(failure: Failure) -> Any:
        """Where no handler of the application wants this very class.

        One for its code, or for ``HTTPException``, is given what it knows.
        """
        seen = read_request(request.environ)
        refusal = writer.read_raised(failure, current_access(), seen)
        written = writer.write(refusal)
        headers = list(written.headers)
        response = app.response_class(written.body, written.status, headers)
        kind = default_exceptions.get(written.status, HTTPException)
        refused = kind(refusal.description, response)
        restyled = app.handle_http_exception(refused)
        return response if restyled is refused else restyled

    def handle_and_complete(e: Failure) -> Response:
        answered = handle(e)
        seen = read_request(request.environ)
        unread: UnreadInput | None = request.environ.get(UNREAD)
        if unread is not None:
            unread.is_refused = True
        written = writer.answer_raised(e, current_access(), seen)
        return _complete(app.make_response(answered), written)

    app.register_error_handler(RequestRefusedError, answer)
    app.register_error_handler(UnavailableError, answer)
    # An error handler is not enough: a blueprint's handler of ``Exception`` comes
    # before it.
    for step in ("preprocess_request", "dispatch_request"):
        setattr(app, step, _catching(getattr(app, step), handle_and_complete))


def _catching(
    step: Callable[..., Any],
    answer: Callable[[Failure], Response],
) -> Callable[..., Any]:
    """*step* of Flask's, which returns a response for each refusal raised in it."""

    @wraps(step)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except (RequestRefusedError, UnavailableError, ExceptionGroup) as raised:
            failure = refusal_in(raised)
            if failure is None:
                raise
            return answer(failure)

    return answering


def _complete(response: Response, written: Answer) -> Response:
    """*response*, with the status and the headers of the refusal it is about.

    Another status is intended: a redirect to a sign-in page, a 404 that hides the
    resource. A 500 is not, because it takes a refusal for a crash, and neither is a
    200, which comes from a handler that sets no status.
    """
    if response.status_code >= 500 or response.status_code < 300:
        response.status_code = written.status
    if response.status_code != written.status:
        return response
    for name, value in written.headers:
        if name == "www-authenticate":
            others = [line for line in response.headers.getlist(name) if line != value]
            response.headers.setlist("WWW-Authenticate", [value, *others])
        elif name not in ("content-type", "content-length"):
            response.headers.setdefault(name, value)
    return response
