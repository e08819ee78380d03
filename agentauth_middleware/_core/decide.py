"""Deciding on a request: the order of all checks, read downward.

::

    request ─▶ middleware ─▶ decide(…) ─▶ Remembered | Anonymous | Refusal | Response
                               │    ▲
                               ▼    │
                          operation answer    performed by a driver, await or blocking

    own URL? → public route? → CORS preflight? → credential → remembered, else verified
    or introspected → expired? → revoked? → bound to a key? → step-up → scope → actor
    and user policy → application

A request whose token is remembered is decided at once. Everything else is a procedure,
which a driver runs. A refusal is a value: checks raise, and this module turns what they
raise into one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Clock, Procedure
from agentauth_middleware._core.policy.caller import check_policy
from agentauth_middleware._core.policy.cross_origin import is_preflight
from agentauth_middleware._core.policy.other_clients import has_agent_credential
from agentauth_middleware._core.policy.route_table import REFUSED, UNMATCHED
from agentauth_middleware._core.policy.spellings import check_method
from agentauth_middleware._core.publish.challenge import Refusal, refusal_for
from agentauth_middleware._core.revocations.log import is_fresh, refresh_view
from agentauth_middleware._core.tokens.credential import (
    MAX_CREDENTIAL_BYTES,
    find_token,
)
from agentauth_middleware._core.tokens.recognise import recognise
from agentauth_middleware._core.tokens.remembered import (
    Remembered,
    check_actor,
    check_remembered,
    check_unexpired,
)
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InvalidRequestError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.route import Route


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The request goes on to the application without an ``Access``."""

    is_preflight: bool = False
    """Only what a preflight has goes on: no credential, no body, no query."""
    challenge: Refusal | None = None
    """What to add to the application's answer, should that be a 401."""


_FORWARDED = Anonymous(is_preflight=True)

Outcome: TypeAlias = Remembered | Anonymous | Refusal | Response
Decision: TypeAlias = tuple[Outcome, Route | None]
"""What becomes of a request, and the route that it falls under, where one was found."""


def decide(
    state: MiddlewareState, request: Request, clock: Clock
) -> Decision | Procedure[Decision]:
    """Decide on *request*; a procedure where something has to be waited for.

    *clock* gives epoch seconds.
    """
    own = state.own_urls.answer(request)
    if own is not None:
        return own, None
    route = remembered = None
    try:
        check_method(request.method)
        if state.serves_other_clients:
            route = _route_of_others(state, request)
            if route.public or not has_agent_credential(state, request, clock()):
                return _without_access(state, route), route
        if request.method == "OPTIONS" and is_preflight(request):
            outcome = _decide_on_preflight(state, request)
            if outcome is not None:
                return outcome, route
        route = state.routes.select(request)
        if route.public:
            return _without_access(state, route), route
        token = find_token(request, ignore_query=state.server.ignore_query_token)
        if token is None:
            if route.optional and not state.serves_other_clients:
                return _without_access(state, route), route
            raise AuthenticationRequiredError(route.named_scopes)
        digest, now = sha256(token).digest(), clock()
        remembered = state.tokens.get(digest)
        if (
            remembered is None
            or route.introspect
            or remembered.needs_revalidation(now)
            or not is_fresh(state.revocations, now)
        ):
            return _decide_later(state, request, route, token, digest, clock)
        _check(state, remembered, route, now)
    except (RequestRefusedError, UnavailableError) as failure:
        return _refused(failure, remembered), route
    return remembered, route


def _decide_later(
    state: MiddlewareState,
    request: Request,
    route: Route,
    token: bytes,
    digest: bytes,
    clock: Clock,
) -> Procedure[Decision]:
    """The same, after the token was verified or introspected and the log was read."""
    remembered = None
    try:
        remembered = yield from recognise(
            state,
            token,
            digest,
            clock,
            introspect=route.introspect,
            client=request.client,
        )
        yield from _refresh(state, remembered, clock)
        _check(state, remembered, route, clock())
    except (RequestRefusedError, UnavailableError) as failure:
        return _refused(failure, remembered), route
    return remembered, route


def _check(
    state: MiddlewareState, remembered: Remembered, route: Route, now: float
) -> None:
    """Every check of a good token, in their order.

    Raises:
        InvalidTokenError: it is no longer good.
        StepUpRequiredError, InsufficientScopeError, ActorRefusedError: it does not
            meet what *route* demands.
    """
    check_remembered(remembered, state.revocations, now)
    if route is REFUSED:
        raise ActorRefusedError(Reason.UNMATCHED_PATH)
    if route.demands_something:
        check_policy(route.demands, remembered.access, now)
    check_actor(remembered)


def _refresh(
    state: MiddlewareState, remembered: Remembered, clock: Clock
) -> Procedure[None]:
    """Read the log of revocations on, if what is known of it is no longer fresh.

    Called when all else that may wait is done: nothing is granted on a view that has
    grown old meanwhile. Not needed to refuse an expired token.

    Raises:
        InvalidTokenError: the token has expired.
        UnavailableError: the log cannot be read.
    """
    check_unexpired(remembered, clock())
    if not is_fresh(state.revocations, clock()):
        yield from refresh_view(
            state.revocations, state.log_reader, state.server.max_log_age, clock
        )


def _refused(
    failure: RequestRefusedError | UnavailableError, remembered: Remembered | None
) -> Refusal:
    return refusal_for(failure, None if remembered is None else remembered.access)


def _decide_on_preflight(
    state: MiddlewareState, request: Request
) -> Anonymous | Response | None:
    """What becomes of a preflight; ``None`` if it is treated like other requests.

    One with an ambiguous path is answered too, so that the page can read what comes
    next.

    Raises:
        InvalidRequestError: it would be passed on, and its path is ambiguous.
    """
    if _route_of_others(state, request).public:
        return None
    answer = state.cross_origin.answer_preflight(request)
    if answer is None and state.server.forward_unauthenticated_preflights:
        state.routes.select(request)
        return _FORWARDED
    return answer


def _route_of_others(state: MiddlewareState, request: Request) -> Route:
    """The route of *request*, for a request that no route binds: an ambiguous path is
    the application's affair."""
    try:
        return state.routes.select(request)
    except InvalidRequestError:
        return UNMATCHED


def _without_access(state: MiddlewareState, route: Route) -> Anonymous:
    """Nothing is demanded.

    Beside an API's other clients, the application's own 401 tells agents where to go.
    """
    return _anonymous(route.named_scopes if state.serves_other_clients else None)


@lru_cache(maxsize=256)
def _anonymous(scopes: tuple[str, ...] | None) -> Anonymous:
    if scopes is None:
        return Anonymous()
    return Anonymous(challenge=refusal_for(AuthenticationRequiredError(scopes)))


def verify_token(
    state: MiddlewareState, token: bytes, clock: Clock
) -> Procedure[Access]:
    """The ``Access`` of a token that did not come with an HTTP request.

    Does not check scopes or any other policy. No proof of possession can be shown, so
    a bound token is refused; no address is known, so none can send too much.

    Raises:
        InvalidRequestError: it has not the form of a token.
        InvalidTokenError: it is not good.
        ActorRefusedError: its agent may not act.
        UnavailableError: keys, introspection or the log are out of reach.
    """
    if len(token) > MAX_CREDENTIAL_BYTES:
        raise InvalidRequestError(Reason.CREDENTIAL_TOO_LONG)
    digest = sha256(token).digest()
    remembered = yield from recognise(
        state, token, digest, clock, introspect=False, client=None
    )
    yield from _refresh(state, remembered, clock)
    check_remembered(remembered, state.revocations, clock())
    check_actor(remembered)
    return remembered.access
