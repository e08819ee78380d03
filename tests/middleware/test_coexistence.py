"""Beside an API's other clients, ``unauthenticated="pass"``, in both middlewares.

Whoever is no agent reaches the application as if there were no middleware, and hears of
one only if the application answers 401. Agents meet what they meet anywhere.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Endpoint

from agentauth_middleware import (
    Access,
    ConfigurationError,
    Issuer,
    ResourceServer,
    asgi,
    current_access,
    wsgi,
)
from agentauth_middleware.asgi import Caller
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from tests.support.beside import (
    AGENTS,
    ASKED,
    BAD,
    CHALLENGING,
    FORGER,
    OTHERS,
    OWN,
    SERVER,
    TAKEN,
    OpenPassage,
    Seen,
    asgi_application,
    good,
    open_passage,
    wsgi_application,
)
from tests.support.exchange import MIDDLEWARES, Answer, HTTPRequest
from tests.support.server_side import RESOURCE, environ, http_scope, request, serve


@pytest.fixture(params=MIDDLEWARES)
def passage(request: pytest.FixtureRequest) -> OpenPassage:
    """A test that asks for it runs on each side."""
    return partial(open_passage, request.param)


# Other clients


TAKEN_AS_IT_IS = Answer(TAKEN[0], tuple(TAKEN[1]), TAKEN[2])


def comparable(given: dict[str, Any]) -> dict[str, Any]:
    """Without what is made anew for each request."""
    return {name: value for name, value in given.items() if name != "wsgi.input"}


@pytest.mark.parametrize("lines", OTHERS.values(), ids=OTHERS)
def test_another_client_reaches_the_application_untouched(
    passage: OpenPassage, lines: tuple[str, ...]
) -> None:
    """Everything the server said is there, and nothing more."""
    opened = passage()
    for target in ("/", "/notes", "/public", "/optional"):
        sent = HTTPRequest(
            "POST",
            f"{target}?access_token=sk_live_0123456789&a=%20",
            (
                ("Host", "api.example.com"),
                ("Cookie", "session=abc; a=b"),
                ("X-Forwarded-User", "carol"),
                *(("Authorization", line) for line in lines),
            ),
        )

        assert opened.ask(sent) == TAKEN_AS_IT_IS
        seen = opened.seen.pop()
        assert seen.access is None
        assert comparable(seen.given) == comparable(opened.given(sent))


@pytest.mark.parametrize(
    "target", ["/notes//mine", "/public/../notes", "/notes%0a", "/notes/mine/../x"]
)
def test_another_client_may_spell_paths_as_it_likes(
    passage: OpenPassage, target: str
) -> None:
    """Routes bind agents alone, and so does what they find unclear."""
    opened = passage()

    assert opened.ask(HTTPRequest("GET", target)).status == 200
    assert len(opened.seen) == 1


PREFLIGHT = (
    ("Origin", "https://app.example.com"),
    ("Access-Control-Request-Method", "POST"),
)


def test_preflight_of_another_client_arrives_as_it_was_sent(
    passage: OpenPassage,
) -> None:
    opened = passage(answered=(401, [], b""))
    key = ("Authorization", "Bearer sk_live_0123456789")
    sent = HTTPRequest("OPTIONS", "/notes", (*PREFLIGHT, key))
    answer = opened.ask(sent)
    (seen,) = opened.seen

    assert comparable(seen.given) == comparable(opened.given(sent))
    assert seen.access is None
    assert len(answer.lines("www-authenticate")) == 1


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param("Bearer " + FORGER.token(RESOURCE), id="a forger's"),
        pytest.param("DPoP x", id="DPoP"),
    ],
)
def test_preflight_with_a_credential_of_an_agent_is_an_ordinary_request(
    passage: OpenPassage, authorization: str
) -> None:
    """No browser sends one, so it must not reach a handler for looking like one."""
    opened = passage()
    fields = (*PREFLIGHT, ("Authorization", authorization))

    assert opened.ask(HTTPRequest("OPTIONS", "/notes", fields)).status == 401
    assert opened.seen == []


def test_another_client_keeps_remote_user() -> None:
    opened = open_passage("wsgi")
    for members in (
        {"REMOTE_USER": "carol"},
        {"REMOTE_USER": "carol", "HTTP_AUTHORIZATION": "Basic dTpw"},
        {"REMOTE_USER": "carol", "HTTP_AUTHORIZATION": f"Bearer {good()}"},
    ):
        serve(opened.middleware, environ("/optional", **members))
    users = [seen.given.get("REMOTE_USER") for seen in opened.seen]

    assert users == ["carol", "carol", None]


# Agents


@pytest.mark.parametrize(("lines", "statuses"), BAD.values(), ids=BAD)
def test_bad_agent_credential_is_refused(
    passage: OpenPassage, lines: tuple[str, ...], statuses: set[int]
) -> None:
    """Never handed on as if it were another client's, whatever the mode."""
    for server in (SERVER, CHALLENGING):
        opened = passage(server)
        answer = opened.get("/notes", *lines)

        assert answer.status in statuses
        assert len(answer.lines("www-authenticate")) == (answer.status != 503)
        assert opened.seen == []


@pytest.mark.parametrize(("lines", "statuses"), BAD.values(), ids=BAD)
def test_bad_agent_credential_is_refused_where_none_is_needed(
    passage: OpenPassage, lines: tuple[str, ...], statuses: set[int]
) -> None:
    opened = passage()

    assert opened.get("/optional", *lines).status in statuses
    assert opened.seen == []


SPELLINGS = ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", " \tBearer {}\t "]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("again", [False, True], ids=["new", "remembered"])
def test_good_agent_credential_gives_access(
    passage: OpenPassage, spelling: str, again: bool
) -> None:
    opened = passage()
    line = spelling.format(good(scopes=["notes.read"]))
    statuses = {opened.get("/notes", line).status for _ in range(1 + again)}
    access = opened.seen[-1].access

    assert statuses == {200}
    assert access is not None
    assert access.require_agent().subject == "agent-1"


def test_remembered_token_is_refused_once_it_is_revoked(passage: OpenPassage) -> None:
    store = MemoryStore()
    opened = passage(store=store)
    line = f"Bearer {good(jti='later')}"

    assert opened.get("/optional", line).status == 200

    revoke_blocking(store, AGENTS.issuer, token_id="later")
    deadline = time.monotonic() + 5
    while opened.get("/optional", line).status != 401:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("target", "token", "status", "error"),
    [
        pytest.param("/notes", {}, 403, "insufficient_scope", id="scope missing"),
        pytest.param("/elsewhere", {}, 403, "actor_unauthorized", id="no route"),
        pytest.param("/notes//mine", {}, 400, "invalid_request", id="unclear path"),
    ],
)
def test_routes_bind_agents(
    passage: OpenPassage, target: str, token: dict[str, Any], status: int, error: str
) -> None:
    opened = passage()
    answer = opened.get(target, f"Bearer {good(**token)}")

    assert answer.status == status
    assert answer.json()["error"] == error
    assert opened.seen == []


def test_agent_credential_and_a_token_in_the_query_are_two(
    passage: OpenPassage,
) -> None:
    opened = passage()

    assert opened.get("/optional?access_token=x", f"Bearer {good()}").status == 400
    assert opened.seen == []


def test_token_in_the_query_alone_is_no_credential(passage: OpenPassage) -> None:
    opened = passage()

    assert opened.get(f"/optional?access_token={good()}").status == 200
    assert opened.seen[0].access is None


def test_public_route_looks_at_no_credential(passage: OpenPassage) -> None:
    """As where the middleware challenges: it may be meant for the application."""
    opened = passage()

    assert opened.get("/public", f"Bearer {FORGER.token(RESOURCE)}").status == 200
    assert opened.seen[0].access is None


# An Access from outside


INJECTED = Access("https://evil.example", "root")
OUTER = ResourceServer("https://outer.example", issuers=[OWN.trust()])
OUTER_TOKEN = f"Bearer {OWN.token(OUTER.resource)}"


def test_wsgi_access_cannot_be_injected() -> None:
    """By whoever calls the middleware, or by an outer middleware of another
    resource."""
    seen: list[Seen] = []
    middleware = wsgi.AgentAuthMiddleware(wsgi_application(seen), SERVER)
    serve(middleware, {**environ("/optional"), "agentauth.access": INJECTED})
    outer = wsgi.AgentAuthMiddleware(middleware, OUTER)
    serve(outer, environ("/optional", HTTP_AUTHORIZATION=OUTER_TOKEN))

    assert [entry.access for entry in seen] == [None, None]
    assert all("agentauth.access" not in entry.given for entry in seen)


@pytest.mark.anyio
async def test_asgi_access_cannot_be_injected() -> None:
    """By whoever calls the middleware, or by an outer middleware of another
    resource."""
    seen: list[Seen] = []
    middleware = asgi.AgentAuthMiddleware(asgi_application(seen), SERVER)
    members: dict[str, Any] = {"user": Caller(INJECTED), "auth": AuthCredentials(["x"])}
    for injected in (members, {"user": members["user"]}):
        injected["agentauth.access"] = INJECTED
        await request(middleware, http_scope("/optional", **injected))
    outer = asgi.AgentAuthMiddleware(middleware, OUTER)
    await request(outer, http_scope("/optional", [("Authorization", OUTER_TOKEN)]))

    assert [entry.access for entry in seen] == [None, None, None]
    for entry in seen:
        assert entry.given.keys().isdisjoint({"agentauth.access", "user", "auth"})


@pytest.mark.parametrize("name", ["agentauth.access", "X-User", "Remote-User"])
def test_header_is_never_identity(passage: OpenPassage, name: str) -> None:
    opened = passage()
    opened.ask(HTTPRequest("GET", "/optional", ((name, "root"),)))

    assert opened.seen[0].access is None
    assert "agentauth.access" not in opened.seen[0].given
    assert "REMOTE_USER" not in opened.seen[0].given


# Starlette's own authentication


class Sessions(AuthenticationBackend):
    """Knows people by their cookie, and nobody else."""

    async def authenticate(
        self, conn: HTTPConnection
    ) -> tuple[AuthCredentials, BaseUser] | None:
        if "session" not in conn.cookies:
            return None
        return AuthCredentials(["session"]), SimpleUser(conn.cookies["session"])


async def who(request: Request) -> Response:
    access = current_access()
    return JSONResponse(
        {
            "user": request.user.display_name,
            "auth": list(request.auth.scopes),
            "agent": access.agent.subject if access and access.agent else None,
        }
    )


def with_sessions(place: Literal["inside", "outside"]) -> Starlette:
    app = Starlette(routes=[Endpoint("/optional", who)])
    if place == "inside":
        app.add_middleware(AuthenticationMiddleware, backend=Sessions())
    app.add_middleware(asgi.AgentAuthMiddleware, resource_server=SERVER)
    if place == "outside":
        app.add_middleware(AuthenticationMiddleware, backend=Sessions())
    return app


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_starlettes_authentication_tells_who_other_clients_are(
    place: Literal["inside", "outside"],
) -> None:
    app = with_sessions(place)
    carol = await request(app, http_scope("/optional", [("Cookie", "session=carol")]))
    nobody = await request(app, http_scope("/optional"))

    assert carol.json == {"user": "carol", "auth": ["session"], "agent": None}
    assert nobody.json == {"user": "", "auth": [], "agent": None}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("place", "user"), [("inside", "carol"), ("outside", "user-1")]
)
async def test_agents_access_stands_beside_starlettes_authentication(
    place: Literal["inside", "outside"], user: str
) -> None:
    """What stands inside has the last word on ``request.user``; never on the access."""
    headers = [("Cookie", "session=carol"), ("Authorization", f"Bearer {good()}")]
    talk = await request(with_sessions(place), http_scope("/optional", headers))

    assert talk.json["user"] == user
    assert talk.json["agent"] == "agent-1"


# Issuers that a function knows


@dataclass
class Tenants:
    """An operator's function, which may fail."""

    known: dict[str, Issuer] = field(default_factory=dict[str, Issuer])
    fails: bool = False
    asked: list[str] = field(default_factory=list[str])

    def __call__(self, name: str) -> Issuer | None:
        self.asked.append(name)
        if self.fails:
            raise OSError("the list of tenants is gone")
        return self.known.get(name)

    def server(self) -> ResourceServer:
        return replace(SERVER, issuers=self, authorization_servers=[])


def test_function_of_issuers_tells_agents_from_others(passage: OpenPassage) -> None:
    tenants = Tenants({AGENTS.issuer: AGENTS.trust()})
    opened = passage(tenants.server())
    statuses = [
        opened.get("/optional", f"Bearer {issuer.token(RESOURCE)}").status
        for issuer in (AGENTS, OWN, FORGER)
    ]

    assert statuses == [200, 200, 401]
    assert [entry.access is None for entry in opened.seen] == [False, True]


def test_function_of_issuers_that_fails_stops_no_other_kind_of_client(
    passage: OpenPassage,
) -> None:
    """Whose a JWT is, nobody can tell meanwhile; a key and a session are not asked
    about, and a public route asks about nobody."""
    tenants = Tenants(fails=True)
    opened = passage(tenants.server())
    token = f"Bearer {OWN.token(RESOURCE)}"
    statuses = [
        opened.get(target, line).status
        for target, line in (
            ("/optional", "Bearer sk_live_0123456789"),
            ("/public", token),
            ("/optional", token),
        )
    ]

    assert statuses == [200, 200, 429]
    assert len(tenants.asked) == 1


# Settings and records


def test_opaque_tokens_need_a_prefix_beside_other_clients() -> None:
    unmarked = replace(ASKED, opaque_prefixes=())

    ResourceServer(RESOURCE, issuers=[unmarked], insecure_loopback=True)

    with pytest.raises(ConfigurationError, match=r"opaque\.example\.com.*opaque_pref"):
        ResourceServer(
            RESOURCE,
            issuers=[unmarked],
            unauthenticated="pass",
            insecure_loopback=True,
        )


def test_agent_may_call_no_path_that_no_route_names(passage: OpenPassage) -> None:
    """Most paths of an API with other clients were never meant for agents."""
    opened = passage(replace(SERVER, unmatched=None))
    agent = f"Bearer {AGENTS.token(RESOURCE, scopes=['notes.read'])}"

    assert opened.get("/internal", agent).status == 403
    assert opened.get("/internal", "Bearer sk_live").status == 200
    assert opened.get("/notes", agent).status == 200


def test_agent_may_call_every_path_if_the_operator_says_so(
    passage: OpenPassage,
) -> None:
    opened = passage(replace(SERVER, unmatched="authenticated"))
    agent = f"Bearer {AGENTS.token(RESOURCE, scopes=['notes.read'])}"

    assert opened.get("/internal", agent).status == 200


@pytest.mark.parametrize("value", ["ignore", "Pass", "", None, True])
def test_unauthenticated_is_one_of_two_words(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="unauthenticated"):
        replace(SERVER, unauthenticated=value)


def test_request_of_another_client_is_recorded_as_such(
    passage: OpenPassage, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG: there are many of them. What it carries is not."""
    opened = passage()
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")
    opened.get("/notes", "Bearer sk_live")
    (record,) = caplog.records

    assert record.levelno == logging.DEBUG
    assert record.__dict__["agentauth"]["outcome"] == "passed"
    assert record.__dict__["agentauth"]["reason"] == "other_client"
    assert "sk_live" not in caplog.text
