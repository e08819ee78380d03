"""The error answers of the embedded server: three envelopes for three kinds of URL.

__all__ = [
    "NOT_STORED",
    "EventRefused",
    "GrantRefused",
    "RegistrationRefused",
    "login_required",
    "unavailable",
]

Profile endpoints say ``error`` and ``message``, OAuth endpoints ``error`` and
``error_description`` (RFC 6749 §5.2), the events endpoint ``err`` and ``description``
(RFC 8935 §2.3). The first kind says ``error_description`` as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from agentauth_middleware._core.challenge import quoted
from agentauth_middleware.errors import UnavailableError

NOT_STORED: Mapping[str, str] = {"cache-control": "no-store", "pragma": "no-cache"}


class RegistrationRefused(Exception):
    """The registration endpoint says no."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
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


class GrantRefused(Exception):
    """An OAuth endpoint says no (RFC 6749 §5.2)."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description

    def response(self) -> Response:
        body = {"error": self.code, "error_description": self.description}
        return JSONResponse(body, 400, dict(NOT_STORED))


class EventRefused(Exception):
    """The events endpoint says no (RFC 8935 §2.3)."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status

    def response(self) -> Response:
        body = {"err": self.code, "description": self.description}
        return JSONResponse(body, self.status, {"content-language": "en"})


def unavailable(failure: UnavailableError) -> Response:
    """Our trouble: come back later with the same request."""
    headers = {**NOT_STORED, "retry-after": str(failure.retry_after)}
    return JSONResponse({"error": failure.error}, failure.status, headers)
