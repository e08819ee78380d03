"""Introspection requests and answers (RFC 7662, RFC 9701).

An answer that cannot be read says nothing about the token, so it is never a verdict:
only ``{"active": false}`` is one.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import inf
from typing import NamedTuple

from agentauth_middleware._core.operations import Reply
from agentauth_middleware._core.tokens.jose import CompactJWS, parse_compact
from agentauth_middleware._core.tokens.token_claims import (
    Terms,
    check_audience,
    check_common_claims,
    check_times,
    check_use,
    read_access,
    read_client_id,
    read_scope,
    read_scopes,
    read_who,
    stated,
)
from agentauth_middleware._syntax.listing import quoted
from agentauth_middleware._syntax.members import (
    Claims,
    instant,
    is_object,
    optional_instant,
    optional_text,
    parse_document,
    parse_object,
    text,
    texts,
    without_mark,
)
from agentauth_middleware.access import Access, Identity, is_by_agent
from agentauth_middleware.errors import InvalidTokenError, UnavailableError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer

_TYPE = "token-introspection+jwt"
SIGNED = f"application/{_TYPE}"
_FRESH_FOR = 60
"""Seconds, and the leeway: an old answer might be an active one that was kept."""
ABOUT_THE_TOKEN = (
    Reason.INTROSPECTION_BAD_REQUEST,
    Reason.INTROSPECTION_FORBIDDEN,
    Reason.INTROSPECTION_UNREADABLE,
)
"""Failures that may concern one token only: its length, its kind, or the answer about
it."""
CAUSED_BY_TOKENS = (
    Reason.INTROSPECTION_BAD_REQUEST,
    Reason.INTROSPECTION_FORBIDDEN,
    Reason.INTROSPECTION_THROTTLED,
)
"""Failures that any client can bring about, with tokens of a strange form or with too
many of them."""
_FAILURES = {
    400: Reason.INTROSPECTION_BAD_REQUEST,
    413: Reason.INTROSPECTION_BAD_REQUEST,
    414: Reason.INTROSPECTION_BAD_REQUEST,
    431: Reason.INTROSPECTION_BAD_REQUEST,
    403: Reason.INTROSPECTION_FORBIDDEN,
    401: Reason.INTROSPECTION_REFUSED_US,
    404: Reason.INTROSPECTION_REFUSED_US,
    405: Reason.INTROSPECTION_REFUSED_US,
}
_SECONDS = re.compile(r"[0-9]{1,9}")
_ERROR_CODE = re.compile(rb'"error"\s*:\s*"([a-z_]{1,40})"')
_ACCESS_TOKEN_TYPES = ("bearer", "dpop", "access_token")


class Answer(NamedTuple):
    """The answer of an issuer about a token that is active."""

    claims: Claims
    payload: bytes
    """The claims as JSON."""
    max_age: float = inf
    """Seconds for which it may be used; ``inf`` if the issuer sets no limit."""


def build_form(token: bytes, settings: Introspection) -> tuple[tuple[str, str], ...]:
    """The form of the request about *token*.

    Source: RFC 7662 §2.1
    """
    return (
        ("token", token.decode("ascii")),
        ("token_type_hint", "access_token"),
        *settings.extra_parameters.items(),
    )


def check_status(reply: Reply, url: str) -> None:
    """Refuse an answer whose status says nothing about the token.

    Raises:
        UnavailableError: ``introspection_refused_us`` our credentials or the URL are
            wrong; those in ``ABOUT_THE_TOKEN``: perhaps that, or the server or a
            firewall in front of it refuses this one token; ``introspection_throttled``
            says when to ask again.

    Source: RFC 7662 §2.3
    """
    if reply.status == 200:
        return
    code = _ERROR_CODE.search(reply.body)
    told = f" {code[1].decode()}" if code else ""
    detail = f"{url} answered {reply.status}{told}"
    if reply.status == 429:
        after = reply.headers.get("retry-after", "")
        seconds = int(after) if _SECONDS.fullmatch(after) else 1
        raise UnavailableError(
            Reason.INTROSPECTION_THROTTLED, detail, retry_after=min(max(seconds, 1), 60)
        )
    reason = _FAILURES.get(reply.status, Reason.INTROSPECTION_FAILED)
    raise UnavailableError(reason, detail)


def read_answer(reply: Reply, url: str) -> Answer | None:
    """The plain JSON answer in *reply*; ``None`` if the token is not active.

    Raises:
        UnavailableError: it cannot be read.

    Source: RFC 7662 §2.2
    """
    if not reply.is_json:
        raise _unusable(url, _told_of_type(reply))
    try:
        claims = parse_document(reply.body)
    except ValueError as fault:
        raise _unusable(url, str(fault)) from None
    return _only_active(url, claims, without_mark(reply.body), _max_age(reply))


def _told_of_type(reply: Reply) -> str:
    """A program writes the answer, and knows what it writes: there is no other media
    type to put up with."""
    if reply.media_type == SIGNED:
        return "signed; say Introspection(signed=True)"
    if reply.is_page:
        return f"a page for people ({reply.media_type}), not JSON"
    return f"Content-Type is {quoted(reply.media_type)}; expected application/json"


def parse_signed_answer(reply: Reply, url: str) -> CompactJWS:
    """A signed answer, parsed. Its signature is not verified yet.

    Raises:
        UnavailableError: it is not one. A plain answer in its place proves nothing.

    Source: RFC 9701 §5
    """
    if reply.media_type != SIGNED:
        raise _unusable(url, f"not of type {SIGNED}")
    try:
        jws = parse_compact(reply.body.strip())
    except InvalidTokenError as fault:
        raise _unusable(url, str(fault)) from None
    if jws.header.type != _TYPE:
        raise _unusable(url, f"typ is {jws.header.type!r}")
    return jws


def read_signed_answer(
    jws: CompactJWS, settings: Introspection, terms: Terms, now: float
) -> Answer | None:
    """The members of an answer whose signature has been verified.

    Raises:
        UnavailableError: it is not from this issuer, not for us, or too old.

    Source: RFC 9701 §5
    """
    issuer = terms.issuer.issuer
    try:
        envelope = parse_object(jws.payload)
        if text(envelope, "iss") != issuer:
            raise ValueError(f"iss is {quoted(envelope['iss'])}; expected {issuer!r}")
        if settings.client_id not in texts(envelope, "aud"):
            found = f"aud is {repr(texts(envelope, 'aud'))[:200]}"
            raise ValueError(f"{found}; expected {settings.client_id!r}")
        if abs(now - instant(envelope, "iat")) > _FRESH_FOR + terms.leeway:
            raise ValueError("iat is not of now")
        claims = envelope.get("token_introspection")
        if not is_object(claims):
            raise ValueError("token_introspection is no object")
    except ValueError as fault:
        raise _unusable(issuer, str(fault)) from None
    return _only_active(issuer, dict(claims), json.dumps(claims).encode())


def _max_age(reply: Reply) -> float:
    """The ``max-age`` that the issuer allows. ``no-store`` is not obeyed: it is meant
    for HTTP caches, and most servers send it although answers may be kept for a while
    (RFC 7662 §4)."""
    if "no-store" in reply.headers.get("cache-control", "").lower():
        return inf
    return inf if reply.max_age is None else reply.max_age


def _only_active(
    source: str, claims: Claims, payload: bytes, max_age: float = inf
) -> Answer | None:
    active = claims.get("active")
    if not isinstance(active, bool):
        raise _unusable(source, "active is neither true nor false")
    if None in claims.values() or claims.get("aud") == []:
        claims = {
            name: value for name, value in claims.items() if _is_said(name, value)
        }
        payload = json.dumps(claims).encode()
    return Answer(claims, payload, max_age) if active else None


def _is_said(name: str, value: object) -> bool:
    """Whether a member has a value: some servers write null for an absent one, and
    Hydra an empty list of audiences. ``act`` is never passed over."""
    return (value is not None or name == "act") and not (name == "aud" and value == [])


def _unusable(source: str, fault: str) -> UnavailableError:
    return UnavailableError(
        Reason.INTROSPECTION_UNUSABLE, f"answer of {source}: {fault}"
    )


def _unreadable(source: str, fault: ValueError) -> UnavailableError:
    return UnavailableError(
        Reason.INTROSPECTION_UNREADABLE, f"answer of {source}: {fault}"
    )


def check_answer(
    answer: Answer, settings: Introspection, terms: Terms, now: float
) -> Access:
    """The ``Access`` of an opaque token that is active according to *answer*.

    Without ``sub`` it has no subject: neither ``username`` nor ``client_id`` is one.

    Raises:
        InvalidTokenError: the token is not good all the same.
        UnavailableError: the answer cannot be read.

    Source: RFC 7662 §2.2 and §4
    """
    claims, issuer = stated(answer.claims, terms.issuer), terms.issuer
    require = settings.require_audience
    try:
        _check_is_access_token(claims, issuer.issuer)
        check_common_claims(claims, terms, now, require_audience=require)
        return read_access(claims, answer.payload, terms)
    except ValueError as fault:
        raise _unreadable(issuer.issuer, fault) from None


def narrow(access: Access, answer: Answer, terms: Terms, now: float) -> Access:
    """The *access* of a JWT, limited by its issuer's *answer*.

    An answer can take away and never add: the rest is in the signed token, and an
    answer need not have any member but ``active``. Where both name actors, or say how
    the user signed in, the stricter reading counts.

    Raises:
        InvalidTokenError: the answer is about another subject, client or actor, or the
            token is not good all the same.
        UnavailableError: the answer cannot be read.
    """
    claims, issuer = stated(answer.claims, terms.issuer), terms.issuer
    try:
        _check_is_access_token(claims, issuer.issuer)
        check_times(claims, terms.leeway, now)
        if "aud" in claims:
            check_audience(claims, terms)
        named = (
            (optional_text(claims, "sub"), access.subject),
            (read_client_id(claims, issuer), access.client_id),
            (optional_text(claims, "jti"), access.token_id),
        )
        told_scopes = read_scopes(claims, issuer) | read_scope(claims, issuer)
        expires_at = optional_instant(claims, "exp")
        auth_time = optional_instant(claims, "auth_time")
        acr = optional_text(claims, "acr")
        who = _stricter_identity(access, claims, issuer)
    except ValueError as fault:
        raise _unreadable(issuer.issuer, fault) from None
    for name, (said, signed) in zip(("sub", "client", "jti"), named, strict=True):
        if said not in (None, signed):
            found = f"{name} of the answer is not that of the token"
            raise InvalidTokenError(Reason.INTROSPECTION_MISMATCH, found)
    states_scopes = any(name in claims for name in (*issuer.scope_claims, "scope"))
    ends = [end for end in (access.expires_at, expires_at) if end is not None]
    return replace(
        access,
        scopes=access.scopes & told_scopes if states_scopes else access.scopes,
        expires_at=min(ends, default=None),
        user=who.user,
        agent=who.agent,
        chain=who.chain,
        mode=who.mode,
        auth_time=_earlier(access.auth_time, auth_time),
        # Values of ``acr`` have no order: if two differ, neither is proven.
        acr=access.acr if acr in (None, access.acr) else None,
    )


def _earlier(signed: float | None, told: float | None) -> float | None:
    """The earlier of two instants; ``None`` if the token has none."""
    return signed if signed is None or told is None else min(signed, told)


def _stricter_identity(access: Access, claims: Claims, issuer: Issuer) -> Identity:
    """The identity of a signed token, together with the *claims* of the answer.

    Raises:
        InvalidTokenError: the two cannot both be true.
        ValueError: a claim is malformed.
    """
    signed = Identity(access.mode, access.user, access.agent, access.chain)
    said = {name: value for name, value in claims.items() if value not in _SAYS_NOTHING}
    told = read_who(stated({**access.claims, **said}, issuer), issuer, access.client_id)
    if told == signed:
        return signed
    by_agent = [is_by_agent(one) for one in (signed, told)]
    if all(by_agent) and signed.agent != told.agent:
        raise InvalidTokenError(Reason.INTROSPECTION_MISMATCH, "of another actor")
    if by_agent[0] != by_agent[1]:
        return signed if by_agent[0] else told
    if signed.user is None or told.user is None:
        return signed if signed.user is None else told
    if signed.user != told.user:
        raise InvalidTokenError(Reason.INTROSPECTION_MISMATCH, "of another user")
    return max(signed, told, key=lambda one: len(one.chain))


_SAYS_NOTHING: tuple[object, ...] = (None, "", [])


def _check_is_access_token(claims: Claims, issuer: str) -> None:
    """Whether the answer is about an access token, and one of *issuer*."""
    if claims.get("iss", issuer) != issuer:
        found = f"iss of the answer is {quoted(claims['iss'])}; expected {issuer!r}"
        raise InvalidTokenError(Reason.WRONG_ISSUER, found)
    token_type = claims.get("token_type", "bearer")
    if not isinstance(token_type, str):
        raise ValueError("token_type is no text")
    if token_type.lower() not in _ACCESS_TOKEN_TYPES:
        found = f"token_type is {quoted(token_type)}; expected 'Bearer' or 'DPoP'"
        raise InvalidTokenError(Reason.WRONG_TOKEN_TYPE, found)
    check_use(claims)
