"""Both middlewares in this process, side by side, with settings of every kind.

Each credential goes through the two; what they answer and what they write down is the
verdict. Whatever they raise is raised here too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from starlette.types import Message, Receive, Scope, Send

from agentauth_middleware import asgi, wsgi
from agentauth_middleware.access import Access
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.hostile.issuers import (
    BROKEN_TENANT,
    CLIENT,
    OTHER,
    OTHER_ISSUER,
    PUBLISHED,
    TENANTS,
)
from tests.hostile.judge import Rules
from tests.support.server_side import environ, http_scope
from tests.support.tokens import ISSUER, RESOURCE, jwks

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


Given = TypeVar("Given")


@dataclass(frozen=True)
class Reply:
    """What an issuer answers a question with."""

    status: int = 200
    fields: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    body: bytes = b'{"active": false}'


class Endpoint(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Where issuers are asked about tokens: the other end of the middlewares'
    clients."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        reply = self.reply
        stream = httpx.ByteStream(reply.body)
        return httpx.Response(reply.status, headers=list(reply.fields), stream=stream)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


# Settings


def _introspection(**settings: Any) -> Introspection:
    settings = {"inactive_per_minute": 1_000_000, **settings}
    secret, endpoint = "a-secret", f"{ISSUER}/introspect"
    return Introspection(CLIENT, client_secret=secret, endpoint=endpoint, **settings)


def _ours(**settings: Any) -> Issuer:
    return Issuer(ISSUER, jwks=PUBLISHED, **settings)


def _theirs(**settings: Any) -> Issuer:
    return Issuer(OTHER_ISSUER, jwks=jwks(OTHER), **settings)


def _tenant(name: str) -> Issuer | None:
    if name == BROKEN_TENANT:
        raise LookupError("the table of tenants is gone")
    if name in TENANTS:
        return Issuer(name, jwks=jwks(OTHER))
    return _ours() if name == ISSUER else None


def _server(*issuers: Issuer) -> ResourceServer:
    return ResourceServer(RESOURCE, issuers=issuers)


@dataclass(frozen=True)
class Kind:
    """Settings, and what they may let in."""

    server: ResourceServer
    rules: Mapping[str, Rules]


_STRICT = {ISSUER: Rules(), OTHER_ISSUER: Rules((OTHER,))}

KINDS: dict[str, Kind] = {
    "strict": Kind(_server(_ours(), _theirs()), _STRICT),
    "lenient": Kind(
        _server(
            _ours(
                token_types=("at+jwt", "JWT", None),
                scope_claims=("scope", "scp", "permissions"),
                client_id_claims=("client_id", "azp", "cid"),
                require_client_id=False,
                require_jti=False,
                audience=(RESOURCE, "api"),
                subjects="users",
            ),
            _theirs(token_types=("JWT",)),
        ),
        {
            ISSUER: Rules(
                types=("at+jwt", "jwt", None),
                scope_claims=("scope", "scp", "permissions"),
                client_claims=("client_id", "azp", "cid"),
                needs_client=False,
                needs_jti=False,
                audiences=(RESOURCE, "api"),
            ),
            OTHER_ISSUER: Rules((OTHER,), types=("jwt",)),
        },
    ),
    "listed clients": Kind(
        _server(
            _ours(
                require_audience=False,
                client_ids=("client-1", "user-1"),
                required_claims=("scope",),
                max_token_age=86_400,
                leeway=60,
            )
        ),
        {
            ISSUER: Rules(
                needs_audience=False,
                clients=("client-1", "user-1"),
                required=("scope",),
            )
        },
    ),
    "asked about opaque tokens": Kind(
        _server(_ours(introspection=_introspection()), _theirs()), _STRICT
    ),
    "asked about all tokens": Kind(
        _server(
            _ours(introspection=_introspection(always=True), opaque_prefixes=("at_",)),
            _theirs(introspection=_introspection(), opaque_prefixes=("ot_", "ey.")),
        ),
        {OTHER_ISSUER: Rules((OTHER,))},
    ),
    "tenants": Kind(
        ResourceServer(RESOURCE, issuers=_tenant, authorization_servers=[ISSUER]),
        {ISSUER: Rules(), **dict.fromkeys(TENANTS, Rules((OTHER,)))},
    ),
}


# One request


@dataclass(frozen=True)
class Verdict:
    """What became of a request, at one middleware."""

    status: int
    reason: str
    """From the audit record."""
    error: str | None = None
    """The code that the client was told."""
    access: Access | None = field(default=None, compare=False)

    @property
    def is_let_in(self) -> bool:
        return self.status == 204


class Listener(logging.Handler):
    """The last record of a decision, written out as an operator's log would."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.members: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        written = f"{record.getMessage()} {record.__dict__['agentauth']}"
        # One line, whatever stands in a token; and text that can be encoded.
        assert written.encode().decode().isprintable(), written
        self.members.append(record.__dict__["agentauth"])

    def take(self) -> dict[str, Any]:
        """The record of a request, which must be the only one."""
        (members,), self.members = self.members, []
        return members


class Middlewares:
    """The two middlewares, with equal settings and an application that knows who comes
    in."""

    def __init__(
        self, server: ResourceServer, listener: Listener, runner: asyncio.Runner
    ) -> None:
        self.endpoint = Endpoint()
        self._listener = listener
        self._runner = runner
        self._let_in: list[Access] = []
        self._asgi = asgi.AgentAuthMiddleware(
            self._asgi_app,
            server,
            http_client=httpx.AsyncClient(transport=self.endpoint),
        )
        self._wsgi = wsgi.AgentAuthMiddleware(
            self._wsgi_app, server, http_client=httpx.Client(transport=self.endpoint)
        )

    async def _asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._let_in.append(scope["agentauth.access"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def _wsgi_app(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        self._let_in.append(environ["agentauth.access"])
        start_response("204 No Content", [])
        return []

    def ask(
        self, lines: Sequence[bytes], query: bytes = b""
    ) -> tuple[Verdict, Verdict]:
        """What the ASGI and the WSGI middleware make of these ``Authorization``
        lines."""
        return self.ask_asgi(lines, query), self.ask_wsgi(lines, query)

    def ask_asgi(self, lines: Sequence[bytes], query: bytes = b"") -> Verdict:
        scope = http_scope("/notes", query_string=query)
        scope["headers"] = [(b"authorization", line) for line in lines]
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        self._runner.run(self._asgi(scope, receive, send))
        start, *bodies = sent
        return self._verdict(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in bodies),
        )

    def ask_wsgi(self, lines: Sequence[bytes], query: bytes = b"") -> Verdict:
        given = environ("/notes", QUERY_STRING=query.decode("latin-1"))
        if lines:
            # As servers join them.
            given["HTTP_AUTHORIZATION"] = b",".join(lines).decode("latin-1")
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Any:
            started.append((status, headers))

        body = b"".join(self._wsgi(given, start_response))
        ((status, headers),) = started
        return self._verdict(int(status[:3]), dict(headers), body)

    def _verdict(self, status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
        record, self._let_in, let_in = self._listener.take(), [], self._let_in
        assert record.get("status", 204) == status
        assert (status == 204) == (len(let_in) == 1), "the application was reached"
        if status == 204:
            return Verdict(status, record["reason"], access=let_in[0])
        assert headers.get("www-authenticate", "Bearer ").startswith("Bearer ")
        assert all(name.isascii() and v.isprintable() for name, v in headers.items())
        return Verdict(status, record["reason"], json.loads(body).get("error"))


@dataclass
class Hall:
    """Where the middlewares are."""

    make: Callable[[ResourceServer], Middlewares]
    middlewares: Mapping[str, Middlewares]
    """By kind of settings, and kept for all credentials."""


@contextmanager
def opened() -> Generator[Hall, None, None]:
    """Middlewares of all kinds; all that is logged goes to them until the block
    ends."""
    logger, listener = logging.getLogger("agentauth_middleware.audit"), Listener()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        with asyncio.Runner() as runner:

            def make(server: ResourceServer) -> Middlewares:
                return Middlewares(server, listener, runner)

            kinds = {name: make(kind.server) for name, kind in KINDS.items()}
            yield Hall(make, kinds)
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


def instants(ask: Callable[[], Given]) -> tuple[Given, float, float]:
    """What *ask* gives, and between which instants it did so."""
    first = time.time()
    given = ask()
    return given, first, time.time()
