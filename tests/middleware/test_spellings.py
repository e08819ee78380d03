"""No spelling of a path walks around the policy for it.

Behind the middlewares stand real routers, of which each handler writes down that it ran
and
with which ``Access``. For every handler one line says what it demands. Its path is
then spelt in some thousand hostile ways. Those that lead to a handler when there is no
middleware are sent through the middleware: without a token, and with one that has all
scopes but the one that matters.
"""

from __future__ import annotations

import posixpath
import re
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import product
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import anyio
import pytest
import uvicorn
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import agentauth_middleware as settings
from agentauth_middleware import asgi, wsgi
from agentauth_middleware.access import Access, current_access
from agentauth_middleware.testing import FakeIssuer
from tests.support.exchange import HTTPRequest, ask_wsgi, scope_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `root_path` parameter is deprecated"
)

ISSUER = FakeIssuer()
ORIGIN = "https://api.example.com"

App: TypeAlias = Any
"""ASGI or WSGI."""


# What the handlers demand


@dataclass(frozen=True)
class Handler:
    """A handler and its policy."""

    path: str
    """``{name}`` for a segment, ``{name*}`` for the rest."""
    example: str
    scope: str | None = None
    """What it demands; an empty one for no more than a good token."""
    pattern: str | None = None
    """Where that is not the path; empty if no route speaks of it."""
    method: str = "GET"

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def routes(self, prefix: str) -> list[settings.Route]:
        if self.pattern == "":
            return []
        pattern = prefix + (self.pattern or self.path)
        if self.scope is None:
            return [settings.Route(pattern, methods=(self.method,), public=True)]
        scopes = (self.scope,) if self.scope else ()
        return [settings.Route(pattern, methods=(self.method,), scopes=scopes)]


HANDLERS = (
    Handler("/", "/"),
    Handler("/health", "/health"),
    Handler("/static/{rest*}", "/static/site.css", pattern="/static/*"),
    Handler("/notes", "/notes", "read"),
    Handler("/notes", "/notes", "write", method="POST"),
    Handler("/notes/{id}", "/notes/7", "note"),
    Handler("/admin", "/admin", "admin"),
    Handler("/admin/{rest*}", "/admin/a/b", "admin", pattern="/admin/*"),
    Handler("/list/", "/list/", "list"),
    Handler("/shelf/", "/shelf/", "shelf", pattern="/shelf/*"),
    Handler("/files/secret", "/files/secret", "secret"),
    Handler("/files/{rest*}", "/files/a", "files", pattern="/files/*"),
    Handler("/api/inner", "/api/inner", "inner"),
    Handler("/unlisted", "/unlisted", "", pattern=""),
)
SCOPES = frozenset(handler.scope for handler in HANDLERS if handler.scope) | {"rest"}
EVERYTHING_ELSE = settings.Route("/*", scopes=("rest",))


# Applications


@dataclass
class Ran:
    """What the handlers write down."""

    calls: list[tuple[str, Access | None]] = field(
        default_factory=list[tuple[str, Access | None]]
    )

    def note(self, name: str) -> str:
        self.calls.append((name, current_access()))
        return name

    def take(self) -> list[tuple[str, Access | None]]:
        calls, self.calls = self.calls, []
        return calls


def starlette_routes(ran: Ran) -> list[Route]:
    def endpoint(name: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> PlainTextResponse:
            return PlainTextResponse(ran.note(name))

        return answer

    return [
        Route(
            re.sub(r"\{(\w+)\*\}", r"{\1:path}", handler.path),
            endpoint(handler.name),
            methods=[handler.method],
        )
        for handler in HANDLERS
    ]


def starlette(ran: Ran) -> App:
    return Starlette(routes=starlette_routes(ran))


def fastapi(ran: Ran, **options: Any) -> FastAPI:
    return FastAPI(routes=list(starlette_routes(ran)), openapi_url=None, **options)


def flask(ran: Ran, *, strict: bool = True, merge: bool = True) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = strict
    app.url_map.merge_slashes = merge
    for handler in HANDLERS:

        def answer(name: str = handler.name, **parameters: str) -> str:
            return ran.note(name)

        rule = re.sub(r"\{(\w+)\*\}", r"<path:\1>", handler.path)
        rule = re.sub(r"\{(\w+)\}", r"<\1>", rule)
        app.add_url_rule(rule, handler.name, answer, methods=[handler.method])
    return app


# Where the middleware stands

Protect: TypeAlias = Callable[[App], App]
"""Puts the middleware in front of an application, or nothing at all."""


@dataclass(frozen=True)
class Setup:
    kind: str
    build: Callable[[Ran, Protect], App]
    prefix: str = ""
    """What comes before the paths of the handlers on the wire."""
    spelt_out: bool = False
    """Whether patterns begin with *prefix*."""
    mount: str = ""
    """``root_path`` or ``SCRIPT_NAME``, set by the server."""
    resource: str = ORIGIN
    hides_prefix: bool = False
    """Whether something behind the middleware takes *prefix* off without telling. Then
    the middleware refuses what might be public and cannot have a policy for everything
    else."""

    def routes(self, *, catch_all: bool) -> list[settings.Route]:
        prefix = self.prefix if self.spelt_out else ""
        routes = [route for handler in HANDLERS for route in handler.routes(prefix)]
        return [*routes, EVERYTHING_ELSE] if catch_all else routes

    def protect(self, *, catch_all: bool) -> Protect:
        server = settings.ResourceServer(
            self.resource,
            issuers=[ISSUER.trust()],
            routes=self.routes(catch_all=catch_all),
        )
        guarded: App = {
            "asgi": asgi.AgentAuthMiddleware,
            "wsgi": wsgi.AgentAuthMiddleware,
        }[self.kind]
        return lambda app: guarded(app, server)


def fastapi_with_the_middleware_added(ran: Ran, protect: Protect) -> App:
    app = fastapi(ran, root_path="/api")
    app.add_middleware(cast(Any, protect))
    return app


def fastapi_with_the_middleware_outside(ran: Ran, protect: Protect) -> App:
    return protect(fastapi(ran, root_path="/api"))


class Wrapping:
    """Other middleware between the middleware and the application."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def fastapi_with_other_middleware_between(ran: Ran, protect: Protect) -> App:
    return protect(Wrapping(Wrapping(fastapi(ran, root_path="/api"))))


def flask_variant(*, strict: bool, merge: bool) -> Callable[[Ran, Protect], App]:
    return lambda ran, protect: protect(flask(ran, strict=strict, merge=merge))


def without_prefix(app: App, prefix: str) -> App:
    """What many write in front of a WSGI application behind a proxy."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path.startswith(prefix):
            environ = environ | {"PATH_INFO": path.removeprefix(prefix)}
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return application


def rewriting(rewrite: Callable[[str], str]) -> Callable[[Ran, Protect], App]:
    """Starlette behind something that is more lenient about paths."""

    def build(ran: Ran, protect: Protect) -> App:
        inner = starlette(ran)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope["path"] = rewrite(scope["path"])
            await inner(scope, receive, send)

        return protect(application)

    return build


def simplified(path: str) -> str:
    """As a file server reads it."""
    return posixpath.normpath("/" + unquote(path).replace("\\", "/").lstrip("/"))


def not_found(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


API = ORIGIN + "/api"
SETUPS = {
    "Starlette": Setup("asgi", lambda ran, protect: protect(starlette(ran))),
    "Starlette under a root_path": Setup(
        "asgi", lambda ran, protect: protect(starlette(ran)), mount="/api", resource=API
    ),
    "Starlette, Mount behind the middleware": Setup(
        "asgi",
        lambda ran, protect: protect(Starlette(routes=[Mount("/api", starlette(ran))])),
        prefix="/api",
        spelt_out=True,
        resource=API,
    ),
    "Starlette, Mount in front of the middleware": Setup(
        "asgi",
        lambda ran, protect: Starlette(routes=[Mount("/api", protect(starlette(ran)))]),
        prefix="/api",
        resource=API,
    ),
    "FastAPI(root_path), middleware added": Setup(
        "asgi", fastapi_with_the_middleware_added, prefix="/api", resource=API
    ),
    "FastAPI(root_path), middleware outside": Setup(
        "asgi", fastapi_with_the_middleware_outside, prefix="/api", resource=API
    ),
    "FastAPI(root_path), other middleware behind the middleware": Setup(
        "asgi", fastapi_with_other_middleware_between, prefix="/api", resource=API
    ),
    "FastAPI(root_path) behind a proxy that strips it, middleware added": Setup(
        "asgi", fastapi_with_the_middleware_added, resource=API
    ),
    "FastAPI(root_path) behind a proxy that strips it, middleware outside": Setup(
        "asgi", fastapi_with_the_middleware_outside, resource=API
    ),
    "Starlette behind one that decodes again": Setup("asgi", rewriting(unquote)),
    "Starlette behind one that resolves dots": Setup(
        "asgi", rewriting(lambda path: posixpath.normpath(path))
    ),
    "Starlette behind one that merges slashes": Setup(
        "asgi", rewriting(lambda path: re.sub("//+", "/", path))
    ),
    "Starlette behind one that knows no backslash": Setup(
        "asgi", rewriting(lambda path: path.replace("\\", "/"))
    ),
    "Starlette behind one that drops a final slash": Setup(
        "asgi", rewriting(lambda path: path.removesuffix("/"))
    ),
    "Starlette behind one that does all of this": Setup("asgi", rewriting(simplified)),
    "Flask": Setup("wsgi", flask_variant(strict=True, merge=True)),
    "Flask, slashes not merged": Setup("wsgi", flask_variant(strict=True, merge=False)),
    "Flask, slashes not strict": Setup("wsgi", flask_variant(strict=False, merge=True)),
    "Flask, slashes neither strict nor merged": Setup(
        "wsgi", flask_variant(strict=False, merge=False)
    ),
    "Flask under a SCRIPT_NAME": Setup(
        "wsgi", flask_variant(strict=False, merge=True), mount="/api"
    ),
    "Flask, dispatcher behind the middleware": Setup(
        "wsgi",
        lambda ran, protect: protect(
            DispatcherMiddleware(not_found, {"/api": flask(ran, strict=False)})
        ),
        prefix="/api",
        spelt_out=True,
        resource=API,
    ),
    "Flask, dispatcher in front of the middleware": Setup(
        "wsgi",
        lambda ran, protect: DispatcherMiddleware(
            not_found, {"/api": protect(flask(ran))}
        ),
        prefix="/api",
        resource=API,
    ),
    "Flask behind one that hides a prefix": Setup(
        "wsgi",
        lambda ran, protect: protect(without_prefix(flask(ran), "/api")),
        prefix="/api",
        resource=API,
        hides_prefix=True,
    ),
}
WITH_AND_WITHOUT_A_CATCH_ALL = [
    pytest.param(setup, catch_all, id=f"{name}{' and /*' if catch_all else ''}")
    for name, setup in SETUPS.items()
    for catch_all in (False, True)
    if not (catch_all and setup.hides_prefix)
]


# Hostile spellings, as they stand in the request line

SLASHES = (
    "//",
    "/./",
    "/x/../",
    "/x//../",
    "/%2e/",
    "/x/%2E%2e/",
    "/x/%252e%252e/",
    "%2f",
    "%252F",
    "\\",
    "%5c",
    "%255c",
    "/;a=b/",
    "/%00/",
    "%ef%bc%8f",
    "%c0%af",
)
ENDS = (
    "/",
    "//",
    "/.",
    "/x/..",
    "%2f",
    "%252f",
    "%5C",
    "%0a",
    "%250a",
    "%0d",
    "%00",
    ";a=b",
    ".",
    "%20",
    "%3fa=b",
    "%23",
)
FRONTS = (
    "/",
    "//",
    "/.",
    "/..",
    "/static/..",
    "/static/%2e%2e",
    "/static/%252e%252e",
    "/static\\..",
    "/health/..",
    "/notes/7/../..",
    "/api",
    "/api/api",
    "//api/",
    "/api/..",
    "/api/static/..",
    "/API",
    "\\",
    "%2f",
    "//evil.example.net",
    "http://api.example.com",
    "/a/.." * 300,
)
FEW_ENDS = ("", "/", "%0a", "%252f")


def spellings(path: str) -> set[str]:
    """Hostile ways to write *path*."""
    letters = {path, path.upper(), path.title()}
    if len(path) > 1:
        code = f"{ord(path[1]):x}"
        letters |= {f"/%{code}{path[2:]}", f"/%25{code}{path[2:]}"}
    inner = {
        path[: slash.start()] + replacement + path[slash.end() :]
        for slash in re.finditer("/", path)
        for replacement in SLASHES
    }
    return {
        *map("".join, product(("", *FRONTS), letters)),
        *map("".join, product(inner, ("", "/"))),
        *map("".join, product(("", *FRONTS), (path,), FEW_ENDS)),
        *(path + end for end in ENDS),
        *(front + path[1:] for front in ("", "/api", "//")),
    }


@cache
def hostile_requests(prefix: str) -> list[HTTPRequest]:
    """For applications whose paths begin with *prefix*, with and without it."""
    targets = {
        (handler.method, spelling)
        for handler in HANDLERS
        for start in {prefix, ""}
        for spelling in spellings(start + handler.example)
    }
    targets |= {
        (method, prefix + handler.example)
        for handler in HANDLERS
        for method in ("HEAD", handler.method.lower(), "Post", "head", "OPTIONS")
    }
    return [HTTPRequest(method, target) for method, target in sorted(targets)]


# Sending them


@dataclass(frozen=True)
class Exchange:
    request: HTTPRequest
    status: int
    calls: list[tuple[str, Access | None]]
    """The handlers that ran."""

    @property
    def outcome(self) -> tuple[HTTPRequest, int, list[str]]:
        return self.request, self.status, [name for name, _ in self.calls]


def send_all(
    setup: Setup, requests: Iterable[HTTPRequest], protect: Protect
) -> list[Exchange]:
    """What becomes of each of *requests*, one after the other."""
    ran = Ran()
    app = setup.build(ran, protect)
    mounted = [replace(request, mount=setup.mount) for request in requests]
    if setup.kind == "asgi":
        return anyio.run(_send_all_asgi, app, mounted, ran)
    return [
        Exchange(request, ask_wsgi(app, request).status, ran.take())
        for request in mounted
    ]


async def _send_all_asgi(
    app: App, requests: Iterable[HTTPRequest], ran: Ran
) -> list[Exchange]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    exchanges: list[Exchange] = []
    for request in requests:
        statuses: list[int] = []
        await app(scope_of(request), receive, send)
        exchanges.append(Exchange(request, statuses[0], ran.take()))
    return exchanges


def unprotected(app: App) -> App:
    return app


@cache
def hostile_requests_that_reach(setup: Setup) -> list[tuple[HTTPRequest, str]]:
    """Each with the handler that runs if there is no middleware."""
    return [
        (exchange.request, name)
        for exchange in send_all(setup, hostile_requests(setup.prefix), unprotected)
        for name, _ in exchange.calls
    ]


def with_scopes(
    request: HTTPRequest, setup: Setup, scopes: frozenset[str]
) -> HTTPRequest:
    token = token_with(setup.resource, scopes)
    return replace(request, fields=(("Authorization", f"Bearer {token}"),))


@cache
def token_with(resource: str, scopes: frozenset[str]) -> str:
    return ISSUER.token(resource, scopes=sorted(scopes))


def is_enough(demand: str | None, access: Access | None) -> bool:
    if demand is None:
        return True
    return access is not None and (not demand or demand in access.scopes)


@pytest.mark.parametrize(("setup", "catch_all"), WITH_AND_WITHOUT_A_CATCH_ALL)
def test_no_spelling_reaches_a_handler_with_less_than_it_demands(
    setup: Setup, catch_all: bool
) -> None:
    demands = {handler.name: handler.scope for handler in HANDLERS}
    if catch_all:
        demands["GET /unlisted"] = "rest"
    attacks: list[HTTPRequest] = []
    reached = hostile_requests_that_reach(setup)
    for request, name in reached:
        if (demand := demands[name]) is not None:
            attacks.append(request)
            if demand:
                attacks.append(with_scopes(request, setup, SCOPES - {demand}))

    walked_around = [
        (name, exchange.request.method, exchange.request.target)
        for exchange in send_all(setup, attacks, setup.protect(catch_all=catch_all))
        for name, access in exchange.calls
        if not is_enough(demands[name], access)
    ]

    assert {name for _, name in reached} == demands.keys()
    assert walked_around == []


ORDINARY = (
    ("GET", "/notes/a%20b", "note"),
    ("GET", "/notes/%C3%BC%E6%97%A5", "note"),
    ("GET", "/notes/a+b@example.com;v=1", "note"),
    ("HEAD", "/notes/100%25", "note"),
    ("GET", "/list", "list"),
    ("GET", "/shelf", "shelf"),
    ("GET", "/files/report.v1..txt", "files"),
    ("GET", "/files/.hidden/...", "files"),
    ("GET", "/files/" + "long/" * 1000 + "path", "files"),
    ("GET", "/static/.well-known/a-b_c~d", None),
    ("HEAD", "/static/js/app.min.js", None),
    ("HEAD", "/health", None),
)
"""Method, path, and the scope that it takes."""
SLASH_TOO_MANY = ("GET", "/notes/", "read")
"""Another path where there is a policy for everything else."""


@pytest.mark.parametrize(("setup", "catch_all"), WITH_AND_WITHOUT_A_CATCH_ALL)
def test_ordinary_spelling_goes_on_to_the_application(
    setup: Setup, catch_all: bool
) -> None:
    """To its handler, or to be redirected there."""
    targets = [
        *((handler.method, handler.example, handler.scope) for handler in HANDLERS),
        *ORDINARY,
        *(() if catch_all else (SLASH_TOO_MANY,)),
    ]
    requests = [
        with_scopes(request, setup, SCOPES) if scope is not None else request
        for method, path, scope in targets
        if scope is not None or not setup.hides_prefix
        for request in [HTTPRequest(method, setup.prefix + path)]
    ]
    answered = [
        exchange
        for exchange in send_all(setup, requests, unprotected)
        if exchange.status < 400
    ]
    with_middleware = send_all(
        setup,
        [exchange.request for exchange in answered],
        setup.protect(catch_all=catch_all),
    )

    assert len(answered) > len(requests) / 2
    assert [exchange.outcome for exchange in with_middleware] == [
        exchange.outcome for exchange in answered
    ]


def test_websocket_handshake_is_spelt_in_vain() -> None:
    ran = Ran()

    async def answer(websocket: WebSocket) -> None:
        ran.note("websocket")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/live", answer)])
    live = Handler("/live", "/live", "live")
    server = settings.ResourceServer(
        ORIGIN, issuers=[ISSUER.trust()], routes=live.routes("")
    )
    middleware = asgi.AgentAuthMiddleware(app, server)

    async def shake_hands(target: str, scopes: frozenset[str]) -> None:
        request = with_scopes(HTTPRequest("GET", target), SETUPS["Starlette"], scopes)
        scope = scope_of(request)
        del scope["method"]
        scope["type"] = "websocket"
        await middleware(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        pass

    async def attack() -> None:
        for target in spellings("/live"):
            await shake_hands(target, SCOPES)

    anyio.run(attack)
    assert ran.take() == []

    anyio.run(shake_hands, "/live", frozenset({"live"}))
    assert [name for name, _ in ran.take()] == ["websocket"]


# Over the wire


@contextmanager
def serve(app: App, **options: Any) -> Generator[Callable[[HTTPRequest], int]]:
    """A real server. What is yielded sends a request and waits for the status."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # An older uvicorn with uvloop would change the event loop of all later tests.
        config = uvicorn.Config(
            app, loop="asyncio", log_config=None, lifespan="off", **options
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield partial(send_raw, listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


def send_raw(address: tuple[str, int], request: HTTPRequest) -> int:
    """The request line goes out as it is, whatever a client would make of it."""
    fields = (*request.fields, ("Host", "api.example.com"), ("Connection", "close"))
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields]
    with socket.create_connection(address) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    return int(answer.split(b" ")[1])


@pytest.mark.parametrize("implementation", ["h11", "httptools"])
@pytest.mark.parametrize("mount", ["", "/api"], ids=["no mount", "mount"])
def test_no_spelling_walks_around_over_the_wire(
    implementation: str, mount: str
) -> None:
    setup = SETUPS["Starlette"]
    demands = {handler.name: handler.scope for handler in HANDLERS}
    targets = [
        target
        for path in ("/admin", "/notes/7")
        for target in ("/" + path, path + "%0a", *sorted(spellings(path))[::8])
    ]
    requests = [
        with_scopes(HTTPRequest("GET", target), setup, SCOPES - {"admin", "note"})
        for target in targets
    ]
    rightful = with_scopes(HTTPRequest("GET", "/admin"), setup, SCOPES)
    ran = Ran()
    app = setup.build(ran, setup.protect(catch_all=False))
    with serve(app, http=implementation, root_path=mount) as send:
        statuses = [send(request) for request in requests]
        walked_around = [
            name for name, access in ran.take() if not is_enough(demands[name], access)
        ]
        rightful_status = send(rightful)

    assert walked_around == []
    assert {400, 403} <= set(statuses)
    assert max(statuses) < 500
    assert rightful_status == 200
    assert [name for name, _ in ran.take()] == ["GET /admin"]
