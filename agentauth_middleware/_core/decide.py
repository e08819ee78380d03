"""Deciding on a request: the whole order of checks, read downward.

::

    request ─▶ middleware ─▶ decide(…) ─▶ Access | Anonymous | Refusal | Response
                               │    ▲
                               ▼    │
                          operation answer    performed by a driver, await or blocking

    own URL? → public route? → CORS preflight? → credential → remembered, else verified
    or asked about → expired? → revoked? → step-up → scope → actor and user policy →
    application

A request whose token is remembered asks for no operation at all. A refusal is a value;
checks raise, and ``decide`` is the one place that turns what they raise into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

from agentauth_middleware._core.middleware_state import MiddlewareState, Remembered
from agentauth_middleware._core.operations import Clock, Procedure
from agentauth_middleware._core.policy.caller import check_policy
from agentauth_middleware._core.policy.cross_origin import is_preflight
from agentauth_middleware._core.policy.other_clients import has_agent_credential
from agentauth_middleware._core.policy.route_table import REFUSED, UNMATCHED
from agentauth_middleware._core.publish.challenge import Refusal, refusal_for
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.revocations.log import READ_LOG_AFTER, refresh_view
from agentauth_middleware._core.tokens.credential import (
    MAX_CREDENTIAL_BYTES,
    find_token,
)
from agentauth_middleware._core.tokens.recognise import recognise
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.settings.route import Route


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The request goes on to the application without an ``Access``."""

    is_preflight: bool = False
    """Nothing goes on but what a preflight has: no credential, no body, no query."""
    challenge: Refusal | None = None
    """What to add to the application's answer, should that be a 401."""


_FORWARDED = Anonymous(is_preflight=True)

Decision: TypeAlias = Access | Anonymous | Refusal | Response


def decide(
    state: MiddlewareState, request: Request, clock: Clock
) -> Procedure[Decision]:
    """What is to become of *request*. *clock* gives epoch seconds."""
    own = state.own_urls.answer(request)
    if own is not None:
        return own
    access: Access | None = None
    try:
        check_method(request.method)
        if state.passes:
            route = _route_of_others(state, request)
            if route.public or not has_agent_credential(state, request, clock()):
                return _without_access(state, route)
        if request.method == "OPTIONS" and is_preflight(request):
            decision = _decide_on_preflight(state, request)
            if decision is not None:
                return decision
        route = state.routes.select(request)
        if route.public:
            return _without_access(state, route)
        token = find_token(request, ignore_query=state.server.ignore_query_token)
        if token is None:
            if route.optional and not state.passes:
                return _without_access(state, route)
            raise AuthenticationRequiredError(route.named_scopes)
        remembered = state.at_hand.get(digest := sha256(token).digest())
        if remembered is None or route.introspect or remembered.needs_care(clock()):
            remembered = yield from recognise(
                state,
                token,
                digest,
                clock,
                anew=route.introspect,
                client=request.client,
            )
        access = remembered.access
        yield from check_standing(state, remembered, clock)
        check_unbound(remembered)
        if route is REFUSED:
            raise ActorRefusedError("unmatched_path")
        if route.demands_something:
            leeway = remembered.trusted.terms.leeway
            check_policy(route.demands, access, leeway, clock)
        check_actor(remembered)
    except (RequestRefusedError, UnavailableError) as failure:
        return refusal_for(failure, access)
    return access


def check_method(method: str) -> None:
    """Refuse ``TRACE``: its answer would echo the credential to whoever can read it.

    Raises:
        InvalidRequestError: it is ``TRACE``, in any case.

    Source: RFC 9110 §9.3.8
    """
    if len(method) == len("TRACE") and method.upper() == "TRACE":
        raise InvalidRequestError("trace_method")


def _decide_on_preflight(state: MiddlewareState, request: Request) -> Decision | None:
    """What becomes of a preflight, unless it is a request like any other.

    An unclear path too is answered, so that the page can read what comes next.

    Raises:
        InvalidRequestError: it would go on, and its path is unclear.
    """
    if _route_of_others(state, request).public:
        return None
    answer = state.cross_origin.answer_preflight(request)
    if answer is None and state.server.forward_unauthenticated_preflights:
        state.routes.select(request)
        return _FORWARDED
    return answer


def _route_of_others(state: MiddlewareState, request: Request) -> Route:
    """What agents would have to meet where *request* goes; it binds nobody else."""
    try:
        return state.routes.select(request)
    except InvalidRequestError:
        return UNMATCHED  # whatever the application makes of that path


def _without_access(state: MiddlewareState, route: Route) -> Anonymous:
    """Nothing is demanded.

    Beside an API's other clients, its own 401 tells agents as well where to go.
    """
    return _anonymous(route.named_scopes if state.passes else None)


@lru_cache(maxsize=256)
def _anonymous(scopes: tuple[str, ...] | None) -> Anonymous:
    if scopes is None:
        return Anonymous()
    return Anonymous(challenge=refusal_for(AuthenticationRequiredError(scopes)))


def verify_token(
    state: MiddlewareState, token: bytes, clock: Clock
) -> Procedure[Access]:
    """What *token* gives, however it came here; found as ``decide`` finds it.

    Does not check scopes or any other policy. Knows of no proof of possession, so a
    bound token is refused; and of no address, so that none can send too much.

    Raises:
        InvalidRequestError: it has not the form of a token.
        InvalidTokenError: it is not good.
        ActorRefusedError: its agent may not act.
        UnavailableError: nobody can tell at the moment.
    """
    if len(token) > MAX_CREDENTIAL_BYTES:
        raise InvalidRequestError("credential_too_long")
    digest = sha256(token).digest()
    remembered = yield from recognise(
        state, token, digest, clock, anew=False, client=None
    )
    yield from check_standing(state, remembered, clock)
    check_unbound(remembered)
    check_actor(remembered)
    return remembered.access


def check_standing(
    state: MiddlewareState, remembered: Remembered, clock: Clock
) -> Procedure[None]:
    """Refuse a token that has expired or been revoked since it was found good.

    Called when whatever may wait is done: nothing is granted on a view of the log that
    is old by now.

    Raises:
        InvalidTokenError: it is no longer good.
        UnavailableError: the log of revocations cannot be read.
    """
    check_alive(remembered, now := clock())
    if not 0 <= now - state.revocations.read_at < READ_LOG_AFTER:
        yield from refresh_view(
            state.revocations, state.log_reader, state.server.max_log_age, clock
        )
    check_not_revoked(state.revocations, remembered)


def check_alive(remembered: Remembered, now: float) -> None:
    """Refuse a token that has expired since it was verified."""
    if now >= remembered.dies_at:
        ago = now - (remembered.access.expires_at or 0)
        raise InvalidTokenError("expired", f"{ago:.0f} s ago")


def check_not_revoked(view: RevocationView, remembered: Remembered) -> None:
    """Refuse a revoked token; look again only when the log has news."""
    edition = view.edition
    if remembered.cleared_in is not edition:
        if view.refuses(remembered.access):
            raise InvalidTokenError("revoked")
        remembered.cleared_in = edition


def check_unbound(remembered: Remembered) -> None:
    """Refuse a token that is bound to a key.

    To whoever cannot prove that they hold the key it is worth nothing, and nobody can
    prove that here: taken as a plain bearer token it would serve a thief.

    Source: RFC 7800 §3.1, RFC 9449 §7.2
    """
    if remembered.is_bound:
        raise InvalidTokenError("sender_constrained", "bound to a key, sent as Bearer")


def check_actor(remembered: Remembered) -> None:
    """Refuse an agent that may not act at all. Found once, answered in its turn."""
    if remembered.actor_refusal is not None:
        raise ActorRefusedError(remembered.actor_refusal)
