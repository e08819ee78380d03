"""Verifying a signature with an issuer's keys: given, remembered, fetched, or missing.

Verdicts need keys, so their absence is never one:

* A signature that a known key made is good at once, whatever else is going on. A set
  that is due for a refresh is refreshed in the background.
* A signature that no known key made is a 401 only if the set was asked for after the
  token was first seen: the issuer may have rotated since, to a key of a new name or
  under the old one. Until then the set is fetched again, and while no fetch is allowed
  the answer is 429. When each refused token was first seen is kept, in bounded number;
  what is forgotten is seen for the first time again, which only makes it a 429.
* Fetches for unknown names and those for signatures that do not verify have a budget
  each, of one every twelve seconds: junk of one kind does not delay the other.
* A process that has keys lets two requests wait for a refetch, one second each; the
  others get their 429 at once. Junk must not be able to fill the server's threads.
* A refresh that fails leaves the keys as they are, up to a day or what is configured.
* A refresh that drops a key starts a new generation, which forgets its tokens.

Several threads may run these procedures at once, so notes are taken in single
assignments that give the same result when made twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from math import ceil, inf
from typing import NamedTuple

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.issuers.discovery import (
    Discovery,
    discover,
    fetch_document,
    read_document,
)
from agentauth_middleware._core.operations import Clock, Procedure, Reply, Start
from agentauth_middleware._core.throttles import Cooldown, Slots
from agentauth_middleware._core.tokens.jose import (
    CompactJWS,
    JOSEHeader,
    KeySet,
    parse_key_set,
    verify_signature,
)
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.issuer import Issuer

_SHORTEST_LIFETIME = 600.0
_USUAL_LIFETIME = 3600.0
_DAY = 86_400.0
_NUDGE = 60.0
"""Seconds by which a clock may be set back without a new fetch."""
_KEY_SET_TYPES = "application/json, application/jwk-set+json"
"""Some servers offer only one of the two (RFC 7517 §8.5)."""
_generations = count()
_FILE_LIFETIME = 10.0
"""Seconds; to look at a file costs next to nothing."""
_OVERDUE = 60.0
"""Seconds after which a refresh that has not happened in the background is made in
line: some servers run no threads."""
_HOLD_OFF = 2.0
"""Seconds after a failed exchange in which no request tries again."""
_RETRY = 5.0
"""Seconds after which a failed refresh is tried again."""
_REFETCH_INTERVAL = 12
_REFETCH_WAIT = 1.0
_REFETCH_WAITERS = 2
_REFUSED_FOR = 60.0
"""Seconds after which a refused token counts as new: its key may be published late."""
_REFUSED_TOKENS = 4096
"""How many tokens that did not verify are remembered, by when they were first seen."""


class FetchedKeys(NamedTuple):
    """A set of keys, with the URL and the entity tag for asking whether it has
    changed."""

    keys: KeySet
    url: str | None = None
    etag: str | None = None


class IssuerKeys:
    """The signing keys of one issuer, as one middleware knows them."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        insecure_loopback: bool = False,
        discovery: Discovery | None = None,
    ) -> None:
        """*insecure_loopback* lets the issuer's metadata name http URLs as well;
        *discovery* is shared with other users of the metadata.

        Raises:
            ConfigurationError: keys given in the settings cannot verify anything.
        """
        self.issuer = issuer
        self.discovery = discovery or Discovery(
            issuer.issuer, insecure_loopback=insecure_loopback
        )
        self.known = FetchedKeys(KeySet(()))
        self.generation = next(_generations)
        """A new number after each refresh that dropped a key. Unique among all issuers
        and all settings."""
        self.known_since = -inf
        """When the current set came. A clock that shows less was set back."""
        self.refresh_at = -inf
        self.usable_until = -inf
        self.asked_at = -inf
        """When the current set was asked for; a key published by then is in it."""
        self.noticed_at = inf
        """When a refresh was first found due that has neither come nor failed since."""
        self.held_off_until = -inf
        self.is_failing = False
        """Whether the last attempt failed."""
        self.first_seen: BoundedMap[bytes, float] = BoundedMap(_REFUSED_TOKENS)
        """By hash: when each token that did not verify was first seen."""
        self.unknown_names = Cooldown(_REFETCH_INTERVAL)
        """Permissions to fetch because of a key that is not in the set."""
        self.bad_signatures = Cooldown(_REFETCH_INTERVAL)
        """Permissions to fetch because the key in the set may have been replaced."""
        self.waiters = Slots(_REFETCH_WAITERS)
        self._attempt = 0
        self._taken = -1
        self._begun: tuple[int, float] = (-1, -inf)
        if issuer.jwks is not None:
            self._use_given(issuer.jwks)

    @property
    def current(self) -> KeySet:
        """The keys that verify."""
        return self.known.keys

    def is_foreign(self, url: str) -> bool:
        """True if *url* was learned from the issuer's metadata and has another
        origin."""
        return self.issuer.keys_url is None and self.discovery.is_foreign(url)

    def _use_given(self, document: Mapping[str, object]) -> None:
        keys = check_given_keys(document, self.issuer, "Issuer.jwks")
        self.known = FetchedKeys(keys)
        self.refresh_at = self.usable_until = self.asked_at = inf

    def note_clock_set_back(self, now: float) -> None:
        """The age of the set is unknown: count it from *now* on."""
        self.known_since = now - _NUDGE
        self.refresh_at = now
        self.usable_until = min(self.usable_until, now + self.issuer.max_key_age)

    def begin(self, now: float) -> tuple[int, float]:
        """Number of the attempt that is due or under way, and when it was begun."""
        if self._begun[0] != self._attempt:
            self._begun = (self._attempt, now)
        return self._begun

    def is_asking(self, now: float) -> bool:
        """Whether an exchange is under way that another request may wait for."""
        attempt, begun_at = self._begun
        return attempt == self._attempt and 0 <= now - begun_at < _REFETCH_WAIT

    def adopt(
        self,
        attempt: int,
        fetched: FetchedKeys,
        *,
        asked_at: float,
        now: float,
        lifetime: float,
    ) -> None:
        """Replace the set by the one that *attempt* fetched, unless a newer attempt
        has."""
        if attempt <= self._taken:
            return
        keys = fetched.keys
        dropped = self.current.identities - keys.identities
        self.known = fetched
        if dropped:
            # Only now: a token verified with the old keys must not be remembered
            # under the new generation.
            self.generation = next(_generations)
        self.known_since = now - _NUDGE
        self.is_failing = False
        self.asked_at = asked_at
        self.usable_until = now + self.issuer.max_key_age
        self.refresh_at = now + min(lifetime, self.issuer.max_key_age)
        self.noticed_at = inf
        self.held_off_until = -inf
        self._taken = attempt
        self._attempt = max(self._attempt, attempt + 1)

    def note_failure(self, attempt: int, now: float) -> None:
        """Hold off for a moment; then begin again with the metadata."""
        if attempt < self._attempt:
            return
        self.held_off_until = now + _HOLD_OFF
        self.refresh_at = min(now + _RETRY, self.usable_until)
        self.noticed_at = inf
        self.is_failing = True
        self.discovery.forget()
        self._attempt = attempt + 1


def check_given_keys(
    document: Mapping[str, object], issuer: Issuer, key: str
) -> KeySet:
    """The keys of *document*, which the operator gave for *issuer*.

    Raises:
        ConfigurationError: they cannot verify anything; names *key*.
    """
    named = f"{key} of {issuer.issuer}"
    try:
        keys = parse_key_set(document)
    except ValueError as fault:
        raise ConfigurationError(f"{named}: {fault}") from None
    if not keys.identities:
        raise ConfigurationError(
            f"{named}: no key in it can verify; give public signing keys: RSA of 2048 "
            "bits or more, P-256 or Ed25519"
        )
    headers = (JOSEHeader(algorithm, None, None) for algorithm in issuer.algorithms)
    if not any(keys.knows(header) for header in headers):
        raise ConfigurationError(
            f"{named}: no key in it is for {' or '.join(issuer.algorithms)}; add its "
            "algorithm to Issuer.algorithms"
        )
    return keys


def verify(
    state: IssuerKeys, jws: CompactJWS, clock: Clock, *, seen_at: float | None = None
) -> Procedure[None]:
    """Check that the issuer signed *jws*, with keys that are fresh enough.

    *seen_at* is when it was first seen, if that is known to have been earlier.

    Raises:
        InvalidTokenError: the issuer did not sign it.
        TooManyRequestsError: that is unknown, and its keys may not be fetched again
            yet.
        UnavailableError: its keys are out of reach.
    """
    now = clock()
    if not state.known_since <= now < state.refresh_at:
        yield from keep_usable(state, clock)
    fault = _fault_of(state, jws)
    if fault is None:
        return
    if seen_at is None:
        seen_at = _first_sight(state, jws, now)
    if not _was_asked_since(state, seen_at, clock()):
        budget = state.unknown_names
        if fault.reason != Reason.UNKNOWN_KID:
            budget = state.bad_signatures
        yield from _refetch(state, budget, clock)
        fault = _fault_of(state, jws)
        if fault is None:
            return
        if not _was_asked_since(state, seen_at, clock()):
            # The set came from an exchange begun before: it is no verdict on this one.
            raise _cooling_down(state, budget.wait(clock()))
    raise fault


def _fault_of(state: IssuerKeys, jws: CompactJWS) -> InvalidTokenError | None:
    """What is wrong with the signature of *jws* under the current set, if anything.

    Raises:
        UnavailableError: the set has no key to judge by.
    """
    header = jws.header
    try:
        verify_signature(jws, state.current.candidates(header))
    except InvalidTokenError as fault:
        if not state.current.identities and not state.current.knows(header):
            raise UnavailableError(
                Reason.KEYS_UNUSABLE, f"{state.issuer.issuer} publishes no usable key"
            ) from None
        return fault
    return None


def _first_sight(state: IssuerKeys, jws: CompactJWS, now: float) -> float:
    """When *jws* was first seen; it did not verify, then or now."""
    digest = sha256(jws.signing_input + b"." + jws.signature).digest()
    known = state.first_seen.get(digest)
    if known is None or not 0 <= now - known < _REFUSED_FOR:
        state.first_seen.put(digest, known := now)
    return known


def keep_usable(state: IssuerKeys, clock: Clock) -> Procedure[None]:
    """Refresh the set when that is due, so that there is one that may be used.

    Raises:
        UnavailableError: there is none and it cannot be fetched.
    """
    now = clock()
    if now < state.known_since:
        state.note_clock_set_back(now)
    if now >= state.usable_until:
        yield from _load_first(state, clock)
        return
    state.noticed_at = min(state.noticed_at, now)
    if now < state.noticed_at + _OVERDUE:
        yield from _start(state, clock)
    elif state.waiters.take():
        try:
            yield from _load(state, clock, _wait(state))
        except UnavailableError:
            pass  # the failure is noted; the old set may still be used
        finally:
            state.waiters.give_back()


def _load_first(state: IssuerKeys, clock: Clock) -> Procedure[None]:
    """Fetch a set where there is none that may be used. All requests may wait for the
    first attempt. After a failure at most two requests wait at a time, one second each,
    so that other issuers are served. The keys of a slow issuer are fetched in the
    background.

    Raises:
        UnavailableError: there is still none.
    """
    _refuse_while_held_off(state, clock())
    if not state.is_failing:
        yield from _load(state, clock, state.issuer.timeout)
        return
    if not state.waiters.take():
        raise UnavailableError(
            Reason.KEYS_UNREACHABLE,
            f"{state.issuer.issuer} has not answered",
            retry_after=1,
        )
    try:
        yield from _load(state, clock, _wait(state))
    except UnavailableError as failure:
        if failure.reason == Reason.UPSTREAM_TIMEOUT:
            yield from _start(state, clock)
        raise
    finally:
        state.waiters.give_back()


def _start(state: IssuerKeys, clock: Clock) -> Procedure[None]:
    yield from Start(
        f"keys of {state.issuer.issuer}",
        lambda: _load(state, clock, state.issuer.timeout),
    )


def _refuse_while_held_off(state: IssuerKeys, now: float) -> None:
    if now < state.held_off_until <= now + _HOLD_OFF:
        raise UnavailableError(
            Reason.KEYS_UNREACHABLE, f"{state.issuer.issuer}: held off after a failure"
        )


def _was_asked_since(state: IssuerKeys, instant: float, now: float) -> bool:
    """Whether a key published by *instant* would be in the set. A set that was asked
    for in the future was asked for before the clock was set back.
    """
    return instant <= state.asked_at <= now or state.asked_at == inf


def _refetch(state: IssuerKeys, budget: Cooldown, clock: Clock) -> Procedure[None]:
    """Fetch the set again, as far as *budget* allows.

    Raises:
        TooManyRequestsError: it does not, or enough requests wait already.
        UnavailableError: the keys are out of reach.
    """
    now = clock()
    _refuse_while_held_off(state, now)
    if not state.waiters.take():
        raise _cooling_down(state, 1)
    try:
        # A refresh that is due costs no permission.
        may_ask = state.is_asking(now) or now >= state.refresh_at
        if not may_ask and not budget.take(now):
            raise _cooling_down(state, budget.wait(now))
        yield from _load(state, clock, _wait(state))
    finally:
        state.waiters.give_back()


def _cooling_down(state: IssuerKeys, seconds: float) -> TooManyRequestsError:
    return TooManyRequestsError(
        Reason.KEYS_COOLING_DOWN,
        f"{state.issuer.issuer} has just been asked for new keys",
        retry_after=max(1, ceil(seconds)),
    )


def _wait(state: IssuerKeys) -> float:
    return min(_REFETCH_WAIT, state.issuer.timeout)


def _load(state: IssuerKeys, clock: Clock, timeout: float) -> Procedure[None]:
    """Fetch the set. Callers of one attempt share its exchanges."""
    attempt, asked_at = state.begin(clock())
    deadline = clock() + timeout
    known = state.known
    try:
        url = yield from _find_url(state, attempt, clock, deadline)
        reply = yield from fetch_document(
            url,
            f"{state.issuer.issuer}: {url}#{attempt}",
            clock,
            deadline,
            issuer=state.issuer.issuer,
            accept=_KEY_SET_TYPES,
            etag=known.etag if known.url == url else None,
            public_only=state.is_foreign(url),
        )
        fetched = _read_key_set(reply, url, known)
    except UnavailableError:
        state.note_failure(attempt, clock())
        raise
    state.adopt(
        attempt,
        fetched,
        asked_at=asked_at,
        now=clock(),
        lifetime=_FILE_LIFETIME if url.startswith("file:") else lifetime_of(reply),
    )


def _find_url(
    state: IssuerKeys, attempt: int, clock: Clock, deadline: float
) -> Procedure[str]:
    """Where the keys are: given, or in the issuer's metadata."""
    if state.issuer.keys_url is not None:
        return state.issuer.keys_url
    found = yield from discover(state.discovery, str(attempt), clock, deadline)
    if found.jwks_uri is None:
        raise UnavailableError(
            Reason.METADATA_UNUSABLE,
            f"{state.issuer.issuer} names no jwks_uri that may be used (https?)",
        )
    return found.jwks_uri


def _read_key_set(reply: Reply, url: str, known: FetchedKeys) -> FetchedKeys:
    """The set in *reply*; the *known* one for a 304.

    Source: RFC 9110 §15.4.5
    """
    if reply.status == 304 and known.etag is not None and known.url == url:
        return known
    try:
        keys = parse_key_set(read_document(reply, url, Reason.KEYS_UNUSABLE))
    except ValueError as fault:
        raise UnavailableError(Reason.KEYS_UNUSABLE, f"{url}: {fault}") from None
    return FetchedKeys(keys, url, reply.headers.get("etag"))


def lifetime_of(reply: Reply) -> float:
    """Seconds for which a set is fresh: what its server says, within bounds."""
    stated = reply.max_age
    lifetime = _USUAL_LIFETIME if stated is None else stated
    return min(max(lifetime, _SHORTEST_LIFETIME), _DAY)
