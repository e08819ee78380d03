"""One structured log record for each decision, without anybody's secrets in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import jwt
import pytest
from starlette.types import Receive, Scope, Send

from agentauth_middleware import Access, Issuer, ResourceServer, Route
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware._middleware.audit import hashed
from agentauth_middleware.asgi import AgentAuthMiddleware as AsgiMiddleware
from agentauth_middleware.errors import (
    ActorRefusedError,
    InsufficientScopeError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from agentauth_middleware.wsgi import AgentAuthMiddleware as WsgiMiddleware
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    environ,
    exchange,
    http_scope,
    serve,
    websocket_scope,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

AUDIT = "agentauth_middleware.audit"
ALICE = "alice-7f3@people.example"
STRANGER = FakeIssuer("https://stranger.example")
SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust(subjects="users")],
    routes=[
        Route("/public", public=True),
        Route("/optional", optional=True),
        Route("/notes/{id}", scopes=("notes.read",)),
        Route("/signed-in-lately", max_age=60),
        Route("/agents", agent="required"),
    ],
    forward_unauthenticated_preflights=True,
)

Handler: TypeAlias = Callable[[Access | None], None]
Get: TypeAlias = Callable[..., int]


def welcome(access: Access | None) -> None:
    """A handler that lets everybody in."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def asgi_get(store: MemoryStore) -> Get:
    def get(
        path: str = "/",
        token: str | None = None,
        handler: Handler = welcome,
        query: str = "",
        **fields: str,
    ) -> int:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            handler(scope.get("agentauth.access"))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        method = fields.pop("method", "GET")
        headers = [(name.replace("_", "-"), value) for name, value in fields.items()]
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        scope = http_scope(path, headers, method=method, query_string=query.encode())

        async def run() -> int:
            async with exchange(
                AsgiMiddleware(app, SERVER, store=store), scope
            ) as talk:
                pass
            return talk.status if talk.raised is None else 500

        return anyio.run(run)

    return get


def wsgi_get(store: MemoryStore) -> Get:
    def get(
        path: str = "/",
        token: str | None = None,
        handler: Handler = welcome,
        query: str = "",
        **fields: str,
    ) -> int:
        def app(
            environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterable[bytes]:
            handler(environ.get("agentauth.access"))
            start_response("204 No Content", [])
            return []

        method = fields.pop("method", "GET")
        members = {f"HTTP_{name.upper()}": value for name, value in fields.items()}
        if token is not None:
            members["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        written = path.encode().decode("latin-1")  # PEP 3333
        given = environ(written, method=method, QUERY_STRING=query, **members)
        return serve(WsgiMiddleware(app, SERVER, store=store), given).status

    return get


@pytest.fixture(params=[asgi_get, wsgi_get], ids=["asgi", "wsgi"])
def get(request: pytest.FixtureRequest, store: MemoryStore) -> Get:
    """One request through a new middleware; gives the status."""
    make: Callable[[MemoryStore], Get] = request.param
    return make(store)


class Listener(logging.Handler):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Whatever the library logs during a test, from DEBUG on."""
    logger, listener = logging.getLogger("agentauth_middleware"), Listener()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(listener)
    yield listener.records
    logger.removeHandler(listener)
    logger.setLevel(level)


def members_of(record: logging.LogRecord) -> dict[str, Any]:
    members: dict[str, Any] = record.__dict__["agentauth"]
    return members


def test_audit_of_a_granted_request(get: Get, records: list[logging.LogRecord]) -> None:
    token = ISSUER.token(
        RESOURCE,
        subject=ALICE,
        agent="agent-1",
        client_id="mail-app",
        scopes=["notes.write", "notes.read"],
    )

    assert get("/notes/17", token) == 204
    (record,) = records
    members = members_of(record)
    assert record.name == AUDIT
    assert record.levelno == logging.DEBUG
    assert (
        record.getMessage() == "granted: delegated (GET /notes/17, route /notes/{id})"
    )
    duration, subject = members.pop("duration"), members.pop("subject")
    assert isinstance(duration, float)
    assert 0 < duration < 60
    assert isinstance(subject, str)
    assert len(subject) >= 16
    assert members == {
        "outcome": "granted",
        "reason": "delegated",
        "method": "GET",
        "path": "/notes/17",
        "route": "/notes/{id}",
        "issuer": ISSUER.issuer,
        "agent": f"{ISSUER.issuer} agent-1",
        "client_id": "mail-app",
        "scopes": ["notes.read", "notes.write"],
    }


def test_audit_of_a_refused_request(get: Get, records: list[logging.LogRecord]) -> None:
    """A good token that does not reach far enough: who it was belongs to the story."""
    token = ISSUER.token(RESOURCE, subject=ALICE, client_id="mail-app")

    assert get("/notes/17", token) == 403
    (record,) = records
    members = members_of(record)
    assert record.name == AUDIT
    assert record.levelno == logging.INFO
    assert record.getMessage() == (
        "refused: insufficient_scope (GET /notes/17, route /notes/{id}): "
        "needs notes.read; has none"
    )
    assert members.pop("duration") > 0
    assert members.pop("subject")
    assert members == {
        "outcome": "refused",
        "reason": "insufficient_scope",
        "status": 403,
        "detail": "needs notes.read; has none",
        "method": "GET",
        "path": "/notes/17",
        "route": "/notes/{id}",
        "issuer": ISSUER.issuer,
        "agent": None,
        "client_id": "mail-app",
        "scopes": [],
    }


def test_audit_of_a_request_without_credentials(
    get: Get, records: list[logging.LogRecord]
) -> None:
    assert get("/notes/17", method="POST") == 401
    (record,) = records
    members = members_of(record)
    assert record.levelno == logging.INFO
    assert members.pop("duration") > 0
    assert members == {
        "outcome": "refused",
        "reason": "no_credentials",
        "status": 401,
        "detail": "no_credentials",
        "method": "POST",
        "path": "/notes/17",
        "route": "/notes/{id}",
    }


PREFLIGHT = {
    "origin": "https://app.example",
    "access_control_request_method": "POST",
}


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        pytest.param("/public", {}, "no_access_needed", id="public"),
        pytest.param("/optional", {}, "no_access_needed", id="optional"),
        pytest.param(
            "/notes/17", {"method": "OPTIONS", **PREFLIGHT}, "preflight", id="preflight"
        ),
    ],
)
def test_audit_of_a_request_that_needs_no_access(
    path: str,
    fields: dict[str, str],
    reason: str,
    get: Get,
    records: list[logging.LogRecord],
) -> None:
    assert get(path, **fields) == 204
    (record,) = records
    members = members_of(record)
    assert record.levelno == logging.DEBUG
    assert members["outcome"] == "passed"
    assert members["reason"] == reason
    assert "subject" not in members


def test_audit_names_one_subject_always_the_same(
    get: Get, records: list[logging.LogRecord]
) -> None:
    """Two people differ, also when two issuers call them alike."""
    for subject in (ALICE, ALICE, "bob"):
        get("/", ISSUER.token(RESOURCE, subject=subject))
    first, again, other = (members_of(record)["subject"] for record in records)

    assert first == again
    assert first != other


def test_audit_of_own_urls_is_none(get: Get, records: list[logging.LogRecord]) -> None:
    """Nothing is decided there."""
    assert get("/.well-known/oauth-protected-resource") == 200
    assert records == []


# Refusals raised in handlers


def raising(failure: Exception) -> Handler:
    def handler(access: Access | None) -> None:
        raise failure

    return handler


RAISED = [
    pytest.param(InsufficientScopeError(["mail.send"]), "insufficient_scope", id="403"),
    pytest.param(ActorRefusedError("not_their_note"), "not_their_note", id="actor"),
    pytest.param(TooManyRequestsError("budget", retry_after=3), "budget", id="429"),
    pytest.param(UnavailableError("mailbox_unreachable", "port 25"), None, id="503"),
]


@pytest.mark.parametrize(("failure", "reason"), RAISED)
def test_audit_of_a_refusal_raised_in_a_handler(
    failure: ActorRefusedError | UnavailableError,
    reason: str | None,
    get: Get,
    records: list[logging.LogRecord],
) -> None:
    """It comes on top of the grant that let the request in."""
    token = ISSUER.token(RESOURCE, subject=ALICE, agent="agent-1")

    assert get("/", token, raising(failure)) == failure.status
    granted, refused = records
    members = members_of(refused)
    assert members_of(granted)["outcome"] == "granted"
    is_trouble = isinstance(failure, UnavailableError)
    assert refused.levelno == (logging.WARNING if is_trouble else logging.INFO)
    assert members["outcome"] == "refused"
    assert members["reason"] == (reason or failure.reason)
    assert members["status"] == failure.status
    assert members["detail"].startswith(str(failure))
    assert members["subject"] == members_of(granted)["subject"]
    assert members["agent"] == f"{ISSUER.issuer} agent-1"


def test_audit_of_a_refusal_raised_without_access(
    get: Get, records: list[logging.LogRecord]
) -> None:
    handler = raising(ActorRefusedError("members_only"))

    assert get("/optional", None, handler) == 403
    assert members_of(records[1])["reason"] == "members_only"
    assert "subject" not in members_of(records[1])


def test_audit_of_an_error_that_is_no_refusal(
    get: Get, records: list[logging.LogRecord]
) -> None:
    """It is the server's to log; ours is the grant."""
    token = ISSUER.token(RESOURCE)

    assert get("/", token, raising(KeyError("note"))) == 500
    assert [members_of(record)["outcome"] for record in records] == ["granted"]


# Levels


@pytest.mark.parametrize(
    ("level", "reasons"),
    [
        pytest.param(
            logging.DEBUG,
            ["user", "no_access_needed", "no_credentials", "user", "no_database"],
            id="DEBUG",
        ),
        pytest.param(logging.INFO, ["no_credentials", "no_database"], id="INFO"),
        pytest.param(logging.WARNING, ["no_database"], id="WARNING"),
        pytest.param(logging.ERROR, [], id="ERROR"),
    ],
)
def test_audit_level_chooses(
    level: int, reasons: list[str], get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, logger=AUDIT)
    get("/", ISSUER.token(RESOURCE))
    get("/public")
    get("/")
    get("/", ISSUER.token(RESOURCE), raising(UnavailableError("no_database")))

    assert [members_of(record)["reason"] for record in caplog.records] == reasons


TROUBLE = [
    ("keys_unreachable", logging.WARNING),
    ("keys_unusable", logging.WARNING),
    ("introspection_failed", logging.WARNING),
    ("introspection_throttled", logging.WARNING),
    ("store_unreachable", logging.WARNING),
    ("upstream_timeout", logging.WARNING),
    # What strangers may cause, or what we send.
    ("introspection_bad_request", logging.WARNING),
    ("introspection_forbidden", logging.WARNING),
    # What follows from trouble that has records of its own.
    ("introspection_held_off", logging.INFO),
    # What nobody but the operator can fix.
    ("http_client_unusable", logging.ERROR),
    ("introspection_not_configured", logging.ERROR),
    ("introspection_refused_us", logging.ERROR),
    ("issuer_lookup_failed", logging.ERROR),
    ("metadata_not_found", logging.ERROR),
    ("metadata_unusable", logging.ERROR),
    ("upstream_refused", logging.ERROR),
]


@pytest.mark.parametrize(("reason", "level"), TROUBLE)
def test_audit_level_of_trouble_says_who_has_to_do_something(
    reason: str, level: int, get: Get, records: list[logging.LogRecord]
) -> None:
    token = ISSUER.token(RESOURCE)

    assert get("/", token, raising(UnavailableError(reason))) == 503
    assert records[1].levelno == level


def test_audit_of_keys_out_of_reach_is_a_warning(
    records: list[logging.LogRecord],
) -> None:
    """And of a key that nobody has, which strangers can name all day, it is none."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    with FakeIssuer.serve() as issuer:
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )
        issuer.replies["/jwks.json"] = (500, {}, b"")
        ask(WsgiMiddleware(app, server), issuer.token(RESOURCE))
        del issuer.replies["/jwks.json"]
        middleware = WsgiMiddleware(app, server)
        for key_id in (issuer.key_id, "junk-1", "junk-2"):
            ask(middleware, issuer.token(RESOURCE, header={"kid": key_id}))

    assert [(members_of(it)["reason"], it.levelname) for it in records] == [
        ("keys_unusable", "WARNING"),
        ("unknown", "DEBUG"),
        ("unknown_kid", "INFO"),
        ("keys_cooling_down", "INFO"),
    ]


def ask(middleware: WsgiMiddleware, token: str) -> int:
    return serve(middleware, environ(HTTP_AUTHORIZATION=f"Bearer {token}")).status


# What must never be in a record


def token_of_alice(**members: Any) -> str:
    return ISSUER.token(RESOURCE, subject=ALICE, email=ALICE, name=ALICE, **members)


def tampered(token: str) -> str:
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{signature[:-8]}AAAAAAAA"


def unsigned() -> str:
    claims = {"iss": ISSUER.issuer, "sub": ALICE, "aud": RESOURCE}
    return jwt.encode(claims, "", "none", headers={"typ": "at+jwt"})


SCOPES = ["notes.read"]
TOKENS = [
    pytest.param(lambda: token_of_alice(scopes=SCOPES), 204, id="good"),
    pytest.param(
        lambda: token_of_alice(scopes=SCOPES, agent="agent-1"), 204, id="delegated"
    ),
    pytest.param(token_of_alice, 403, id="scope missing"),
    pytest.param(lambda: token_of_alice(expires_in=-600), 401, id="expired"),
    pytest.param(lambda: token_of_alice(iat=2**40), 401, id="issued in the future"),
    pytest.param(lambda: tampered(token_of_alice()), 401, id="bad signature"),
    pytest.param(unsigned, 401, id="unsigned"),
    pytest.param(
        lambda: STRANGER.token(RESOURCE, subject=ALICE), 401, id="unknown issuer"
    ),
    pytest.param(
        lambda: ISSUER.token("https://other.example", subject=ALICE),
        401,
        id="other audience",
    ),
    pytest.param(
        lambda: token_of_alice(header={"typ": "JWT"}), 401, id="other type of token"
    ),
    pytest.param(
        lambda: token_of_alice(header={"kid": "unheard-of"}), 401, id="unknown key"
    ),
    pytest.param(lambda: token_of_alice(exp="soon"), 401, id="malformed claim"),
    pytest.param(
        lambda: token_of_alice(act={"sub": 7, "was": ALICE}), 401, id="malformed act"
    ),
    pytest.param(
        lambda: token_of_alice(cnf={"jkt": "x"}), 401, id="sender-constrained"
    ),
    pytest.param(lambda: f"{token_of_alice()}!", 400, id="not a token68"),
    pytest.param(lambda: token_of_alice().replace(".", ""), 401, id="opaque"),
    pytest.param(
        lambda: token_of_alice() + "A" * 20_000, 400, id="too long to be looked at"
    ),
]


def check_no_secrets(records: list[logging.LogRecord], token: str) -> None:
    """Neither in the text nor in any member, arguments included."""
    parts = [token, *(part for part in token.split(".") if len(part) > 8)]
    formatter = logging.Formatter("%(message)s %(args)s")
    for record in records:
        written = f"{formatter.format(record)} {record.__dict__!r}"
        assert ALICE not in written
        assert not any(part in written for part in parts)


@pytest.mark.parametrize(("make", "status"), TOKENS)
def test_audit_holds_no_token_and_no_plain_subject(
    make: Callable[[], str], status: int, get: Get, records: list[logging.LogRecord]
) -> None:
    token = make()

    assert get("/notes/17", token) == status
    assert len(records) == 1
    check_no_secrets(records, token)


def revoke_alice(store: MemoryStore) -> None:
    """As another process would: here no middleware uses the store yet."""
    store.append_log([Revocation(ISSUER.issuer, time.time(), ALICE).to_cut_off()])


def test_audit_of_a_revoked_token_holds_neither(
    get: Get, records: list[logging.LogRecord], store: MemoryStore
) -> None:
    token = token_of_alice(scopes=SCOPES)
    revoke_alice(store)

    assert get("/notes/17", token) == 401
    assert members_of(records[-1])["reason"] == "revoked"
    check_no_secrets(records, token)


NOT_GOOD_NOW = [
    pytest.param({}, "revoked", id="revoked"),
    pytest.param({"cnf": {"jkt": "x"}}, "sender_constrained", id="bound to a key"),
]


@pytest.mark.parametrize(("claims", "reason"), NOT_GOOD_NOW)
def test_audit_of_a_good_token_that_is_refused_names_whose_it_is(
    claims: dict[str, Any],
    reason: str,
    get: Get,
    records: list[logging.LogRecord],
    store: MemoryStore,
) -> None:
    """Whoever looks into a stolen token wants to know which agent still sends it."""
    token = token_of_alice(scopes=SCOPES, agent="agent-1", **claims)
    if reason == "revoked":
        revoke_alice(store)

    assert get("/notes/17", token) == 401
    (record,) = [record for record in records if record.name == AUDIT]
    members = members_of(record)
    assert members["reason"] == reason
    assert members["issuer"] == ISSUER.issuer
    assert members["subject"] == hashed(ISSUER.issuer, ALICE)
    assert members["agent"] == f"{ISSUER.issuer} agent-1"
    assert members["scopes"] == SCOPES
    check_no_secrets(records, token)


def test_audit_of_a_raised_refusal_holds_neither(
    get: Get, records: list[logging.LogRecord]
) -> None:
    """A user without the right to something, by a guard of ours."""

    def guard(access: Access | None) -> None:
        assert access is not None
        access.require_delegation()

    token = token_of_alice(scopes=SCOPES)

    assert get("/notes/17", token, guard) == 403
    assert len(records) == 2
    check_no_secrets(records, token)


@pytest.mark.parametrize("credentials", ["query", "query and header", "other scheme"])
def test_audit_holds_no_token_from_elsewhere(
    credentials: str, get: Get, records: list[logging.LogRecord]
) -> None:
    token = token_of_alice(scopes=SCOPES)
    status = {
        "query": lambda: get("/notes/17", query=f"access_token={token}"),
        "query and header": lambda: get(
            "/notes/17", token, query=f"access_token={token}"
        ),
        "other scheme": lambda: get("/notes/17", authorization=f"Token {token}"),
    }[credentials]()

    assert status in (400, 401)
    assert len(records) == 1
    check_no_secrets(records, token)


def test_audit_names_the_path_beside_the_pattern(
    get: Get, records: list[logging.LogRecord]
) -> None:
    get("/notes/a b")
    get("/unmatched/17")

    shown = [(members_of(r)["path"], members_of(r)["route"]) for r in records]
    assert shown == [("/notes/a%20b", "/notes/{id}"), ("/unmatched/17", "/*")]


def test_audit_cuts_what_may_be_a_secret_in_a_path(
    get: Get, records: list[logging.LogRecord]
) -> None:
    """Such as a link that was mailed, or a token where none belongs."""
    token = token_of_alice(scopes=SCOPES)
    secret = "6f1c9a0d" * 6

    get(f"/notes/{token}")
    get(f"/notes/{secret}/confirm")

    assert members_of(records[0])["path"] == "/notes/eyJhbGci..."
    assert members_of(records[1])["path"] == "/notes/6f1c9a0d.../confirm"
    check_no_secrets(records, token)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param("/a\nINFO granted", "/a%0AINFO%20granted", id="line break"),
        pytest.param("/\x1b[2J", "/%1B%5B2J", id="terminal"),
        pytest.param("/ü", "/%C3%BC", id="not ASCII"),
    ],
)
def test_audit_shows_a_path_on_one_line(
    path: str, shown: str, get: Get, records: list[logging.LogRecord]
) -> None:
    """Else a request could write records of its own."""
    get(path)

    assert members_of(records[0])["path"] == shown


def test_audit_cuts_a_long_path(get: Get, records: list[logging.LogRecord]) -> None:
    get("/notes" * 10_000)

    assert len(members_of(records[0])["path"]) <= 203


def test_audit_of_a_path_that_is_ambiguous_has_no_route(
    get: Get, records: list[logging.LogRecord]
) -> None:
    assert get("/public/") == 400
    assert members_of(records[0])["reason"] == "ambiguous_path"
    assert members_of(records[0])["route"] is None


def test_audit_of_a_websocket(records: list[logging.LogRecord]) -> None:
    """A handshake is a GET."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def run() -> None:
        token = f"Bearer {ISSUER.token(RESOURCE)}"
        middleware = AsgiMiddleware(app, SERVER)
        async with exchange(
            middleware, websocket_scope(headers=[("Authorization", token)])
        ):
            pass
        async with exchange(middleware, websocket_scope()):
            pass

    anyio.run(run)

    assert [
        (members_of(record)["method"], members_of(record)["outcome"])
        for record in records
    ] == [("GET", "granted"), ("GET", "refused")]


def test_audit_of_a_refused_body(records: list[logging.LogRecord]) -> None:
    """Raised before the first piece of a generator."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["agentauth.access"].require_scopes("mail.send")
        yield b"never"

    token = f"Bearer {ISSUER.token(RESOURCE)}"
    answer = serve(WsgiMiddleware(app, SERVER), environ(HTTP_AUTHORIZATION=token))

    assert answer.status == 403
    assert [members_of(record)["reason"] for record in records] == [
        "user",
        "insufficient_scope",
    ]


def test_audit_of_a_refusal_raised_too_late(records: list[logging.LogRecord]) -> None:
    """Nobody was refused: the answer had begun, and the server logs the error."""

    async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ActorRefusedError("too_late")

    def wsgi_app(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        start_response("200 OK", [])(b"begun")
        raise ActorRefusedError("too_late")

    async def run() -> None:
        async with exchange(AsgiMiddleware(asgi_app, SERVER), http_scope("/public")):
            pass

    anyio.run(run)
    serve(WsgiMiddleware(wsgi_app, SERVER), environ("/public"))

    assert [members_of(record)["outcome"] for record in records] == ["passed"] * 2


def test_audit_of_what_only_the_operator_can_fix_is_an_error(
    records: list[logging.LogRecord],
) -> None:
    tenant = ISSUER.trust()
    is_down = False

    def find(name: str) -> Issuer | None:
        if is_down:
            raise ConnectionError("no database")
        return tenant if name == tenant.issuer else None

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise AssertionError("let in")

    server = ResourceServer(
        RESOURCE, issuers=find, authorization_servers=[tenant.issuer]
    )
    middleware = WsgiMiddleware(app, server)
    is_down = True
    token = f"Bearer {ISSUER.token(RESOURCE)}"
    answer = serve(middleware, environ("/x", HTTP_AUTHORIZATION=token))

    assert answer.status == 503
    assert [record.levelno for record in records] == [logging.ERROR]
    assert members_of(records[0])["reason"] == "issuer_lookup_failed"
    line = find.__code__.co_firstlineno + 2
    assert f"{__file__}, line {line}" in members_of(records[0])["detail"]
    check_no_secrets(records, token)


def test_stranger_for_whom_the_function_of_tenants_raises_writes_no_error(
    records: list[logging.LogRecord],
) -> None:
    def fails(name: str) -> None:
        raise KeyError(name)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise AssertionError("let in")

    server = ResourceServer(RESOURCE, issuers=fails, authorization_servers=[])
    token = f"Bearer {ISSUER.token(RESOURCE)}"
    answer = serve(WsgiMiddleware(app, server), environ("/x", HTTP_AUTHORIZATION=token))

    assert answer.status == 429
    assert "keep the token" in answer.json["error_description"]
    assert [record.levelno for record in records] == [logging.INFO]
    assert members_of(records[0])["reason"] == "unknown_issuer_lookup_failed"
    assert "KeyError" in members_of(records[0])["detail"]
    check_no_secrets(records, token)
