"""The URLs of the embedded server, their CORS headers, and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentauth_middleware._syntax.urls import path_of
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.endpoints.introspect import introspect
from agentauth_middleware.authorization_server.endpoints.receive_event import notify
from agentauth_middleware.authorization_server.endpoints.register import register
from agentauth_middleware.authorization_server.endpoints.revoke import revoke_token
from agentauth_middleware.authorization_server.endpoints.token import grant
from agentauth_middleware.authorization_server.refusals import (
    NOT_STORED,
    Refused,
    too_many,
    unavailable,
)
from agentauth_middleware.authorization_server.server_metadata import (
    publish_keys,
    publish_metadata,
)
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.errors import TooManyRequestsError, UnavailableError

__all__ = ["refuse_route", "routes"]

Endpoint = Callable[[Service, Request, AuditRecord], Awaitable[Response]]


def routes(service: Service) -> list[Route]:
    path = unquote(path_of(service.issuer)).rstrip("/")
    # RFC 8414 §3.1 inserts the suffix; agents that append it are served as well, and
    # those that read "the path" with a slash at its end.
    suffix = "/.well-known/oauth-authorization-server"
    described = {f"{suffix}{path}{slash}" for slash in ("", "/")} | {
        f"{path}{suffix}{slash}" for slash in ("", "/")
    }
    return [
        *(
            _document(service, "metadata", path_, publish_metadata)
            for path_ in sorted(described)
        ),
        _document(service, "keys", f"{path}/.well-known/jwks.json", publish_keys),
        _endpoint(service, "registration", f"{path}/agent/identity", register),
        _endpoint(service, "token", f"{path}/oauth2/token", grant),
        _endpoint(service, "revocation", f"{path}/oauth2/revoke", revoke_token),
        *_closed_to_pages(service, path),
    ]


def _closed_to_pages(service: Service, path: str) -> Iterator[Route]:
    """The endpoints for servers; no page of a browser may call them."""
    yield Route(
        f"{path}/agent/event/notify",
        partial(_answer, service, "event", notify),
        methods=["POST"],
    )
    if service.introspection_clients:
        yield Route(
            f"{path}/oauth2/introspect",
            partial(_answer, service, "introspection", introspect),
            methods=["POST"],
        )


def _document(service: Service, action: str, path: str, endpoint: Endpoint) -> Route:
    answer = partial(_answer, service, action, endpoint)
    return _readable_by_all(Route(path, answer, methods=["GET"]))


def _endpoint(service: Service, action: str, path: str, endpoint: Endpoint) -> Route:
    """A POST endpoint that agents in browsers may call (RFC 6749 §3.2)."""
    answer = partial(_answer, service, action, endpoint)
    return _readable_by_all(Route(path, answer, methods=["POST"]))


async def _answer(
    service: Service, action: str, endpoint: Endpoint, request: Request
) -> Response:
    """What *endpoint* answers, or why it does not; with a record for the log."""
    record = AuditRecord(action)
    try:
        response = await endpoint(service, request, record)
    except Refused as refused:
        record.write_refused(refused.code, refused.message)
        return refused.response()
    except TooManyRequestsError as refused:
        record.write_refused(refused.reason, str(refused))
        return too_many(refused)
    except UnavailableError as failure:
        record.write_unavailable(failure.reason, str(failure))
        return unavailable(failure)
    if request.method == "POST":
        record.write_granted()
    return response


def _readable_by_all(route: Route) -> Route:
    """*route* for pages of all origins, without credentials.

    Around the route and not within it, where a preflight would be the wrong method.
    """
    cors = CORSMiddleware(
        route,
        allow_origins=["*"],
        allow_methods=sorted(route.methods or ()),
        allow_headers=["*"],
        expose_headers=["WWW-Authenticate", "Retry-After"],
        max_age=86_400,
    )
    return Route(route.path, cors)


async def refuse_route(request: Request, refused: Exception) -> Response:
    """No such URL, or no such method there."""
    assert isinstance(refused, HTTPException)  # noqa: S101 - what it is registered for
    headers = {**(refused.headers or {}), **NOT_STORED}
    return PlainTextResponse(refused.detail, refused.status_code, headers)
