"""``token_endpoint``: a service assertion for an access token (RFC 7523 §2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentauth_middleware._syntax.members import instant, text
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.limits import Limits, read_limits
from agentauth_middleware.authorization_server.minting import (
    ACCESS_TOKEN_TYPE,
    ASSERTION_TYPE,
    access_token,
)
from agentauth_middleware.authorization_server.refusals import NOT_STORED, GrantRefused
from agentauth_middleware.authorization_server.requests import read_form
from agentauth_middleware.authorization_server.server_metadata import JWT_BEARER
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.authorization_server.state import Registration
from agentauth_middleware.errors import InvalidTokenError, UnavailableError
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["grant", "read_service_assertion"]

_LONGEST_HOLD = 1.0
"""Seconds; a cut-off that was dated by a right clock needs no more."""
_NOT_OURS = "the assertion is not one that this server issued, or is no longer good"


async def grant(service: Service, request: Request, record: AuditRecord) -> Response:
    """Answer a token request."""
    form = await read_form(request)
    registration_id, limits = read_service_assertion(service, _find_assertion(form))
    record.note_registration(registration_id)
    server = _find_resource(service, limits, form.get("resource"))
    scopes = find_scopes(server, limits, form.get("scope"))
    registration = await _find_registration(service, registration_id)
    record.note_user(registration.provider, registration.subject)
    issued_at = await _first_second_after_cutoffs(service, registration)
    await _hold_until(service, issued_at)
    # Once more, and after the wait: what is revoked later than this is cut off at an
    # instant that the token's date is not behind.
    await _find_registration(service, registration_id)
    claims = access_token(
        registration,
        issuer=service.issuer,
        resource=server.resource,
        scopes=scopes,
        issued_at=issued_at,
        lifetime=service.access_token_lifetime,
    )
    record.note_scopes(scopes)
    record.result = "token_issued"
    return JSONResponse(_granted(service, claims), headers=dict(NOT_STORED))


def _find_assertion(form: Mapping[str, str]) -> str:
    """The assertion in *form*; other grants need none, so the grant is looked at first.

    Raises:
        GrantRefused: it is no request for this grant.
    """
    if "grant_type" not in form:
        raise GrantRefused("invalid_request", "grant_type is missing")
    if form["grant_type"] != JWT_BEARER:
        raise GrantRefused("unsupported_grant_type", f"use {JWT_BEARER}")
    if "assertion" not in form:
        raise GrantRefused("invalid_request", "assertion is missing")
    return form["assertion"]


def _granted(service: Service, claims: dict[str, Any]) -> dict[str, Any]:
    return {
        "access_token": service.signer.sign(claims, ACCESS_TOKEN_TYPE),
        "token_type": "Bearer",
        "expires_in": service.access_token_lifetime,
        **({"scope": claims["scope"]} if "scope" in claims else {}),
    }


def read_service_assertion(service: Service, assertion: str) -> tuple[str, Limits]:
    """The registration that *assertion* was issued for, and how far it reaches.

    Raises:
        GrantRefused: it is not ours, has expired, or is from before limits were kept.
    """
    try:
        claims = service.signer.read(assertion, ASSERTION_TYPE)
        names = (text(claims, "iss"), text(claims, "aud"))
        is_ours = names == (service.issuer, service.issuer)
        if not is_ours or service.clock() >= instant(claims, "exp"):
            raise GrantRefused("invalid_grant", _NOT_OURS)
        return text(claims, "sub"), read_limits(claims)
    except (InvalidTokenError, ValueError):
        raise GrantRefused("invalid_grant", _NOT_OURS) from None


async def _find_registration(service: Service, registration_id: str) -> Registration:
    found = await service.find_registration(registration_id)
    if found is None:
        raise GrantRefused("invalid_grant", "the registration has been revoked")
    return found


def _find_resource(
    service: Service, limits: Limits, resource: str | None
) -> ResourceServer:
    """The resource asked for; the only one needs no name (RFC 8707 §2)."""
    within = [
        server for server in service.resources if server.resource in limits.resources
    ]
    if resource is None and len(within) == 1:
        return within[0]
    for server in within:
        if resource is not None and same_identifier(resource, server.resource):
            return server
    known = ", ".join(server.resource for server in within) or "none any more"
    raise GrantRefused("invalid_target", f"resource must be one of: {known}")


def find_scopes(
    server: ResourceServer, limits: Limits, scope: str | None
) -> tuple[str, ...]:
    """Of the scopes asked for, or of all that the resource has, those within *limits*.

    Raises:
        GrantRefused: there is no such scope, or nothing is left.
    """
    wanted = server.scopes if scope is None else dict.fromkeys(scope.split(" "))
    if not set(wanted) <= set(server.scopes):
        raise GrantRefused("invalid_scope", "this resource has no such scope")
    within = limits.of(server)
    granted = tuple(name for name in wanted if name in within)
    if not limits.gives(server) or (wanted and not granted):
        raise GrantRefused(
            "invalid_scope", "the provider has not let this agent have any such scope"
        )
    return granted


async def _first_second_after_cutoffs(
    service: Service, registration: Registration
) -> int:
    """Now, or the second behind a revocation that would refuse a token issued now.

    A resource server refuses what was issued at or before a cut-off, to the second: a
    token minted in that same second would be refused although it is new.
    """
    cutoff = await service.find_cutoff(registration)
    now = floor(service.clock())
    return now if cutoff is None else max(now, floor(cutoff) + 1)


async def _hold_until(service: Service, issued_at: int) -> None:
    """Wait for the second that a token is dated with.

    One that left before its date would be good behind every cut-off until then: also
    behind that of a user who disconnects in the meantime.

    Raises:
        UnavailableError: it is too far off; the host that revoked had a wrong clock.
    """
    while (ahead := issued_at - service.clock()) > 0:
        if ahead > _LONGEST_HOLD:
            raise UnavailableError(
                "cutoff_in_the_future",
                f"tokens are revoked until {ahead:.0f} s from now",
                retry_after=ceil(ahead),
            )
        await anyio.sleep(ahead)
