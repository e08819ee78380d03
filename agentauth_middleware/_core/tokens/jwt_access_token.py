"""JWT access tokens (RFC 9068): what is checked before access is granted.

Split in two because a key may have to be fetched in between: ``read_token`` does all
that needs no key, ``check_claims`` all that needs a good signature.

An issuer whose tokens are not of type ``at+jwt`` is trusted to sign many kinds of
JWT. Those are told apart by what they carry: first by the marks of the other kinds,
then by one of the marks that an access token must have (RFC 8725 §3.12).
"""

from __future__ import annotations

from typing import NamedTuple

from agentauth_middleware._core.tokens.jose import CompactJWS, parse_compact
from agentauth_middleware._core.tokens.token_claims import (
    Terms,
    check_common_claims,
    check_use,
    read_access,
    read_audience,
    stated,
)
from agentauth_middleware._syntax.listing import one_of
from agentauth_middleware._syntax.members import (
    Claims,
    parse_object,
    text,
)
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import KNOWN_ALGORITHMS, Issuer

_TYPE = "at+jwt"
MAX_CONTAINERS = 512
"""Objects and arrays: more than any issuer's roles and details need. They cost far more
to parse than their length, and the signature is not checked yet."""
_TYPES_OF_OTHER_KINDS = frozenset(
    {
        "client-authentication+jwt",
        "dpop+jwt",
        "logout+jwt",
        "oauth-authz-req+jwt",
        "oauth-id-jag+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "token-introspection+jwt",
        "txntoken+jwt",
    }
)
_MARKS_OF_OTHER_KINDS = ("events", "token_introspection", "htm", "htu")
"""Security events and logout tokens, introspection answers, DPoP proofs."""
_MARKS_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash")
_MARKS_OF_ACCESS_TOKENS = ("scope", "scp", "permissions")
_CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
"""Where issuers name the client."""
_MARKS_OF_PROFILES = frozenset(
    {"email", "email_verified", "name", "picture", "preferred_username"}
)
"""Claims about people, for clients that they sign in to (OpenID Connect Core §5.1)."""


class UnverifiedToken(NamedTuple):
    """A token of the right form whose signature has not been checked."""

    jws: CompactJWS
    claims: Claims
    issuer: str


def read_token(token: bytes) -> UnverifiedToken:
    """Parse *token* as far as needed to find its issuer.

    Raises:
        InvalidTokenError: it is not a JWT with an issuer, or of a kind that is never an
            access token.

    Source: RFC 7519 §7.2, RFC 8725 §3.11
    """
    if b"." not in token:
        found = "no JWT; Issuer(introspection=...) if its issuer's tokens are opaque"
        raise InvalidTokenError(Reason.MALFORMED, found)
    jws = parse_compact(token)
    if jws.header.type in _TYPES_OF_OTHER_KINDS:
        found = f"typ is {jws.header.type!r}, which is never an access token"
        raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, found)
    try:
        claims = parse_object(jws.payload, max_containers=MAX_CONTAINERS)
        issuer = text(claims, "iss")
    except ValueError as fault:
        raise InvalidTokenError(Reason.MALFORMED, str(fault)) from None
    return UnverifiedToken(jws, claims, issuer)


def check_header(token: UnverifiedToken, issuer: Issuer) -> None:
    """Refuse a kind of token or an algorithm that *issuer* does not use.

    Before any key is looked for.

    Source: RFC 9068 §4, RFC 8725 §3.1 and §3.11
    """
    header = token.jws.header
    if header.type not in issuer.token_types:
        raise InvalidTokenError(
            Reason.WRONG_TOKEN_TYPE, _wrong_type(header.type, issuer)
        )
    if header.algorithm not in issuer.algorithms:
        found = _wrong_algorithm(header.algorithm, issuer)
        raise InvalidTokenError(Reason.ALG_NOT_ALLOWED, found)


def _wrong_type(found: str | None, issuer: Issuer) -> str:
    told = "typ is missing" if found is None else f"typ is {found!r}"
    told = f"{told}; expected {one_of(issuer.token_types)}"
    if found not in (None, "jwt", _TYPE):
        return told
    name = {"jwt": "JWT"}.get(found, found) if found is not None else None
    names = ["JWT" if kind == "jwt" else kind for kind in issuer.token_types]
    return f"{told}; Issuer(token_types={[*names, name]}) if its access tokens are so"


def _wrong_algorithm(found: str, issuer: Issuer) -> str:
    told = f"alg is {found!r}; expected {one_of(issuer.algorithms)}"
    if found not in KNOWN_ALGORITHMS:
        return told
    return f"{told}; add it to Issuer.algorithms if this issuer signs so"


def check_claims(token: UnverifiedToken, terms: Terms, now: float) -> Access:
    """The ``Access`` of *token*, whose signature has been verified. Does not check the
    signature, revocation, scopes or any policy, nor whether it is bound to a key.

    Raises:
        InvalidTokenError: it is not good.

    Source: RFC 9068 §4
    """
    claims, issuer = stated(token.claims, terms.issuer), terms.issuer
    _check_kind(token.claims)
    try:
        if token.jws.header.type != _TYPE:
            _check_is_access_token(claims, issuer)
        _check_required(claims, issuer)
        check_common_claims(
            claims, terms, now, require_audience=issuer.require_audience
        )
        return read_access(claims, token.jws.payload, terms)
    except ValueError as fault:
        raise InvalidTokenError(Reason.MALFORMED, str(fault)) from None


def _check_kind(claims: Claims) -> None:
    """Refuse what another kind of token carries, whatever its ``typ``.

    Source: RFC 8725 §3.12
    """
    for mark in _MARKS_OF_OTHER_KINDS:
        if mark in claims:
            raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, f"has {mark}")


def _check_is_access_token(claims: Claims, issuer: Issuer) -> None:
    """Tell an access token by its claims, where ``typ`` does not.

    An ID token may carry almost all claims of an access token, but its audience is a
    client, and it has claims about the sign-in.
    """
    check_use(claims)
    for mark in _MARKS_OF_ID_TOKENS:
        if mark in claims and not (mark == "nonce" and issuer.allow_nonce):
            raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, _has(mark))
    marks = (*_MARKS_OF_ACCESS_TOKENS, *issuer.scope_claims)
    if any(mark in claims for mark in marks):
        return
    if not _MARKS_OF_PROFILES.isdisjoint(claims):
        raise InvalidTokenError(
            Reason.WRONG_TOKEN_TYPE, "tells about a person, no scope"
        )
    clients = {text(claims, name) for name in issuer.client_id_claims if name in claims}
    if not clients or not clients.isdisjoint(read_audience(claims)):
        raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, "no mark of an access token")


def _has(mark: str) -> str:
    told = f"has {mark}"
    if mark != "nonce":
        return told
    return f"{told}; Issuer(allow_nonce=True) if its access tokens have it"


def _check_required(claims: Claims, issuer: Issuer) -> None:
    """Source: RFC 9068 §2.2"""
    for name in ("exp", "iat", "sub"):
        if name not in claims:
            raise ValueError(f"{name} is missing")
    if issuer.require_jti and "jti" not in claims:
        raise ValueError("jti is missing; Issuer(require_jti=False) if it always is")
    if issuer.require_jti:
        text(claims, "jti")
    if issuer.require_client_id and claims.keys().isdisjoint(issuer.client_id_claims):
        raise ValueError(_names_no_client(claims, issuer))


def _names_no_client(claims: Claims, issuer: Issuer) -> str:
    found = f"names no client in {one_of(issuer.client_id_claims)}"
    elsewhere = [name for name in _CLIENT_CLAIMS if name in claims]
    if not elsewhere:
        return f"{found}; Issuer(require_client_id=False) if its tokens never do"
    return f"{found}; Issuer(client_id_claims={elsewhere[:1]}) if that is the client"
