"""Asking an issuer whether a token is still active, as rarely and safely as may be.

* All who ask about one token at once share one exchange.
* A verdict that it is not good counts ten seconds. Those are kept apart, so that junk
  cannot push out what is good.
* An address that sends many tokens that are not good is answered 429 for a while.
  Exchanges that it has begun count as if they had ended badly already.
* Only so many exchanges run at a time. An address that runs one gets another only while
  less than half of the places are taken; a request without a place gets a 429 at once.
* What strangers can bring about is a 429 too: that the issuer refuses to talk about a
  token of a strange form, or wants fewer questions.
* After five failures in a row no one asks for five seconds, and then one request does
  first. What may be about one token alone is no failure.

Nothing in here makes a verdict out of a failure: what cannot be asked is a 429 or 503.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import ceil, inf
from typing import NamedTuple, TypeAlias

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.issuers.discovery import Discovery, discover, time_left
from agentauth_middleware._core.issuers.introspection_messages import (
    ABOUT_THE_TOKEN,
    CAUSED_BY_TOKENS,
    SIGNED,
    Answer,
    build_form,
    check_status,
    parse_signed_answer,
    read_answer,
    read_signed_answer,
)
from agentauth_middleware._core.issuers.keys import IssuerKeys, verify
from agentauth_middleware._core.operations import Clock, Fetch, Procedure, Reply
from agentauth_middleware._core.throttles import Budgets, Failures, SharedSlots, Slots
from agentauth_middleware._core.tokens.token_claims import Terms
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.introspection import Introspection

_MAX_BYTES = 64 * 1024
_REFUSED_FOR = 10.0
_REFUSED_TOKENS = 10_000
_MAX_DETAIL = 300
"""How much of what was found about a refused token is kept for the log."""
_ADDRESSES = 4096
_FAILURES_IN_A_ROW = 5
_HOLD_OFF = 5.0
_LONGEST_HOLD_OFF = 60.0
_TRANSIENT = (502, 503, 504)


_Refused: TypeAlias = tuple[float, str, str]
"""Until when, the reason, and what was found and expected."""
_NOT_REFUSED: _Refused = (-inf, "", "")


class Introspector:
    """One issuer that can be asked, as one middleware knows it."""

    def __init__(
        self,
        settings: Introspection,
        terms: Terms,
        keys: IssuerKeys,
        discovery: Discovery,
    ) -> None:
        self.settings = settings
        self.terms = terms
        self.keys = keys
        """For signed answers."""
        self.discovery = discovery
        self.name = terms.issuer.issuer
        self.authentication = settings.authentication(self.name)
        self.refused: BoundedMap[bytes, _Refused] = BoundedMap(_REFUSED_TOKENS)
        """By hash: until when a token counts as not good, and why it does."""
        self.budgets = Budgets(settings.inactive_per_minute, 60.0, _ADDRESSES)
        self.exchanges = SharedSlots(settings.max_concurrent)
        self.probe = Slots(1)
        self.held_off_until = -inf
        self.is_throttled = False
        """Whether it is held off because the issuer wants fewer questions."""
        self.failures = Failures()

    def count_failure(self, flight: str, failure: UnavailableError, now: float) -> None:
        """Count a failed exchange, once for all who shared it."""
        is_about_token = failure.reason in ABOUT_THE_TOKEN
        if not self.failures.add(flight, in_a_row=not is_about_token):
            return
        if is_about_token:
            self.failures.end_row()  # one client must not stop all others
        elif failure.reason == Reason.INTROSPECTION_THROTTLED:
            self.held_off_until = now + failure.retry_after
            self.is_throttled = True
        elif self.is_failing:
            self.held_off_until = now + _HOLD_OFF
            self.is_throttled = False

    def refuse(
        self, digest: bytes, since: float, verdict: InvalidTokenError, now: float
    ) -> bool:
        """Let nobody ask about a token for a while that is not good.

        Whether that is news to who knew that it was refused until *since*: others may
        have shared the answer.
        """
        until, *_ = self.refused.get(digest) or _NOT_REFUSED
        refused = (now + _REFUSED_FOR, verdict.reason, str(verdict)[:_MAX_DETAIL])
        self.refused.put(digest, refused)
        return until == since

    @property
    def is_failing(self) -> bool:
        """Whether the last exchanges failed, so that one has to be tried first."""
        return self.failures.in_a_row >= _FAILURES_IN_A_ROW


class Question(NamedTuple):
    """A token that its issuer has to be asked about."""

    token: bytes
    digest: bytes
    client: str | None
    """The address that it came from, if it came from one."""

    def __repr__(self) -> str:
        # Without the token, which must not get into tracebacks.
        return f"Question(client={self.client!r})"


def ask(
    state: Introspector,
    question: Question,
    clock: Clock,
    check: Callable[[Answer], Access],
    *,
    answered_at: float,
) -> Procedure[tuple[Access, Answer]]:
    """The ``Access`` of a token that is active and that *check* accepts, and the
    answer.

    *answered_at* is when it was last found active; a request after that is a new
    exchange.

    Raises:
        InvalidTokenError: it is not active, or not good.
        TooManyRequestsError: too many tokens from that address were not good.
        UnavailableError: the issuer does not answer.
    """
    now = clock()
    refused_until, reason, detail = state.refused.get(question.digest) or _NOT_REFUSED
    if now < refused_until <= now + _REFUSED_FOR:
        raise InvalidTokenError(reason, detail)
    address = None if question.client is None else block_of(question.client)
    # After a failure, another verdict or another answer it is another exchange.
    attempt = f"{state.failures.in_all} {refused_until} {answered_at}"
    flight = f"{state.name} {question.digest.hex()} {attempt}"
    if address is not None:
        _check_budget(state, address, flight, now)
    try:
        answer = yield from _in_turn(state, question.token, flight, address, clock)
        if answer is None:
            asked = f"{state.name} says so to {state.settings.client_id!r}"
            raise InvalidTokenError(Reason.INACTIVE_TOKEN, asked)
        access = check(answer)
    except InvalidTokenError as verdict:
        state.failures.end_row()
        is_news = state.refuse(question.digest, refused_until, verdict, clock())
        if is_news and address is not None:
            state.budgets.spend(address, clock())
        raise
    except UnavailableError as failure:
        if failure.reason in ABOUT_THE_TOKEN:
            state.count_failure(flight, failure, clock())
            if address is not None:
                state.budgets.spend(address, clock())
        if failure.reason in CAUSED_BY_TOKENS:
            raise TooManyRequestsError(
                failure.reason, str(failure), retry_after=failure.retry_after
            ) from failure
        raise
    state.failures.end_row()
    return access, answer


def _check_budget(state: Introspector, address: str, flight: str, now: float) -> None:
    """Refuse an address with too many tokens that were not good, counting those that
    are being asked about.

    Raises:
        TooManyRequestsError: it has.
    """
    begun = state.exchanges.opened_by(address, but=flight)
    if not state.budgets.has_left(address, now, beside=begun):
        wait = ceil(60 / state.settings.inactive_per_minute)
        raise TooManyRequestsError(Reason.TOO_MANY_INACTIVE, retry_after=wait)


def block_of(client: str) -> str:
    """The block of addresses that counts as one client: of IPv6 a /64, since every
    client has at least that many."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(int(address) >> 64)
    return str(address)


def _in_turn(
    state: Introspector, token: bytes, flight: str, opener: str | None, clock: Clock
) -> Procedure[Answer | None]:
    """Ask, unless too many exchanges run already or the issuer is held off."""
    _refuse_while_held_off(state, clock())
    if not state.exchanges.take(flight, opener):
        raise TooManyRequestsError(
            Reason.INTROSPECTION_BUSY, f"at {state.name}", retry_after=1
        )
    try:
        if not state.is_failing:
            answer = yield from _exchange(state, token, flight, clock)
        elif not state.probe.take():
            raise UnavailableError(
                Reason.INTROSPECTION_HELD_OFF, f"at {state.name}", retry_after=1
            )
        else:
            try:
                answer = yield from _exchange(state, token, flight, clock)
            finally:
                state.probe.give_back()
    finally:
        state.exchanges.give_back(flight)
    return answer


def _refuse_while_held_off(state: Introspector, now: float) -> None:
    """
    Raises:
        TooManyRequestsError: its server wants fewer questions.
        UnavailableError: it has failed several times in a row.
    """
    if not now < state.held_off_until <= now + _LONGEST_HOLD_OFF:
        return
    wait = ceil(state.held_off_until - now)
    reason, detail = Reason.INTROSPECTION_HELD_OFF, f"at {state.name}"
    if state.is_throttled:
        raise TooManyRequestsError(reason, detail, retry_after=wait)
    raise UnavailableError(reason, detail, retry_after=wait)


def _exchange(
    state: Introspector, token: bytes, flight: str, clock: Clock
) -> Procedure[Answer | None]:
    deadline = clock() + state.settings.timeout
    try:
        url, is_foreign = yield from _find_endpoint(state, clock, deadline)

        def post(name: str) -> Procedure[Reply]:
            reply = yield from Fetch(
                url,
                name,
                time_left(url, clock, deadline),
                _MAX_BYTES,
                issuer=state.name,
                accept=SIGNED if state.settings.signed else "application/json",
                form=build_form(token, state.settings),
                authentication=state.authentication,
                public_only=is_foreign,
            )
            return reply

        reply = yield from _try_twice(post, flight)
        check_status(reply, url)
        answer = yield from _read(state, reply, url, clock)
    except UnavailableError as failure:
        state.count_failure(flight, failure, clock())
        raise
    return answer


def _try_twice(
    post: Callable[[str], Procedure[Reply]], flight: str
) -> Procedure[Reply]:
    """A reply, with a second attempt if the connection failed."""
    try:
        reply = yield from post(flight)
    except UnavailableError as failure:
        if failure.reason != Reason.UPSTREAM_UNREACHABLE:
            raise
    else:
        if reply.status not in _TRANSIENT:
            return reply
    return (yield from post(f"{flight} again"))


def _find_endpoint(
    state: Introspector, clock: Clock, deadline: float
) -> Procedure[tuple[str, bool]]:
    """The URL, and whether it was learned from the issuer's metadata and has another
    origin."""
    if state.settings.endpoint is not None:
        return state.settings.endpoint, False
    mark = f"introspection {state.failures.in_all}"
    found = yield from discover(state.discovery, mark, clock, deadline)
    if found.introspection_endpoint is None:
        state.discovery.forget()
        raise UnavailableError(
            Reason.METADATA_UNUSABLE,
            f"{state.name} names no introspection_endpoint that may be used (https?)",
        )
    is_foreign = state.discovery.is_foreign(found.introspection_endpoint)
    return found.introspection_endpoint, is_foreign


def _read(
    state: Introspector, reply: Reply, url: str, clock: Clock
) -> Procedure[Answer | None]:
    """The answer in *reply*; its signature is verified if the settings demand one."""
    if not state.settings.signed:
        return read_answer(reply, url)
    jws = parse_signed_answer(reply, url)
    if jws.header.algorithm not in state.terms.issuer.algorithms:
        raise UnavailableError(
            Reason.INTROSPECTION_UNUSABLE, f"answer of {url}: alg is not allowed"
        )
    try:
        yield from verify(state.keys, jws, clock)
    except InvalidTokenError as fault:
        # The signature of the answer is wrong. That says nothing about the token.
        raise UnavailableError(
            Reason.INTROSPECTION_UNUSABLE, f"answer of {url}: {fault.reason}"
        ) from fault
    return read_signed_answer(jws, state.settings, state.terms, clock())
