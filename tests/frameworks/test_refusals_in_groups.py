"""Refusals that task groups raise, which come in an ``ExceptionGroup``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
from fastapi import FastAPI
from flask import Flask
from starlette.testclient import TestClient

from agentauth_middleware import InsufficientScopeError
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.refusals import RefusalAnswers
from agentauth_middleware.wsgi import AgentAuthMiddleware as WSGIMiddleware
from tests.frameworks.notes_server import SERVER, bearer
from tests.support.server_side import environ, http_scope, request, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from starlette.types import Receive, Scope, Send

LACK = InsufficientScopeError(["notes.write"])
Ask = Callable[[Exception], int]
TOKEN = bearer("notes.read")


def bare(failure: Exception) -> int:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise failure

    return status(TestClient(AgentAuthMiddleware(app, SERVER)))


def fastapi(failure: Exception) -> int:
    app = FastAPI()

    @app.get("/notes")
    async def endpoint() -> None:
        raise failure

    AgentAuth(SERVER).install(app)
    return status(TestClient(app))


def status(client: TestClient) -> int:
    return client.get("/notes", headers=TOKEN).status_code


def flask(failure: Exception) -> int:
    app = Flask(__name__)
    app.testing = True

    @app.get("/notes")
    def endpoint() -> str:
        raise failure

    FlaskAgentAuth(SERVER).init_app(app)
    return app.test_client().get("/notes", headers=TOKEN).status_code


def bare_wsgi(failure: Exception) -> int:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise failure

    return wsgi_status(app)


def streamed_wsgi(failure: Exception) -> int:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        raise failure
        yield b""

    return wsgi_status(app)


def wsgi_status(app: Callable[..., Iterable[bytes]]) -> int:
    token = {"HTTP_AUTHORIZATION": TOKEN["Authorization"]}
    answer = serve(WSGIMiddleware(app, SERVER), environ("/notes", **token))
    if answer.raised is not None:
        raise answer.raised
    return answer.status


def any_framework(failure: Exception) -> int:
    refusal = RefusalAnswers.refusal_in(failure)
    if refusal is None:
        raise failure
    return RefusalAnswers(SERVER).answer(refusal, method="GET", path="/notes").status


EVERYWHERE = pytest.mark.parametrize(
    "ask", [bare, fastapi, flask, bare_wsgi, streamed_wsgi, any_framework]
)


@EVERYWHERE
def test_group_of_refusals_is_answered_like_its_first(ask: Ask) -> None:
    assert ask(ExceptionGroup("tasks", [LACK])) == 403
    assert ask(ExceptionGroup("tasks", [ExceptionGroup("inner", [LACK]), LACK])) == 403


@EVERYWHERE
def test_group_with_another_error_is_a_crash(ask: Ask) -> None:
    with pytest.raises(ExceptionGroup, match="tasks"):
        ask(ExceptionGroup("tasks", [LACK, KeyError("x")]))


# Raised by task groups themselves


async def refuse() -> None:
    raise LACK


async def in_asyncio() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refuse())
        tasks.create_task(asyncio.sleep(60))


async def in_anyio() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuse)
        tasks.start_soon(anyio.sleep, 60)


async def in_trio() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        nursery.start_soon(trio.sleep, 60)


TASK_GROUPS = {"asyncio": [in_asyncio, in_anyio], "trio": [in_trio, in_anyio]}


@pytest.mark.anyio
@pytest.mark.parametrize("number", [0, 1], ids=["its own", "anyio"])
async def test_refusal_of_a_task_is_answered(
    number: int, anyio_backend_name: str
) -> None:
    """While its sibling is still running, which is cancelled."""
    fan_out = TASK_GROUPS[anyio_backend_name][number]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fan_out()

    scope = http_scope("/notes", list(TOKEN.items()))
    talk = await request(AgentAuthMiddleware(app, SERVER), scope)

    assert talk.status == 403


@pytest.mark.parametrize("fan_out", [in_asyncio, in_anyio])
def test_refusal_of_a_task_of_an_endpoint_is_answered(
    fan_out: Callable[[], Awaitable[None]],
) -> None:
    app = FastAPI()
    app.get("/notes")(fan_out)
    AgentAuth(SERVER).install(app)

    assert status(TestClient(app)) == 403


@pytest.mark.parametrize("run", [asyncio.run, anyio.run])
def test_refusal_of_a_task_of_a_flask_view_is_answered(
    run: Callable[..., None],
) -> None:
    app = Flask(__name__)

    @app.get("/notes")
    def endpoint() -> str:
        run(in_asyncio() if run is asyncio.run else in_anyio)
        return ""

    FlaskAgentAuth(SERVER).init_app(app)

    assert app.test_client().get("/notes", headers=TOKEN).status_code == 403


@pytest.mark.parametrize(
    "run", [lambda: asyncio.run(in_asyncio()), lambda: trio.run(in_trio)]
)
def test_refusal_of_a_task_of_a_wsgi_application_is_answered(
    run: Callable[[], None],
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        run()
        return []

    assert wsgi_status(app) == 403
