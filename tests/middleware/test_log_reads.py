"""How a middleware reads the log of revocations: seldom, together, and from any
store."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from starlette.types import Message, Receive, Scope, Send

from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore, SQLiteStore
from tests.support.deadlines import try_within
from tests.support.exchange import MIDDLEWARES, HTTPRequest, running_middleware
from tests.support.server_side import ISSUER, RESOURCE, SERVER, bearer, http_scope

CROWD = 200
RECORDS = 50_000


class CountedStore(SQLiteStore):
    """Counts its reads, and holds them up until the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = threading.Event()
        self.reads: list[int] = []

    def read_log(self, after: int) -> LogPage:
        self.reads.append(after)
        assert self.may_go_on.wait(10)
        return super().read_log(after)


def fill(store: SQLiteStore, path: Path) -> None:
    """Let the log have many records."""
    revoke_blocking(store, ISSUER.issuer, subject="somebody")
    records = [
        Revocation(ISSUER.issuer, 1.0, f"user-{number}", (ISSUER.issuer, "agent"))
        for number in range(RECORDS - 1)
    ]
    # One by one each would wait for the disk.
    with sqlite3.connect(path) as sql:
        sql.executemany(
            "INSERT INTO log (key, at, record) VALUES (?, ?, x'')",
            [record.entry for record in records],
        )
    sql.close()


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    store = CountedStore(tmp_path / "store.db")
    fill(store, tmp_path / "store.db")
    return store


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@dataclass
class Crowd:
    """Requests to one middleware, each in its task, and the statuses of their
    answers."""

    middleware: AgentAuthMiddleware
    statuses: list[int] = field(default_factory=list[int])

    async def ask(self, token: str) -> None:
        scope = http_scope(headers=[("Authorization", token)])
        await self.middleware(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        raise AssertionError("there is no body")

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])


@pytest.mark.anyio
async def test_crowd_before_a_cold_process_reads_a_long_log_once(
    store: CountedStore,
) -> None:
    """Each on its own they would take so long that all were refused as unavailable."""
    crowd = Crowd(AgentAuthMiddleware(answer, SERVER, store=store))
    tokens = [bearer(subject=f"user-{number}") for number in range(10)]
    store.may_go_on.set()
    async with anyio.create_task_group() as group:
        for number in range(CROWD):
            group.start_soon(crowd.ask, tokens[number % 10])

    assert crowd.statuses == [204] * CROWD
    # A page has 2,000 records. A few may come late and look behind the last of them.
    assert len(store.reads) <= 10


def test_crowd_of_threads_before_a_cold_process_is_let_in(store: CountedStore) -> None:
    """Threads that take the same page in at once keep each other from it."""
    together = threading.Barrier(40)
    middleware = running_middleware("wsgi", SERVER, store)
    request = with_token("alice")
    store.may_go_on.set()

    def ask(_: int) -> int:
        together.wait(10)
        return middleware.ask(request).status

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(ask, range(40)))

    assert statuses == [200] * 40


@pytest.mark.anyio
async def test_first_read_that_is_held_up_is_joined_and_not_repeated(
    store: CountedStore,
) -> None:
    crowd = Crowd(AgentAuthMiddleware(answer, SERVER, store=store))
    good, revoked = bearer(), bearer(subject="mallory")
    revoke_blocking(store, ISSUER.issuer, subject="mallory")
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(crowd.ask, good)
            group.start_soon(crowd.ask, revoked)
        await wait_all_tasks_blocked()
        assert crowd.statuses == []
        store.may_go_on.set()

    assert sorted(crowd.statuses) == [204] * 20 + [401] * 20
    assert store.reads[0] == 0
    assert len(store.reads) == len(set(store.reads)) == 3


def with_token(subject: str) -> HTTPRequest:
    token = ISSUER.token(RESOURCE, subject=subject)
    return HTTPRequest("GET", "/", (("Authorization", f"Bearer {token}"),))


class ListOfRevocations(MemoryStore):
    """A store of somebody's own that is empty as lists are: ``bool`` says no."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_store_that_is_empty_is_used(kind: str) -> None:
    """And not another one in its place, in which nothing is ever revoked."""
    store = ListOfRevocations()
    assert not store
    middleware = running_middleware(kind, SERVER, store)
    request = with_token("alice")
    revoke_blocking(store, ISSUER.issuer, subject="alice")

    assert middleware.ask(request).status == 401


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_store_may_give_the_log_in_pages(kind: str) -> None:
    """Whatever stands on a later page counts at the first request already."""

    class Paged(MemoryStore):
        def read_log(self, after: int) -> LogPage:
            page = super().read_log(after)
            if len(page.entries) <= 1:
                return page
            return LogPage(after + 1, page.entries[:1], is_last=False)

    store = Paged()
    requests = [with_token(name) for name in ("alice", "bob", "carol", "dave")]
    for subject in ("bob", "carol", "alice"):
        revoke_blocking(store, ISSUER.issuer, subject=subject)
    middleware = running_middleware(kind, SERVER, store)

    assert [middleware.ask(request).status for request in requests] == [
        401,
        401,
        401,
        200,
    ]


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_store_that_is_gone_is_trouble_that_only_the_operator_can_end(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new worker knows nothing of what was revoked; it must not let it in."""
    file = tmp_path / "store.db"
    revoke_blocking(SQLiteStore(file), ISSUER.issuer, subject="mallory")
    for part in ("store.db", "store.db-wal", "store.db-shm"):
        file.with_name(part).unlink(missing_ok=True)
    middleware = running_middleware(kind, SERVER, store=SQLiteStore(file))

    assert middleware.ask(with_token("mallory")).status == 503
    assert caplog.records[-1].levelname == "ERROR"
    assert caplog.records[-1].__dict__["agentauth"]["reason"] == "store_gone"


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_running_worker_puts_back_what_it_knows(kind: str, tmp_path: Path) -> None:
    """Once the operator has let the store be made anew, no revocation is lost."""
    file = tmp_path / "store.db"
    middleware = running_middleware(kind, SERVER, store=SQLiteStore(file))
    revoke_blocking(SQLiteStore(file), ISSUER.issuer, subject="mallory")
    request = with_token("mallory")
    assert middleware.ask(request).status == 401
    for part in tmp_path.glob("store.db*"):
        part.unlink()
    try_within(
        10,
        lambda: (middleware.ask(request), SQLiteStore(file).read_log(0).entries)[1],
        until=bool,
    )

    another = running_middleware(kind, SERVER, store=SQLiteStore(file))
    assert another.ask(request).status == 401
