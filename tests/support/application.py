"""The application behind the middlewares, in plain ASGI and in plain WSGI.

It tells what it saw, in its answer and in a list, and some of its paths raise our
errors or refuse by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentauth_middleware.access import Access, Principal, current_access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    StepUpRequiredError,
    TooManyRequestsError,
    UnavailableError,
)


@dataclass(frozen=True)
class Seen:
    """What one request looked like to the application."""

    path: str
    access: Access | None
    authorization: str | None


class _Response(NamedTuple):
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


_RAISED: dict[str, Callable[[], Exception]] = {
    "/raises/request": lambda: InvalidRequestError("odd_request"),
    "/raises/credentials": lambda: AuthenticationRequiredError(("notes.read",)),
    "/raises/token": lambda: InvalidTokenError("disliked"),
    "/raises/step-up": lambda: StepUpRequiredError(acr_values=("phr",), max_age=60),
    "/raises/scope": lambda: InsufficientScopeError(("notes.read", "notes.write")),
    "/raises/actor": lambda: ActorRefusedError("not_their_note"),
    "/raises/too-many": lambda: TooManyRequestsError("slow_down", retry_after=30),
    "/raises/unavailable": lambda: UnavailableError("mail_down", retry_after=7),
}

ANSWERED: dict[str, _Response] = {
    "/answers/401": _Response(
        401, (("www-authenticate", 'Basic realm="theirs"'),), b"theirs: 401"
    ),
    "/answers/403": _Response(403, (("x-theirs", "yes"),), b"theirs: 403"),
    "/answers/404": _Response(404, (("x-theirs", "yes"),), b"theirs: 404"),
    "/answers/503": _Response(503, (("retry-after", "1"),), b"theirs: 503"),
}
"""What the application answers by itself, to the byte."""


def told(access: Access | None) -> dict[str, Any] | None:
    """What the application's answer tells of *access*."""
    if access is None:
        return None
    return {
        "mode": access.mode,
        "subject": access.subject,
        "user": _name(access.user),
        "agent": _name(access.agent),
        "scopes": sorted(access.scopes),
    }


def _name(principal: Principal | None) -> str | None:
    return principal.subject if principal is not None else None


def _answer(seen: Seen) -> _Response:
    if seen.path in _RAISED:
        raise _RAISED[seen.path]()
    if seen.path in ANSWERED:
        return ANSWERED[seen.path]
    assert seen.access is current_access()
    body = {
        "access": told(seen.access),
        "authorization": seen.authorization is not None,
    }
    return _Response(
        200, (("content-type", "application/json"),), json.dumps(body).encode()
    )


def asgi_application(seen: list[Seen]) -> Any:
    """The application, writing down in *seen* what reaches it."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        authorization = dict(scope["headers"]).get(b"authorization")
        request = Seen(
            scope["path"],
            scope.get("agentauth.access"),
            None if authorization is None else authorization.decode("latin-1"),
        )
        seen.append(request)
        status, fields, body = _answer(request)
        headers = [(name.encode(), value.encode()) for name, value in fields]
        headers.append((b"content-length", str(len(body)).encode()))
        if scope["method"] == "HEAD":
            body = b""
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    return application


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def wsgi_application(seen: list[Seen]) -> Any:
    """The application, writing down in *seen* what reaches it."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        request = Seen(
            environ["SCRIPT_NAME"] + environ["PATH_INFO"],
            environ.get("agentauth.access"),
            environ.get("HTTP_AUTHORIZATION"),
        )
        seen.append(request)
        status, fields, body = _answer(request)
        headers = [*fields, ("content-length", str(len(body)))]
        start_response(f"{status} Told", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application
