"""Middlewares in front of an API whose tokens come from servers that nobody here
wrote."""

from __future__ import annotations

from typing import Protocol

import pytest

from agentauth_middleware import Access, ResourceServer
from tests.support.exchange import Answer, HTTPRequest, Middleware

AUDIT = "agentauth_middleware.audit"
"""The name of the logger that tells of each decision."""


class RunningMiddleware(Protocol):
    def __call__(self, server: ResourceServer) -> Middleware: ...


def ask(
    middleware: Middleware, token: str, target: str = "/notes", *, method: str = "GET"
) -> Answer:
    field = ("authorization", f"Bearer {token}")
    return middleware.ask(HTTPRequest(method, target, (field,)))


def seen_access(middleware: Middleware) -> Access:
    """What the only request that got through told the application."""
    (seen,) = middleware.seen
    assert seen.access is not None
    return seen.access


def is_refused(answer: Answer) -> bool:
    """Whether it tells the client to get another token."""
    challenge = answer.field("www-authenticate") or ""
    return answer.status == 401 and 'error="invalid_token"' in challenge


def is_our_trouble(answer: Answer) -> bool:
    """Whether it leaves the client its token, and tells when to come again."""
    return (
        answer.status in (429, 503)
        and answer.field("retry-after") is not None
        and answer.lines("www-authenticate") == []
    )


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why requests were refused, as operators are told."""
    told = [record for record in caplog.records if record.name == AUDIT]
    return [record.__dict__["agentauth"]["reason"] for record in told]
