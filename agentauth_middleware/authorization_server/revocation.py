"""``revocation_endpoint``: whoever holds a token may end it (RFC 7009)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agentauth_middleware._core.claims import parse_object, text
from agentauth_middleware._core.jose import parse_compact, verify_signature
from agentauth_middleware.authorization_server.minting import (
    ACCESS_TOKEN_TYPE,
    ALGORITHM,
)
from agentauth_middleware.authorization_server.refusals import (
    NOT_STORED,
    GrantRefused,
    unavailable,
)
from agentauth_middleware.authorization_server.requests import read_form
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.errors import InvalidTokenError, UnavailableError
from agentauth_middleware.revocation import revoke

__all__ = ["revoke_token"]


async def revoke_token(service: Service, request: Request) -> Response:
    """Answer a revocation: 200 for a token that is unknown or dead as well (§2.2)."""
    try:
        form = await read_form(request)
        if "token" not in form:
            raise GrantRefused("invalid_request", "token is missing")
        token_id = _token_id(service, form["token"])
        if token_id is not None:
            await revoke(service.store, service.issuer, token_id=token_id)
    except GrantRefused as refused:
        return refused.response()
    except UnavailableError as failure:
        return unavailable(failure)
    return Response(headers=dict(NOT_STORED))


def _token_id(service: Service, token: str) -> str | None:
    """``jti`` of an access token of ours, whatever ``token_type_hint`` says."""
    try:
        jws = parse_compact(token.encode())
        if jws.header.type != ACCESS_TOKEN_TYPE or jws.header.algorithm != ALGORITHM:
            return None
        verify_signature(jws, service.signer.key_set.candidates(jws.header))
        return text(parse_object(jws.payload), "jti")
    except (InvalidTokenError, ValueError):
        return None
