"""The error answers of the embedded server: three envelopes for three kinds of URL.

Profile endpoints say ``error`` and ``message``, OAuth endpoints ``error`` and
``error_description`` (RFC 6749 §5.2), the events endpoint ``err`` and ``description``
(RFC 8935 §2.3). The first kind says ``error_description`` as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from agentauth_middleware._core.publish.challenge import quoted
from agentauth_middleware.errors import TooManyRequestsError, UnavailableError

__all__ = [
    "NOT_STORED",
    "BodyTimedOut",
    "ClientRefused",
    "EventRefused",
    "GrantRefused",
    "Refused",
    "RegistrationRefused",
    "login_required",
    "too_many",
    "unavailable",
]

NOT_STORED: Mapping[str, str] = {"cache-control": "no-store", "pragma": "no-cache"}


class Refused(Exception, ABC):
    """A refusal of an endpoint."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    @abstractmethod
    def response(self) -> Response: ...


class RegistrationRefused(Refused):
    """A refusal of the registration endpoint."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message, status=status)
        self.members = dict(members or {})

    def response(self) -> Response:
        body = {
            "error": self.code,
            "error_description": self.message,
            "message": self.message,
            **self.members,
        }
        headers = dict(NOT_STORED)
        if self.status == 401:
            headers["www-authenticate"] = self._challenge()
        return JSONResponse(body, self.status, headers)

    def _challenge(self) -> str:
        parameters = {"error": self.code, "error_description": self.message}
        if "max_age" in self.members:
            parameters["max_age"] = str(self.members["max_age"])
        return "AgentAuth " + ", ".join(
            f"{name}={quoted(value)}" for name, value in parameters.items()
        )


def login_required(max_age: int) -> RegistrationRefused:
    """The user has to sign in again at the provider, not here."""
    return RegistrationRefused(
        "login_required",
        "the user must sign in again at the provider",
        status=401,
        members={"max_age": max_age},
    )


class GrantRefused(Refused):
    """A refusal of an OAuth endpoint (RFC 6749 §5.2)."""

    def response(self) -> Response:
        body = {"error": self.code, "error_description": self.message}
        return JSONResponse(body, self.status, dict(NOT_STORED))


class ClientRefused(GrantRefused):
    """Client authentication failed (RFC 6749 §5.2, RFC 7662 §2.3)."""

    def __init__(self, message: str, *, tried_header: bool = False) -> None:
        """*tried_header*: the client used ``Authorization``, so the answer has a
        challenge."""
        super().__init__("invalid_client", message, status=401)
        self.tried_header = tried_header

    def response(self) -> Response:
        response = super().response()
        if self.tried_header:
            response.headers["www-authenticate"] = 'Basic realm="introspection"'
        return response


class BodyTimedOut(Refused):
    """The body of a request did not come in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "body_timed_out", f"send the body within {seconds:.0f} s", status=408
        )

    def response(self) -> Response:
        # What is still to come must not be taken for the next request.
        headers = {**NOT_STORED, "connection": "close"}
        return PlainTextResponse(self.message, self.status, headers)


class EventRefused(Refused):
    """A refusal of the events endpoint (RFC 8935 §2.3)."""

    def response(self) -> Response:
        body = {"err": self.code, "description": self.message}
        return JSONResponse(body, self.status, {"content-language": "en"})


def unavailable(failure: UnavailableError) -> Response:
    """A fault of this server: the client may repeat the request later."""
    return _come_back(failure.status, failure.retry_after)


def too_many(refused: TooManyRequestsError) -> Response:
    """Not our trouble, and no verdict either: the same request may be good later.

    Providers that push events send them again after a 429 (RFC 8935 §2.4).
    """
    return _come_back(refused.status, refused.retry_after)


def _come_back(status: int, retry_after: int) -> Response:
    headers = {**NOT_STORED, "retry-after": str(retry_after)}
    return JSONResponse({"error": UnavailableError.error}, status, headers)
