"""Whose a token is: found by rule, never by trying one issuer after another."""

from __future__ import annotations

import gc
import tracemalloc
from hashlib import sha256
from typing import Any

import pytest

from agentauth_middleware._core.issuers.trust import Trust
from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.support.deciding import (
    decide_at_once,
    deciding,
    push_out,
    request,
    state_for,
)
from tests.support.stepping import Clock, Stepper, json_reply
from tests.support.tokens import NOW, RESOURCE, issuer, jwks, key, server, token

ONE, OTHER = "https://one.example.com", "https://other.example.com"


def asked(name: str, *prefixes: str) -> Issuer:
    introspection = Introspection(
        "rs", client_secret="x" * 16, endpoint=f"{name}/introspect"
    )
    return issuer(name=name, introspection=introspection, opaque_prefixes=prefixes)


def asks(settings: ResourceServer, presented: bytes) -> str | None:
    """The URL that is asked about *presented*."""
    step = Stepper(deciding(state_for(settings), request(presented), Clock()))
    return step.asks.url if isinstance(step.asks, Fetch) else None


def refused(settings: ResourceServer, presented: bytes) -> tuple[int, str]:
    decision = decide_at_once(state_for(settings), request(presented))
    assert isinstance(decision, Refusal)
    return decision.status, decision.reason


BOTH = server(asked(ONE, "one_"), asked(OTHER, "other_", "oth-"), issuer())


@pytest.mark.parametrize(
    ("presented", "url"),
    [
        (b"one_123", f"{ONE}/introspect"),
        (b"other_123", f"{OTHER}/introspect"),
        (b"oth-123", f"{OTHER}/introspect"),
        (b"one_a.b.c", f"{ONE}/introspect"),
    ],
    ids=["one", "other", "another prefix", "though it looks like a JWT"],
)
def test_opaque_token_is_shown_to_the_issuer_of_its_prefix(
    presented: bytes, url: str
) -> None:
    assert asks(BOTH, presented) == url


@pytest.mark.parametrize(
    "presented", [b"two_123", b"One_123", b"xone_123", b"one", b"a.b", b"a.b.c.d"]
)
def test_token_that_no_rule_claims_is_shown_to_nobody(presented: bytes) -> None:
    assert refused(BOTH, presented) == (401, "unknown_token_kind")


def test_jwt_is_of_the_issuer_that_it_names_whoever_else_can_be_asked() -> None:
    access = decide_at_once(state_for(BOTH), request(token()))

    assert isinstance(access, Access)


def test_only_issuer_that_can_be_asked_is_asked_about_all_opaque_tokens() -> None:
    settings = server(asked(ONE), issuer())

    assert asks(settings, b"anything") == f"{ONE}/introspect"


@pytest.mark.parametrize(
    "presented",
    [b"a.b.c", b"a.b.c.d.e"],
    ids=["three segments", "encrypted"],
)
def test_what_looks_like_a_jwt_is_not_asked_about(presented: bytes) -> None:
    assert refused(server(asked(ONE)), presented)[0] == 401


@pytest.mark.parametrize(
    "issuers",
    [
        (asked(ONE), asked(OTHER)),
        (asked(ONE, "one_"), asked(OTHER)),
        (asked(ONE, "a_"), asked(OTHER, "a_b")),
        (asked(ONE, "a_"), asked(OTHER, "a_")),
    ],
    ids=["no prefix", "one without", "one begins another", "equal"],
)
def test_opaque_token_that_might_be_of_two_issuers_is_refused_at_start(
    issuers: tuple[Issuer, ...],
) -> None:
    with pytest.raises(ConfigurationError, match="opaque_prefixes"):
        server(*issuers)


def digest(presented: bytes) -> bytes:
    return sha256(presented).digest()


class Tenants:
    """A function from name to issuer, as an operator writes one."""

    def __init__(self) -> None:
        self.known = {
            f"https://as.example.com/{name}": Issuer(
                f"https://as.example.com/{name}", jwks=jwks(key())
            )
            for name in ("t1", "t2")
        }
        self.asked: list[str] = []

    def __call__(self, name: str) -> Issuer | None:
        self.asked.append(name)
        return self.known.get(name)

    def settings(self, **more: Any) -> ResourceServer:
        settings = ResourceServer(
            RESOURCE, issuers=self, authorization_servers=[*self.known], **more
        )
        self.asked.clear()  # it was asked about those the metadata names
        return settings


T1 = "https://as.example.com/t1"


def test_tenant_is_looked_up_once() -> None:
    tenants = Tenants()
    state = state_for(tenants.settings())
    for number in range(3):
        presented = token(iss=T1, jti=str(number))

        assert isinstance(decide_at_once(state, request(presented)), Access)

    assert tenants.asked == [T1]


def test_remembered_token_has_its_tenant_looked_up_every_five_minutes() -> None:
    tenants = Tenants()
    state, clock = state_for(tenants.settings()), Clock()
    decide_at_once(state, request(token(iss=T1, exp=NOW + 900)), clock)
    for seconds in (299, 1, 1, 298, 1):
        clock.tick(seconds)
        state.revocations.read_at = clock.now
        decision = decide_at_once(state, request(token(iss=T1, exp=NOW + 900)), clock)

        assert isinstance(decision, Access)

    assert tenants.asked == [T1] * 3


def test_stranger_is_looked_up_once_a_minute() -> None:
    tenants = Tenants()
    trust, clock = Trust(tenants.settings()), Clock()
    for _ in range(3):
        with pytest.raises(InvalidTokenError, match="iss is"):
            trust.find("https://as.example.com/t9", clock())

    assert len(tenants.asked) == 1

    tenants.known["https://as.example.com/t9"] = Issuer("https://as.example.com/t9")
    clock.tick(59.75)
    with pytest.raises(InvalidTokenError):
        trust.find("https://as.example.com/t9", clock())
    clock.tick(0.25)

    found = trust.find("https://as.example.com/t9", clock())

    assert found.settings.issuer == "https://as.example.com/t9"


@pytest.mark.parametrize(
    "name",
    ["t1", "http://as.example.com/t1", "https://AS.example.com", "https://x/" * 300],
    ids=["no URL", "not https", "upper case", "long"],
)
def test_what_cannot_be_an_issuer_is_not_looked_up(name: str) -> None:
    tenants = Tenants()
    trust = Trust(tenants.settings())
    with pytest.raises(InvalidTokenError):
        trust.find(name, NOW)

    assert tenants.asked == []


def fails(name: str) -> Issuer | None:
    raise KeyError("no database")


def gives_another(name: str) -> Issuer | None:
    return Issuer(ONE)


def gives_one_that_cannot_work(name: str) -> Issuer | None:
    return Issuer(name, jwks={"keys": [{"kty": "oct", "k": "x"}]})


def gives_text(name: str) -> Any:
    return name


def gives_one_with_http_keys(name: str) -> Issuer | None:
    return Issuer(name, jwks_uri="http://as.example.com/keys")


def gives_one_with_prefixes(name: str) -> Issuer | None:
    asked_too = Introspection("rs", client_secret="x")
    return Issuer(name, introspection=asked_too, opaque_prefixes=["at_"])


@pytest.mark.parametrize(
    "function",
    [
        fails,
        gives_another,
        gives_one_that_cannot_work,
        gives_text,
        gives_one_with_http_keys,
        gives_one_with_prefixes,
    ],
)
def test_function_that_fails_says_nothing_about_the_token(function: Any) -> None:
    """A stranger chose the name, so it is no 5xx."""
    settings = ResourceServer(RESOURCE, issuers=function, authorization_servers=[])
    answered = refused(settings, token(iss=T1))

    assert answered == (429, "unknown_issuer_lookup_failed")

    with pytest.raises(TooManyRequestsError, match=r"ResourceServer\.issuers|Issuer"):
        Trust(settings).find(T1, NOW)


class Outage(Tenants):
    """Tenants in a database that cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    def __call__(self, name: str) -> Issuer | None:
        found = super().__call__(name)
        if self.is_down:
            raise ConnectionError("no database")
        return found


def test_outage_is_503_for_tenants_that_the_metadata_names() -> None:
    tenants = Outage()
    state = state_for(tenants.settings())
    tenants.is_down = True
    decision = decide_at_once(state, request(token(iss=T1)))

    assert isinstance(decision, Refusal)
    assert (decision.status, decision.reason) == (503, "issuer_lookup_failed")
    assert decision.retry_after == 5


def test_outage_is_503_for_tenants_found_before() -> None:
    tenants = Outage()
    settings = ResourceServer(RESOURCE, issuers=tenants, authorization_servers=[])
    trust, clock = Trust(settings), Clock()
    trust.find(T1, clock())
    tenants.is_down = True
    clock.tick(301)

    with pytest.raises(UnavailableError, match="no database"):
        trust.find(T1, clock())
    with pytest.raises(TooManyRequestsError, match="no database"):
        trust.find("https://as.example.com/t2", clock())


@pytest.mark.parametrize("name", [T1, "https://as.example.com/t9"])
def test_function_that_raised_is_asked_again_after_a_second(name: str) -> None:
    tenants = Outage()
    trust, clock = Trust(tenants.settings()), Clock()
    tenants.is_down = True
    failures = (UnavailableError, TooManyRequestsError)
    for seconds in (0, 0.5, 0.25):
        clock.tick(seconds)
        with pytest.raises(failures, match="no database"):
            trust.find(name, clock())

    assert tenants.asked == [name]

    clock.tick(0.25)
    with pytest.raises(failures):
        trust.find(name, clock())

    assert tenants.asked == [name] * 2


def test_function_that_raised_is_asked_again_once_the_clock_was_set_back() -> None:
    tenants = Outage()
    trust, clock = Trust(tenants.settings()), Clock()
    tenants.is_down = True
    with pytest.raises(UnavailableError):
        trust.find(T1, clock())
    tenants.is_down = False
    clock.tick(-3600)

    assert trust.find(T1, clock()).settings.issuer == T1


def test_outage_for_one_name_does_not_hold_off_another() -> None:
    tenants = Outage()
    trust, clock = Trust(tenants.settings()), Clock()
    tenants.is_down = True
    with pytest.raises(TooManyRequestsError):
        trust.find("https://as.example.com/t9", clock())
    tenants.is_down = False

    assert trust.find(T1, clock()).settings.issuer == T1


def test_names_for_which_the_function_raises_take_no_more_than_some_memory() -> None:
    tenants = Outage()
    trust, clock = Trust(tenants.settings()), Clock()
    tenants.is_down = True
    tracemalloc.start()
    for number in range(3000):
        with pytest.raises(TooManyRequestsError):
            trust.find(f"https://{number}.example.com/{'x' * 2000}", clock())
    tenants.asked.clear()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 5_000_000


def test_tenant_that_is_no_more_is_refused_after_minutes() -> None:
    tenants = Tenants()
    trust, clock = Trust(tenants.settings()), Clock()
    before = trust.find(T1, clock())
    del tenants.known[T1]
    clock.tick(299)

    assert trust.find(T1, clock()) is before

    clock.tick(1)
    with pytest.raises(InvalidTokenError):
        trust.find(T1, clock())


def test_tenant_whose_settings_changed_is_another() -> None:
    tenants = Tenants()
    trust, clock = Trust(tenants.settings()), Clock()
    before = trust.find(T1, clock())
    clock.tick(301)

    assert trust.find(T1, clock()) is before

    tenants.known[T1] = Issuer(T1, jwks=jwks(key("ES256", "new")))
    clock.tick(301)

    assert trust.find(T1, clock()) is not before


def test_tokens_of_a_tenant_that_is_no_more_are_refused() -> None:
    """Whether or not anybody comes with another."""
    tenants = Tenants()
    state, clock = state_for(tenants.settings()), Clock()
    presented = token(iss=T1, exp=NOW + 900)
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    del tenants.known[T1]
    clock.tick(301)
    state.revocations.read_at = clock.now
    decision = decide_at_once(state, request(presented), clock)

    assert isinstance(decision, Refusal)
    assert decision.reason == "unknown_issuer"


def test_function_needs_a_list_for_the_metadata() -> None:
    with pytest.raises(ConfigurationError, match="authorization_servers"):
        ResourceServer(RESOURCE, issuers=lambda name: None)


def test_metadata_names_no_issuer_whose_tokens_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not among"):
        server(issuer(), authorization_servers=[ONE])


CHANGES: dict[str, Issuer] = {
    "key": Issuer(T1, jwks=jwks(key("ES256", "new"))),
    "key of the same name": Issuer(T1, jwks=jwks(key("EdDSA"))),
    "clients": Issuer(T1, jwks=jwks(key()), client_ids=["client-2"]),
    "audience": Issuer(T1, jwks=jwks(key()), audience="https://other.example.com"),
    "form of claims": Issuer(T1, jwks=jwks(key()), scope_claims=["sub", "exp"]),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("is_ready", [True, False], ids=["ready", "pushed out"])
def test_remembered_token_has_to_meet_the_changed_settings_of_its_tenant(
    changed: Issuer, is_ready: bool
) -> None:
    tenants = Tenants()
    state, clock = state_for(tenants.settings()), Clock()
    presented = token(iss=T1, exp=NOW + 900)
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    tenants.known[T1] = changed
    if not is_ready:
        push_out(state, presented)
    clock.tick(301)
    state.revocations.read_at = clock.now
    decision = decide_at_once(state, request(presented), clock)

    assert isinstance(decision, Refusal)
    assert decision.status == 401


def test_tenant_that_two_requests_found_at_once_is_one_after_minutes() -> None:
    """Threads may look it up at the same time, and keep what they found."""
    tenants = Tenants()
    state, clock = state_for(tenants.settings()), Clock()
    presented = token(iss=T1, exp=NOW + 900)
    decide_at_once(state, request(presented), clock)
    twin = Trust(state.server).find(T1, clock())
    remembered = state.tokens.get(digest(presented))
    assert remembered is not None
    remembered.trusted = twin
    del tenants.known[T1]
    clock.tick(301)
    state.revocations.read_at = clock.now
    decision = decide_at_once(state, request(presented), clock)

    assert isinstance(decision, Refusal)
    assert decision.reason == "unknown_issuer"


def test_stranger_is_looked_up_again_once_the_clock_was_set_back() -> None:
    """Else it would be one for as long as the clock went back."""
    tenants = Tenants()
    trust, clock = Trust(tenants.settings()), Clock()
    name = "https://as.example.com/t9"
    with pytest.raises(InvalidTokenError):
        trust.find(name, clock())
    tenants.known[name] = Issuer(name)
    clock.tick(-3600)

    assert trust.find(name, clock()).settings.issuer == name


def test_tenant_is_looked_up_again_once_the_clock_was_set_back() -> None:
    tenants = Tenants()
    trust, clock = Trust(tenants.settings()), Clock()
    trust.find(T1, clock())
    del tenants.known[T1]
    clock.tick(-3600)

    with pytest.raises(InvalidTokenError):
        trust.find(T1, clock())


def test_tenant_that_is_the_same_does_not_prolong_an_answer() -> None:
    """To know whose a token is says nothing about the token."""
    introspection = Introspection(
        "rs",
        client_secret="x" * 16,
        endpoint=f"{T1}/introspect",
        always=True,
        remember_for=400,
    )
    tenants = Tenants()
    tenants.known[T1] = Issuer(T1, jwks=jwks(key()), introspection=introspection)
    state, clock = state_for(tenants.settings()), Clock()
    presented = token(iss=T1, exp=NOW + 900)
    step = Stepper(deciding(state, request(presented), clock))
    step.answer(json_reply({"active": True}))
    clock.tick(301)
    state.revocations.read_at = clock.now
    assert isinstance(decide_at_once(state, request(presented), clock), Access)
    clock.tick(99)
    state.revocations.read_at = clock.now

    assert isinstance(Stepper(deciding(state, request(presented), clock)).asks, Fetch)
