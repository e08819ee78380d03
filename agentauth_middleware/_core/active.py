"""Is a token still active? Its issuer is asked, as rarely and as safely as possible.

* All who ask about one token at once share one exchange.
* An answer that it is inactive counts ten seconds. Those are kept apart, so that junk
  cannot push out what is good.
* Whoever sends many inactive tokens from one address is answered 429 for a while:
  their junk must not keep the issuer, or us, from answering others.
* Only so many exchanges run at a time; who would be one too many gets a 503 at once.
* After five failures in a row nobody asks for five seconds, and then one does first.
  That a token is inactive is no failure.

Nothing in here makes a verdict out of a failure: what cannot be asked is a 503.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import ceil, inf

from agentauth_middleware._core.cache import BoundedMap, Budgets, NamedSlots, Slots
from agentauth_middleware._core.discovery import Discovery, discover
from agentauth_middleware._core.introspection import (
    SIGNED,
    Answer,
    build_form,
    check_status,
    parse_signed_answer,
    read_answer,
    read_signed_answer,
)
from agentauth_middleware._core.jose import verify_signature
from agentauth_middleware._core.keys import IssuerKeys, find_keys
from agentauth_middleware._core.operations import Fetch, Procedure, Reply
from agentauth_middleware.errors import (
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.issuer import Introspection, Issuer

Clock = Callable[[], float]

_MAX_BYTES = 64 * 1024
_INACTIVE_FOR = 10.0
_INACTIVE_TOKENS = 10_000
_ADDRESSES = 4096
_FAILURES_IN_A_ROW = 5
_HOLD_OFF = 5.0
_TRANSIENT = (502, 503, 504)


class Introspector:
    """One issuer that can be asked, as one door knows it."""

    def __init__(
        self,
        issuer: Issuer,
        settings: Introspection,
        keys: IssuerKeys,
        discovery: Discovery,
        leeway: int,
    ) -> None:
        self.issuer = issuer
        self.settings = settings
        self.keys = keys
        """For signed answers."""
        self.discovery = discovery
        self.leeway = leeway
        self.authentication = settings.authentication(issuer.issuer)
        self.inactive: BoundedMap[bytes, float] = BoundedMap(_INACTIVE_TOKENS)
        """By hash: until when a token counts as not good."""
        self.budgets = Budgets(settings.inactive_per_minute, 60.0, _ADDRESSES)
        self.exchanges = NamedSlots(settings.max_concurrent)
        self.probe = Slots(1)
        self.held_off_until = -inf
        self._failures = 0
        self.failed = 0
        """How many exchanges have failed at all; the next is another one than those."""
        self._last_failed: str | None = None

    def count_failure(self, flight: str, failure: UnavailableError, now: float) -> None:
        """Count a failed exchange, once for all who shared it."""
        if flight == self._last_failed:
            return
        self._last_failed = flight
        self.failed += 1
        if failure.reason == "introspection_bad_request":
            return  # about one token, perhaps: who holds it must not stop all others
        self._failures += 1
        if failure.reason == "introspection_throttled":
            self.held_off_until = now + failure.retry_after
        elif self._failures >= _FAILURES_IN_A_ROW:
            self.held_off_until = now + _HOLD_OFF

    def count_success(self) -> None:
        self._failures = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last exchanges failed, so that one has to be tried first."""
        return self._failures >= _FAILURES_IN_A_ROW


def ask(
    state: Introspector,
    token: bytes,
    digest: bytes,
    clock: Clock,
    *,
    answered_at: float,
    client: str | None,
) -> Procedure[Answer]:
    """What its issuer says about *token*, which it calls active.

    *answered_at* is when it was last called so: another instant, another exchange.
    *client* is the address that the request came from, if it came from one.

    Raises:
        InvalidTokenError: it is not active.
        TooManyRequestsError: too many tokens from *client* were not.
        UnavailableError: nobody can tell at the moment.
    """
    now = clock()
    until = state.inactive.get(digest) or -inf
    if now < until <= now + _INACTIVE_FOR:
        raise InvalidTokenError("inactive_token")
    address = None if client is None else block_of(client)
    if address is not None and not state.budgets.has_left(address, now):
        wait = ceil(60 / state.settings.inactive_per_minute)
        raise TooManyRequestsError("too_many_inactive", retry_after=wait)
    # After a failure, another verdict or another answer it is another exchange.
    name = f"{state.issuer.issuer} {digest.hex()} {state.failed} {until} {answered_at}"
    answer = yield from _in_turn(state, token, name, clock)
    if answer is None:
        is_first = state.inactive.get(digest) in (None, until)
        if is_first and address is not None:
            state.budgets.spend(address, clock())
        note_inactive(state, digest, clock())
        raise InvalidTokenError("inactive_token")
    return answer


def note_inactive(state: Introspector, digest: bytes, now: float) -> None:
    """Let nobody ask about a token for a while that is not good."""
    state.inactive.put(digest, now + _INACTIVE_FOR)


def block_of(client: str) -> str:
    """Whom an address stands for: of IPv6, everybody has a whole network (a /64)."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(int(address) >> 64)
    return str(address)


def _in_turn(
    state: Introspector, token: bytes, flight: str, clock: Clock
) -> Procedure[Answer | None]:
    """Ask, unless too many do already or it would be in vain."""
    now = clock()
    if now < state.held_off_until <= now + 60:
        wait = ceil(state.held_off_until - now)
        raise UnavailableError("introspection_held_off", retry_after=wait)
    if not state.exchanges.take(flight):
        raise UnavailableError("introspection_busy", retry_after=1)
    try:
        if not state.is_failing:
            answer = yield from _exchange(state, token, flight, clock)
        elif not state.probe.take():
            raise UnavailableError("introspection_held_off", retry_after=1)
        else:
            try:
                answer = yield from _exchange(state, token, flight, clock)
            finally:
                state.probe.give_back()
    finally:
        state.exchanges.give_back(flight)
    return answer


def _exchange(
    state: Introspector, token: bytes, flight: str, clock: Clock
) -> Procedure[Answer | None]:
    deadline = clock() + state.settings.timeout
    try:
        reply = yield from _post(state, token, flight, clock, deadline)
        check_status(reply)
        answer = yield from _read(state, reply, clock)
    except UnavailableError as failure:
        state.count_failure(flight, failure, clock())
        raise
    state.count_success()
    return answer


def _post(
    state: Introspector, token: bytes, flight: str, clock: Clock, deadline: float
) -> Procedure[Reply]:
    """The issuer's reply, with a second attempt where the first went wrong on the way.

    Raises:
        UnavailableError: there was none, or its metadata does not say where to ask.
    """
    url, is_foreign = yield from _find_endpoint(state, clock, deadline)

    def send(name: str) -> Procedure[Reply]:
        remaining = deadline - clock()
        if remaining <= 0:
            raise UnavailableError("upstream_timeout", f"no time left for {url}")
        reply = yield from Fetch(
            url,
            name,
            remaining,
            _MAX_BYTES,
            accept=SIGNED if state.settings.signed else "application/json",
            form=build_form(token, state.settings),
            authentication=state.authentication,
            public_only=is_foreign,
        )
        return reply

    try:
        reply = yield from send(flight)
    except UnavailableError as failure:
        if failure.reason != "upstream_unreachable":
            raise
    else:
        if reply.status not in _TRANSIENT:
            return reply
    return (yield from send(f"{flight} again"))


def _find_endpoint(
    state: Introspector, clock: Clock, deadline: float
) -> Procedure[tuple[str, bool]]:
    """Where to ask, and whether only the issuer's document says so."""
    if state.settings.endpoint is not None:
        return state.settings.endpoint, False
    mark = f"introspection {state.failed}"
    found = yield from discover(state.discovery, mark, clock, deadline)
    if found.introspection_endpoint is None:
        state.discovery.forget()
        raise UnavailableError(
            "metadata_unusable",
            f"{state.issuer.issuer} names no usable introspection_endpoint",
        )
    is_foreign = state.discovery.is_foreign(found.introspection_endpoint)
    return found.introspection_endpoint, is_foreign


def _read(state: Introspector, reply: Reply, clock: Clock) -> Procedure[Answer | None]:
    """What *reply* says; its signature is verified where one is demanded."""
    settings = state.settings
    if not settings.signed:
        return read_answer(reply)
    jws = parse_signed_answer(reply)
    if jws.header.algorithm not in state.issuer.algorithms:
        raise UnavailableError("introspection_unusable", "alg is not allowed")
    try:
        verify_signature(jws, (yield from find_keys(state.keys, jws.header, clock)))
    except InvalidTokenError as fault:
        # A verdict about the answer, and none about the token.
        raise UnavailableError("introspection_unusable", fault.reason) from fault
    return read_signed_answer(
        jws, state.issuer, settings, leeway=state.leeway, now=clock()
    )
