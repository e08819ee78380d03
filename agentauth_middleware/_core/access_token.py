"""JWT access tokens (RFC 9068): what one must be before anybody is granted anything.

Split in two because a key may have to be fetched in between: ``read_token`` is all
that can be said without a key, ``check_token`` all that is said with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentauth_middleware._core.claims import (
    Claims,
    count_containers,
    instant,
    optional_instant,
    optional_text,
    parse_object,
    text,
    texts,
)
from agentauth_middleware._core.identity import read_identity
from agentauth_middleware._core.jose import (
    CompactJWS,
    SigningKey,
    parse_compact,
    verify_signature,
)
from agentauth_middleware._core.scopes import parse_scopes
from agentauth_middleware._core.urls import same_identifier
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.resource_server import Issuer

_TYPE = "at+jwt"
_MAX_CONTAINERS = 512
"""Objects and arrays: more than any issuer's roles and details need, and they cost far
more to read than their length, before anybody knows who wrote them."""
_MARKS_OF_OTHER_KINDS = ("events", "token_introspection", "htm", "htu")
"""Security events and logout tokens, introspection answers, DPoP proofs."""


class UnverifiedToken(NamedTuple):
    """A token of the right form whose signature nobody has checked."""

    jws: CompactJWS
    claims: Claims
    issuer: str


def read_token(token: bytes) -> UnverifiedToken:
    """Take *token* apart as far as its issuer's name.

    Raises:
        InvalidTokenError: it is no JWT access token, whoever signed it.

    Source: RFC 9068 §4, RFC 8725 §3.11
    """
    jws = parse_compact(token)
    if jws.header.type != _TYPE:
        raise InvalidTokenError("wrong_token_type", f"typ is {jws.header.type!r}")
    if count_containers(jws.payload) > _MAX_CONTAINERS:
        raise InvalidTokenError("malformed", "too many objects and arrays")
    try:
        claims = parse_object(jws.payload)
        issuer = text(claims, "iss")
    except ValueError as fault:
        raise InvalidTokenError("malformed", str(fault)) from None
    return UnverifiedToken(jws, claims, issuer)


def check_algorithm(token: UnverifiedToken, issuer: Issuer) -> None:
    """Refuse an algorithm that *issuer* does not use, before any key is looked for.

    Source: RFC 8725 §3.1
    """
    if token.jws.header.algorithm not in issuer.algorithms:
        raise InvalidTokenError(
            "alg_not_allowed", f"alg is {token.jws.header.algorithm!r}"
        )


def check_token(
    token: UnverifiedToken,
    keys: Sequence[SigningKey],
    issuer: Issuer,
    *,
    resource: str,
    leeway: int,
    now: float,
) -> Access:
    """The ``Access`` that *token* gives, if it was signed by one of *keys* and is good.

    Does not check revocation, scopes or any policy, which change while the token does
    not; nor whether it is bound to a key.

    Raises:
        InvalidTokenError: it is not good.

    Source: RFC 9068 §4
    """
    verify_signature(token.jws, keys)
    return check_claims(
        token.claims,
        token.jws.payload,
        issuer,
        resource=resource,
        leeway=leeway,
        now=now,
    )


def check_claims(
    claims: Claims,
    payload: bytes,
    issuer: Issuer,
    *,
    resource: str,
    leeway: int,
    now: float,
) -> Access:
    """The ``Access`` that signed *claims* give, read from *payload*, if all is good.

    Raises:
        InvalidTokenError: something is not.

    Source: RFC 9068 §4
    """
    try:
        _check_kind(claims)
        expires_at, issued_at = _check_times(claims, leeway, now)
        audience = texts(claims, "aud")
        client_id = text(claims, "client_id")
        who = read_identity(
            claims,
            issuer.issuer,
            client_id,
            issuer.identity,
            subjects_are_users=issuer.subjects == "users",
            actor_issuers=issuer.actor_issuers,
        )
        access = Access(
            issuer.issuer,
            text(claims, "sub"),
            who.user,
            who.agent,
            who.chain,
            who.mode,
            _read_scopes(claims),
            client_id,
            audience,
            text(claims, "jti"),
            issued_at,
            expires_at,
            optional_instant(claims, "auth_time"),
            optional_text(claims, "acr"),
            payload,
        )
    except ValueError as fault:
        raise InvalidTokenError("malformed", str(fault)) from None
    _check_audience(audience, issuer, resource)
    return access


def _read_scopes(claims: Claims) -> frozenset[str]:
    """``scope``; some servers write an empty one where RFC 6749 §3.3 wants none."""
    if claims.get("scope") == "":
        return frozenset()
    return parse_scopes(optional_text(claims, "scope") or "")


def _check_kind(claims: Claims) -> None:
    """Refuse what another kind of token carries, whatever its ``typ``.

    Source: RFC 8725 §3.12
    """
    for mark in _MARKS_OF_OTHER_KINDS:
        if mark in claims:
            raise InvalidTokenError("wrong_token_type", f"has {mark}")


def _check_times(claims: Claims, leeway: int, now: float) -> tuple[float, float]:
    expires_at, issued_at = instant(claims, "exp"), instant(claims, "iat")
    not_before = optional_instant(claims, "nbf")
    if now >= expires_at + leeway:
        raise InvalidTokenError("expired", f"{now - expires_at:.0f} s ago")
    if issued_at > now + leeway:
        raise InvalidTokenError("not_yet_valid", f"iat in {issued_at - now:.0f} s")
    if not_before is not None and not_before > now + leeway:
        raise InvalidTokenError("not_yet_valid", f"nbf in {not_before - now:.0f} s")
    return expires_at, issued_at


def _check_audience(audience: tuple[str, ...], issuer: Issuer, resource: str) -> None:
    """The token must be meant for us: a prefix, a host or a look-alike is not us.

    Source: RFC 9068 §4, RFC 8707 §2
    """
    if issuer.audience is not None:
        is_meant = any(value in issuer.audience for value in audience)
    else:
        is_meant = resource in audience or any(
            same_identifier(value, resource) for value in audience
        )
    if not is_meant:
        shown = repr(audience)[:200]
        raise InvalidTokenError("wrong_audience", f"aud is {shown}")
