"""Refusals in applications whose error handling Flask-RESTful or RESTX wraps."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from flask import Blueprint, Flask

from agentauth_middleware.flask import AgentAuth, requires
from tests.frameworks.notes_server import SERVER, bearer


def add_api(app: Flask, extension: str, view_raises: Exception | None) -> None:
    module: Any = import_module(extension)

    class Notes(module.Resource):  # type: ignore[misc]
        @requires("notes.write")
        def get(self) -> str:
            if view_raises is not None:
                raise view_raises
            return "done"

    module.Api(app).add_resource(Notes, "/notes")


def application(
    extension: str, *, init_first: bool, view_raises: Exception | None = None
) -> Flask:
    app = Flask(__name__)
    if init_first:
        AgentAuth(SERVER).init_app(app)
    add_api(app, extension, view_raises)
    if not init_first:
        AgentAuth(SERVER).init_app(app)
    return app


def plain() -> Flask:
    """The same guard, without an extension."""
    app = Flask(__name__)
    app.add_url_rule("/notes", view_func=requires("notes.write")(lambda: "done"))
    AgentAuth(SERVER).init_app(app)
    return app


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("init_first", [True, False])
@pytest.mark.parametrize("extension", ["flask_restful", "flask_restx"])
def test_refusal_is_the_same_whichever_extension_came_first(
    extension: str, init_first: bool, testing: bool
) -> None:
    """With ``TESTING`` the extensions would raise what a view raises."""
    app = application(extension, init_first=init_first)
    app.testing = testing
    headers = bearer("notes.read")
    expected = plain().test_client().get("/notes", headers=headers)
    answer = app.test_client().get("/notes", headers=headers)

    assert answer.status_code == expected.status_code == 403
    assert answer.data == expected.data
    assert dict(answer.headers) == dict(expected.headers)


@pytest.mark.parametrize("init_first", [True, False])
@pytest.mark.parametrize("extension", ["flask_restful", "flask_restx"])
def test_granted_requests_and_other_errors_are_the_extensions_affair(
    extension: str, init_first: bool
) -> None:
    headers = bearer("notes.write")
    good = application(extension, init_first=init_first)
    bad = application(extension, init_first=init_first, view_raises=KeyError("x"))

    assert good.test_client().get("/notes", headers=headers).json == "done"
    crashed = bad.test_client().get("/notes", headers=headers)
    assert crashed.status_code == 500
    assert crashed.json == {"message": "Internal Server Error"}


@pytest.mark.parametrize("extension", [None, "flask_restful", "flask_restx"])
def test_guard_before_all_views_of_a_blueprint(extension: str | None) -> None:
    app, pages = Flask(__name__), Blueprint("pages", __name__)
    AgentAuth(SERVER).init_app(app)
    pages.before_request(requires("notes.write")(lambda: None))
    pages.add_url_rule("/pages", view_func=lambda: "page")
    app.register_blueprint(pages)
    if extension is not None:
        add_api(app, extension, None)
    client = app.test_client()

    assert client.get("/pages", headers=bearer("notes.write")).text == "page"
    refused = client.get("/pages", headers=bearer("notes.read"))
    assert refused.status_code == 403
    assert 'scope="notes.write"' in refused.headers["WWW-Authenticate"]
    assert 'scope="notes.write"' in client.get("/pages").headers["WWW-Authenticate"]
