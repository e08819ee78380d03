"""One structured log record for each request to an endpoint, as middlewares write them.

Logger ``agentauth_middleware.audit``; the members stand in ``record.agentauth``. What
was granted or refused is at INFO, what this server could not do at WARNING. Assertions,
tokens and plain subjects never stand in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from agentauth_middleware._middleware.audit import hashed

__all__ = ["AuditRecord"]

_logger = logging.getLogger("agentauth_middleware.audit")


class AuditRecord:
    """What is known of one request, written when it has been answered."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.result = "nothing"
        """The outcome, if it is granted."""
        self._members: dict[str, Any] = {"action": action}

    def note_user(self, provider: str, subject: str) -> None:
        """The user that the request is about, by the *provider*'s name."""
        self._members |= {"provider": provider, "subject": hashed(provider, subject)}

    def note_registration(self, registration_id: str) -> None:
        self._members["registration_id"] = registration_id

    def note_client(self, client_id: str) -> None:
        """The resource server that asks, after it was authenticated."""
        self._members["client_id"] = client_id

    def note_scopes(self, scopes: Iterable[str]) -> None:
        self._members["scopes"] = sorted(scopes)

    def write_granted(self) -> None:
        self._write(logging.INFO, "granted", self.result)

    def write_refused(self, code: str, detail: str) -> None:
        self._write(logging.INFO, "refused", code, detail)

    def write_unavailable(self, reason: str, detail: str) -> None:
        self._write(logging.WARNING, "unavailable", reason, detail)

    def _write(self, level: int, outcome: str, reason: str, detail: str = "") -> None:
        members = {"outcome": outcome, "reason": reason, **self._members}
        if detail:
            members["detail"] = detail
        _logger.log(
            level,
            "%s: %s (%s)%s",
            outcome,
            reason,
            self.action,
            f": {detail}" if detail else "",
            extra={"agentauth": members},
        )
