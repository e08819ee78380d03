"""Error handlers of a Flask application may write the body, and nothing gets lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, jsonify, redirect
from werkzeug.exceptions import HTTPException, NotFound

from agentauth_middleware import (
    ActorRefusedError,
    AuthenticationRequiredError,
    InsufficientScopeError,
    RequestRefusedError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.flask import AgentAuth
from tests.frameworks.notes_server import SERVER, bearer
from tests.support.challenges import parse_strictly

Failure = RequestRefusedError | UnavailableError
Handler = Callable[[Any], Any]

FAILURES: list[Failure] = [
    AuthenticationRequiredError(["notes.read"]),
    InsufficientScopeError(["notes.read"]),
    ActorRefusedError("not_today"),
    TooManyRequestsError("budget", retry_after=3),
    UnavailableError("disk_full", retry_after=7),
]


def restyled(error: Any) -> tuple[Response, int]:
    """With the status that handlers give what they do not know."""
    return jsonify(oops="sorry"), getattr(error, "code", 500)


def crashed(error: Any) -> tuple[Response, int]:
    return jsonify(oops="sorry"), 500


def without_a_status(error: Any) -> Response:
    """Which Flask takes for a 200: the commonest slip in a handler."""
    return jsonify(oops="sorry")


def rewritten(error: HTTPException) -> Any:
    """As Flask's documentation does it."""
    response = error.get_response()
    response.data = '{"oops": "sorry"}'
    response.content_type = "application/json"
    return response


def to_people(error: Any) -> Any:
    return redirect("/login")


def hidden(error: Any) -> tuple[str, int]:
    return "", 404


def registered_for(key: Any, handler: Handler) -> Callable[[Flask, Blueprint], None]:
    def register(app: Flask, blueprint: Blueprint) -> None:
        app.register_error_handler(key, handler)

    return register


def in_blueprint_for(key: Any, handler: Handler) -> Callable[[Flask, Blueprint], None]:
    def register(app: Flask, blueprint: Blueprint) -> None:
        blueprint.register_error_handler(key, handler)

    return register


def registered_for_codes(app: Flask, blueprint: Blueprint) -> None:
    for code in (401, 403, 429, 503):
        app.register_error_handler(code, restyled)


def in_blueprint_for_codes(app: Flask, blueprint: Blueprint) -> None:
    for code in (401, 403, 429, 503):
        blueprint.register_error_handler(code, restyled)


def registered_for_ours(app: Flask, blueprint: Blueprint) -> None:
    for kind in {*map(type, FAILURES)}:
        app.register_error_handler(kind, restyled)


HANDLERS = [
    pytest.param(registered_for_codes, id="codes"),
    pytest.param(in_blueprint_for_codes, id="codes in blueprint"),
    pytest.param(registered_for_ours, id="our classes"),
    pytest.param(registered_for(HTTPException, restyled), id="HTTPException"),
    pytest.param(registered_for(HTTPException, rewritten), id="its own response"),
    pytest.param(registered_for(Exception, restyled), id="Exception"),
    pytest.param(registered_for(Exception, crashed), id="Exception to 500"),
    pytest.param(registered_for(Exception, without_a_status), id="no status"),
    pytest.param(in_blueprint_for(HTTPException, rewritten), id="in blueprint"),
    pytest.param(in_blueprint_for(Exception, restyled), id="Exception in blueprint"),
    pytest.param(in_blueprint_for(Exception, crashed), id="the same, to 500"),
]


def ask(
    failure: Exception, register: Callable[[Flask, Blueprint], None] | None = None
) -> Any:
    app = Flask(__name__)
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/notes")
    def view() -> str:
        raise failure

    AgentAuth(SERVER).init_app(app)
    if register is not None:
        register(app, blueprint)
    app.register_blueprint(blueprint)
    return app.test_client().get("/notes", headers=bearer("notes.read"))


@pytest.mark.parametrize(
    "failure", FAILURES, ids=lambda failure: type(failure).__name__
)
@pytest.mark.parametrize("register", HANDLERS)
def test_error_handler_restyles_the_body_and_loses_no_header(
    register: Callable[[Flask, Blueprint], None], failure: Failure
) -> None:
    plain, styled = ask(failure), ask(failure, register)

    assert styled.json == {"oops": "sorry"}
    assert styled.status_code == plain.status_code == failure.status
    assert styled.headers["Content-Length"] == str(len(styled.data))
    for name in ("WWW-Authenticate", "Retry-After", "Cache-Control"):
        assert styled.headers.getlist(name) == plain.headers.getlist(name)


def test_error_handler_that_passes_http_errors_on_passes_ours_on() -> None:
    def pass_on(error: Exception) -> Any:
        return error if isinstance(error, HTTPException) else crashed(error)

    failure = ActorRefusedError("not_today")
    plain, passed = ask(failure), ask(failure, registered_for(Exception, pass_on))

    assert passed.status_code == 403
    assert passed.data == plain.data
    assert dict(passed.headers) == dict(plain.headers)


def test_error_handler_is_told_what_http_errors_tell() -> None:
    seen: list[HTTPException] = []

    def note(error: HTTPException) -> Any:
        seen.append(error)
        return str(error.description), 403

    answer = ask(ActorRefusedError("not_today"), registered_for(403, note))

    assert [(error.code, error.name) for error in seen] == [(403, "Forbidden")]
    assert answer.text == ActorRefusedError.description


def test_error_handler_may_add_a_challenge_of_its_own() -> None:
    def add(error: HTTPException) -> Any:
        return "Sign in", 401, {"WWW-Authenticate": 'Basic realm="people"'}

    answer = ask(AuthenticationRequiredError(), registered_for(401, add))
    lines = answer.headers.getlist("WWW-Authenticate")

    assert [parse_strictly(line)[0].scheme for line in lines] == ["Bearer", "Basic"]


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        pytest.param(to_people, 302, id="to people's page"),
        pytest.param(hidden, 404, id="hides what is there"),
    ],
)
def test_error_handler_may_answer_something_else(handler: Handler, status: int) -> None:
    answer = ask(AuthenticationRequiredError(), registered_for(401, handler))

    assert answer.status_code == status
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("register", [None, *HANDLERS[-2:]])
def test_error_that_is_no_refusal_is_left_alone(
    register: Callable[[Flask, Blueprint], None] | None,
) -> None:
    answer = ask(NotFound(), register)

    assert answer.status_code in (404, 500)
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("register", [None, *HANDLERS])
def test_restyled_refusal_leaves_one_audit_record(
    register: Callable[[Flask, Blueprint], None] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        ask(ActorRefusedError("not_today"), register)

    assert len(caplog.records) == 1
