"""``identity_endpoint``: an agent registers with an ID-JAG (auth.md §4, dialect C)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentauth_middleware._syntax.members import Claims, parse_object
from agentauth_middleware.authorization_server.audit_records import AuditRecord
from agentauth_middleware.authorization_server.id_jag import (
    IdentityAssertion,
    check_assertion,
    read_assertion,
)
from agentauth_middleware.authorization_server.limits import Limits
from agentauth_middleware.authorization_server.minting import (
    ASSERTION_TYPE,
    service_assertion,
)
from agentauth_middleware.authorization_server.refusals import (
    NOT_STORED,
    RegistrationRefused,
)
from agentauth_middleware.authorization_server.requests import BodyRefused, read_body
from agentauth_middleware.authorization_server.server_metadata import ID_JAG
from agentauth_middleware.authorization_server.service import LEEWAY, Service
from agentauth_middleware.authorization_server.state import Outcome, Registration
from agentauth_middleware.errors import InvalidTokenError

__all__ = ["register"]


async def register(service: Service, request: Request, record: AuditRecord) -> Response:
    """Answer a registration."""
    presented = await _read_request(request)
    assertion = await _verify(service, presented)
    record.note_user(assertion.provider, assertion.subject)
    registration = await _register(service, assertion)
    record.note_registration(registration.id)
    record.result = "registered"
    answer = _registered(service, registration, assertion.limits)
    return JSONResponse(answer, headers=dict(NOT_STORED))


async def _read_request(request: Request) -> str:
    """The assertion presented."""
    try:
        members: Claims = parse_object(await read_body(request, "application/json"))
    except BodyRefused as refused:
        raise RegistrationRefused("invalid_request", refused.message) from None
    except ValueError:
        raise RegistrationRefused("invalid_request", "send a JSON object") from None
    _check_kind(members.get("type"), members.get("assertion_type"))
    assertion = members.get("assertion")
    if not isinstance(assertion, str) or not assertion:
        raise RegistrationRefused("invalid_request", "assertion must be a string")
    return assertion


def _check_kind(identity_type: object, assertion_type: object) -> None:
    if identity_type in ("anonymous", "service_auth"):
        raise RegistrationRefused(
            f"{identity_type}_not_enabled", "send an identity_assertion"
        )
    if identity_type != "identity_assertion":
        raise RegistrationRefused(
            "invalid_request", "type must be identity_assertion: no other is offered"
        )
    if assertion_type == "verified_email":
        raise RegistrationRefused(
            "verified_email_not_enabled", f"assertion_type must be {ID_JAG}"
        )
    if assertion_type != ID_JAG:
        raise RegistrationRefused("invalid_request", f"assertion_type must be {ID_JAG}")


async def _verify(service: Service, presented: str) -> IdentityAssertion:
    unverified = read_assertion(presented)
    provider = service.providers.get(unverified.issuer)
    if provider is None:
        raise RegistrationRefused(
            "issuer_not_enabled", "assertions of this provider are not accepted here"
        )
    try:
        await service.check_signature(unverified.jws, provider)
    except InvalidTokenError:
        raise RegistrationRefused(
            "invalid_signature",
            "no key and algorithm of the provider that are accepted signed this",
        ) from None
    return check_assertion(
        unverified,
        provider,
        audience=service.issuer,
        resources=service.resources,
        max_auth_age=service.max_auth_age,
        leeway=LEEWAY,
        now=service.clock(),
    )


async def _register(service: Service, assertion: IdentityAssertion) -> Registration:
    # Twice the leeway: it may have been good to the last second when it was checked,
    # and have waited for its turn since.
    seen_until = assertion.expires_at + 2 * LEEWAY

    def consume() -> Outcome:
        # A user who was disconnected and comes back gets no token while older ones are
        # good.
        service.tell_resource_servers(
            lambda untold: (
                (untold.provider, untold.subject)
                == (assertion.provider, assertion.subject)
            )
        )
        return service.state.register(
            assertion, now=service.clock(), seen_until=seen_until
        )

    outcome = await anyio.to_thread.run_sync(consume)
    match outcome:
        case "replayed":
            raise RegistrationRefused(
                "replay_detected", "the assertion was presented before; get a new one"
            )
        case "interaction_required":
            raise RegistrationRefused(
                "interaction_required",
                "the user has to confirm this agent here first",
                status=401,
            )
        case "other_account":
            raise RegistrationRefused(
                "invalid_request",
                "aud_sub is not who this user of the provider is here",
            )
        case "no_account":
            raise RegistrationRefused(
                "invalid_request",
                "no account here is linked to this user of the provider",
            )
        case registration:
            return registration


def _registered(
    service: Service, registration: Registration, limits: Limits
) -> dict[str, Any]:
    """The success body, with what the agent exchanges at the token endpoint."""
    now = int(service.clock())
    claims = service_assertion(
        registration,
        limits,
        issuer=service.issuer,
        now=now,
        lifetime=service.assertion_lifetime,
    )
    return {
        "registration_id": registration.id,
        "registration_type": "identity_assertion",
        "identity_assertion": service.signer.sign(claims, ASSERTION_TYPE),
        "assertion_expires": datetime.fromtimestamp(claims["exp"], UTC).isoformat(),
        "scopes": _scopes(service, limits),
    }


def _scopes(service: Service, limits: Limits) -> list[str]:
    """The scopes that can be had within *limits*, each once."""
    served = (server for server in service.resources if limits.gives(server))
    return list(
        dict.fromkeys(scope for server in served for scope in limits.of(server))
    )
