"""Pages of other origins: preflights, and what lets a page read an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias
from wsgiref.validate import validator

import anyio
import bottle  # type: ignore[import-untyped]
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route as Endpoint
from starlette.types import Message, Receive, Scope, Send

from agentauth_middleware import ResourceServer, asgi, wsgi
from tests.middleware.conftest import RunningMiddleware
from tests.support.exchange import Answer, HTTPRequest, Middleware, ask_asgi, ask_wsgi
from tests.support.scenarios import (
    GOOD,
    Issuers,
    no_credentials,
    resource_server,
)
from tests.support.server_side import (
    FORWARDING,
    SERVER,
    bearer,
    environ,
    exchange,
    http_scope,
    serve,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PAGE = "https://app.example.org"
OTHER = "https://evil.example.net"
METADATA = "/.well-known/oauth-protected-resource"
Fields: TypeAlias = tuple[tuple[str, str], ...]


def preflight(
    origin: str = PAGE,
    method: str = "DELETE",
    headers: str | None = "authorization,content-type",
    *more: tuple[str, str],
    target: str = "/notes",
) -> HTTPRequest:
    fields: Fields = (
        ("Host", "api.example.com"),
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
    )
    if headers is not None:
        fields = (*fields, ("Access-Control-Request-Headers", headers))
    return HTTPRequest("OPTIONS", target, (*fields, *more))


@pytest.fixture
def closed(start_middleware: RunningMiddleware, issuers: Issuers) -> Middleware:
    """No page of another origin may call."""
    return start_middleware(resource_server(issuers.trusted))


@pytest.fixture
def listing(start_middleware: RunningMiddleware, issuers: Issuers) -> Middleware:
    """Pages of ``PAGE`` may call."""
    return start_middleware(resource_server(issuers.trusted, browser_origins=[PAGE]))


@pytest.fixture
def forwarding(start_middleware: RunningMiddleware, issuers: Issuers) -> Middleware:
    """The application answers preflights."""
    server = resource_server(issuers.trusted, forward_unauthenticated_preflights=True)
    return start_middleware(server)


# By default nothing passes


@pytest.mark.parametrize("unmatched", ["authenticated", "refuse"])
@pytest.mark.parametrize("target", ["/notes", "/nowhere"])
def test_preflight_is_a_request_without_credentials(
    target: str, unmatched: str, start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    middleware = start_middleware(resource_server(issuers.trusted, unmatched=unmatched))
    answer = middleware.ask(preflight(target=target))

    scopes = "notes.read notes.write" if target == "/notes" else None
    no_credentials(scopes).check(answer)
    assert answer.lines("access-control-allow-origin") == []
    assert not middleware.seen


ODD_METHODS = ["OPTIONS", "options", "GET", "PROPFIND", "M-SEARCH", "QUERY", "DELETE"]
IN_DISGUISE: tuple[Fields, ...] = (
    (),
    (("X-HTTP-Method-Override", "DELETE"),),
    (("Content-Length", "5"),),
    (("Transfer-Encoding", "chunked"),),
    (("Upgrade", "websocket"),),
)


@pytest.mark.parametrize("more", IN_DISGUISE, ids=str)
@pytest.mark.parametrize("method", ODD_METHODS)
def test_nothing_without_a_credential_passes_on_a_guarded_path(
    method: str, more: Fields, closed: Middleware
) -> None:
    asked = replace(preflight(PAGE, "POST", None, *more), method=method)

    assert closed.ask(asked).status == 401
    assert not closed.seen


# Applications whose handlers run on OPTIONS as they run on GET


class Notes:
    """Starlette gives an endpoint of this kind every method."""

    def __init__(self, ran: list[str]) -> None:
        self._ran = ran

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._ran.append(scope["method"])
        await PlainTextResponse("the data")(scope, receive, send)


def starlette_app(ran: list[str]) -> Any:
    return Starlette(routes=[Endpoint("/notes", Notes(ran))])


def plain_wsgi_app(ran: list[str]) -> WSGIApplication:
    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        ran.append(environ["REQUEST_METHOD"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the data"]

    return application


def bottle_app(ran: list[str]) -> Any:
    app = bottle.Bottle()

    @app.route("/notes", method="ANY")  # type: ignore[untyped-decorator]
    def notes() -> str:
        ran.append(bottle.request.environ["REQUEST_METHOD"])
        return "the data"

    return app


def overriding(app: WSGIApplication) -> WSGIApplication:
    """Method overrides, by header and by query, as recipes for WSGI have them."""

    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE")
        if "_method=DELETE" in environ["QUERY_STRING"]:
            method = "DELETE"
        environ["REQUEST_METHOD"] = method or environ["REQUEST_METHOD"]
        return app(environ, start_response)

    return application


def ask(app: Any, asked: HTTPRequest) -> Answer:
    if isinstance(app, asgi.AgentAuthMiddleware):
        return ask_asgi(app, "asyncio", asked)
    return ask_wsgi(app, asked)


Build: TypeAlias = Callable[[list[str]], Any]

BEHIND: dict[str, Build] = {
    "Starlette": starlette_app,
    "plain WSGI": plain_wsgi_app,
    "Bottle": bottle_app,
    "method override": lambda ran: overriding(plain_wsgi_app(ran)),
}


def protected(name: str, server: ResourceServer, ran: list[str]) -> Any:
    middleware: Any = asgi if name == "Starlette" else wsgi
    return middleware.AgentAuthMiddleware(BEHIND[name](ran), server)


@pytest.mark.parametrize("origins", [[], [PAGE], ["*"]], ids=str)
@pytest.mark.parametrize("name", BEHIND)
def test_no_handler_runs_on_a_preflight(name: str, origins: list[str]) -> None:
    ran: list[str] = []
    app = protected(name, replace(SERVER, browser_origins=origins), ran)
    override = ("X-HTTP-Method-Override", "DELETE")
    for asked in (
        preflight(),
        preflight(PAGE, "DELETE", None, override, target="/notes?_method=DELETE"),
    ):
        answer = ask(app, asked)

        assert answer.status == (204 if origins else 401)
        assert b"the data" not in answer.body
    assert ran == []


def test_a_forwarded_preflight_becomes_no_other_method() -> None:
    ran: list[str] = []
    app = protected("method override", FORWARDING, ran)
    override = ("X-HTTP-Method-Override", "DELETE")
    asked = preflight(PAGE, "DELETE", None, override, target="/notes?_method=DELETE")

    assert ask(app, asked).status == 200
    assert ran == ["OPTIONS"]


# Answered by the middleware


def test_preflight_of_a_listed_origin_is_answered(listing: Middleware) -> None:
    answer = listing.ask(preflight())

    assert answer.status == 204
    assert answer.body == b""
    assert answer.fields == (
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "DELETE"),
        ("access-control-max-age", "7200"),
        (
            "vary",
            "origin, access-control-request-method, access-control-request-headers",
        ),
        ("access-control-allow-headers", "authorization, content-type"),
    )
    assert not listing.seen


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        PAGE.upper(),
        f"{PAGE}.evil.example",
        f"{PAGE}:8443",
        f"{PAGE}/",
        "http://app.example.org",
        f"{PAGE}, {OTHER}",
        "*",
        "",
    ],
)
def test_preflight_of_another_origin_is_refused(
    origin: str, listing: Middleware
) -> None:
    answer = listing.ask(preflight(origin))

    assert answer.status == 401
    assert answer.lines("access-control-allow-origin") == []
    assert "Origin" in answer.lines("vary")
    assert not listing.seen


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (None, None),
        ("", None),
        ("authorization", "authorization"),
        ("Authorization,  x-a\t, ,mcp-protocol-version", None),
        ("authorization,x-\u00e9,a b,x:y,(z),x-ok", "authorization, x-ok"),
        ("authorization,x-a\r\nset-cookie: a=b", "authorization"),
        ("x" * 65 + ",authorization", "authorization"),
        ("a," * 1500 + "authorization", None),
    ],
    ids=["none", "empty", "one", "spaces", "odd", "split", "long name", "too many"],
)
def test_only_header_names_come_back(
    asked: str | None, allowed: str | None, listing: Middleware
) -> None:
    answer = listing.ask(preflight(PAGE, "GET", asked))

    if asked is not None and "mcp" in asked:
        allowed = "Authorization, x-a, mcp-protocol-version"
    assert answer.status == 204
    assert answer.field("access-control-allow-headers") == allowed


@pytest.mark.parametrize(
    "method", ["", "A B", "GET,PUT", "G\u00c9T", "GET\r\nx: y", "A" * 65]
)
def test_what_asks_for_no_method_is_no_preflight(
    method: str, listing: Middleware
) -> None:
    assert listing.ask(preflight(PAGE, method)).status == 401
    assert not listing.seen


def test_every_origin_may_be_listed_and_none_with_cookies(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    middleware = start_middleware(
        resource_server(issuers.trusted, browser_origins=["*"])
    )
    token = ("Authorization", f"Bearer {GOOD.mint(issuers)}")
    for answer in (
        middleware.ask(preflight(OTHER)),
        middleware.ask(HTTPRequest("GET", "/notes", (("Origin", OTHER),))),
        middleware.ask(HTTPRequest("GET", "/agents", (("Origin", "null"), token))),
        middleware.ask(HTTPRequest("GET", "/", (("Origin", OTHER), token))),
        middleware.get(METADATA, {"Origin": OTHER}),
    ):
        assert answer.field("access-control-allow-origin") == "*"
        assert answer.lines("access-control-allow-credentials") == []


def test_preflight_of_an_unclear_path_is_answered_all_the_same(
    listing: Middleware,
) -> None:
    """So that the page can read the 400 that its request gets."""
    assert listing.ask(preflight(target="/x/../health")).status == 204
    refused = listing.get("/x/../health", {"Origin": PAGE})

    assert refused.status == 400
    assert refused.field("access-control-allow-origin") == PAGE
    assert not listing.seen


def test_preflight_on_a_public_path_is_the_application_s(listing: Middleware) -> None:
    assert listing.ask(preflight(target="/health")).status == 200
    assert [seen.path for seen in listing.seen] == ["/health"]


def test_preflight_on_an_optional_path_is_answered(listing: Middleware) -> None:
    """For pages that send a token to paths that need none."""
    assert listing.ask(preflight(target="/greeting")).status == 204
    assert not listing.seen


# What a page can read


ANSWERS: dict[str, tuple[str, int]] = {
    "no credentials": ("/notes", 401),
    "no such agent": ("/agents", 403),
    "raised 401": ("/raises/credentials", 401),
    "raised 429": ("/raises/too-many", 429),
    "raised 503": ("/raises/unavailable", 503),
    "the application's": ("/answers/404", 404),
    "granted": ("/", 200),
    "public": ("/health", 200),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("origin", [PAGE, OTHER, None])
def test_page_of_a_listed_origin_reads_every_answer(
    origin: str | None, name: str, listing: Middleware, issuers: Issuers
) -> None:
    target, status = ANSWERS[name]
    fields: Fields = () if origin is None else (("Origin", origin),)
    if name != "no credentials":
        fields = (*fields, ("Authorization", f"Bearer {GOOD.mint(issuers)}"))
    answer = listing.ask(HTTPRequest("GET", target, fields))

    assert answer.status == status
    allowed = PAGE if origin == PAGE else None
    assert answer.field("access-control-allow-origin") == allowed
    assert answer.field("vary") == "Origin"
    assert answer.lines("access-control-allow-credentials") == []
    if allowed is not None:
        exposed = answer.field("access-control-expose-headers") or ""
        assert exposed.split(", ") == ["WWW-Authenticate", "Retry-After", "DPoP-Nonce"]


def test_without_the_setting_nothing_is_added(
    closed: Middleware, issuers: Issuers
) -> None:
    token = ("Authorization", f"Bearer {GOOD.mint(issuers)}")
    answer = closed.ask(HTTPRequest("GET", "/", (("Origin", PAGE), token)))

    assert [name for name, _ in answer.fields] == ["content-type", "content-length"]


@pytest.mark.parametrize("path", [METADATA, "/auth.md"])
@pytest.mark.parametrize("origins", [[], [PAGE]], ids=str)
def test_what_is_published_is_for_all_origins(
    origins: list[str], path: str, start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    middleware = start_middleware(
        resource_server(issuers.trusted, browser_origins=origins)
    )
    for asked in (
        HTTPRequest("GET", path, (("Origin", OTHER),)),
        preflight(OTHER, target=path),
    ):
        answer = middleware.ask(asked)

        assert answer.status in (200, 204)
        assert answer.field("access-control-allow-origin") == "*"


def answering(kind: str, server: ResourceServer, fields: Fields) -> Any:
    """An application that answers everything with *fields*, behind middleware."""

    async def awaiting(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def blocking(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        start_response("200 OK", list(fields))
        return [b""]

    if kind == "asgi":
        return asgi.AgentAuthMiddleware(awaiting, server)
    return wsgi.AgentAuthMiddleware(blocking, server)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_what_the_application_says_of_origins_holds(kind: str) -> None:
    fields: Fields = (
        ("Access-Control-Allow-Origin", "https://theirs.example"),
        ("Access-Control-Allow-Credentials", "true"),
    )
    server = replace(SERVER, browser_origins=[PAGE])
    asked = HTTPRequest("GET", "/", (("Origin", PAGE), ("Authorization", bearer())))
    answer = ask(answering(kind, server, fields), asked)

    assert answer.fields == tuple((name.lower(), value) for name, value in fields)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_headers_that_the_application_exposes_stay_exposed(kind: str) -> None:
    fields: Fields = (("Access-Control-Expose-Headers", "Mcp-Session-Id"),)
    server = replace(SERVER, browser_origins=[PAGE])
    asked = HTTPRequest("GET", "/", (("Origin", PAGE), ("Authorization", bearer())))
    answer = ask(answering(kind, server, fields), asked)

    assert answer.field("access-control-allow-origin") == PAGE
    assert answer.field("access-control-expose-headers") == "Mcp-Session-Id"


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_what_is_opened_here_is_not_opened_with_cookies(kind: str) -> None:
    """Starlette's CORS layer allows credentials to origins that it does not allow."""
    fields: Fields = (("Access-Control-Allow-Credentials", "true"), ("X-Theirs", "yes"))
    server = replace(SERVER, browser_origins=[PAGE])
    asked = HTTPRequest("GET", "/", (("Origin", PAGE), ("Authorization", bearer())))
    answer = ask(answering(kind, server, fields), asked)

    assert answer.field("access-control-allow-origin") == PAGE
    assert answer.lines("access-control-allow-credentials") == []
    assert answer.field("x-theirs") == "yes"


def test_cors_layer_of_starlette_inside_is_not_made_wider() -> None:
    inner = CORSMiddleware(
        starlette_app([]),
        allow_origins=["https://theirs.example"],
        allow_credentials=True,
    )
    app = asgi.AgentAuthMiddleware(inner, replace(SERVER, browser_origins=[PAGE]))
    asked = HTTPRequest(
        "GET", "/notes", (("Origin", PAGE), ("Authorization", bearer()))
    )
    answer = ask(app, asked)

    assert answer.field("access-control-allow-origin") == PAGE
    assert answer.lines("access-control-allow-credentials") == []


def test_wsgi_answers_keep_the_rules_on_both_sides() -> None:
    server = replace(SERVER, browser_origins=[PAGE])
    app = validator(wsgi.AgentAuthMiddleware(validator(plain_wsgi_app([])), server))
    asked = {"HTTP_ORIGIN": PAGE, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    token = {"HTTP_ORIGIN": PAGE, "HTTP_AUTHORIZATION": bearer()}
    for method, members, status in (("OPTIONS", asked, 204), ("GET", token, 200)):
        answer = serve(app, environ(method=method, **members))

        assert (answer.raised, answer.status) == (None, status)


# Forwarded to the application


def test_preflight_goes_on_where_settings_say_so(forwarding: Middleware) -> None:
    answer = forwarding.ask(preflight())

    assert answer.status == 200
    assert [(seen.path, seen.access) for seen in forwarding.seen] == [("/notes", None)]


def test_listed_origins_are_answered_and_others_go_on(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    server = resource_server(
        issuers.trusted, browser_origins=[PAGE], forward_unauthenticated_preflights=True
    )
    middleware = start_middleware(server)

    assert middleware.ask(preflight()).status == 204
    assert middleware.ask(preflight(OTHER)).status == 200
    assert len(middleware.seen) == 1


@pytest.mark.parametrize(
    "asked",
    [
        replace(preflight(), method="GET"),
        replace(preflight(), method="options"),
        replace(preflight(), fields=(("Origin", PAGE),)),
        replace(preflight(), fields=preflight().fields[2:]),
        preflight(PAGE, "A B"),
        preflight(PAGE, "POST", None, ("Content-Length", "1")),
        preflight(PAGE, "POST", None, ("Content-Length", "00")),
        preflight(PAGE, "POST", None, ("Transfer-Encoding", "chunked")),
    ],
    ids=[
        "another method",
        "lower case",
        "no method asked",
        "no origin",
        "no token",
        "a body",
        "odd length",
        "chunked",
    ],
)
def test_only_preflights_go_on(asked: HTTPRequest, forwarding: Middleware) -> None:
    assert forwarding.ask(asked).status == 401
    assert not forwarding.seen


def test_unclear_paths_do_not_go_on(forwarding: Middleware) -> None:
    assert forwarding.ask(preflight(target="/x/../health")).status == 400
    assert not forwarding.seen


SMUGGLED: Fields = (
    ("Authorization", bearer()),
    ("Cookie", "session=abc"),
    ("Proxy-Authorization", "Basic dTpw"),
    ("X-Api-Key", "k"),
    ("X-Forwarded-User", "root"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Method-Override", "DELETE"),
    ("Content-Type", "application/json"),
    ("Content-Length", "0"),
)
KEPT: Fields = (
    ("Host", "api.example.com"),
    ("Origin", PAGE),
    ("Access-Control-Request-Method", "DELETE"),
    ("Access-Control-Request-Headers", "authorization"),
    ("X-Forwarded-Proto", "https"),
)


def test_asgi_preflight_goes_on_without_all_else() -> None:
    seen: list[Scope] = []
    bodies: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        bodies.extend([await receive(), await receive()])
        await PlainTextResponse("")(scope, receive, send)

    given = http_scope(
        "/notes", [*KEPT, *SMUGGLED], method="OPTIONS", query_string=b"_method=DELETE"
    )
    lines = list(given["headers"])

    async def run() -> None:
        middleware = asgi.AgentAuthMiddleware(app, FORWARDING)
        async with exchange(middleware, given) as talk:
            # As over HTTP/2, where no header announces a body.
            await talk.deliver(
                {"type": "http.request", "body": b"smug", "more_body": True},
                {"type": "http.request", "body": b"gled", "more_body": False},
                {"type": "http.disconnect"},
            )

    anyio.run(run)

    (scope,) = seen
    kept = [(name.lower().encode(), value.encode()) for name, value in KEPT]
    assert scope["headers"] == [*kept, (b"content-length", b"0")]
    assert scope["query_string"] == b""
    assert bodies == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]
    assert given["headers"] == lines, "the server's own list is changed"


def test_wsgi_preflight_goes_on_without_all_else() -> None:
    seen: list[WSGIEnvironment] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("204 No Content", [])
        return []

    members = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in (*KEPT, *SMUGGLED)
        if not name.startswith("Content-")
    }
    given = environ(
        "/notes",
        method="OPTIONS",
        body="smuggled",
        QUERY_STRING="_method=DELETE",
        CONTENT_TYPE="application/json",
        **members,
    )
    given["CONTENT_LENGTH"] = ""  # as over HTTP/2, where no header announces a body
    answer = serve(wsgi.AgentAuthMiddleware(app, FORWARDING), given)

    (passed,) = seen
    assert answer.status == 204
    headers = {name for name in passed if name.startswith("HTTP_")}
    assert headers == {f"HTTP_{n.upper().replace('-', '_')}" for n, _ in KEPT}
    assert passed["QUERY_STRING"] == ""
    assert passed["CONTENT_LENGTH"] == "0"
    assert "CONTENT_TYPE" not in passed
    assert passed["body"] == b""
