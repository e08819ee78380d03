"""``events_endpoint``: a provider tells that a user has disconnected an agent.

A Security Event Token pushed as RFC 8935 says. It is acknowledged when its effect is
durable and not before; one that was delivered before is acknowledged again (§2.2). A
provider may speak of its own subjects only.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from agentauth_middleware._core.tokens.jose import CompactJWS, parse_compact
from agentauth_middleware._syntax.members import (
    Claims,
    instant,
    is_object,
    optional_text,
    parse_object,
    text,
    texts,
)
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.refusals import EventRefused
from agentauth_middleware.authorization_server.requests import BodyRefused, read_body
from agentauth_middleware.authorization_server.server_metadata import (
    REVOKED_EVENT,
    REVOKED_EVENT_ALIAS,
)
from agentauth_middleware.authorization_server.service import LEEWAY, Service
from agentauth_middleware.authorization_server.state import Effect
from agentauth_middleware.errors import InvalidTokenError, UnavailableError
from agentauth_middleware.reasons import Reason

__all__ = ["SecurityEvent", "notify"]

_DAY = 86_400
_WEEK = 7 * _DAY
_ASK_AGAIN = 600
"""Seconds after which an event is sent again that is dated ahead, at most."""
_TYPE = "secevent+jwt"


class SecurityEvent(NamedTuple):
    """The members of a good SET (RFC 8417 §2.2)."""

    issuer: str
    token_id: str
    issued_at: float
    events: frozenset[str]
    subject: str | None


async def notify(service: Service, request: Request, record: AuditRecord) -> Response:
    """Answer a pushed event: 202 when it is done, and again when it comes again."""
    try:
        body = await read_body(request, f"application/{_TYPE}")
    except BodyRefused as refused:
        raise EventRefused(
            "invalid_request", refused.message, status=refused.status
        ) from None
    event = await _verify(service, body)
    if event.subject is not None:
        record.note_user(event.issuer, event.subject)
    if event.events & {REVOKED_EVENT, REVOKED_EVENT_ALIAS}:
        record.result = await _disconnect(service, event)
    return Response(status_code=202)


async def _verify(service: Service, body: bytes) -> SecurityEvent:
    jws, issuer = _read(body)
    try:
        await service.check_event_signature(jws, issuer)
    except KeyError:
        raise EventRefused(
            "invalid_issuer", "events of this issuer are not accepted"
        ) from None
    except InvalidTokenError as fault:
        if fault.reason == Reason.BAD_SIGNATURE:
            raise EventRefused(
                "authentication_failed", "the issuer did not sign this event"
            ) from None
        raise EventRefused(
            "invalid_key", "the issuer has no such key, or alg is not accepted"
        ) from None
    return _check(jws, issuer, service.issuer, service.clock())


def _read(body: bytes) -> tuple[CompactJWS, str]:
    try:
        jws = parse_compact(body)
        issuer = text(parse_object(jws.payload), "iss")
    except (InvalidTokenError, ValueError):
        raise EventRefused("invalid_request", "not a security event token") from None
    if jws.header.type != _TYPE:
        raise EventRefused("invalid_request", f"typ must be {_TYPE}")
    return jws, issuer


def _check(jws: CompactJWS, issuer: str, audience: str, now: float) -> SecurityEvent:
    claims = parse_object(jws.payload)
    try:
        if not any(same_identifier(name, audience) for name in texts(claims, "aud")):
            raise EventRefused("invalid_audience", "the event is not for this server")
        events = claims.get("events")
        if not is_object(events) or not events:
            raise EventRefused("invalid_request", "events must be a non-empty object")
        if not all(is_object(payload) for payload in events.values()):
            raise EventRefused("invalid_request", "each event must be an object")
        issued_at = instant(claims, "iat")
        _check_date(issued_at, now)
        return SecurityEvent(
            issuer,
            text(claims, "jti"),
            issued_at,
            frozenset(events),
            _subject(claims, issuer),
        )
    except ValueError as fault:
        raise EventRefused("invalid_request", str(fault)) from None


def _check_date(issued_at: float, now: float) -> None:
    """Not in the future; but a 400 is final, and the wrong clock may be ours.

    Raises:
        EventRefused: the date is too far ahead for any clock.
        UnavailableError: the clocks differ; the provider sends the event again.
    """
    ahead = issued_at - now - LEEWAY
    if ahead > _DAY:
        raise EventRefused("invalid_request", "iat is in the future")
    if ahead > 0:
        raise UnavailableError(
            "event_from_the_future",
            f"a provider's event is dated {ahead + LEEWAY:.0f} s from now; see whether "
            "the clock here is right",
            retry_after=min(ceil(ahead), _ASK_AGAIN),
        )


def _subject(claims: Claims, issuer: str) -> str | None:
    """``sub``, which is *issuer*'s own; ``sub_id`` must not name another's user."""
    named = claims.get("sub_id", {})
    if not is_object(named) or named.get("iss", issuer) != issuer:
        raise EventRefused("access_denied", "the subject is another issuer's")
    return optional_text(claims, "sub")


async def _disconnect(service: Service, event: SecurityEvent) -> Effect:
    """Revoke the registration, withdraw the link, and tell all resource servers.

    The telling is done for an event seen before as well: it may be what failed then.
    """
    if event.subject is None:
        raise EventRefused("invalid_request", "sub is missing")
    subject, now = event.subject, service.clock()

    def disconnect() -> Effect:
        effect = service.state.disconnect(
            event.issuer,
            subject,
            # Both instants are the provider's, but its hosts' clocks may differ.
            vouched_until=event.issued_at + LEEWAY,
            event_id=event.token_id,
            now=now,
            seen_until=now + _WEEK,
        )
        service.tell_resource_servers(
            lambda untold: (untold.provider, untold.subject) == (event.issuer, subject)
        )
        return effect

    return await anyio.to_thread.run_sync(disconnect)
