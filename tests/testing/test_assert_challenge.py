"""Asserting that a request was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from agentauth_middleware.testing import ActAs, assert_challenge
from tests.testing.notes_api import RESOURCE, flask_app, starlette_app

CLIENTS: dict[str, Callable[[], Any]] = {
    "TestClient": lambda: TestClient(starlette_app()),
    "Flask": lambda: flask_app().test_client(),
    "httpx": lambda: httpx.Client(
        transport=httpx.WSGITransport(flask_app()), base_url=RESOURCE
    ),
}
METADATA = 'resource_metadata="https://api.example.com/.well-known/x"'


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_challenge_of_each_client_is_read(
    make: Callable[[], Any], act_as: ActAs
) -> None:
    client = make()
    without = assert_challenge(client.get("/"), 401)
    with act_as(client, scopes=["notes.read"]):
        beyond = client.get("/write")
        stale = assert_challenge(
            client.get("/recent"), 401, "insufficient_user_authentication"
        )

    assert without["resource_metadata"].startswith(RESOURCE)
    assert stale["max_age"] == "300"
    assert_challenge(beyond, 403, "insufficient_scope", scope="notes.write notes.read")
    assert_challenge(
        beyond, 403, "insufficient_scope", scope=["notes.read", "notes.write"]
    )


def response(status: int, *challenges: str) -> httpx.Response:
    return httpx.Response(
        status, headers=[("WWW-Authenticate", challenge) for challenge in challenges]
    )


def test_challenge_is_found_beside_those_of_the_application() -> None:
    several = response(401, 'Basic realm="a, b"', f"bearer {METADATA}", "Negotiate")

    assert assert_challenge(several, 401) == {
        "resource_metadata": "https://api.example.com/.well-known/x"
    }


NO_SCOPE = f'Bearer error="insufficient_scope", {METADATA}'


@pytest.mark.parametrize(
    ("refused", "expected", "complaint"),
    [
        pytest.param(
            response(200),
            (401,),
            "expected status 401, got:\n"
            "  status:           200\n"
            "  WWW-Authenticate: (none)",
            id="status",
        ),
        pytest.param(
            response(401), (401,), "expected a Bearer challenge, got:", id="none"
        ),
        pytest.param(
            response(401, f"Basic {METADATA}"),
            (401,),
            "expected a Bearer challenge, got:",
            id="another scheme",
        ),
        pytest.param(
            response(401, f'Bearer error="invalid_token", {METADATA}'),
            (401,),
            "expected no error code, got:",
            id="unexpected error",
        ),
        pytest.param(
            response(401, f"Bearer {METADATA}"),
            (401, "invalid_token"),
            "expected error 'invalid_token', got:",
            id="no error",
        ),
        pytest.param(
            response(401, 'Bearer realm="notes"'),
            (401,),
            "expected resource_metadata, got:",
            id="no way on",
        ),
        pytest.param(
            response(403, f'{NO_SCOPE}, scope="a"'),
            (403, "insufficient_scope", "b a"),
            "expected scope 'a b', got:",
            id="fewer scopes",
        ),
        pytest.param(
            response(403, f'{NO_SCOPE}, scope="a b"'),
            (403, "insufficient_scope", ["a"]),
            "expected scope 'a', got:",
            id="more scopes",
        ),
        pytest.param(
            response(403, NO_SCOPE),
            (403, "insufficient_scope", "a"),
            "expected scope 'a', got:",
            id="no scope",
        ),
    ],
)
def test_complaint_says_what_was_expected_and_what_came(
    refused: httpx.Response, expected: Any, complaint: str
) -> None:
    status, *codes = expected
    error, scope = [*codes, None, None][:2]
    with pytest.raises(AssertionError) as failure:
        assert_challenge(refused, status, error, scope=scope)

    assert str(failure.value).startswith(complaint)
    assert refused.headers.get("WWW-Authenticate", "(none)") in str(failure.value)
