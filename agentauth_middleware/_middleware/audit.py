"""One structured log record for each decision.

Logger ``agentauth_middleware.audit``: grants at DEBUG, refusals at INFO, trouble of
servers that we depend on at WARNING, and at ERROR what only the operator can fix. The
members are in ``record.agentauth``. Tokens, proofs and plain subjects are never
written.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any
from urllib.parse import quote

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._middleware.explanations import explain
from agentauth_middleware._syntax.http import Request
from agentauth_middleware.access import Access, Principal
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.route import Route

__all__ = ["is_audited", "write_audit"]

_logger = logging.getLogger("agentauth_middleware.audit")
_MISCONFIGURED = frozenset(
    {
        Reason.HTTP_CLIENT_UNUSABLE,
        Reason.INTROSPECTION_NOT_CONFIGURED,
        Reason.INTROSPECTION_REFUSED_US,
        Reason.ISSUER_LOOKUP_FAILED,
        Reason.METADATA_NOT_FOUND,
        Reason.METADATA_UNUSABLE,
        Reason.STORE_GONE,
        Reason.STORE_OPEN_TO_ALL,
        Reason.UPSTREAM_REFUSED,
    }
)
_WORTH_A_LOOK = frozenset(
    {Reason.INTROSPECTION_BAD_REQUEST, Reason.INTROSPECTION_FORBIDDEN}
)
"""The issuer refuses to answer about a token: the token is junk, or our request is
wrong."""
_TOLD_BEFORE = frozenset({Reason.INTROSPECTION_HELD_OFF})
"""Reasons that follow from failures with records of their own."""


def is_audited(decision: Access | Anonymous | Refusal) -> bool:
    """Whether a handler listens: a request must not pay for a record that is not
    read."""
    return _logger.isEnabledFor(_level(decision))


def _level(decision: Access | Anonymous | Refusal) -> int:
    if not isinstance(decision, Refusal):
        return DEBUG
    if decision.reason in _MISCONFIGURED:
        return ERROR
    if decision.reason in _WORTH_A_LOOK:
        return WARNING
    is_trouble = decision.status == UnavailableError.status
    return WARNING if is_trouble and decision.reason not in _TOLD_BEFORE else INFO


def write_audit(
    decision: Access | Anonymous | Refusal,
    request: Request | None,
    route: Route | None,
    duration: float | None,
    issuer_named: Callable[[str], Issuer | None],
) -> None:
    """Write the record of *decision*, which was about *request* or a token alone.

    *duration* is in seconds; *issuer_named* gives the settings of an issuer.
    """
    outcome, reason = _outcome(decision)
    members: dict[str, Any] = {"outcome": outcome, "reason": reason}
    place = ""
    if request is not None:
        path = shown_path(request.path)
        pattern = None if route is None else route.pattern
        members |= {"method": request.method, "path": path, "route": pattern}
        place = f" ({request.method} {path}, route {pattern})"
    if duration is not None:
        members["duration"] = duration
    detail = ""
    if isinstance(decision, Refusal):
        detail = explain(decision, issuer_named, request)
        members |= {"status": decision.status, "detail": detail}
    access = decision if isinstance(decision, Access) else _access_of(decision)
    if access is not None:
        members |= _who(access)
    _logger.log(
        _level(decision),
        "%s: %s%s%s",
        outcome,
        reason,
        place,
        "" if detail in ("", reason) else f": {detail}",
        extra={"agentauth": members},
    )


def _outcome(decision: Access | Anonymous | Refusal) -> tuple[str, str]:
    match decision:
        case Access(mode=mode):
            return "granted", mode
        case Anonymous(is_preflight=True):
            return "passed", "preflight"
        case Anonymous(challenge=challenge):
            return "passed", "no_access_needed" if challenge is None else "other_client"
        case Refusal(reason=reason):
            return "refused", reason


def _access_of(decision: Anonymous | Refusal) -> Access | None:
    return decision.access if isinstance(decision, Refusal) else None


_MAX_PATH = 200
_MAX_SEGMENT = 40
"""A longer segment may be a secret, such as the token of a link that was mailed."""


def shown_path(path: str) -> str:
    """*path* on one line, as a URL has it; long segments are cut."""
    segments = [
        segment if len(segment) <= _MAX_SEGMENT else f"{segment[:8]}..."
        for segment in path[: 4 * _MAX_PATH].split("/")
    ]
    shown = quote("/".join(segments), safe="/:@!$&'()*+,;=~", errors="surrogateescape")
    return shown if len(shown) <= _MAX_PATH else f"{shown[:_MAX_PATH]}..."


def _who(access: Access) -> dict[str, Any]:
    return {
        "issuer": access.issuer,
        "subject": hashed(access.issuer, access.subject or ""),
        "agent": _name(access.agent),
        "client_id": access.client_id,
        "scopes": sorted(access.scopes),
    }


def _name(agent: Principal | None) -> str | None:
    return f"{agent.issuer} {agent.subject}" if agent is not None else None


def hashed(issuer: str, subject: str) -> str:
    """A hash of a subject: different for different subjects, and not readable."""
    return hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:16]
