"""Tokens that Django OAuth Toolkit issues: opaque ones, about which it tells little.

Its answers to introspection lack ``iss``, ``sub``, ``iat`` and ``jti``; they have
``aud`` only for a token that was asked for with a resource.
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from agentauth_middleware import Introspection, Issuer, ResourceServer, Route
from tests.examples.programs import Program, running
from tests.interop.django_server.clients import (
    AGENT,
    API,
    LEGACY,
    PASSWORD,
    USER,
    Client,
)
from tests.interop.middlewares import (
    AUDIT,
    RunningMiddleware,
    ask,
    is_our_trouble,
    is_refused,
    reasons,
    seen_access,
)
from tests.support.deadlines import try_within

pytest.importorskip("oauth2_provider", reason="see the group interop")

pytestmark = pytest.mark.interop

RESOURCE = "https://notes.example.com"


@dataclass(frozen=True)
class Toolkit:
    """A running server of it."""

    issuer: str
    program: Program
    http: httpx.Client

    def token(self, *scopes: str, resource: str | None = None) -> str:
        """An access token with which the agent acts for itself."""
        bound = {} if resource is None else {"resource": resource}
        return self._exchange(AGENT, scopes, bound)

    def user_token(self, *scopes: str) -> str:
        """An access token for which the user has told a password."""
        told = {"username": USER, "password": PASSWORD}
        return self._exchange(LEGACY, scopes, told)

    def revoke(self, token: str) -> None:
        """RFC 7009 §2.1"""
        self._post("/revoke_token/", AGENT, {"token": token})

    def _exchange(
        self, client: Client, scopes: tuple[str, ...], parameters: Mapping[str, str]
    ) -> str:
        grant_type = client.grant_type.replace("-", "_")
        form = {"grant_type": grant_type, "scope": " ".join(scopes), **parameters}
        token: str = self._post("/token/", client, form).json()["access_token"]
        return token

    def _post(
        self, path: str, client: Client, form: Mapping[str, str]
    ) -> httpx.Response:
        # RFC 6749 §2.3.1
        credentials = quote_plus(client.client_id), quote_plus(client.secret)
        answer = self.http.post(f"{self.issuer}{path}", data=form, auth=credentials)
        assert answer.is_success, answer.text
        return answer


@contextmanager
def started(folder: Path) -> Generator[Toolkit, None, None]:
    command = [sys.executable, "-m", "tests.interop.django_server"]
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.interop.django_server.settings",
        "DJANGO_DATABASE": str(folder / "django.db"),
    }
    with running(command, environment) as program, httpx.Client() as http:
        line = program.wait_for_line("issuer: ")
        yield Toolkit(line.removeprefix("issuer: "), program, http)


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolkit]:
    """One for all tests that leave it as it is."""
    with started(tmp_path_factory.mktemp("django")) as toolkit:
        yield toolkit


def introspection(**settings: Any) -> Introspection:
    """As such a server needs it. A busy machine is no reason to give up."""
    chosen: dict[str, Any] = {
        "client_secret": API.secret,
        "require_audience": False,
        "timeout": 20,
        **settings,
    }
    return Introspection(API.client_id, **chosen)


def resource_server(toolkit: Toolkit, asking: Introspection) -> ResourceServer:
    """One that learns from the server where to ask."""
    return ResourceServer(
        RESOURCE,
        issuers=[Issuer(toolkit.issuer, introspection=asking, subjects="users")],
        scopes={"notes.read": "Read your notes", "notes.write": "Add to your notes"},
        routes=[
            Route("/notes", methods=("GET",), scopes=("notes.read",)),
            Route("/notes", methods=("POST",), scopes=("notes.write",)),
            Route("/vault", introspect=True),
        ],
        insecure_loopback=True,
    )


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_token_is_accepted(
    start_middleware: RunningMiddleware, toolkit: Toolkit, method: Any
) -> None:
    asking = introspection(auth_method=method)
    middleware = start_middleware(resource_server(toolkit, asking))
    answer = ask(middleware, toolkit.token("notes.read"))
    access = seen_access(middleware)

    assert answer.status == 200
    assert access.scopes == {"notes.read"}
    assert access.client_id == AGENT.client_id
    assert access.issuer == toolkit.issuer
    assert access.expires_at is not None


def test_token_needs_the_scopes_of_the_route(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    middleware = start_middleware(resource_server(toolkit, introspection()))

    assert ask(middleware, toolkit.token("notes.read"), method="POST").status == 403
    assert ask(middleware, toolkit.token("notes.write"), method="POST").status == 200


def test_name_of_a_user_is_no_subject(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    """It tells ``username`` alone, which may pass from one person to another."""
    middleware = start_middleware(resource_server(toolkit, introspection()))
    answer = ask(middleware, toolkit.user_token("notes.read"))
    access = seen_access(middleware)

    assert answer.status == 200
    assert access.user is None
    assert access.subject is None
    assert access.claims["username"] == USER


def test_token_for_nobody_in_particular_is_refused_unless_allowed(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    asking = introspection(require_audience=True)
    middleware = start_middleware(resource_server(toolkit, asking))

    assert is_refused(ask(middleware, toolkit.token("notes.read")))


def test_token_for_a_resource_is_good_for_that_one_alone(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    """What is allowed is no audience, not the audience of somebody else."""
    strict = introspection(require_audience=True)
    middlewares = [
        start_middleware(resource_server(toolkit, asking))
        for asking in (strict, introspection())
    ]
    ours = toolkit.token("notes.read", resource=RESOURCE)
    theirs = toolkit.token("notes.read", resource="https://others.example.com")

    assert [ask(middleware, ours).status for middleware in middlewares] == [200, 200]
    assert seen_access(middlewares[0]).audience == (RESOURCE,)
    assert all(is_refused(ask(middleware, theirs)) for middleware in middlewares)


def test_unknown_token_is_refused(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    middleware = start_middleware(resource_server(toolkit, introspection()))

    assert is_refused(ask(middleware, secrets.token_urlsafe(24)))


def test_revoked_token_is_refused_when_it_is_forgotten(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    middleware = start_middleware(
        resource_server(toolkit, introspection(remember_for=1))
    )
    token = toolkit.token("notes.read")
    before = ask(middleware, token)
    toolkit.revoke(token)
    after = try_within(
        3, lambda: ask(middleware, token), lambda answer: answer.status != 200
    )

    assert before.status == 200
    assert is_refused(after)


def test_revoked_token_is_refused_at_once_where_it_is_always_asked_about(
    start_middleware: RunningMiddleware, toolkit: Toolkit
) -> None:
    middleware = start_middleware(
        resource_server(toolkit, introspection(remember_for=300))
    )
    token = toolkit.token("notes.read")
    before = ask(middleware, token, "/vault")
    toolkit.revoke(token)

    assert before.status == 200
    assert is_refused(ask(middleware, token, "/vault"))


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_wrong_credentials_of_ours_are_not_held_against_the_client(
    start_middleware: RunningMiddleware,
    toolkit: Toolkit,
    method: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It answers them with a bare 403."""
    asking = introspection(client_secret="not-it", auth_method=method)
    middleware = start_middleware(resource_server(toolkit, asking))
    with caplog.at_level(logging.INFO, AUDIT):
        answer = ask(middleware, toolkit.token("notes.read"))

    assert is_our_trouble(answer)
    assert reasons(caplog) == ["introspection_forbidden"]
    assert middleware.seen == []


def test_plain_answer_is_our_trouble_where_a_signed_one_is_demanded(
    start_middleware: RunningMiddleware,
    toolkit: Toolkit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It cannot sign, and takes no notice of what it is asked for."""
    middleware = start_middleware(resource_server(toolkit, introspection(signed=True)))
    with caplog.at_level(logging.INFO, AUDIT):
        answer = ask(middleware, toolkit.token("notes.read"))

    assert is_our_trouble(answer)
    assert reasons(caplog) == ["introspection_unusable"]


def test_known_token_goes_on_while_the_server_is_stopped(
    start_middleware: RunningMiddleware, tmp_path: Path
) -> None:
    with started(tmp_path) as toolkit:
        middleware = start_middleware(
            resource_server(toolkit, introspection(remember_for=300))
        )
        known, unknown = toolkit.token("notes.read"), toolkit.token("notes.read")
        before = ask(middleware, known)
        toolkit.program.stop()

        assert before.status == ask(middleware, known).status == 200
        assert is_our_trouble(ask(middleware, unknown))
        assert is_our_trouble(ask(middleware, known, "/vault"))
