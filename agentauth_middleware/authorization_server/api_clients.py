"""Authentication of resource servers, by secret or by key.

By exactly one of ``client_secret_basic``, ``client_secret_post`` (RFC 6749 §2.3.1) and
``private_key_jwt`` (RFC 7523 §2.2). No credentials, or two at once, are a malformed
request (400); wrong ones are refused (401).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import unquote_plus

import anyio.to_thread
from starlette.requests import Request

from agentauth_middleware._core.tokens.jose import (
    CompactJWS,
    parse_compact,
    verify_signature,
)
from agentauth_middleware._syntax.members import (
    Claims,
    instant,
    optional_instant,
    parse_object,
    text,
)
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.refusals import (
    ClientRefused,
    GrantRefused,
)
from agentauth_middleware.authorization_server.service import LEEWAY, Service
from agentauth_middleware.authorization_server.settings import (
    CLIENT_ALGORITHMS,
    IntrospectionClient,
)
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason

__all__ = ["authenticate_client"]

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_JWT_TYPES = (None, "jwt", "client-authentication+jwt")
_MAX_ASSERTION_BYTES = 8 * 1024
_MAX_BASIC = 8 * 1024
"""Characters. Longer values cost much to decode before the client is authenticated."""
_MAX_LIFETIME = 300
"""Seconds between ``iat`` and ``exp`` of a client assertion, at most."""
_WRONG_SECRET = "client_id and client_secret do not belong together"  # noqa: S105
_NOT_SIGNED = "no client known here has signed this client assertion"


async def authenticate_client(
    service: Service, request: Request, form: Mapping[str, str], record: AuditRecord
) -> IntrospectionClient:
    """The client that sends *request* with *form*.

    Raises:
        GrantRefused: it has no credentials, or two at once.
        ClientRefused: they are wrong.
        UnavailableError: the database failed.
    """
    headers = request.headers.getlist("authorization")
    ways = [name for name in ("client_secret", "client_assertion") if name in form]
    if not headers and not ways:
        raise GrantRefused("invalid_request", "nothing says who asks; authenticate")
    if len(headers) + len(ways) > 1:
        raise GrantRefused("invalid_request", "authenticate in one way only")
    if headers:
        return _check_basic(service, headers[0], form, record)
    if "client_secret" in form:
        return _check_post(service, form, record)
    return await _check_assertion(service, form, record)


def _check_basic(
    service: Service, header: str, form: Mapping[str, str], record: AuditRecord
) -> IntrospectionClient:
    client_id, secret = _read_basic(header)
    client = _find_by_secret(service, client_id, secret, record)
    if client is None or form.get("client_id", client_id) != client_id:
        raise ClientRefused(_WRONG_SECRET, tried_header=True)
    return client


def _read_basic(header: str) -> tuple[str, str]:
    """User and password, each of which was form-encoded on its own."""
    if len(header) > _MAX_BASIC:
        raise ClientRefused("send a shorter Authorization", tried_header=True)
    scheme, _, credentials = header.strip().partition(" ")
    if scheme.lower() != "basic":
        raise ClientRefused("authenticate with the scheme Basic", tried_header=True)
    try:
        joined = binascii.a2b_base64(credentials.strip(), strict_mode=True)
        user, _, password = joined.decode("ascii").partition(":")
    except ValueError:
        raise ClientRefused(
            "form-encode user and password, join them with a colon, then use base64",
            tried_header=True,
        ) from None
    return unquote_plus(user), unquote_plus(password)


def _check_post(
    service: Service, form: Mapping[str, str], record: AuditRecord
) -> IntrospectionClient:
    client_id = form.get("client_id", "")
    client = _find_by_secret(service, client_id, form["client_secret"], record)
    if client is None:
        raise ClientRefused(_WRONG_SECRET)
    return client


def _find_by_secret(
    service: Service, client_id: str, secret: str, record: AuditRecord
) -> IntrospectionClient | None:
    """The client called *client_id*, if *secret* is its own.

    Takes as long whether there is one or not, and however much of it is right.
    """
    client = _find(service, client_id, record)
    expected = (client.client_secret if client is not None else None) or ""
    is_right = hmac.compare_digest(_digest(secret), _digest(expected))
    return client if expected and is_right else None


def _find(
    service: Service, client_id: str, record: AuditRecord
) -> IntrospectionClient | None:
    client = service.introspection_clients.get(client_id)
    if client is not None:
        record.note_client(client_id)
    return client


def _digest(secret: str) -> bytes:
    """Of one length, which a comparison would tell otherwise."""
    return hashlib.sha256(secret.encode()).digest()


async def _check_assertion(
    service: Service, form: Mapping[str, str], record: AuditRecord
) -> IntrospectionClient:
    if form.get("client_assertion_type") != _ASSERTION_TYPE:
        raise ClientRefused(f"client_assertion_type must be {_ASSERTION_TYPE}")
    jws, claims = _read_assertion(form["client_assertion"])
    client = _find(service, text(claims, "iss"), record)
    if client is None or form.get("client_id", client.client_id) != client.client_id:
        raise ClientRefused(_NOT_SIGNED)
    _check_signature(jws, client)
    now = service.clock()
    try:
        token_id, expires_at = _check_claims(claims, service, now)
    except ValueError as fault:
        raise ClientRefused(f"in the client assertion {fault}") from None

    def consume() -> bool:
        # Twice the leeway: it may have waited for its turn since it was checked.
        return service.state.see_client_assertion(
            client.client_id, token_id, now=now, seen_until=expires_at + 2 * LEEWAY
        )

    if not await anyio.to_thread.run_sync(consume):
        raise ClientRefused("the client assertion was presented before; sign another")
    return client


def _read_assertion(assertion: str) -> tuple[CompactJWS, Claims]:
    """*assertion* taken apart, with an ``iss`` in it; nothing is verified yet."""
    try:
        if len(assertion) > _MAX_ASSERTION_BYTES:
            raise ValueError("too long")
        jws = parse_compact(assertion.encode("ascii"))
        claims = parse_object(jws.payload)
        text(claims, "iss")
    except (InvalidTokenError, ValueError):
        raise ClientRefused("the client assertion is malformed") from None
    if jws.header.type not in _JWT_TYPES:
        raise ClientRefused("the typ of the client assertion is of something else")
    return jws, claims


def _check_signature(jws: CompactJWS, client: IntrospectionClient) -> None:
    try:
        if jws.header.algorithm not in CLIENT_ALGORITHMS:
            raise InvalidTokenError(Reason.ALG_NOT_ALLOWED)
        verify_signature(jws, client.keys.candidates(jws.header))
    except InvalidTokenError:
        raise ClientRefused(_NOT_SIGNED) from None


def _check_claims(claims: Claims, service: Service, now: float) -> tuple[str, float]:
    """Identifier and end of a client assertion, if it is good here and now.

    Does not check whether it was presented before.

    Raises:
        ValueError: it is not good.

    Source: RFC 7523 §3
    """
    if text(claims, "sub") != claims["iss"]:
        raise ValueError("sub and iss differ; both are the client_id")
    audience = text(claims, "aud")
    if audience != service.introspection_endpoint and not same_identifier(
        audience, service.issuer
    ):
        raise ValueError(f"aud is not {service.issuer}")
    expires_at, issued_at = instant(claims, "exp"), instant(claims, "iat")
    not_before = optional_instant(claims, "nbf")
    if now >= expires_at + LEEWAY:
        raise ValueError("exp has passed")
    if max(issued_at, not_before or 0) > now + LEEWAY:
        raise ValueError("iat or nbf is in the future")
    if not 0 < expires_at - issued_at <= _MAX_LIFETIME:
        raise ValueError(f"exp is not within {_MAX_LIFETIME} s of iat")
    return text(claims, "jti"), expires_at
