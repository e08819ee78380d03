"""Both performers, over the same operations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, get_args

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
from anyio import wait_all_tasks_blocked

from agentauth_middleware._core import operations
from agentauth_middleware._core.operations import (
    Fetch,
    LogPage,
    Operation,
    Procedure,
    ReadLog,
    Reply,
    Start,
)
from agentauth_middleware._io.perform import (
    AnyOperation,
    AsyncPerformer,
    BlockingPerformer,
)
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.stores import MemoryStore, SQLiteStore, Store
from tests.support.io_certificates import over_tls, write_certificate
from tests.support.log import append, names_of
from tests.support.scripted_server import Script, Server, answer_all
from tests.support.waiting import await_halt

Serve: TypeAlias = Callable[[Script], Server]
Perform: TypeAlias = Callable[[Operation[Any]], Any]
MakePerform: TypeAlias = Callable[[Store], Perform]


def fetch(url: str) -> Fetch:
    return Fetch(url, "keys", timeout=5.0, max_bytes=1000)


def run_async(
    performer: AsyncPerformer, operation: Operation[Any], backend: str
) -> Any:
    async def call() -> Any:
        return await performer(operation)

    return anyio.run(call, backend=backend)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def performing(request: pytest.FixtureRequest) -> Iterator[MakePerform]:
    """Makes a performer of one of the kinds, for a store."""
    closing: list[Callable[[], Any]] = []

    def make(store: Store) -> Perform:
        if request.param == "blocking":
            blocking = BlockingPerformer(store)
            closing.append(blocking.close)
            return blocking
        performer = AsyncPerformer(store)
        closing.append(lambda: anyio.run(performer.aclose, backend=request.param))
        return lambda operation: run_async(performer, operation, request.param)

    yield make
    for close in closing:
        close()


def test_every_operation_is_performed() -> None:
    """What the core may ask for, and what both performers list."""
    there = {
        name
        for name, value in vars(operations).items()
        if isinstance(value, type) and issubclass(value, Operation)
    }
    performed = {kind.__name__ for kind in get_args(AnyOperation)}

    assert performed == there - {"Operation"}


def test_unknown_operation_is_a_bug(performing: MakePerform) -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        performing(MemoryStore())(Operation())


def test_fetch_is_answered(performing: MakePerform, serve: Serve) -> None:
    reply = performing(MemoryStore())(fetch(serve(answer_all).url))

    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (200, b'{"keys": []}')


def test_fetches_of_a_flight_share_an_exchange(serve: Serve) -> None:
    server = serve(answer_all)
    performer = BlockingPerformer(MemoryStore())
    first, second = (performer(fetch(server.url)) for _ in range(2))
    performer.close()

    assert first is second
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_tasks_that_fetch_at_once_share_an_exchange(serve: Serve) -> None:
    server = serve(answer_all)
    performer = AsyncPerformer(MemoryStore())
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(performer, fetch(server.url))
    await performer.aclose()

    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_read_log_is_answered(
    performing: MakePerform, kind: str, tmp_path: Path
) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "log.db")
    append(store, b"first")
    append(store, b"second")
    perform = performing(store)
    page = perform(ReadLog(0))

    assert names_of(page) == (b"first", b"second")
    rest = perform(ReadLog(page.position))
    assert (rest.position, rest.entries) == (page.position, ())


def test_start_runs_in_the_background(performing: MakePerform, serve: Serve) -> None:
    """With the operations performed there."""
    server = serve(answer_all)
    replies: list[Reply] = []
    finished = threading.Event()

    def procedure() -> Procedure[None]:
        replies.append((yield from fetch(server.url)))
        finished.set()

    answer = performing(MemoryStore())(Start("keys", procedure))

    assert answer is None
    assert finished.wait(10)
    assert [reply.status for reply in replies] == [200]


@pytest.mark.anyio
async def test_nothing_is_started_past_a_given_async_client() -> None:
    """Its requests would go out another way than the operator has chosen."""
    started: list[str] = []

    def procedure() -> Procedure[None]:
        started.append("keys")
        return
        yield

    finished = threading.Event()

    def last() -> Procedure[None]:
        finished.set()
        return
        yield

    async with httpx.AsyncClient() as given:
        performer = AsyncPerformer(MemoryStore(), given)
        await performer(Start("keys", procedure))
        await performer.aclose()
    BlockingPerformer(MemoryStore())(Start("last", last))

    assert finished.wait(10)
    assert started == []


def test_blocking_performer_uses_the_given_client() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(203)

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        performer = BlockingPerformer(MemoryStore(), given)

        assert performer(fetch("https://as.example/keys")).status == 203

        performer.close()

        assert not given.is_closed


@pytest.mark.parametrize("kind", [BlockingPerformer, AsyncPerformer])
def test_prepared_performer_has_read_its_certificates(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BlockingPerformer] | type[AsyncPerformer],
) -> None:
    """So that no request waits for it, be it here or in the background."""
    certificate = write_certificate(tmp_path, "127.0.0.1")
    server = serve(over_tls(certificate, answer_all))
    url = server.url.replace("http:", "https:")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    performer = kind(MemoryStore())
    performer.prepare()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    statuses: list[int] = []
    finished = threading.Event()

    def procedure() -> Procedure[None]:
        statuses.append((yield from fetch(url)).status)
        finished.set()

    if isinstance(performer, BlockingPerformer):
        performer(Start("keys", procedure))
    else:
        statuses.append(run_async(performer, fetch(url), "asyncio").status)
        run_async(performer, Start("keys", procedure), "asyncio")

    assert finished.wait(10)
    assert set(statuses) == {200}

    if isinstance(performer, BlockingPerformer):
        performer.close()
    else:
        anyio.run(performer.aclose)


def test_performer_that_cannot_be_prepared_tells_whoever_fetches(
    performing: MakePerform, monkeypatch: pytest.MonkeyPatch, nobodys_url: str
) -> None:
    """As well as whoever prepares it."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    for performer in (BlockingPerformer(MemoryStore()), AsyncPerformer(MemoryStore())):
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
            performer.prepare()

    with pytest.raises(UnavailableError, match="FileNotFoundError"):
        performing(MemoryStore())(fetch(nobodys_url))


@pytest.mark.anyio
async def test_async_performer_opens_and_closes_its_client(serve: Serve) -> None:
    server = serve(answer_all)
    performer = AsyncPerformer(MemoryStore())
    await performer(fetch(server.url))
    await performer.aclose()

    assert server.left.wait(10)


@pytest.mark.anyio
async def test_async_performer_closes_the_client_of_its_background(
    serve: Serve,
) -> None:
    server = serve(answer_all)
    finished = threading.Event()

    def procedure() -> Procedure[None]:
        yield from fetch(server.url)
        finished.set()

    performer = AsyncPerformer(MemoryStore())
    await performer(Start("keys", procedure))

    assert finished.wait(10)
    assert not server.left.is_set()

    await performer.aclose()

    assert server.left.wait(10)


# Reading the log, and sharing what is read


class HangingStore(SQLiteStore):
    """Its log cannot be read until the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = threading.Event()
        self.is_read = threading.Event()
        self.reads = 0

    def read_log(self, after: int) -> LogPage:
        self.reads += 1
        self.is_read.set()
        assert self.may_go_on.wait(10)
        return super().read_log(after)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingStore]:
    store = HangingStore(tmp_path / "log.db")
    yield store
    store.may_go_on.set()


@dataclass
class Asking:
    """Tasks that read the log with one performer, and what they got."""

    perform: AsyncPerformer
    pages: list[LogPage] = field(default_factory=list[LogPage])

    async def read(self, after: int = 0, asked_at: float = 0.0) -> None:
        self.pages.append(await self.perform(ReadLog(after, asked_at)))


@pytest.mark.anyio
async def test_tasks_share_the_read_that_is_under_way(hanging: HangingStore) -> None:
    """And none counts itself fresher than the question that it was begun for."""
    append(hanging, b"revoked")
    asking = Asking(AsyncPerformer(hanging))
    async with anyio.create_task_group() as group:
        for asked_at in range(1000, 1050):
            group.start_soon(asking.read, 0, asked_at)
            await wait_all_tasks_blocked()
        hanging.may_go_on.set()

    assert hanging.reads == 1
    assert {names_of(page) for page in asking.pages} == {(b"revoked",)}
    assert [page.asked_at for page in asking.pages] == [1000] * 50
    assert len({id(page) for page in asking.pages}) == 1


@pytest.mark.anyio
async def test_read_of_a_task_that_comes_late_is_its_own(
    hanging: HangingStore,
) -> None:
    """The page that has just come may lack what was revoked since it was begun."""
    hanging.may_go_on.set()
    asking = Asking(AsyncPerformer(hanging))
    await asking.read(0, 1000.0)
    append(hanging, b"revoked")
    await asking.read(0, 1001.0)

    assert [names_of(page) for page in asking.pages] == [(), (b"revoked",)]
    assert [page.asked_at for page in asking.pages] == [1000.0, 1001.0]


@pytest.mark.anyio
async def test_reads_from_two_positions_are_two(hanging: HangingStore) -> None:
    asking = Asking(AsyncPerformer(hanging))
    async with anyio.create_task_group() as group:
        group.start_soon(asking.read, 0)
        group.start_soon(asking.read, 7)
        await wait_all_tasks_blocked()
        hanging.may_go_on.set()

    assert hanging.reads == 2


@pytest.mark.anyio
async def test_read_of_a_task_that_was_cancelled_is_begun_anew(
    hanging: HangingStore,
) -> None:
    """By one of those that waited, and the page is as old as that one's question."""
    asking = Asking(AsyncPerformer(hanging))
    leader = anyio.CancelScope()

    async def lead() -> None:
        with leader:
            await asking.read(0, 1000.0)

    async with anyio.create_task_group() as group:
        group.start_soon(lead)
        await wait_all_tasks_blocked()
        for _ in range(8):
            group.start_soon(asking.read, 0, 1001.0)
        await wait_all_tasks_blocked()
        leader.cancel()
        await wait_all_tasks_blocked()
        hanging.may_go_on.set()

    assert hanging.reads == 2
    assert [page.asked_at for page in asking.pages] == [1001.0] * 8


def test_threads_share_the_read_that_is_under_way(hanging: HangingStore) -> None:
    append(hanging, b"revoked")
    performer = BlockingPerformer(hanging)
    idents: list[int] = []

    def read(asked_at: float) -> LogPage:
        idents.append(threading.get_ident())
        page: LogPage = performer(ReadLog(0, asked_at))
        return page

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(read, 1000.0)
        assert hanging.is_read.wait(10)
        others = [pool.submit(read, 1001.0) for _ in range(19)]
        await_halt(idents, 20)
        hanging.may_go_on.set()
        pages = [future.result() for future in (first, *others)]

    assert hanging.reads == 1
    assert {names_of(page) for page in pages} == {(b"revoked",)}
    assert [page.asked_at for page in pages] == [1000.0] * 20

    assert performer(ReadLog(0, 1002.0)).asked_at == 1002.0
    assert hanging.reads == 2


def test_failed_read_is_shared_and_not_kept(
    performing: MakePerform, tmp_path: Path
) -> None:
    class LockedOnce(SQLiteStore):
        reads = 0

        def read_log(self, after: int) -> LogPage:
            self.reads += 1
            if self.reads == 1:
                raise UnavailableError("store_locked")
            return super().read_log(after)

    perform = performing(LockedOnce(tmp_path / "log.db"))
    with pytest.raises(UnavailableError):
        perform(ReadLog(0))

    assert names_of(perform(ReadLog(0))) == ()


def test_page_says_for_which_question_it_was_read(performing: MakePerform) -> None:
    page = performing(MemoryStore())(ReadLog(0, 1234.5))

    assert page.asked_at == 1234.5


@pytest.mark.anyio
async def test_task_waits_for_the_store_no_longer_than_told(
    hanging: HangingStore,
) -> None:
    performer = AsyncPerformer(hanging, store_timeout=0.05)
    with pytest.raises(UnavailableError) as failure:
        await performer(ReadLog(0))

    assert failure.value.reason == "store_timeout"


@pytest.mark.anyio
async def test_store_that_hangs_keeps_few_threads(hanging: HangingStore) -> None:
    """Each request would leave one behind, until the process may have no more."""
    performer = AsyncPerformer(hanging, store_timeout=0.02)
    for _ in range(12):
        with pytest.raises(UnavailableError, match="log"):
            await performer(ReadLog(0))

    assert hanging.reads <= 8

    hanging.may_go_on.set()
    while not await recovered(performer):
        await anyio.lowlevel.checkpoint()


async def recovered(performer: AsyncPerformer) -> bool:
    try:
        await performer(ReadLog(0))
    except UnavailableError:
        return False
    return True


@pytest.mark.anyio
async def test_log_is_read_while_the_application_uses_all_its_threads(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    append(store, b"revoked")
    threads = anyio.to_thread.current_default_thread_limiter()
    threads.total_tokens = 1
    async with threads:
        page = await AsyncPerformer(store)(ReadLog(0))

    assert names_of(page) == (b"revoked",)


@pytest.mark.anyio
async def test_memory_is_read_without_a_thread() -> None:
    class Store(MemoryStore):
        def read_log(self, after: int) -> LogPage:
            threads.append(threading.get_ident())
            return super().read_log(after)

    threads: list[int] = []
    await AsyncPerformer(Store())(ReadLog(0))

    assert threads == [threading.get_ident()]


def test_failure_of_the_store_is_passed_on(
    performing: MakePerform, tmp_path: Path
) -> None:
    class LockedStore(SQLiteStore):
        def read_log(self, after: int) -> LogPage:
            raise UnavailableError("store_locked", retry_after=2)

    with pytest.raises(UnavailableError) as failure:
        performing(LockedStore(tmp_path / "log.db"))(ReadLog(0))

    assert (failure.value.reason, failure.value.retry_after) == ("store_locked", 2)
