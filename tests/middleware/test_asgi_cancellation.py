"""A request that is cancelled while the middleware waits leaves nothing behind.

Servers and frameworks cancel when a client leaves or time is up. What the request had
taken part in must go on without it: no task, no lock, no claim to be the one who asks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import pytest
from anyio import wait_all_tasks_blocked
from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware._core.operations import CutOff, LogPage
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.stores import MemoryStore
from tests.support.scripted_server import Connection, serving
from tests.support.server_side import (
    ISSUER,
    RESOURCE,
    SERVER,
    bearer,
    http_scope,
    request,
)

pytestmark = pytest.mark.anyio


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@dataclass
class HeldKeys:
    """An issuer whose first answer is held back; later ones come at once."""

    url: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)
    requests: int = 0

    def answer(self, connection: Connection) -> None:
        while connection.next_request() is not None:
            self.requests += 1
            if self.requests == 1:
                self.asked.set()
                self.may_answer.wait(30)
            connection.reply(
                "Content-Type: application/json", body=json.dumps(ISSUER.jwks).encode()
            )


@pytest.fixture
def keys() -> Iterator[HeldKeys]:
    held = HeldKeys()
    with serving(held.answer) as server:
        held.url = server.url
        yield held
        held.may_answer.set()


@pytest.fixture
def middleware(keys: HeldKeys) -> AgentAuthMiddleware:
    issuer = Issuer(ISSUER.issuer, jwks_uri=keys.url, timeout=30)
    server = ResourceServer(RESOURCE, issuers=[issuer], insecure_loopback=True)
    return AgentAuthMiddleware(application, server)


async def get(app: ASGIApp) -> int:
    """The status of a request with a good token."""
    talk = await request(app, http_scope(headers=[("Authorization", bearer())]))
    return talk.status


async def get_into(statuses: list[int], app: ASGIApp) -> None:
    statuses.append(await get(app))


@asynccontextmanager
async def cancelled(app: ASGIApp, event: threading.Event) -> AsyncGenerator[None, None]:
    """Begin a request, wait for *event*, run the block, and cancel the request."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get, app)
        assert await anyio.to_thread.run_sync(event.wait, 10)
        yield
        tasks.cancel_scope.cancel()


def other_tasks() -> list[str | None]:
    mine = anyio.get_current_task()
    return [task.name for task in anyio.get_running_tasks() if task.id != mine.id]


async def test_cancelled_while_waiting_for_keys_leaves_nothing_behind(
    middleware: AgentAuthMiddleware, keys: HeldKeys
) -> None:
    before = other_tasks()
    async with cancelled(middleware, keys.asked):
        pass

    assert other_tasks() == before
    assert await get(middleware) == 204


async def test_cancelled_leader_hands_over_to_who_waits(
    middleware: AgentAuthMiddleware, keys: HeldKeys
) -> None:
    """Those who share its exchange neither hang nor hear of it."""
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks, cancelled(middleware, keys.asked):
        for _ in range(5):
            tasks.start_soon(get_into, statuses, middleware)
        await wait_all_tasks_blocked()

    assert statuses == [204] * 5
    assert keys.requests == 2


async def test_cancelled_waiter_does_not_disturb_the_leader(
    middleware: AgentAuthMiddleware, keys: HeldKeys
) -> None:
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get_into, statuses, middleware)
        await anyio.to_thread.run_sync(keys.asked.wait, 10)
        async with anyio.create_task_group() as waiting:
            for _ in range(3):
                waiting.start_soon(get, middleware)
            await wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        keys.may_answer.set()

    assert statuses == [204]
    assert keys.requests == 1


async def test_time_limit_around_a_request_is_kept(
    middleware: AgentAuthMiddleware, keys: HeldKeys
) -> None:
    """As a timeout middleware outside the middleware sets one."""
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            await get(middleware)

    keys.may_answer.set()
    assert await get(middleware) == 204


class HeldStore:
    """A store of somebody else's making, which blocks its first reader."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    def add_once(self, key: str, *, expires_at: float) -> bool:
        return self._store.add_once(key, expires_at=expires_at)

    def put(self, key: str, value: bytes, *, expires_at: float) -> None:
        self._store.put(key, value, expires_at=expires_at)

    def get(self, key: str) -> bytes | None:
        return self._store.get(key)

    def append_log(self, entries: Iterable[CutOff]) -> None:
        self._store.append_log(entries)

    def read_log(self, after: int) -> LogPage:
        if not self.asked.is_set():
            self.asked.set()
            self.may_answer.wait(30)
        return self._store.read_log(after)


async def test_cancelled_while_reading_the_log_leaves_nothing_behind() -> None:
    """The next request reads by itself: nobody else will."""
    store = HeldStore()
    middleware = AgentAuthMiddleware(application, SERVER, store=store)
    before = other_tasks()
    try:
        async with cancelled(middleware, store.asked):
            pass

        assert other_tasks() == before
        assert await get(middleware) == 204
    finally:
        store.may_answer.set()
