"""The answers of an API that has other clients beside agents.

Only a 401 to a request without ``Access`` changes, by one line; and nothing that is
sent in pieces is put together on its way.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route as Endpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from agentauth_middleware import Route, asgi, current_access, wsgi
from agentauth_middleware.starlette import declared_scopes, requires
from tests.support.beside import (
    FORGER,
    SERVER,
    OpenPassage,
    asgi_application,
    good,
    open_passage,
    wsgi_application,
)
from tests.support.challenges import parse_strictly
from tests.support.exchange import MIDDLEWARES, Answer, HTTPRequest, ask_asgi, ask_wsgi
from tests.support.server_side import (
    RESOURCE,
    environ,
    exchange,
    http_scope,
    request,
    serve,
    unheard,
    websocket_scope,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


METADATA_URL = f"{RESOURCE}/.well-known/oauth-protected-resource"
PLAIN = f'Bearer resource_metadata="{METADATA_URL}"'
READ = f'Bearer scope="notes.read", resource_metadata="{METADATA_URL}"'


@pytest.fixture(params=MIDDLEWARES)
def passage(request: pytest.FixtureRequest) -> OpenPassage:
    """A test that asks for it runs on each side."""
    return partial(open_passage, request.param)


# The challenge

OTHER_STATUSES = [200, 204, 302, 400, 403, 404, 407, 411, 429, 500, 503]
LINES = {
    "no line": [],
    "one line": [("www-authenticate", 'Basic realm="theirs"')],
    "several lines": [
        ("x-first", "1"),
        ("WWW-Authenticate", 'Bearer realm="theirs"'),
        ("set-cookie", "a=b"),
        ("www-authenticate", 'Digest realm="theirs", nonce="n"'),
        ("set-cookie", "c=d"),
    ],
    "several in a line": [("www-authenticate", 'Basic realm="a", Digest realm="b"')],
}
WITHOUT_ACCESS = [
    pytest.param("/", PLAIN, id="any path"),
    pytest.param("/notes", READ, id="path with scopes"),
    pytest.param("/public", PLAIN, id="public"),
    pytest.param("/optional", PLAIN, id="optional"),
    pytest.param("/notes//mine", PLAIN, id="unclear path"),
]


def lower(fields: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in fields)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("fields", LINES.values(), ids=LINES)
@pytest.mark.parametrize(("target", "challenge"), WITHOUT_ACCESS)
def test_own_401_gains_our_challenge_and_nothing_else(
    method: str,
    fields: list[tuple[str, str]],
    target: str,
    challenge: str,
) -> None:
    body = b"" if method == "HEAD" else b"who are you?"
    sent = HTTPRequest(method, target, (("Authorization", "Bearer sk_live"),))
    given = (401, fields, body)
    answers = [
        ask_wsgi(wsgi.AgentAuthMiddleware(wsgi_application([], given), SERVER), sent),
        ask_asgi(
            asgi.AgentAuthMiddleware(
                asgi_application([], (401, list(lower(fields)), body)), SERVER
            ),
            "asyncio",
            sent,
        ),
    ]

    for answer in answers:
        assert answer.status == 401
        assert answer.body == body
        assert answer.fields == (("www-authenticate", challenge), *lower(fields))
        for line in answer.lines("www-authenticate"):
            parse_strictly(line)


@pytest.mark.parametrize("status", OTHER_STATUSES)
def test_other_answers_are_untouched(passage: OpenPassage, status: int) -> None:
    fields = [("www-authenticate", 'Basic realm="theirs"'), ("x-theirs", "yes")]
    opened = passage(answered=(status, fields, b"theirs"))
    answer = opened.ask(HTTPRequest("GET", "/notes"))

    assert answer == Answer(status, tuple(fields), b"theirs")


@pytest.mark.parametrize("status", [401, 403])
def test_answer_to_a_request_with_access_is_untouched(
    passage: OpenPassage, status: int
) -> None:
    fields = [("www-authenticate", 'Basic realm="theirs"')]
    opened = passage(answered=(status, fields, b"theirs"))
    answer = opened.get("/optional", f"Bearer {good()}")

    assert opened.seen[0].access is not None
    assert answer == Answer(status, tuple(fields), b"theirs")


def test_challenge_that_is_there_is_not_added_again(passage: OpenPassage) -> None:
    """An inner middleware's, or one that a guard has written."""
    fields = [("www-authenticate", 'Basic realm="theirs"'), ("www-authenticate", READ)]
    opened = passage(answered=(401, fields, b""))

    assert opened.ask(HTTPRequest("GET", "/")).fields == tuple(fields)


def test_challenge_names_what_the_handler_demands(passage: OpenPassage) -> None:
    """Asked only when the answer has to name it."""
    asked: list[object] = []

    def scopes_for(given: object) -> list[str]:
        asked.append(given)
        return ["notes.write"]

    opened = passage(answered=(401, [], b""), scopes_for=scopes_for)
    passed = passage(scopes_for=scopes_for)
    passed.ask(HTTPRequest("GET", "/notes"))

    assert asked == []

    answer = opened.ask(HTTPRequest("GET", "/notes"))
    (challenge,) = parse_strictly(answer.field("www-authenticate") or "")

    assert len(asked) == 1
    assert challenge.parameters["scope"] == "notes.read notes.write"


# Streams


class Unread(io.BytesIO):
    """A body that is not for the middleware."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("read by the middleware")

    readline = readlines = __next__ = read  # type: ignore[assignment]


def refusing(body: Iterable[bytes], status: str = "401 Nobody") -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [("WWW-Authenticate", "Basic")])
        return body

    return wsgi.AgentAuthMiddleware(app, SERVER)


@pytest.mark.parametrize("status", ["200 OK", "401 Nobody"])
def test_wsgi_streams_stay_streams(status: str) -> None:
    taken: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"two"):
            taken.append(piece)
            yield piece

    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"])
        start_response(status, [])
        return pieces()

    unread = Unread()
    middleware = wsgi.AgentAuthMiddleware(app, SERVER)
    body = middleware({**environ(), "wsgi.input": unread}, unheard)
    steps = iter(body)

    assert taken == []
    assert next(steps) == b"one"
    assert taken == [b"one"]
    assert next(steps) == b"two"
    assert seen == [unread]


@pytest.mark.parametrize("status", ["200 OK", "401 Nobody"])
def test_wsgi_file_reaches_the_server_as_a_file(status: str) -> None:
    answer = serve(refusing(FileWrapper(io.BytesIO(b"file")), status), environ())

    assert answer.sent_as_file
    assert answer.body == b"file"


def test_wsgi_answer_without_a_401_reaches_the_server_as_it_is() -> None:
    """The very objects: a server may look at more than their value."""
    headers = [("X-Theirs", "yes")]
    body = [b"theirs"]
    begun: list[tuple[object, ...]] = []

    def start_response(*arguments: Any) -> Any:
        begun.append(arguments)
        return body.append

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        assert start("200 OK", headers) == body.append
        return body

    answer = wsgi.AgentAuthMiddleware(app, SERVER)(environ(), start_response)

    assert answer is body
    assert begun == [("200 OK", headers)]
    assert begun[0][1] is headers


@pytest.mark.parametrize(
    ("first", "second"),
    [("200 OK", "401 Nobody"), ("401 Nobody", "500 Oh"), ("401 Nobody", "401 Nobody")],
)
def test_wsgi_answer_may_be_begun_anew(first: str, second: str) -> None:
    begun: list[tuple[Any, ...]] = []

    def start_response(*arguments: Any) -> Any:
        begun.append(arguments)

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start(first, [])
        try:
            raise KeyError("late")
        except KeyError:
            start(second, [], sys.exc_info())
        return []

    wsgi.AgentAuthMiddleware(app, SERVER)(environ(), start_response)

    assert [status for status, *_ in begun] == [first, second]
    assert begun[1][2][0] is KeyError
    for status, headers, *_ in begun:
        gained = [("www-authenticate", PLAIN)] if status.startswith("401") else []
        assert headers == gained


@pytest.mark.anyio
async def test_asgi_streams_stay_streams() -> None:
    """Each piece is there before the next is made, in both directions."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        while True:
            message = await receive()
            await send({**message, "type": "http.response.body"})
            if not message["more_body"]:
                return

    middleware = asgi.AgentAuthMiddleware(app, SERVER)
    async with exchange(middleware, http_scope("/", method="POST")) as talk:
        for piece, more in ((b"one", True), (b"two", False)):
            message: Message = {"body": piece, "more_body": more}
            await talk.deliver({"type": "http.request", **message})
            answer = await talk.next_sent()
            if answer["type"] == "http.response.start":
                answer = await talk.next_sent()

            assert answer == {"type": "http.response.body", **message}

    assert talk.sent[0]["headers"] == [(b"www-authenticate", PLAIN.encode())]


@pytest.mark.anyio
async def test_asgi_application_is_given_what_the_server_gave() -> None:
    """The same scope and the same ``receive``, not look-alikes."""
    given: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend((scope, receive))

    async def receive() -> Message:
        raise AssertionError("read by the middleware")

    async def send(message: Message) -> None: ...

    scope = http_scope("/", state={"pool": object()})
    await asgi.AgentAuthMiddleware(app, SERVER)(scope, receive, send)

    assert given[0] is scope
    assert given[1] is receive


@pytest.mark.anyio
async def test_asgi_answers_keep_members_that_are_not_ours() -> None:
    start = {
        "type": "http.response.start",
        "status": 401,
        "headers": [(b"x-theirs", b"yes")],
        "trailers": True,
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug", "info": {"status": 401}})
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    talk = await request(asgi.AgentAuthMiddleware(app, SERVER), http_scope("/"))
    ours = (b"www-authenticate", PLAIN.encode())

    assert talk.sent[0] == {"type": "http.response.debug", "info": {"status": 401}}
    assert talk.sent[1] == {**start, "headers": [ours, (b"x-theirs", b"yes")]}
    assert start["headers"] == [(b"x-theirs", b"yes")], "the application's own list"


# Websockets

CONNECT: Message = {"type": "websocket.connect"}
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": 401, "headers": []})
    await send({"type": f"{kind}.body", "body": b"who are you?"})


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": []})
    await send({"type": "websocket.send", "text": str(current_access())})


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4401})


@pytest.mark.anyio
async def test_websocket_of_another_client_is_its_own_affair() -> None:
    headers = [("Cookie", "session=abc"), ("Authorization", "Bearer sk_live")]
    for app, sent in (
        (greet, ["websocket.accept", "websocket.send"]),
        (close, ["websocket.close"]),
    ):
        middleware = asgi.AgentAuthMiddleware(app, SERVER)
        talk = await request(middleware, websocket_scope("/notes", headers), CONNECT)

        assert [message["type"] for message in talk.sent] == sent
        assert talk.sent[-1] in (
            {"type": "websocket.send", "text": "None"},
            {"type": "websocket.close", "code": 4401},
        )


@pytest.mark.anyio
async def test_websocket_denied_with_401_gains_our_challenge() -> None:
    middleware = asgi.AgentAuthMiddleware(deny, SERVER)
    talk = await request(middleware, websocket_scope("/notes", **DENIAL), CONNECT)

    assert talk.status == 401
    assert talk.headers == {"www-authenticate": READ}
    assert talk.body == b"who are you?"


@pytest.mark.anyio
async def test_websocket_of_a_bad_agent_is_refused() -> None:
    headers = [("Authorization", f"Bearer {FORGER.token(RESOURCE)}")]
    scope = websocket_scope("/optional", headers, **DENIAL)
    talk = await request(asgi.AgentAuthMiddleware(greet, SERVER), scope, CONNECT)

    assert talk.status == 401
    assert talk.json["error"] == "invalid_token"


# Guards


@requires("notes.write")
async def middleware(request: Request) -> Response:
    raise AssertionError("nobody gets in")


@requires("notes.write")
def refuse_others() -> None: ...


async def asks(request: Request) -> Response:
    refuse_others()
    raise AssertionError("nobody gets in")


async def refuses(request: Request) -> Response:
    return Response(status_code=401)


def starlette(*, mounted: bool) -> ASGIApp:
    handlers = [
        Endpoint("/middleware", middleware),
        Endpoint("/asks", asks),
        Endpoint("/refuses", requires("notes.write")(refuses)),
    ]
    app = Starlette(routes=[Mount("/in", routes=handlers)] if mounted else handlers)
    server = replace(SERVER, routes=[Route("/in/*", scopes=["notes.read"])])
    app.add_middleware(
        asgi.AgentAuthMiddleware, resource_server=server, scopes_for=declared_scopes
    )
    return app


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["middleware", "asks"])
async def test_guard_without_access_answers_with_the_challenge_once(name: str) -> None:
    talk = await request(starlette(mounted=False), http_scope(f"/{name}"))
    lines = [value for key, value in talk.sent[0]["headers"] if key == CHALLENGE]
    (challenge,) = parse_strictly(lines[0].decode())

    assert len(lines) == 1
    assert challenge.parameters["scope"] == "notes.write"


CHALLENGE = b"www-authenticate"


class RefusedFirst:
    """An application's own guard, around handlers that declare scopes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=401)(scope, receive, send)


@pytest.mark.anyio
@pytest.mark.parametrize("inside", ["routes", "application"])
async def test_challenge_names_the_scopes_of_mounted_handlers(inside: str) -> None:
    """Routers write into the scope on their way; the request is the one that came."""

    @requires("notes.write")
    async def handler(request: Request) -> Response:
        raise AssertionError("nobody gets in")

    routes = [Endpoint("/deep", handler)]
    inner = Mount("/in", routes=routes)
    if inside == "application":
        inner = Mount("/in", Starlette(routes=routes))
    inner.app = RefusedFirst(inner.app)
    app = Starlette(routes=[Mount("/api", routes=[inner])])
    server = replace(SERVER, routes=[Route("/api/*", scopes=["notes.read"])])
    app.add_middleware(
        asgi.AgentAuthMiddleware, resource_server=server, scopes_for=declared_scopes
    )
    talk = await request(app, http_scope("/api/in/deep"))
    (challenge,) = parse_strictly(talk.headers["www-authenticate"])

    assert challenge.parameters["scope"] == "notes.read notes.write"


def test_challenge_names_the_scopes_below_a_dispatcher() -> None:
    def refuse(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        start_response("401 Nobody", [])
        return []

    def scopes_for(given: WSGIEnvironment) -> list[str]:
        return [f"{given['SCRIPT_NAME']}|{given['PATH_INFO']}"]

    app = DispatcherMiddleware(refuse, {"/in": refuse})
    server = replace(SERVER, scopes={})
    middleware = wsgi.AgentAuthMiddleware(app, server, scopes_for=scopes_for)
    answer = serve(middleware, environ("/in/deep"))
    (challenge,) = parse_strictly(answer.headers["www-authenticate"])

    assert challenge.parameters["scope"] == "|/in/deep"


def test_wsgi_guard_in_a_streamed_body_answers_with_the_challenge_once() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        refuse_others()
        yield b""

    answer = serve(wsgi.AgentAuthMiddleware(app, SERVER), environ("/notes"))

    assert answer.status == 401
    (challenge,) = parse_strictly(answer.headers["www-authenticate"])
    assert challenge.parameters["scope"] == "notes.read notes.write"
