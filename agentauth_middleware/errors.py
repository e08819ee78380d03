"""Everything that can go wrong, one class for each different reaction.

::

    AgentAuthError
    ├── ConfigurationError                 settings are wrong; raised when built
    ├── RequestRefusedError                the caller's doing
    │   ├── InvalidRequestError            400 invalid_request
    │   ├── AuthenticationRequiredError    401 without an error code
    │   ├── InvalidTokenError              401 invalid_token
    │   ├── StepUpRequiredError            401 insufficient_user_authentication
    │   ├── InsufficientScopeError         403 insufficient_scope
    │   ├── ActorRefusedError              403 actor_unauthorized
    │   └── TooManyRequestsError           429
    └── UnavailableError                   an issuer or the store did not answer: 503

``str(error)`` and ``reason`` are for the operator's log. What the client is told
is a fixed text for each class, so nothing a token says can reach a header.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from agentauth_middleware.reasons import Reason

__all__ = [
    "ActorRefusedError",
    "AgentAuthError",
    "AuthenticationRequiredError",
    "ConfigurationError",
    "InsufficientScopeError",
    "InvalidRequestError",
    "InvalidTokenError",
    "RequestRefusedError",
    "StepUpRequiredError",
    "TooManyRequestsError",
    "UnavailableError",
]


class AgentAuthError(Exception):
    """The root: catch this to catch everything this library raises on purpose.

    Copies and pickles keep all that an error says, as between worker processes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are otherwise built again from their text alone.
        return _rebuild, (type(self), *self.args), self.__dict__


def _rebuild(kind: type[AgentAuthError], *args: object) -> AgentAuthError:
    return kind.__new__(kind, *args)


class ConfigurationError(AgentAuthError):
    """A setting is wrong. The text names the setting, its fault and the fix."""


class RequestRefusedError(AgentAuthError):
    """The request is refused, and the caller can do something about it.

    Raised by checks and, in handlers, by the guards of ``Access``; a middleware turns
    it into the answer its class names. Raise one of the leaves, not this class.
    """

    status: ClassVar[int]
    """The HTTP status of the answer."""
    error: ClassVar[str | None]
    """The OAuth error code the client sees; ``None`` where the standards name none."""
    description: ClassVar[str]
    """The fixed sentence the client sees. No quotes, backslashes, commas or ``=``:
    clients read challenges with regular expressions (RFC 6750 §3)."""

    def __init__(self, reason: str, message: str = "") -> None:
        """*reason* is a stable code for logs; *message* says what was found."""
        super().__init__(message or reason)
        self.reason = reason


class InvalidRequestError(RequestRefusedError):
    """The request is malformed, or authenticates in two ways (RFC 6750 §3.1)."""

    status = 400
    error = "invalid_request"
    description = "the request is malformed or authenticates in more than one way"


class AuthenticationRequiredError(RequestRefusedError):
    """A guard met a request that carries no credentials.

    The challenge names no error: nothing was presented that could be wrong
    (RFC 6750 §3.1).
    """

    status = 401
    error = None
    description = "authentication required"

    def __init__(self, scopes: Iterable[str] = ()) -> None:
        """*scopes* that the operation will need, so that the client asks for enough."""
        super().__init__(Reason.NO_CREDENTIALS)
        self.scopes = tuple(scopes)


class InvalidTokenError(RequestRefusedError):
    """A verdict about the token: expired, revoked, forged, for another audience.

    One text for all: only the operator's log says which check failed.
    """

    status = 401
    error = "invalid_token"
    description = "the access token is invalid or expired or revoked"


class StepUpRequiredError(RequestRefusedError):
    """The user must authenticate again, or more strongly (RFC 9470 §3)."""

    status = 401
    error = "insufficient_user_authentication"
    description = "stronger or fresher user authentication required"

    def __init__(
        self,
        *,
        acr_values: Iterable[str] = (),
        max_age: int | None = None,
        scopes: Iterable[str] = (),
    ) -> None:
        """*acr_values* in order of preference; *max_age* in seconds; *scopes* that
        will be needed as well, so that the client asks once."""
        super().__init__(Reason.STEP_UP_REQUIRED)
        self.acr_values = tuple(acr_values)
        self.max_age = max_age
        self.scopes = tuple(scopes)


class InsufficientScopeError(RequestRefusedError):
    """The token is good but does not reach this far (RFC 6750 §3.1)."""

    status = 403
    error = "insufficient_scope"
    description = "the access token lacks a scope that this operation needs"

    def __init__(self, scopes: Iterable[str]) -> None:
        """*scopes*: all that the operation needs, not only the missing ones."""
        self.scopes = tuple(scopes)
        super().__init__(Reason.INSUFFICIENT_SCOPE, f"needs {' '.join(self.scopes)}")


class ActorRefusedError(RequestRefusedError):
    """The token and its scopes are good, but not for this user or this agent."""

    status = 403
    error = "actor_unauthorized"
    description = "this operation is not allowed for this user or agent"


class TooManyRequestsError(RequestRefusedError):
    """The caller has to slow down; says nothing about the token.

    Answered 429 with ``Retry-After``, and like trouble of ours in all else: an agent
    keeps its token and comes back.
    """

    status = 429
    error = "temporarily_unavailable"
    description = "too many requests; keep the token and try again later"

    def __init__(self, reason: str, message: str = "", *, retry_after: int) -> None:
        """*reason* is a stable code for logs; *retry_after* in seconds."""
        super().__init__(reason, message)
        self.retry_after = retry_after


class UnavailableError(AgentAuthError):
    """Something we depend on did not answer; says nothing about the token.

    Answered 503 with ``Retry-After``. Never a 401: an agent that meets one throws
    its credential away. Also the one type a driver throws into a procedure.
    """

    status: ClassVar[int] = 503
    error: ClassVar[str] = "temporarily_unavailable"

    def __init__(self, reason: str, message: str = "", *, retry_after: int = 5) -> None:
        """*reason* is a stable code for logs; *retry_after* in seconds."""
        super().__init__(message or reason)
        self.reason = reason
        self.retry_after = retry_after
