"""From a token to what is remembered of it: recalled, verified, or introspected.

A token is verified once; again when its issuer's keys have changed. It is introspected
when the last answer is no longer fresh, or when a route demands it each time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from agentauth_middleware._core.issuers.introspection_messages import (
    Answer,
    check_answer,
    narrow,
)
from agentauth_middleware._core.issuers.introspector import Introspector, Question, ask
from agentauth_middleware._core.issuers.keys import keep_usable, verify
from agentauth_middleware._core.issuers.trust import TrustedIssuer
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Clock, Procedure
from agentauth_middleware._core.tokens.credential import check_form
from agentauth_middleware._core.tokens.jwt_access_token import (
    check_claims,
    check_header,
    read_token,
)
from agentauth_middleware._core.tokens.remembered import NO_KEYS, Remembered
from agentauth_middleware._core.tokens.token_claims import is_bound, read_access
from agentauth_middleware._syntax.members import parse_object
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError, UnavailableError
from agentauth_middleware.reasons import Reason


def recognise(
    state: MiddlewareState,
    token: bytes,
    digest: bytes,
    clock: Clock,
    *,
    introspect: bool,
    client: str | None,
) -> Procedure[Remembered]:
    """*token* as it is remembered, verified or introspected first where need be.

    *introspect* asks its issuer in any case; *client* is the address that it came
    from. Does not check what may change from one request to the next.

    Raises:
        InvalidRequestError: it has not the form of a token.
        InvalidTokenError: it is not good.
        TooManyRequestsError: too many bad tokens came from that address.
        UnavailableError: keys or introspection are out of reach.
    """
    remembered = state.tokens.recall(digest, state.trust, clock())
    if remembered is not None and clock() >= remembered.trusted.known_until:
        remembered = _find_issuer_again(state, remembered, clock())
    question = Question(token, digest, client)
    if remembered is None:
        check_form(token)
        trusted = state.trust.find_opaque(token)
        if trusted is not None:
            return (yield from _introspect(state, trusted, question, clock))
    elif not remembered.keys.known_since <= clock() < remembered.keys.refresh_at:
        yield from keep_usable(remembered.trusted.keys, clock)
    if remembered is None or remembered.generation != remembered.keys.generation:
        remembered = yield from _verify(state, token, digest, clock)
    if not introspect and remembered.answered_at <= clock() < remembered.ask_at:
        return remembered
    if remembered.keys is NO_KEYS:
        trusted, answered_at = remembered.trusted, remembered.answered_at
        return (yield from _introspect(state, trusted, question, clock, answered_at))
    return (yield from _confirm(state, remembered, question, clock))


def _find_issuer_again(
    state: MiddlewareState, remembered: Remembered, now: float
) -> Remembered | None:
    """*remembered*, unless its issuer has other settings by now.

    Raises:
        InvalidTokenError: the issuer is trusted no more.
        TooManyRequestsError, UnavailableError: as ``Trust.find``.
    """
    trusted = state.trust.find(remembered.access.issuer, now)
    if trusted is not remembered.trusted:
        return None
    remembered.keep_issuer()
    return remembered


def _verify(
    state: MiddlewareState, token: bytes, digest: bytes, clock: Clock
) -> Procedure[Remembered]:
    """A JWT, verified with its issuer's keys."""
    unverified = read_token(token)
    trusted = state.trust.find(unverified.issuer, clock())
    check_header(unverified, trusted.settings)
    # Read before verifying: if the keys change meanwhile, the token is verified again.
    generation = trusted.keys.generation
    # It was verified before, under keys that were fetched before the current ones.
    seen_at = -inf if state.tokens.was_verified(digest) else None
    yield from verify(trusted.keys, unverified.jws, clock, seen_at=seen_at)
    access = check_claims(unverified, trusted.terms, clock())
    must_ask = _is_always_asked(trusted) or state.tokens.is_disowned(digest)
    return state.tokens.put(
        digest,
        access,
        trusted,
        generation,
        bound=is_bound(unverified.claims),
        ask_at=-inf if must_ask else inf,
    )


def _is_always_asked(trusted: TrustedIssuer) -> bool:
    introspection = trusted.settings.introspection
    return introspection is not None and introspection.always


def _introspect(
    state: MiddlewareState,
    trusted: TrustedIssuer,
    question: Question,
    clock: Clock,
    answered_at: float = -inf,
) -> Procedure[Remembered]:
    """An opaque token, as its issuer describes it."""
    introspector, asked_at = _introspector_of(trusted), clock()
    settings, terms = introspector.settings, trusted.terms

    def check(answer: Answer) -> Access:
        return check_answer(answer, settings, terms, clock())

    access, answer = yield from _ask(
        state, introspector, question, clock, check, answered_at
    )
    return state.tokens.put(
        question.digest,
        access,
        trusted,
        None,
        bound=is_bound(answer.claims),
        ask_at=asked_at + min(settings.remember_for, answer.max_age),
        answered_at=asked_at,
    )


def _confirm(
    state: MiddlewareState, remembered: Remembered, question: Question, clock: Clock
) -> Procedure[Remembered]:
    """A JWT that was verified, if its issuer still calls it active."""
    trusted, payload = remembered.trusted, remembered.access.payload
    introspector, asked_at = _introspector_of(trusted), clock()
    signed = read_access(parse_object(payload), payload, trusted.terms)

    def check(answer: Answer) -> Access:
        return narrow(signed, answer, trusted.terms, clock())

    access, answer = yield from _ask(
        state, introspector, question, clock, check, remembered.answered_at
    )
    always = _is_always_asked(trusted)
    counts_for = min(introspector.settings.remember_for, answer.max_age)
    return state.tokens.put(
        question.digest,
        access,
        trusted,
        remembered.generation,
        bound=remembered.is_bound or is_bound(answer.claims),
        ask_at=asked_at + counts_for if always else inf,
        answered_at=asked_at,
        recallable=not always,
    )


def _ask(
    state: MiddlewareState,
    introspector: Introspector,
    question: Question,
    clock: Clock,
    check: Callable[[Answer], Access],
    answered_at: float,
) -> Procedure[tuple[Access, Answer]]:
    """As ``ask``; a token that it refuses is not good on other routes either."""
    try:
        return (
            yield from ask(
                introspector, question, clock, check, answered_at=answered_at
            )
        )
    except InvalidTokenError:
        state.tokens.disown(question.digest)
        raise


def _introspector_of(trusted: TrustedIssuer) -> Introspector:
    if trusted.introspector is None:
        raise UnavailableError(
            Reason.INTROSPECTION_NOT_CONFIGURED,
            f"Issuer({trusted.settings.issuer!r}).introspection is missing",
        )
    return trusted.introspector
