"""``introspection_endpoint``: a resource server asks about a token (RFC 7662, 9701).

A token is active for its own resource server, and only while a middleware that has just
read the log would accept it. Everything else gets one answer, ``{"active": false}``:
the client must not learn what is wrong with a token, or whether there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentauth_middleware._syntax.members import Claims, instant, text, texts
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.access import Access, Principal
from agentauth_middleware.authorization_server.api_clients import (
    authenticate_client,
)
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.minting import ACCESS_TOKEN_TYPE
from agentauth_middleware.authorization_server.refusals import NOT_STORED, GrantRefused
from agentauth_middleware.authorization_server.requests import read_form
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.authorization_server.settings import IntrospectionClient
from agentauth_middleware.errors import InvalidTokenError

__all__ = ["introspect"]

_TYPE = "token-introspection+jwt"
_MEDIA_TYPE = f"application/{_TYPE}"
_TOLD = (
    *("iss", "sub", "sub_profile", "aud", "client_id", "scope", "exp", "iat", "jti"),
    *("act", "auth_time", "amr", "agent_platform", "agent_context_id"),
)
"""The claims of a token that its resource server is told."""
_INACTIVE = {"active": False}


async def introspect(
    service: Service, request: Request, record: AuditRecord
) -> Response:
    """Answer about a token, whatever its ``token_type_hint`` says."""
    form = await read_form(request)
    client = await authenticate_client(service, request, form, record)
    if "token" not in form:
        raise GrantRefused("invalid_request", "token is missing")
    answer = await _answer(service, form["token"], client, record)
    if _wants_signature(request):
        return _signed(service, answer, client)
    return JSONResponse(answer, headers=dict(NOT_STORED))


async def _answer(
    service: Service, token: str, client: IntrospectionClient, record: AuditRecord
) -> dict[str, Any]:
    """The answer for *client* about *token*. The reason why it is inactive goes to the
    log only."""
    claims = _read(service, token)
    if claims is None:
        record.result = "unknown_token"
        return dict(_INACTIVE)
    record.note_registration(text(claims["act"], "sub"))
    fault = await _find_fault(service, claims, client)
    record.result = fault or "active_token"
    return _active(claims) if fault is None else dict(_INACTIVE)


def _read(service: Service, token: str) -> Claims | None:
    """What *token* says, if it is an access token that this server has issued."""
    try:
        claims = service.signer.read(token, ACCESS_TOKEN_TYPE)
    except InvalidTokenError:
        return None
    # The keys outlive a change of the issuer's name.
    return claims if text(claims, "iss") == service.issuer else None


async def _find_fault(
    service: Service, claims: Claims, client: IntrospectionClient
) -> str | None:
    """Why *client* may not rely on a token of ours, or ``None``. Log and registration
    are read last: a client for which the token is not meant must not learn its state
    from the time of an answer, or from a 503.
    """
    if not any(same_identifier(name, client.resource) for name in texts(claims, "aud")):
        return "wrong_audience"
    if service.clock() >= instant(claims, "exp"):
        return "expired_token"
    registration_id = text(claims["act"], "sub")
    if (await service.read_log()).refuses(_access(claims)):
        return "revoked_token"
    if await service.find_registration(registration_id) is None:
        return "revoked_registration"
    return None


def _access(claims: Claims) -> Access:
    """As much of what *claims* give as a revocation can name."""
    act = claims["act"]
    return Access(
        text(claims, "iss"),
        text(claims, "sub"),
        agent=Principal(text(act, "iss"), text(act, "sub")),
        token_id=text(claims, "jti"),
        issued_at=instant(claims, "iat"),
    )


def _active(claims: Claims) -> dict[str, Any]:
    """The answer about a good token (RFC 7662 §2.2, RFC 8693 §4.1)."""
    told = {name: claims[name] for name in _TOLD if name in claims}
    return {"active": True, "token_type": "Bearer", **told}


def _wants_signature(request: Request) -> bool:
    """Whether the client asks for a signed answer; also if it accepts both forms."""
    accepted = ",".join(request.headers.getlist("accept")).split(",")
    media_types = (item.partition(";")[0].strip().lower() for item in accepted)
    return _MEDIA_TYPE in media_types


def _signed(
    service: Service, answer: Mapping[str, Any], client: IntrospectionClient
) -> Response:
    """*answer* as a JWT, for *client* alone and of this moment.

    Without ``sub`` and ``exp`` of its own, so that it cannot be taken for an access
    token.

    Source: RFC 9701 §5, §8.1
    """
    claims = {
        "iss": service.issuer,
        "aud": client.client_id,
        "iat": int(service.clock()),
        "token_introspection": answer,
    }
    return Response(
        service.signer.sign(claims, _TYPE),
        media_type=_MEDIA_TYPE,
        headers=dict(NOT_STORED),
    )
