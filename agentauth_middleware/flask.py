"""For Flask: an extension, a decorator and a proxy.

::

    AgentAuth(server).init_app(app)

    @app.post("/notes")
    @requires("notes.write")
    def create_note() -> str:
        return f"for {access.user}"

Needs the extra ``flask``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

try:
    from flask import Flask, request
    from flask.wrappers import Response
except ModuleNotFoundError as missing:
    raise ImportError(
        "agentauth_middleware.flask needs Flask: "
        "pip install agentauth-middleware[flask]"
    ) from missing
from werkzeug.local import LocalProxy

from agentauth_middleware._core.gate import Gate
from agentauth_middleware._io.raised import answer_raised, requires
from agentauth_middleware.access import Access, current_access
from agentauth_middleware.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.wsgi import AgentAuthMiddleware, read_request

if TYPE_CHECKING:
    import httpx

__all__ = ["AgentAuth", "access", "requires"]


class _NoAccessError(AuthenticationRequiredError, RuntimeError):
    """Answered like a request without credentials.

    ``RuntimeError`` is how werkzeug's proxies hear that they stand for nothing at the
    moment, so that ``repr``, ``bool`` and test runners that look around do not fail.
    """


def _access() -> Access:
    found = current_access()
    if found is None:
        raise _NoAccessError
    return found


access: Access = cast(Access, LocalProxy(_access))
"""The ``Access`` of the request being handled.

Using it where there is none raises ``AuthenticationRequiredError``, answered 401. A
handler that serves requests with and without one asks ``current_access()``.
"""


class AgentAuth:
    """The extension. One may serve several applications, each gets a door of its own.

    With ``store=None`` each door has a store in memory of its own as well.
    """

    def __init__(
        self,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: httpx.Client | None = None,
        remote_user: Callable[[Access], str | None] | None = None,
    ) -> None:
        """All but *resource_server* are the door's, as for ``AgentAuthMiddleware``."""
        self._resource_server = resource_server
        self._store = store
        self._http_client = http_client
        self._remote_user = remote_user

    def init_app(self, app: Flask) -> None:
        """Put the door in front of *app*, and let it answer refusals of handlers.

        What wraps ``app.wsgi_app`` later stands outside of the door; so should
        ``ProxyFix``.

        Raises:
            ConfigurationError: *app* has a door already, or the issuers' keys are
                wrong.
        """
        if "agentauth" in app.extensions:
            raise ConfigurationError(
                "AgentAuth.init_app: this application has a door already; call "
                "init_app once for each application"
            )
        door = AgentAuthMiddleware(
            app.wsgi_app,
            self._resource_server,
            store=self._store,
            http_client=self._http_client,
            remote_user=self._remote_user,
        )
        app.wsgi_app = door  # type: ignore[method-assign]
        app.extensions["agentauth"] = self
        _answer_refusals(app, Gate(self._resource_server))


def _answer_refusals(app: Flask, gate: Gate) -> None:
    """Without this Flask answers 500 before anything can reach the door."""

    def answer(failure: RequestRefusedError | UnavailableError) -> Response:
        seen = read_request(request.environ)
        answer = answer_raised(failure, current_access(), gate, seen)
        return app.response_class(answer.body, answer.status, list(answer.headers))

    app.register_error_handler(RequestRefusedError, answer)
    app.register_error_handler(UnavailableError, answer)
