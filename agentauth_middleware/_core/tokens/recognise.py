"""From a token to what is remembered of it: recalled, verified, or asked about.

What a token says does not change, so it is verified once. Anew it is verified when its
issuer's keys have changed, and asked about when the last answer has grown old, or when
a route wants to know each time.
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
from agentauth_middleware._core.middleware_state import (
    UNSIGNED,
    MiddlewareState,
    Remembered,
)
from agentauth_middleware._core.operations import Clock, Procedure
from agentauth_middleware._core.policy.caller import refusal_of_agent
from agentauth_middleware._core.tokens.credential import check_form
from agentauth_middleware._core.tokens.jwt_access_token import (
    check_claims,
    check_header,
    read_token,
)
from agentauth_middleware._core.tokens.token_claims import (
    dies_at,
    is_bound,
    read_access,
)
from agentauth_middleware._syntax.members import parse_object
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError, UnavailableError


def recognise(
    state: MiddlewareState,
    token: bytes,
    digest: bytes,
    clock: Clock,
    *,
    anew: bool,
    client: str | None,
) -> Procedure[Remembered]:
    """*token* as it is remembered, verified or asked about first where need be.

    *anew* wants it to be asked about in any case; *client* is the address that it came
    from. Does not check what may change from one request to the next.

    Raises:
        InvalidRequestError: it has not the form of a token.
        InvalidTokenError: it is not good.
        TooManyRequestsError: too many that came from there were not.
        UnavailableError: nobody can tell at the moment.
    """
    remembered = state.at_hand.get(digest) or _recall(state, digest, clock())
    if remembered is not None and clock() >= remembered.trusted.known_until:
        remembered = _renew(state, remembered, clock())
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
    if not anew and remembered.answered_at <= clock() < remembered.ask_at:
        return remembered
    if remembered.keys is UNSIGNED:
        trusted, answered_at = remembered.trusted, remembered.answered_at
        return (yield from _introspect(state, trusted, question, clock, answered_at))
    return (yield from _confirm(state, remembered, question, clock))


def _renew(
    state: MiddlewareState, remembered: Remembered, now: float
) -> Remembered | None:
    """A token of an issuer that had to be looked up again, if that is the same.

    Raises:
        InvalidTokenError: the issuer is trusted no more.
        UnavailableError: the operator's function could not say so.
    """
    trusted = state.trust.find(remembered.access.issuer, now)
    if trusted is not remembered.trusted:
        return None
    remembered.renew()
    return remembered


def _recall(state: MiddlewareState, digest: bytes, now: float) -> Remembered | None:
    """A token that was found good and is no longer at hand; its claims are read again.

    Where the issuer's answers take away from what a JWT says, it is asked again.
    """
    kept = state.kept.get(digest)
    if kept is None:
        return None
    name, generation, payload, ask_at = kept
    trusted = state.trust.find(name, now)
    if generation not in (None, trusted.keys.generation):
        return None  # other keys, or other settings: to be verified anew
    claims = parse_object(payload)
    access = read_access(claims, payload, trusted.settings)
    bound = is_bound(claims)
    remembered = _remembered(state, access, trusted, generation, bound, ask_at=ask_at)
    state.at_hand.put(digest, remembered)
    return remembered


def _verify(
    state: MiddlewareState, token: bytes, digest: bytes, clock: Clock
) -> Procedure[Remembered]:
    """A JWT, verified with its issuer's keys."""
    unverified = read_token(token)
    trusted = state.trust.find(unverified.issuer, clock())
    check_header(unverified, trusted.settings)
    # Read first: should the keys change meanwhile, the token is forgotten at once.
    generation = trusted.keys.generation
    # Verified before: under keys that were asked for before the current ones.
    seen_at = None if state.kept.get(digest) is None else -inf
    yield from verify(trusted.keys, unverified.jws, clock, seen_at=seen_at)
    access = check_claims(unverified, trusted.terms, clock())
    ask_at = -inf if _is_always_asked(trusted) or _is_doubted(state, digest) else inf
    bound = is_bound(unverified.claims)
    remembered = _remembered(state, access, trusted, generation, bound, ask_at=ask_at)
    state.kept.put(digest, (access.issuer, generation, access.payload, ask_at))
    state.at_hand.put(digest, remembered)
    return remembered


def _is_doubted(state: MiddlewareState, digest: bytes) -> bool:
    """Whether its issuer disowned the token: other keys do not make it good again."""
    kept = state.kept.get(digest)
    return kept is not None and kept[3] == -inf


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
    ask_at = asked_at + min(settings.remember_for, answer.max_age)
    remembered = _remembered(
        state,
        access,
        trusted,
        None,
        is_bound(answer.claims),
        ask_at=ask_at,
        answered_at=asked_at,
    )
    state.kept.put(question.digest, (access.issuer, None, access.payload, ask_at))
    state.at_hand.put(question.digest, remembered)
    return remembered


def _confirm(
    state: MiddlewareState, remembered: Remembered, question: Question, clock: Clock
) -> Procedure[Remembered]:
    """A JWT that was found good, if its issuer still stands by it."""
    trusted, payload = remembered.trusted, remembered.access.payload
    introspector, asked_at = _introspector_of(trusted), clock()
    signed = read_access(parse_object(payload), payload, trusted.settings)

    def check(answer: Answer) -> Access:
        return narrow(signed, answer, trusted.terms, clock())

    access, answer = yield from _ask(
        state, introspector, question, clock, check, remembered.answered_at
    )
    counts_for = min(introspector.settings.remember_for, answer.max_age)
    confirmed = _remembered(
        state,
        access,
        trusted,
        remembered.generation,
        remembered.is_bound or is_bound(answer.claims),
        ask_at=asked_at + counts_for if _is_always_asked(trusted) else inf,
        answered_at=asked_at,
    )
    kept = (access.issuer, remembered.generation, payload, confirmed.ask_at)
    if not _is_always_asked(trusted):
        state.kept.put(question.digest, kept)
    state.at_hand.put(question.digest, confirmed)
    return confirmed


def _ask(
    state: MiddlewareState,
    introspector: Introspector,
    question: Question,
    clock: Clock,
    check: Callable[[Answer], Access],
    answered_at: float,
) -> Procedure[tuple[Access, Answer]]:
    """As ``ask``; what it refuses is not taken for good on other routes either."""
    try:
        return (
            yield from ask(
                introspector, question, clock, check, answered_at=answered_at
            )
        )
    except InvalidTokenError:
        state.doubt(question.digest)
        raise


def _introspector_of(trusted: TrustedIssuer) -> Introspector:
    if trusted.introspector is None:
        raise UnavailableError(
            "introspection_not_configured",
            f"Issuer({trusted.settings.issuer!r}).introspection is missing",
        )
    return trusted.introspector


def _remembered(
    state: MiddlewareState,
    access: Access,
    trusted: TrustedIssuer,
    generation: int | None,
    bound: bool,
    *,
    ask_at: float,
    answered_at: float = -inf,
) -> Remembered:
    """*generation* is that of the issuer's keys; ``None`` if it was asked instead."""
    return Remembered(
        state.scope_rules.apply(access, trusted.settings),
        trusted,
        dies_at=dies_at(access, trusted.terms),
        is_bound=bound,
        keys=UNSIGNED if generation is None else trusted.keys,
        generation=0 if generation is None else generation,
        ask_at=ask_at,
        answered_at=answered_at,
        actor_refusal=refusal_of_agent(access, trusted.settings),
    )
