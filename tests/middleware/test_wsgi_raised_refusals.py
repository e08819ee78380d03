"""Refusals that handlers raise, as the WSGI middleware answers them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from agentauth_middleware import current_access
from agentauth_middleware.errors import (
    ActorRefusedError,
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
)
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.raised_refusals import GUARDS, RAISED, Demand, Expected, Make
from tests.support.server_side import SERVER, bearer, environ, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

OK = ("200 OK", [("Content-Type", "text/plain"), ("X-Begun", "yes")])


def authorized(path: str = "/", **members: Any) -> WSGIEnvironment:
    return environ(path, HTTP_AUTHORIZATION=bearer(), **members)


def refused(make: Make) -> bytes:
    """No piece of a body, but what stands in its place."""
    raise make()


def at_once(make: Make) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise make()

    return AgentAuthMiddleware(app, SERVER)


def after_start_response(make: Make) -> WSGIApplication:
    """Which servers do not send before the first piece of the body."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)
        raise make()

    return AgentAuthMiddleware(app, SERVER)


def generator(make: Make) -> WSGIApplication:
    """No line of which runs before the server asks for the first piece."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield refused(make)

    return AgentAuthMiddleware(app, SERVER)


def generator_after_start_response(make: Make) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response(*OK)
        yield refused(make)

    return AgentAuthMiddleware(app, SERVER)


def iterable(make: Make) -> WSGIApplication:
    """A body whose ``iter`` raises."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            raise make()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return Body()

    return AgentAuthMiddleware(app, SERVER)


@pytest.mark.parametrize(
    "set_up",
    [
        at_once,
        after_start_response,
        generator,
        generator_after_start_response,
        iterable,
    ],
)
@pytest.mark.parametrize(("make", "expected"), RAISED)
def test_wsgi_raised_refusal_is_answered(
    set_up: Any, make: Make, expected: Expected
) -> None:
    answer = serve(set_up(make), authorized())

    assert answer.raised is None
    assert "x-begun" not in answer.headers
    expected.check(answer.status, answer.headers, answer.body)


@pytest.mark.parametrize(("token", "demand", "expected"), GUARDS)
def test_wsgi_guard_is_answered(
    token: dict[str, Any], demand: Demand, expected: Expected
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        demand(environ["agentauth.access"])
        return []

    answer = serve(
        AgentAuthMiddleware(app, SERVER), environ(HTTP_AUTHORIZATION=bearer(**token))
    )

    assert answer.raised is None
    expected.check(answer.status, answer.headers, answer.body)


def test_wsgi_raised_refusal_is_what_a_route_answers() -> None:
    app = at_once(lambda: InsufficientScopeError(["mail.send"]))
    by_route = serve(app, authorized("/sent"))
    by_handler = serve(app, authorized("/handler"))
    for answer in (by_route, by_handler):
        del answer.headers["date"]

    assert by_handler == by_route


def test_wsgi_guard_without_access_answers_as_without_credentials() -> None:
    """On an optional route a handler may insist after all."""

    def insist(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if current_access() is None:
            raise AuthenticationRequiredError
        return []

    middleware = AgentAuthMiddleware(insist, SERVER)
    by_handler = serve(middleware, environ("/optional"))
    by_middleware = serve(middleware, environ("/"))
    for answer in (by_handler, by_middleware):
        del answer.headers["date"]

    assert by_handler == by_middleware


@pytest.mark.parametrize("set_up", [at_once, generator, after_start_response])
def test_wsgi_raised_refusal_of_a_head_request_has_no_body(set_up: Any) -> None:
    app = set_up(lambda: ActorRefusedError("not_today"))
    answer = serve(app, authorized(method="HEAD"))

    assert answer.status == 403
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(("make", "expected"), RAISED)
def test_wsgi_refused_body_is_closed(make: Make, expected: Expected) -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            raise make()

        def close(self) -> None:
            closed.append(True)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)
        return Body()

    answer = serve(AgentAuthMiddleware(app, SERVER), authorized())

    assert answer.status == expected.status
    assert closed == [True]


# Too late


def written(make: Make) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)(b"first")
        raise make()

    return AgentAuthMiddleware(app, SERVER)


def written_and_generated(make: Make) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(*OK)(b"first")
        return stream()

    def stream() -> Iterator[bytes]:
        yield refused(make)

    return AgentAuthMiddleware(app, SERVER)


def streamed(make: Make) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response(*OK)
        yield b"first"
        raise make()

    return AgentAuthMiddleware(app, SERVER)


@pytest.mark.parametrize("set_up", [written, written_and_generated, streamed])
@pytest.mark.parametrize(("make", "expected"), RAISED)
def test_wsgi_refusal_raised_after_the_first_piece_propagates(
    set_up: Any, make: Make, expected: Expected
) -> None:
    answer = serve(set_up(make), authorized())

    assert type(answer.raised) is type(make())
    assert answer.status == 200
    assert answer.headers["x-begun"] == "yes"
    assert answer.body == b"first"


@pytest.mark.parametrize("set_up", [at_once, generator, generator_after_start_response])
@pytest.mark.parametrize(
    "failure", [KeyError("note"), ConfigurationError("wrong"), OSError("disk")]
)
def test_wsgi_other_errors_propagate(set_up: Any, failure: Exception) -> None:
    answer = serve(set_up(lambda: failure), authorized())

    assert answer.raised is failure
    assert answer.status == 500
