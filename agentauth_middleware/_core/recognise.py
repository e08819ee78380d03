"""From a token to what is remembered of it: recalled, verified, or asked about.

What a token says does not change, so it is verified once. Anew it is verified when its
issuer's keys have changed, and asked about when the last answer has grown old, or when
a route wants to know each time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from agentauth_middleware._core.access_token import (
    check_header,
    check_token,
    read_token,
)
from agentauth_middleware._core.active import Introspector, ask, note_inactive
from agentauth_middleware._core.claims import parse_object
from agentauth_middleware._core.credential import check_form
from agentauth_middleware._core.gate import UNSIGNED, Gate, Remembered
from agentauth_middleware._core.introspection import Answer, check_answer, narrow
from agentauth_middleware._core.keys import find_keys, keep_usable
from agentauth_middleware._core.operations import Procedure
from agentauth_middleware._core.policy import refusal_of_agent
from agentauth_middleware._core.token_claims import dies_at, is_bound, read_access
from agentauth_middleware._core.trust import TrustedIssuer
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError, UnavailableError

Clock = Callable[[], float]


def recognise(
    gate: Gate,
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
    remembered = gate.remembered.get(digest) or _recall(gate, digest, clock())
    question = _Question(token, digest, client)
    if remembered is None:
        check_form(token)
        issuer = gate.trust.find_opaque(token)
        if issuer is not None:
            return (yield from _introspect(gate, issuer, question, clock, -inf))
    elif clock() >= remembered.keys.refresh_at:
        yield from keep_usable(remembered.issuer.keys, clock)
    if remembered is None or remembered.generation != remembered.keys.generation:
        remembered = yield from _verify(gate, token, digest, clock)
    if anew or clock() >= remembered.ask_at:
        remembered = yield from _ask_again(gate, remembered, question, clock)
    return remembered


class _Question(NamedTuple):
    """A token to be asked about, and the address that it came from."""

    token: bytes
    digest: bytes
    client: str | None


def _recall(gate: Gate, digest: bytes, now: float) -> Remembered | None:
    """A token that was found good and is no longer at hand; its claims are read again.

    Where the issuer's answers take away from what a JWT says, it is asked again.
    """
    verified = gate.verified.get(digest)
    if verified is None:
        return None
    name, generation, payload, ask_at = verified
    issuer = gate.trust.find(name, now)
    claims = parse_object(payload)
    access = read_access(claims, payload, issuer.issuer)
    bound = is_bound(claims)
    remembered = _remembered(gate, access, issuer, generation, bound, ask_at=ask_at)
    gate.remembered.put(digest, remembered)
    return remembered


def _verify(
    gate: Gate, token: bytes, digest: bytes, clock: Clock
) -> Procedure[Remembered]:
    """A JWT, verified with its issuer's keys."""
    unverified = read_token(token)
    issuer = gate.trust.find(unverified.issuer, clock())
    check_header(unverified, issuer.issuer)
    # Read first: should the keys change meanwhile, the token is forgotten at once.
    generation = issuer.keys.generation
    candidates = yield from find_keys(issuer.keys, unverified.jws.header, clock)
    access = check_token(
        unverified,
        candidates,
        issuer.issuer,
        resource=gate.server.resource,
        leeway=issuer.leeway,
        now=clock(),
    )
    ask_at = -inf if _is_always_asked(issuer) else inf
    bound = is_bound(unverified.claims)
    remembered = _remembered(gate, access, issuer, generation, bound, ask_at=ask_at)
    gate.verified.put(digest, (access.issuer, generation, access.payload, ask_at))
    gate.remembered.put(digest, remembered)
    return remembered


def _is_always_asked(issuer: TrustedIssuer) -> bool:
    introspection = issuer.issuer.introspection
    return introspection is not None and introspection.always


def _introspect(
    gate: Gate,
    issuer: TrustedIssuer,
    question: _Question,
    clock: Clock,
    answered_at: float,
) -> Procedure[Remembered]:
    """An opaque token, as its issuer describes it."""
    asked_at = clock()
    introspector, answer = yield from _ask(issuer, question, clock, answered_at)
    try:
        access = check_answer(
            answer,
            issuer.issuer,
            introspector.settings,
            resource=gate.server.resource,
            leeway=issuer.leeway,
            now=clock(),
        )
    except InvalidTokenError:
        note_inactive(introspector, question.digest, clock())
        raise
    ask_at = asked_at + min(introspector.settings.remember_for, answer.max_age)
    remembered = _remembered(
        gate,
        access,
        issuer,
        None,
        is_bound(answer.claims),
        ask_at=ask_at,
        answered_at=asked_at,
    )
    entry = (access.issuer, None, access.payload, ask_at)
    gate.verified.put(question.digest, entry)
    gate.remembered.put(question.digest, remembered)
    return remembered


def _ask_again(
    gate: Gate, remembered: Remembered, question: _Question, clock: Clock
) -> Procedure[Remembered]:
    """A token that was found good, if its issuer still stands by it."""
    issuer, answered_at = remembered.issuer, remembered.answered_at
    if remembered.keys is UNSIGNED:
        return (yield from _introspect(gate, issuer, question, clock, answered_at))
    asked_at = clock()
    introspector, answer = yield from _ask(issuer, question, clock, answered_at)
    payload = remembered.access.payload
    try:
        access = narrow(
            read_access(parse_object(payload), payload, issuer.issuer),
            answer,
            issuer.issuer,
            resource=gate.server.resource,
            leeway=issuer.leeway,
            now=clock(),
        )
    except InvalidTokenError:
        note_inactive(introspector, question.digest, clock())
        raise
    counts_for = min(introspector.settings.remember_for, answer.max_age)
    confirmed = _remembered(
        gate,
        access,
        issuer,
        remembered.generation,
        remembered.is_bound or is_bound(answer.claims),
        ask_at=asked_at + counts_for if _is_always_asked(issuer) else inf,
        answered_at=asked_at,
    )
    gate.remembered.put(question.digest, confirmed)
    return confirmed


def _ask(
    issuer: TrustedIssuer, question: _Question, clock: Clock, answered_at: float
) -> Procedure[tuple[Introspector, Answer]]:
    introspector = issuer.introspector
    if introspector is None:
        raise UnavailableError(
            "introspection_not_configured",
            f"Issuer({issuer.issuer.issuer!r}).introspection is missing",
        )
    answer = yield from ask(
        introspector,
        question.token,
        question.digest,
        clock,
        answered_at=answered_at,
        client=question.client,
    )
    return introspector, answer


def _remembered(
    gate: Gate,
    access: Access,
    issuer: TrustedIssuer,
    generation: int | None,
    bound: bool,
    *,
    ask_at: float,
    answered_at: float = -inf,
) -> Remembered:
    """*generation* is that of the issuer's keys; ``None`` if it was asked instead."""
    return Remembered(
        gate.scope_rules.apply(access, issuer.issuer),
        issuer,
        dies_at=dies_at(access, issuer.leeway),
        is_bound=bound,
        keys=UNSIGNED if generation is None else issuer.keys,
        generation=0 if generation is None else generation,
        ask_at=ask_at,
        answered_at=answered_at,
        actor_refusal=refusal_of_agent(access, issuer.issuer),
    )
