"""ID-JAGs: a provider's signed statement that an agent acts for one of its users.

The auth.md profile: the assertion stands alone, is good once, tells when the user last
signed in, and carries a verified e-mail address or phone number. The order of checks is
that of the draft's receiver: nothing is fetched for a stranger, and the identifier is
consumed after everything else, by the module that owns the database.

Source: draft-ietf-oauth-identity-assertion-authz-grant-03 §3, auth.md v0.7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentauth_middleware._core.tokens.jose import CompactJWS, parse_compact
from agentauth_middleware._syntax.members import (
    Claims,
    instant,
    optional_instant,
    optional_text,
    parse_object,
    text,
    texts,
)
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.authorization_server.limits import Limits
from agentauth_middleware.authorization_server.refusals import (
    RegistrationRefused,
    login_required,
)
from agentauth_middleware.authorization_server.settings import AgentProvider
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = [
    "MAX_BYTES",
    "MAX_LIFETIME",
    "TYPE",
    "IdentityAssertion",
    "UnverifiedAssertion",
    "check_assertion",
    "read_assertion",
]

TYPE = "oauth-id-jag+jwt"
MAX_BYTES = 8 * 1024
MAX_LIFETIME = 600
"""Seconds between ``iat`` and ``exp``, at most."""


@dataclass(frozen=True, slots=True)
class IdentityAssertion:
    """The members of a good ID-JAG."""

    provider: str
    subject: str
    client_id: str
    token_id: str
    issued_at: float
    """By the provider's clock, epoch seconds."""
    expires_at: float
    """Epoch seconds."""
    auth_time: float
    """When the user last signed in at the provider, epoch seconds."""
    email: str | None
    """Verified, in lower case."""
    amr: tuple[str, ...]
    limits: Limits
    local_subject: str | None
    """``aud_sub``: the user's name here, if the provider gives it."""
    agent_platform: str | None
    """For audit, like the next; never for a decision."""
    agent_context_id: str | None


class UnverifiedAssertion(NamedTuple):
    """An ID-JAG of the right form, whose signature has not been checked."""

    jws: CompactJWS
    claims: Claims
    issuer: str


def read_assertion(assertion: str) -> UnverifiedAssertion:
    """Parse *assertion* as far as needed to find its issuer.

    Raises:
        RegistrationRefused: it is no ID-JAG.
    """
    if len(assertion) > MAX_BYTES or not assertion.isascii():
        raise RegistrationRefused("invalid_request", "the assertion is malformed")
    try:
        jws = parse_compact(assertion.encode())
        claims = parse_object(jws.payload)
        issuer = text(claims, "iss")
    except (InvalidTokenError, ValueError):
        raise RegistrationRefused(
            "invalid_request", "the assertion is malformed"
        ) from None
    if jws.header.type != TYPE:
        raise RegistrationRefused(
            "invalid_request", f"the assertion is not of type {TYPE}"
        )
    return UnverifiedAssertion(jws, claims, issuer)


def check_assertion(
    assertion: UnverifiedAssertion,
    provider: AgentProvider,
    *,
    audience: str,
    resources: Sequence[ResourceServer],
    max_auth_age: int,
    leeway: int,
    now: float,
) -> IdentityAssertion:
    """The members of *assertion*, which *provider* has signed.

    Does not check whether it was presented before.

    Raises:
        RegistrationRefused: it is not good.
    """
    claims = assertion.claims
    try:
        _check_audience(claims, audience)
        _check_not_understood(claims)
        _check_same_subject(claims)
        limits = _read_limits(claims, resources)
        issued_at, expires_at = _check_times(claims, leeway, now)
        client_id = _check_client(claims, provider)
        read = IdentityAssertion(
            provider.issuer,
            text(claims, "sub"),
            client_id,
            text(claims, "jti"),
            issued_at,
            expires_at,
            _check_auth_time(claims, max_auth_age, leeway, now),
            _check_contact(claims),
            texts(claims, "amr"),
            limits,
            optional_text(claims, "aud_sub"),
            optional_text(claims, "agent_platform"),
            optional_text(claims, "agent_context_id"),
        )
    except ValueError as fault:
        raise RegistrationRefused("invalid_request", f"the assertion's {fault}") from (
            None
        )
    return read


def _check_audience(claims: Claims, audience: str) -> None:
    """The audience must be this server alone: another one could present the assertion
    here."""
    named = texts(claims, "aud")
    if len(named) != 1 or not same_identifier(named[0], audience):
        raise RegistrationRefused(
            "invalid_audience", f"the assertion must be for {audience} alone"
        )


_NOT_UNDERSTOOD = {
    "cnf": "is bound to a key; send an unbound one",
    "act": "names an actor; none can be put into tokens here",
    "authorization_details": "is limited by authorization_details; use scope",
    "tenant": "names a tenant; users are known by issuer and subject alone",
    "aud_tenant": "names a tenant of this server, which has none",
}
"""Members that restrict the assertion; ignoring them would widen it."""


def _check_not_understood(claims: Claims) -> None:
    for name, fault in _NOT_UNDERSTOOD.items():
        if name in claims:
            raise RegistrationRefused("invalid_request", f"the assertion {fault}")


def _check_same_subject(claims: Claims) -> None:
    """``sub_id`` names the same user in another way, which has to be known here.

    Source: RFC 9493 §3.2.3
    """
    if "sub_id" not in claims:
        return
    same = {"format": "iss_sub", "iss": claims.get("iss"), "sub": claims.get("sub")}
    if claims["sub_id"] != same:
        raise RegistrationRefused(
            "invalid_request",
            "the assertion's sub_id must be of the format iss_sub, and name its sub",
        )


def _read_limits(claims: Claims, resources: Sequence[ResourceServer]) -> Limits:
    """What tokens may be had for the assertion; all of *resources* if it is not said.

    Raises:
        RegistrationRefused: it is for something that is not served here as well, or
            for nothing.
        ValueError: a member is malformed.
    """
    limits = Limits(
        _named_resources(claims, resources),
        tuple(text(claims, "scope").split(" ")) if "scope" in claims else None,
    )
    served = [server for server in resources if server.resource in limits.resources]
    if not any(limits.gives(server) for server in served):
        raise RegistrationRefused(
            "invalid_request", "the assertion's scope is none that there is here"
        )
    return limits


def _named_resources(
    claims: Claims, resources: Sequence[ResourceServer]
) -> tuple[str, ...]:
    """By the names that they have here."""
    ours = [server.resource for server in resources]
    if "resource" not in claims:
        return tuple(ours)
    named = texts(claims, "resource")
    found = [
        next((our for our in ours if same_identifier(name, our)), None)
        for name in named
    ]
    kept = tuple(name for name in found if name is not None)
    if not kept or len(kept) != len(found):
        raise RegistrationRefused(
            "invalid_request", "the assertion is for a resource that is not served here"
        )
    return tuple(dict.fromkeys(kept))


def _check_times(claims: Claims, leeway: int, now: float) -> tuple[float, float]:
    expires_at, issued_at = instant(claims, "exp"), instant(claims, "iat")
    not_before = optional_instant(claims, "nbf")
    if now >= expires_at + leeway:
        raise RegistrationRefused("expired", "the assertion has expired")
    if not 0 < expires_at - issued_at <= MAX_LIFETIME:
        raise RegistrationRefused(
            "invalid_request", f"the assertion must live {MAX_LIFETIME} s at most"
        )
    if issued_at > now + leeway or (not_before or 0) > now + leeway:
        raise RegistrationRefused("invalid_request", "the assertion is not valid yet")
    return issued_at, expires_at


def _check_client(claims: Claims, provider: AgentProvider) -> str:
    client_id = text(claims, "client_id")
    if client_id not in provider.client_ids:
        raise RegistrationRefused(
            "invalid_client_id", "this client is not known for this provider"
        )
    return client_id


def _check_auth_time(
    claims: Claims, max_auth_age: int, leeway: int, now: float
) -> float:
    """The user must have signed in lately, each time and linked or not."""
    auth_time = optional_instant(claims, "auth_time")
    if auth_time is None or auth_time > now + leeway:
        raise login_required(max_auth_age)
    if now - auth_time > max_auth_age + leeway:
        raise login_required(max_auth_age)
    return auth_time


def _check_contact(claims: Claims) -> str | None:
    """The verified e-mail address, or ``None`` where only the phone is verified."""
    if claims.get("email_verified") is True:
        return text(claims, "email").lower()
    if claims.get("phone_number_verified") is True and text(claims, "phone_number"):
        return None
    raise RegistrationRefused(
        "missing_verified_email",
        "the assertion must carry a verified e-mail address or phone number",
    )
