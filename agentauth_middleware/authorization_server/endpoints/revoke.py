"""``revocation_endpoint``: the holder of a token may revoke it (RFC 7009)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agentauth_middleware._syntax.members import Claims, instant, optional_text, text
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.minting import ACCESS_TOKEN_TYPE
from agentauth_middleware.authorization_server.refusals import NOT_STORED, GrantRefused
from agentauth_middleware.authorization_server.requests import read_form
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.revocation import revoke

__all__ = ["revoke_token"]


async def revoke_token(
    service: Service, request: Request, record: AuditRecord
) -> Response:
    """Answer a revocation: 200 for a token that is unknown or dead as well (§2.2).

    ``token_type_hint`` never changes the outcome.
    """
    form = await read_form(request)
    if "token" not in form:
        raise GrantRefused("invalid_request", "token is missing")
    try:
        claims = service.signer.read(form["token"], ACCESS_TOKEN_TYPE)
    except InvalidTokenError:
        record.result = "unknown_token"
    else:
        record.note_registration(text(claims["act"], "sub"))
        record.result = await _end(service, claims)
    return Response(headers=dict(NOT_STORED))


async def _end(service: Service, claims: Claims) -> str:
    """Revoke a token of ours, unless it is dead: the log keeps what is in it."""
    token_id = text(claims, "jti")
    good_until = instant(claims, "exp") + max(
        server.leeway for server in service.resources
    )
    if service.clock() >= good_until:
        return "expired_token"
    if (await service.read_log()).has_token(service.issuer, token_id):
        return "revoked_before"
    registration_id = text(claims["act"], "sub")
    if not service.single_revocations.take(registration_id, service.clock()):
        # The log must not grow with every token that an agent mints and revokes.
        await revoke(
            service.store,
            service.issuer,
            subject=optional_text(claims, "sub"),
            agent=registration_id,
            retention=service.access_token_lifetime,
        )
        return "tokens_of_agent_revoked"
    await revoke(
        service.store,
        service.issuer,
        token_id=token_id,
        retention=good_until - service.clock(),
    )
    return "token_revoked"
