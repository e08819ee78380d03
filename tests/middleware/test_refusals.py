"""Whatever the middleware, the same request gets the same answer."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio
import pytest

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Fetch, LogPage, Operation, Start
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._io.drive import drive
from agentauth_middleware._io.perform import BlockingPerformer
from agentauth_middleware._middleware.asgi_exchange import read_request
from agentauth_middleware.access import Access
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.revocation import revoke, revoke_blocking
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.middleware.conftest import RunningMiddleware
from tests.support.deadlines import try_within
from tests.support.deciding import Decided, deciding
from tests.support.exchange import HTTPRequest, Middleware, scope_of
from tests.support.scenarios import (
    GOOD,
    RESOURCE,
    SCENARIOS,
    Expected,
    Issuers,
    Scenario,
    Token,
    actor_unauthorized,
    granted,
    invalid_request,
    invalid_token,
    no_credentials,
    passed,
    resource_server,
    revoke_some,
    too_many,
    unavailable,
)

METADATA_PATH = "/.well-known/oauth-authorization-server"
OPENID_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/jwks.json"


@pytest.fixture(autouse=True)
def _audit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")


def last_reason(caplog: pytest.LogCaptureFixture) -> str:
    """The reason in the last audit record."""
    records = [record for record in caplog.records if record.name.endswith(".audit")]
    members: dict[str, str] = vars(records[-1])["agentauth"]
    return members["reason"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_table_of_refusals_holds(
    scenario: Scenario,
    middleware: Middleware,
    issuers: Issuers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = middleware.ask(scenario.request(issuers))

    scenario.expected.check(answer)
    assert bool(middleware.seen) == scenario.expected.reaches
    assert last_reason(caplog) == scenario.expected.reason_at(middleware.kind)


def test_head_gets_what_get_gets_without_the_body(
    middleware: Middleware, issuers: Issuers
) -> None:
    for scenario in SCENARIOS:
        if scenario.method == "GET":
            request = scenario.request(issuers)
            got = middleware.ask(request)
            headed = middleware.ask(replace(request, method="HEAD"))

            assert headed == replace(got, body=b""), scenario.name


# Settings that change a row


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param(GOOD, actor_unauthorized("unmatched_path"), id="good token"),
        pytest.param(None, no_credentials(), id="no credentials"),
        pytest.param(
            Token("stranger"), invalid_token("unknown_issuer"), id="bad token"
        ),
    ],
)
def test_unmatched_paths_are_refused_where_settings_say_so(
    token: Token | None,
    expected: Expected,
    start_middleware: RunningMiddleware,
    issuers: Issuers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """To whom they are forbidden is known only once it is known who asks."""
    middleware = start_middleware(resource_server(issuers.trusted, unmatched="refuse"))
    fields = bearer(token.mint(issuers)) if token is not None else {}

    expected.check(middleware.get("/elsewhere", fields))
    assert last_reason(caplog) == expected.reason
    assert not middleware.seen


def test_a_path_under_two_routes_is_refused(
    start_middleware: RunningMiddleware,
    issuers: Issuers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    middleware = start_middleware(resource_server(issuers.trusted))

    invalid_request("ambiguous_path").check(middleware.get("//health"))
    assert last_reason(caplog) == "ambiguous_path"
    assert not middleware.seen


def test_access_token_in_a_query_may_mean_something_else(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    middleware = start_middleware(
        resource_server(issuers.trusted, ignore_query_token=True)
    )
    token = GOOD.mint(issuers)

    granted().check(middleware.get("/?access_token=theirs", bearer(token)))
    no_credentials().check(middleware.get(f"/?access_token={token}"))


@pytest.mark.parametrize(
    "query",
    [
        "q=caf%C3%A9",
        "q=caf%E9",
        "%FF=%00",
        "q=\xff",
        "token=\xff",
        "token=\x00",
        "q=%",
        "q=%zz&token",
        "&&=&;token=;",
    ],
    ids=repr,
)
def test_a_query_of_any_bytes_is_none_of_our_business(
    query: str, middleware: Middleware, issuers: Issuers
) -> None:
    granted().check(middleware.get(f"/?{query}", bearer(GOOD.mint(issuers))))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Keys out of reach


@pytest.fixture(scope="module")
def loopback() -> Iterator[ServedIssuer]:
    with FakeIssuer.serve() as issuer:
        yield issuer


@pytest.fixture
def served(loopback: ServedIssuer) -> ServedIssuer:
    """An issuer whose keys have to be fetched, as good as new."""
    loopback.replies.clear()
    loopback.requests.clear()
    loopback.rotate(keep_old=False)
    return loopback


def trusting(issuer: FakeIssuer) -> ResourceServer:
    return ResourceServer(
        RESOURCE,
        issuers=(issuer.trust(),),
        routes=(Route("/greeting", optional=True),),
        insecure_loopback=True,
    )


def answer_all(issuer: ServedIssuer, status: int, body: bytes = b"") -> None:
    """Let the server answer *status* to everything."""
    for path in (METADATA_PATH, OPENID_PATH, KEYS_PATH):
        issuer.replies[path] = (status, {"content-type": "application/json"}, body)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("path", "status", "fields", "body", "reason"),
    [
        pytest.param(
            METADATA_PATH, 500, JSON, b"{}", "metadata_unusable", id="metadata: 500"
        ),
        pytest.param(
            METADATA_PATH,
            302,
            {"location": KEYS_PATH},
            b"",
            "metadata_not_found",
            id="metadata: redirect",
        ),
        pytest.param(
            METADATA_PATH,
            200,
            {"content-type": "text/html"},
            b"<html>{}</html>",
            "metadata_not_found",
            id="metadata: HTML",
        ),
        pytest.param(
            METADATA_PATH,
            200,
            JSON,
            b"<html>",
            "metadata_unusable",
            id="metadata: junk",
        ),
        pytest.param(
            METADATA_PATH, 200, JSON, b"[]", "metadata_unusable", id="metadata: array"
        ),
        pytest.param(
            METADATA_PATH,
            200,
            JSON,
            b'{"issuer": "https://as.example.com", "jwks_uri": "https://a.example/"}',
            "metadata_unusable",
            id="metadata: of another issuer",
        ),
        pytest.param(
            METADATA_PATH, 404, JSON, b"", "metadata_not_found", id="metadata: none"
        ),
        pytest.param(KEYS_PATH, 500, JSON, b"{}", "keys_unusable", id="keys: 500"),
        pytest.param(KEYS_PATH, 404, JSON, b"{}", "keys_unusable", id="keys: 404"),
        pytest.param(
            KEYS_PATH,
            301,
            {"location": METADATA_PATH},
            b"",
            "keys_unusable",
            id="keys: redirect",
        ),
        pytest.param(
            KEYS_PATH,
            200,
            {"content-type": "text/html"},
            b"<html></html>",
            "keys_unusable",
            id="keys: HTML",
        ),
        pytest.param(KEYS_PATH, 200, JSON, b"{}", "keys_unusable", id="keys: none"),
        pytest.param(
            KEYS_PATH, 200, JSON, b'{"keys": []}', "keys_unusable", id="keys: no more"
        ),
        pytest.param(
            KEYS_PATH,
            200,
            JSON,
            b" " * 600_000,
            "upstream_too_large",
            id="keys: too large",
        ),
    ],
)
def test_an_issuer_in_trouble_is_no_verdict_about_its_tokens(
    path: str,
    status: int,
    fields: dict[str, str],
    body: bytes,
    reason: str,
    start_middleware: RunningMiddleware,
    served: ServedIssuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    served.replies[path] = (status, fields, body)
    middleware = start_middleware(trusting(served))

    unavailable(reason).check(middleware.get("/", bearer(served.token(RESOURCE))))
    assert last_reason(caplog) == reason
    assert not middleware.seen
    # No redirect was followed, and nobody else was asked.
    assert (served.requests[-1] == path) == (reason != "metadata_not_found")
    assert path == KEYS_PATH or KEYS_PATH not in served.requests
    assert set(served.requests) <= {METADATA_PATH, OPENID_PATH, KEYS_PATH}


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        pytest.param(404, JSON, id="none"),
        pytest.param(302, {"location": "/login"}, id="redirect"),
        pytest.param(200, {"content-type": "text/html"}, id="HTML"),
    ],
)
def test_issuer_that_publishes_as_openid_provider_alone_is_found(
    status: int,
    fields: dict[str, str],
    start_middleware: RunningMiddleware,
    served: ServedIssuer,
) -> None:
    metadata = {"issuer": served.issuer, "jwks_uri": f"{served.issuer}{KEYS_PATH}"}
    served.replies[METADATA_PATH] = (status, fields, b"<html></html>")
    served.replies[OPENID_PATH] = (200, JSON, json.dumps(metadata).encode())
    middleware = start_middleware(trusting(served))

    granted().check(middleware.get("/", bearer(served.token(RESOURCE))))
    assert served.requests == [METADATA_PATH, OPENID_PATH, KEYS_PATH]


def test_known_keys_go_on_when_their_server_dies(
    start_middleware: RunningMiddleware, served: ServedIssuer
) -> None:
    middleware = start_middleware(trusting(served))
    remembered = served.token(RESOURCE)
    granted().check(middleware.get("/", bearer(remembered)))

    answer_all(served, 500)

    granted().check(middleware.get("/", bearer(remembered)))
    granted().check(
        middleware.get("/", bearer(served.token(RESOURCE, subject="user-1")))
    )


def test_a_key_nobody_knows_yet_is_no_verdict_while_the_server_is_dead(
    start_middleware: RunningMiddleware, served: ServedIssuer
) -> None:
    middleware = start_middleware(trusting(served))
    granted().check(middleware.get("/", bearer(served.token(RESOURCE))))

    served.rotate()
    answer_all(served, 500)

    unavailable("keys_unusable").check(
        middleware.get("/", bearer(served.token(RESOURCE)))
    )


def test_a_key_the_issuer_does_not_have_is_a_verdict(
    start_middleware: RunningMiddleware,
    served: ServedIssuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    middleware = start_middleware(trusting(served))
    forger = FakeIssuer(served.issuer)

    answer = middleware.get("/", bearer(forger.token(RESOURCE)))

    assert answer.status == 401
    assert last_reason(caplog) == "unknown_kid"


def test_while_nobody_may_ask_an_unknown_key_is_no_verdict(
    start_middleware: RunningMiddleware,
    served: ServedIssuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Otherwise junk sent just before a rotation would cost everybody their token."""
    middleware = start_middleware(trusting(served))
    granted().check(middleware.get("/", bearer(served.token(RESOURCE))))
    junk = FakeIssuer(served.issuer)
    assert middleware.get("/", bearer(junk.token(RESOURCE))).status == 401

    served.rotate()
    answer = middleware.get("/", bearer(served.token(RESOURCE)))

    too_many("keys_cooling_down", retry_after="12").check(answer)
    assert last_reason(caplog) == "keys_cooling_down"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/", no_credentials(), id="needed"),
        pytest.param("/greeting", passed(), id="optional"),
    ],
)
def test_who_has_no_credentials_does_not_depend_on_the_issuer(
    target: str,
    expected: Expected,
    start_middleware: RunningMiddleware,
    served: ServedIssuer,
) -> None:
    answer_all(served, 500)
    middleware = start_middleware(trusting(served))

    expected.check(middleware.get(target))
    assert served.requests == []


# As time goes by: `decide` stepped by hand, with a clock of our own


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    """One process behind no middleware: what it remembers, and what time it is
    there."""

    server: ResourceServer
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=lambda: Clock(time.time()))
    fetch_takes: float = 0.0
    """Seconds."""

    def __post_init__(self) -> None:
        self._state = MiddlewareState(self.server)
        self._perform = BlockingPerformer(self.store)

    def decide(self, token: str) -> Decided:
        fields = tuple(bearer(token).items())
        request = read_request(scope_of(HTTPRequest(fields=fields)))
        return drive(deciding(self._state, request, self.clock), self._perform_in_line)

    def _perform_in_line(self, operation: Operation[Any]) -> Any:
        if isinstance(operation, Start):
            return None  # As where threads do not run.
        if isinstance(operation, Fetch):
            self.clock.now += self.fetch_takes
        return self._perform(operation)

    def grants(self, token: str) -> bool:
        return isinstance(self.decide(token), Access)

    def refusal_of(self, token: str) -> tuple[int, str]:
        """Status and reason."""
        refusal = self.decide(token)
        assert isinstance(refusal, Refusal)
        return refusal.status, refusal.reason


DAY = 86_400


def test_an_issuer_that_comes_back_needs_no_restart(served: ServedIssuer) -> None:
    process = Process(trusting(served))
    token = served.token(RESOURCE)
    answer_all(served, 500)
    assert process.refusal_of(token) == (503, "metadata_unusable")

    served.replies.clear()
    process.clock.now += 1.9
    asked = len(served.requests)

    assert process.refusal_of(token) == (503, "keys_unreachable")
    assert len(served.requests) == asked

    process.clock.now += 0.2

    assert process.grants(token)


def test_known_keys_go_on_for_a_day_without_their_server(served: ServedIssuer) -> None:
    """And then there is no verdict, for nobody knows whether the keys still hold."""
    process = Process(trusting(served))
    remembered = served.token(RESOURCE, expires_in=3 * DAY)
    assert process.grants(remembered)

    answer_all(served, 500)
    process.clock.now += DAY - 60

    assert process.grants(remembered)
    assert process.grants(served.token(RESOURCE, expires_in=3 * DAY))

    process.clock.now += 61

    assert process.refusal_of(remembered)[0] == 503
    assert process.refusal_of(served.token(RESOURCE, expires_in=3 * DAY))[0] == 503

    served.replies.clear()
    process.clock.now += 3

    assert process.grants(remembered)


def test_a_remembered_token_expires(issuers: Issuers) -> None:
    process = Process(resource_server(issuers.trusted))
    token = Token(expires=100).mint(issuers)
    expires_at = int(process.clock.now) + 100
    assert process.grants(token)

    process.clock.now = expires_at + 59

    assert process.grants(token)

    process.clock.now = expires_at + 61

    assert process.refusal_of(token) == (401, "expired")


def test_a_remembered_token_is_refused_a_quarter_second_after_its_revocation(
    issuers: Issuers,
) -> None:
    process = Process(resource_server(issuers.trusted))
    token = Token(subject="revoked-user").mint(issuers)
    assert process.grants(token)

    revoke_some(process.store, issuers)
    process.clock.now += 0.25

    assert process.refusal_of(token) == (401, "revoked")
    assert process.grants(Token(subject="user-2").mint(issuers))


def test_a_wait_for_keys_does_not_excuse_an_old_view_of_revocations(
    served: ServedIssuer,
) -> None:
    process = Process(trusting(served))
    token = served.token(RESOURCE, expires_in=DAY)
    assert process.grants(token)
    process.clock.now += 3600  # due, and nobody does it in the background
    assert process.grants(token)

    process.clock.now += 59.9
    assert process.grants(token)

    revoke_blocking(process.store, served.issuer)
    process.clock.now += 0.2
    process.fetch_takes = 0.4

    assert process.refusal_of(token) == (401, "revoked")


class FallibleStore(MemoryStore):
    """A store that is down now and then."""

    is_down = False

    def read_log(self, after: int) -> LogPage:
        if self.is_down:
            raise UnavailableError("store_unreachable")
        return super().read_log(after)


@pytest.mark.parametrize("settings", [{}, {"max_log_age": 30.0}], ids=["usual", "30 s"])
def test_nothing_is_granted_while_revocations_cannot_be_known(
    settings: dict[str, float], issuers: Issuers
) -> None:
    store = FallibleStore()
    process = Process(resource_server(issuers.trusted, **settings), store)
    limit = process.server.max_log_age
    token = GOOD.mint(issuers)
    assert process.grants(token)

    store.is_down = True
    process.clock.now += limit - 0.01

    assert process.grants(token)

    process.clock.now += 0.02

    assert process.refusal_of(token) == (503, "store_unreachable")

    store.is_down = False

    assert process.grants(token)


# Revocations, through the middlewares


def test_a_log_out_of_reach_is_no_verdict(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    store = FallibleStore()
    store.is_down = True
    middleware = start_middleware(resource_server(issuers.trusted), store)

    unavailable("store_unreachable").check(
        middleware.get("/", bearer(GOOD.mint(issuers)))
    )
    # Who shows no token needs no log, and a bad one is bad without it.
    no_credentials().check(middleware.get("/"))
    bad = Token("stranger").mint(issuers)
    invalid_token("unknown_issuer").check(middleware.get("/", bearer(bad)))
    assert not middleware.seen


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_an_open_middleware_refuses_a_revoked_token_within_a_second(
    way: str, start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    store = MemoryStore()
    middleware = start_middleware(resource_server(issuers.trusted), store)
    main, retired = issuers.main.issuer, issuers.retired.issuer
    revoked: list[tuple[Token, str, dict[str, Any]]] = [
        (Token(claims={"jti": "token-1"}), main, {"token_id": "token-1"}),
        (Token(subject="user-2"), main, {"subject": "user-2"}),
        (Token(agent="agent-1"), main, {"subject": "user-1", "agent": "agent-1"}),
        (Token(subject="user-4", agent="agent-4"), main, {"agent": "agent-4"}),
        (Token("retired"), retired, {}),
    ]
    waiting = [bearer(token.mint(issuers)) for token, _, _ in revoked]
    for fields in waiting:
        assert middleware.get("/", fields).status == 200

    for _, issuer, names in revoked:
        if way == "blocking":
            revoke_blocking(store, issuer, **names)
        else:
            anyio.run(partial(revoke, store, issuer, **names))
    try_within(
        1,
        lambda: middleware.get("/", waiting[0]),
        until=lambda late: late.status != 200,
    )

    for fields in waiting:
        invalid_token("revoked").check(middleware.get("/", fields))
    granted(subject="user-3").check(
        middleware.get("/", bearer(Token(subject="user-3").mint(issuers)))
    )
