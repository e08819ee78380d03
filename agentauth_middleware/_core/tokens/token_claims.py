"""The claims of a token, from a JWT or from an introspection answer.

Names and formats are those of JWT access tokens (RFC 9068 §2.2); answers about opaque
tokens use the same (RFC 7662 §2.2). Which claims are required differs; what they mean
does not.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from agentauth_middleware._core.tokens.identity import read_identity
from agentauth_middleware._syntax.listing import one_of, quoted
from agentauth_middleware._syntax.members import (
    Claims,
    is_array,
    optional_instant,
    optional_text,
    texts,
)
from agentauth_middleware._syntax.scopes import parse_scopes
from agentauth_middleware._syntax.urls import same_identifier
from agentauth_middleware.access import Access, Identity
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import Issuer


class Terms(NamedTuple):
    """The terms on which the tokens of one issuer are accepted."""

    issuer: Issuer
    resource: str
    """The resource identifier, which they are for."""
    leeway: int
    """Seconds by which clocks may differ."""


_ACCESS_TOKEN_USES = {
    "typ": ("bearer", "dpop"),
    "token_use": ("access", "access_token"),
}
"""Claims in which some servers name the kind of token, because their ``typ`` header
does not: their refresh tokens are signed as well."""


def check_common_claims(
    claims: Claims, terms: Terms, now: float, *, require_audience: bool
) -> None:
    """Refuse a token that is not valid now, not for us, or not from an accepted client.

    Does not check what only one kind of token must carry, nor revocation or scopes.

    Raises:
        InvalidTokenError: it is not.
        ValueError: a claim is not of the form demanded.

    Source: RFC 9068 §4, RFC 7662 §4
    """
    issuer = terms.issuer
    for name in issuer.required_claims:
        if name not in claims:
            found = f"{name} is missing, which Issuer.required_claims names"
            raise InvalidTokenError(Reason.MALFORMED, found)
    check_times(claims, terms.leeway, now)
    _check_age(claims, terms, now)
    client_id = read_client_id(claims, issuer)
    if issuer.client_ids and client_id not in issuer.client_ids:
        expected = f"expected {one_of(issuer.client_ids)} (Issuer.client_ids)"
        raise InvalidTokenError(Reason.WRONG_CLIENT, f"{quoted(client_id)}; {expected}")
    if require_audience or "aud" in claims:
        check_audience(claims, terms)


def check_use(claims: Claims) -> None:
    """Refuse a token whose claims name another kind of token.

    Raises:
        InvalidTokenError: they do.
        ValueError: such a claim is not a string.
    """
    for name, accepted in _ACCESS_TOKEN_USES.items():
        use = optional_text(claims, name)
        if use is not None and use.lower() not in accepted:
            found = f"{name} is {use[:40]!r}; expected {one_of(accepted)}"
            raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, found)


def stated(claims: Claims, issuer: Issuer) -> Claims:
    """*claims* without empty ones: null, an empty string, an empty array. ``act`` and
    ``cnf`` are kept in any case. An empty list of scopes means that there are none.
    """
    if all(claims.values()):
        return claims  # nothing in it is empty
    scopes = ("scope", "scp", "permissions", *issuer.scope_claims)
    return {
        name: value
        for name, value in claims.items()
        if value not in _EMPTY
        or name in _NEVER_PASSED_OVER
        or (value is not None and name in scopes)
    }


_EMPTY: tuple[object, ...] = (None, "", [], ())
_NEVER_PASSED_OVER = ("act", "cnf")


def read_access(claims: Claims, payload: bytes, terms: Terms) -> Access:
    """The ``Access`` that *claims*, read from *payload*, give.

    Raises:
        InvalidTokenError: its claims contradict each other about who is calling.
        ValueError: another claim is not of the form demanded.
    """
    issuer = terms.issuer
    claims = stated(claims, issuer)
    subject, client_id = optional_text(claims, "sub"), read_client_id(claims, issuer)
    who = read_who(claims, issuer, client_id)
    return Access(
        issuer.issuer,
        subject,
        who.user,
        who.agent,
        who.chain,
        who.mode,
        read_scopes(claims, issuer),
        client_id,
        read_audience(claims),
        optional_text(claims, "jti"),
        optional_instant(claims, "iat"),
        optional_instant(claims, "exp"),
        optional_instant(claims, "auth_time"),
        optional_text(claims, "acr"),
        payload,
        leeway=terms.leeway,
    )


def read_who(claims: Claims, issuer: Issuer, client_id: str | None) -> Identity:
    """The identity in *claims*, in the dialect of *issuer*.

    Raises:
        InvalidTokenError: it is malformed or contradicts itself.
    """
    try:
        return read_identity(
            claims,
            issuer.issuer,
            client_id,
            issuer.identity,
            subjects_are_users=issuer.subjects == "users",
            first_party_clients=issuer.first_party_clients,
            actor_issuers=issuer.actor_issuers,
            max_chain=issuer.max_chain,
        )
    except ValueError as fault:
        raise InvalidTokenError(Reason.MALFORMED, str(fault)) from None


def read_client_id(claims: Claims, issuer: Issuer) -> str | None:
    """The client: the first of the issuer's client claims that is there."""
    for name in issuer.client_id_claims:
        if name in claims:
            return optional_text(claims, name)
    return None


def read_audience(claims: Claims) -> tuple[str, ...]:
    """``aud``; empty if it is absent."""
    return texts(claims, "aud")


def read_scopes(claims: Claims, issuer: Issuer) -> frozenset[str]:
    """The scopes of all places that *issuer* uses."""
    if issuer.scope_claims == ("scope",):
        return read_scope(claims, issuer)
    return frozenset[str]().union(
        *(_read_words(claims, name, issuer) for name in issuer.scope_claims)
    )


def expires_with_leeway(access: Access, terms: Terms) -> float:
    """Epoch seconds at which a token has expired or is too old, leeway included."""
    ends = inf if access.expires_at is None else access.expires_at
    longest = terms.issuer.max_token_age
    if longest is not None and access.issued_at is not None:
        ends = min(ends, access.issued_at + longest)
    return ends + terms.leeway


def is_bound(claims: Claims) -> bool:
    """Whether the token is good only with proof of a key (RFC 7800, RFC 9449 §6.2)."""
    token_type = claims.get("token_type")
    return "cnf" in claims or (
        isinstance(token_type, str) and token_type.lower() == "dpop"
    )


def read_scope(claims: Claims, issuer: Issuer) -> frozenset[str]:
    """``scope``, where the standard has it (RFC 6749 §3.3)."""
    return _read_words(claims, "scope", issuer)


def _read_words(claims: Claims, name: str, issuer: Issuer) -> frozenset[str]:
    """Some servers write an empty value where RFC 6749 §3.3 wants no claim."""
    found = claims.get(name)
    if found in _EMPTY and name in claims:
        return frozenset()
    if is_array(found) and (name != "scope" or issuer.scope_as_array):
        return frozenset(texts(claims, name))
    return parse_scopes(optional_text(claims, name) or "")


def check_times(claims: Claims, leeway: int, now: float) -> None:
    """Refuse a token that has expired or is not valid yet, by ``exp``, ``iat`` and
    ``nbf``.

    Raises:
        InvalidTokenError: it is not.
        ValueError: a date is none.
    """
    expires_at = optional_instant(claims, "exp")
    issued_at = optional_instant(claims, "iat")
    not_before = optional_instant(claims, "nbf")
    if expires_at is not None and now >= expires_at + leeway:
        found = f"{now - expires_at:.0f} s ago; leeway is {leeway} s"
        raise InvalidTokenError(Reason.EXPIRED, found)
    if issued_at is not None and issued_at > now + leeway:
        found = f"iat is in {issued_at - now:.0f} s; leeway is {leeway} s"
        raise InvalidTokenError(Reason.NOT_YET_VALID, found)
    if not_before is not None and not_before > now + leeway:
        found = f"nbf is in {not_before - now:.0f} s; leeway is {leeway} s"
        raise InvalidTokenError(Reason.NOT_YET_VALID, found)


def _check_age(claims: Claims, terms: Terms, now: float) -> None:
    longest = terms.issuer.max_token_age
    if longest is None:
        return
    issued_at = optional_instant(claims, "iat")
    if issued_at is None or now - issued_at > longest + terms.leeway:
        age = "no iat" if issued_at is None else f"issued {now - issued_at:.0f} s ago"
        expected = f"Issuer.max_token_age is {longest} s"
        raise InvalidTokenError(Reason.EXPIRED, f"{age}; {expected}")


def check_audience(claims: Claims, terms: Terms) -> None:
    """Refuse a token for another audience. A prefix, the host or a similar name is not
    enough.

    Raises:
        InvalidTokenError: it is not.
        ValueError: ``aud`` is not of the form demanded.

    Source: RFC 9068 §4, RFC 8707 §2
    """
    issuer, resource = terms.issuer, terms.resource
    audience = read_audience(claims)
    if issuer.audience is not None:
        is_meant = any(value in issuer.audience for value in audience)
    else:
        is_meant = resource in audience or any(
            same_identifier(value, resource) for value in audience
        )
    if not is_meant:
        raise InvalidTokenError(Reason.WRONG_AUDIENCE, _wrong_audience(audience, terms))


def _wrong_audience(audience: tuple[str, ...], terms: Terms) -> str:
    found = f"aud is {repr(audience)[:200]}" if audience else "aud is missing"
    if terms.issuer.audience is not None:
        return f"{found}; expected {one_of(terms.issuer.audience)}"
    setting = "Issuer(audience=...) if its tokens call this API by another name"
    return f"{found}; expected {terms.resource!r}, or {setting}"
