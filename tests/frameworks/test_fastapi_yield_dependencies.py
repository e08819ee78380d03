"""``requires`` on dependencies that are written as generators."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.starlette import requires
from tests.frameworks.notes_server import SERVER, bearer

events: list[str] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


@requires("notes.read")
async def opened() -> AsyncIterator[str]:
    """A session of a database, say."""
    events.append("open")
    try:
        yield "session"
    except KeyError:
        events.append("rollback")
        raise
    finally:
        events.append("close")


@requires("notes.read")
def opened_in_a_thread() -> Iterator[str]:
    events.append("open")
    try:
        yield "session"
    except KeyError:
        events.append("rollback")
        raise
    finally:
        events.append("close")


class Sessions:
    @requires("notes.read")
    async def opened(self) -> AsyncIterator[str]:
        events.append("open")
        try:
            yield "session"
        except KeyError:
            events.append("rollback")
            raise
        finally:
            events.append("close")


EACH = pytest.mark.parametrize(
    "dependency", [opened, opened_in_a_thread, Sessions().opened]
)


def client_of(dependency: Callable[..., Any]) -> TestClient:
    app = FastAPI()

    @app.get("/notes", response_class=PlainTextResponse)
    def notes(session: Annotated[str, Depends(dependency)], fail: bool = False) -> str:
        events.append("handle")
        return {False: session}[fail]

    AgentAuth(SERVER).install(app)
    return TestClient(app)


@EACH
def test_guarded_yield_dependency_gives_its_value(
    dependency: Callable[..., Any],
) -> None:
    response = client_of(dependency).get("/notes", headers=bearer("notes.read"))

    assert (response.status_code, response.text) == (200, "session")
    assert events == ["open", "handle", "close"]


@EACH
def test_guarded_yield_dependency_learns_of_errors(
    dependency: Callable[..., Any],
) -> None:
    client = client_of(dependency)
    with pytest.raises(KeyError):
        client.get("/notes?fail=1", headers=bearer("notes.read"))

    assert events == ["open", "handle", "rollback", "close"]


@EACH
def test_guarded_yield_dependency_refuses_before_its_first_line(
    dependency: Callable[..., Any],
) -> None:
    response = client_of(dependency).get("/notes", headers=bearer("notes.write"))

    assert response.status_code == 403
    assert 'scope="notes.read"' in response.headers["www-authenticate"]
    assert events == []


@EACH
def test_guarded_yield_dependency_is_named_to_clients_without_a_token(
    dependency: Callable[..., Any],
) -> None:
    response = client_of(dependency).get("/notes")

    assert response.status_code == 401
    assert 'scope="notes.read"' in response.headers["www-authenticate"]
