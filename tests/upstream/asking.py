"""Requests to both middlewares, one or many at a time, each with a future for its
answer.

The ASGI middleware lives in one event loop in a thread of its own, as under a server;
the WSGI middleware is called by as many threads as there are requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from agentauth_middleware import asgi, wsgi
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Procedure
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._io.drive import drive, drive_async
from agentauth_middleware._io.perform import AsyncPerformer, BlockingPerformer
from agentauth_middleware.access import Access
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore
from tests.support.application import asgi_application, wsgi_application
from tests.support.deciding import Decided, deciding, request
from tests.support.exchange import Answer, HTTPRequest, ask_wsgi, scope_of
from tests.support.stepping import Clock
from tests.upstream.server import PATIENCE, Upstream

RESOURCE = "https://api.example.com"
KINDS = ("asgi-asyncio", "asgi-trio", "wsgi")
AT_ONCE = 200
"""How many requests may be under way."""


def resource_server(upstream: Upstream, **settings: Any) -> ResourceServer:
    """An API that trusts *upstream*; *settings* are ``Issuer``'s."""
    issuers = [upstream.trust(**settings)]
    return ResourceServer(RESOURCE, issuers=issuers, insecure_loopback=True)


# In a middleware, in real time


class Middleware:
    """One of the middlewares, with an application behind it that says 200."""

    def __init__(self, submit: Callable[[HTTPRequest], Future[Answer]]) -> None:
        self._submit = submit

    def submit(self, token: str) -> Future[Answer]:
        """Send a request with *token*, and go on."""
        line = ("Authorization", f"Bearer {token}")
        return self._submit(HTTPRequest("GET", "/notes", (line,)))

    def ask(self, token: str) -> Answer:
        """The answer to a request with *token*."""
        return self.submit(token).result(PATIENCE)

    def statuses(self, tokens: Sequence[str]) -> list[int]:
        """The statuses of requests that are sent at once, in their order."""
        answers = [self.submit(token) for token in tokens]
        return [answer.result(PATIENCE).status for answer in answers]


@contextmanager
def opened(kind: str, server: ResourceServer) -> Generator[Middleware, None, None]:
    """A middleware of *kind*, one of ``KINDS``, that has remembered nothing yet."""
    if kind == "wsgi":
        blocking = wsgi.AgentAuthMiddleware(wsgi_application([]), server)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            yield Middleware(lambda asked: threads.submit(ask_wsgi, blocking, asked))
    else:
        awaiting = asgi.AgentAuthMiddleware(asgi_application([]), server)
        with start_blocking_portal(kind.removeprefix("asgi-")) as portal:
            yield Middleware(
                lambda asked: portal.start_task_soon(ask_asgi, awaiting, asked)
            )


async def ask_asgi(app: Any, asked: HTTPRequest) -> Answer:
    """What *app* answers, in the running loop."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope_of(asked), receive, send)
    start, body = sent
    fields = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Answer(start["status"], tuple(fields), body["body"])


# At the core, where time passes only as told


class Core:
    """What a middleware would decide, by a clock of the test's."""

    def __init__(
        self, clock: Clock, submit: Callable[[str, str | None], Future[Decided]]
    ) -> None:
        self.clock = clock
        self._submit = submit

    def submit(self, token: str, client: str | None = None) -> Future[Decided]:
        """Ask for the decision on a request with *token* from *client*, and go on."""
        return self._submit(token, client)

    def ask(self, token: str) -> tuple[int, str]:
        """Status and reason of the decision on a request with *token*."""
        return outcome_of(self.submit(token).result(PATIENCE))


def outcome_of(decision: Decided) -> tuple[int, str]:
    if isinstance(decision, Refusal):
        return decision.status, decision.reason
    assert isinstance(decision, Access)
    return 200, "granted"


GRANTED = (200, "granted")


@contextmanager
def core(kind: str, server: ResourceServer) -> Generator[Core, None, None]:
    """What stands behind a middleware of *kind*, and has remembered nothing yet."""
    state, clock = MiddlewareState(server), Clock(time.time())

    def begin(token: str, client: str | None) -> Procedure[Decided]:
        return deciding(state, request(token.encode(), client=client), clock)

    if kind == "wsgi":
        blocking = BlockingPerformer(MemoryStore())
        with ThreadPoolExecutor(AT_ONCE) as threads:
            yield Core(
                clock,
                lambda token, client: threads.submit(
                    drive, begin(token, client), blocking
                ),
            )
        blocking.close()
    else:
        awaiting = AsyncPerformer(MemoryStore())
        with start_blocking_portal(kind.removeprefix("asgi-")) as portal:
            yield Core(
                clock,
                lambda token, client: portal.start_task_soon(
                    drive_async, begin(token, client), awaiting
                ),
            )
            portal.call(awaiting.aclose)
