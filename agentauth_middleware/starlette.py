"""For Starlette applications, and those built on it: guards, refusals, documents.

The middleware is added with
``app.add_middleware(AgentAuthMiddleware, resource_server=server)``. It answers the
refusals that handlers raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from agentauth_middleware._core.publish.own_urls import OwnUrls
from agentauth_middleware._middleware.asgi_exchange import (
    follow_body,
    read_request,
    respond,
)
from agentauth_middleware._middleware.guards import declared_by, requires
from agentauth_middleware._middleware.refusal_writer import (
    Failure,
    RefusalWriter,
    refusal_in,
)
from agentauth_middleware._middleware.unread_bodies import Allowance
from agentauth_middleware._syntax import http
from agentauth_middleware._syntax.urls import RESOURCE_METADATA
from agentauth_middleware.access import current_access
from agentauth_middleware.errors import RequestRefusedError, UnavailableError
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["answer_refusals", "declared_scopes", "requires", "well_known_routes"]


def well_known_routes(resource_server: ResourceServer) -> list[Route]:
    """The metadata and ``auth.md``, for the root of a host whose middleware is further
    in.

    ::

        Starlette(routes=[
            *well_known_routes(server),
            Mount("/notes", AgentAuthMiddleware(notes, server)),
        ])

    The metadata of ``https://host/notes`` stands at the root (RFC 9728 §3.1), where no
    request reaches a middleware inside the ``Mount``. With ``metadata_at_root=False``
    only the URLs that name the resource are served, for hosts with several.
    """
    urls = (resource_server.metadata_url, resource_server.auth_md_url)
    paths = [unquote(urlsplit(url).path) for url in urls]
    paths += [paths[0].removesuffix("/"), paths[0].removesuffix("/") + "/"]
    if resource_server.metadata_at_root:
        paths += [RESOURCE_METADATA, f"{RESOURCE_METADATA}/", "/auth.md"]
    documents = _Documents(resource_server)
    return [
        Route(path, documents, name="agentauth", include_in_schema=False)
        for path in dict.fromkeys(paths)
    ]


class _Documents:
    """An ASGI application, so that it sees every method and not only ``GET``."""

    def __init__(self, server: ResourceServer) -> None:
        self._own_urls = OwnUrls(server)
        self._allowance = Allowance(server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._own_urls.answer(read_request(scope))
        if answer is None:  # these routes are themselves inside a mount
            raise HTTPException(404)
        follow_body(self._allowance, scope, receive)
        await respond(answer, scope, send)


def declared_scopes(scope: Scope) -> tuple[str, ...]:
    """What ``requires`` demands of the handler that a request will reach.

    For the middleware, which then names it to clients that come without credentials::

        app.add_middleware(
            AgentAuthMiddleware, resource_server=server, scopes_for=declared_scopes
        )

    The middleware has to stand inside of the application, as ``add_middleware`` puts
    it.
    """
    route = find_route(scope, scope["app"].routes)
    return declared_by(getattr(route, "endpoint", None), scope.get("method", "GET"))


def find_route(
    scope: Scope,
    routes: Sequence[BaseRoute],
    *,
    spread: Callable[[Sequence[BaseRoute]], Iterable[Any]] = iter,
) -> Any:
    """The route that Starlette will choose for *scope*, inside of mounts as well.

    *spread* gives the routes that those of a framework's own making stand for. ``None``
    where no handler will be reached.
    """
    for route in spread(routes):
        match, child_scope = route.matches(dict(scope))
        if match is Match.FULL:
            inner = getattr(route, "routes", None)
            if inner is None:
                return route
            return find_route({**scope, **child_scope}, inner, spread=spread)
    return None


def answer_refusals(app: Starlette, resource_server: ResourceServer) -> None:
    """Let *app* itself answer the refusals that its handlers raise.

    A middleware answers what escapes from the application. Nothing does where the
    middleware stands outside of it, wrapped around *app* or around one that mounts it:
    Starlette answers 500 first. The answers are those of the middleware, with the same
    audit record.

    It is too late for a response that has begun. A websocket that was accepted is
    closed with code 1008.
    """
    writer = RefusalWriter(resource_server)

    async def answer(connection: Request | WebSocket, failure: Exception) -> Response:
        refused = cast(Failure, failure)
        request = _read_as_middleware(connection.scope)
        answer = writer.answer_raised(refused, current_access(), request)
        if _is_accepted(connection):
            raise WebSocketException(WS_1008_POLICY_VIOLATION) from failure
        return _Answer(answer)

    async def answer_group(
        connection: Request | WebSocket, failure: Exception
    ) -> Response:
        refused = refusal_in(failure)
        if refused is None:
            raise failure
        return await answer(connection, refused)

    app.add_exception_handler(RequestRefusedError, answer)
    app.add_exception_handler(UnavailableError, answer)
    app.exception_handlers.setdefault(ExceptionGroup, answer_group)


def _read_as_middleware(scope: Scope) -> http.Request:
    """The request as it was before routing; a ``Mount`` moves the root in place."""
    return read_request({**scope, "root_path": _root_path(scope)})


def _root_path(scope: Scope) -> str:
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root


def _is_accepted(connection: Request | WebSocket) -> bool:
    if not isinstance(connection, WebSocket):
        return False
    return connection.application_state is not WebSocketState.CONNECTING


class _Answer(Response):
    """Sent as the middleware sends its own answers, to websocket handshakes as well."""

    def __init__(self, answer: http.Response) -> None:
        super().__init__(answer.body, answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(self._answer, scope, send)
