"""One WSGI middleware under several threads and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from agentauth_middleware import ResourceServer, current_access
from agentauth_middleware.testing import FakeIssuer
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.middleware.apps.starting import ROOT
from tests.support.server_side import RESOURCE, SERVER, Answer, bearer, environ, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

THREADS = 8


def subject() -> bytes:
    access = current_access()
    return (access.subject or "").encode() if access is not None else b"nobody"


def meeting(barrier: threading.Barrier) -> WSGIApplication:
    """Says who is calling at each step; all requests are at each step at once."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        barrier.wait(30)
        yield subject() + b" "
        barrier.wait(30)
        yield environ["agentauth.access"].subject.encode() + b" "
        barrier.wait(30)
        yield subject()

    return app


def test_threads_see_their_own_access_only() -> None:
    middleware = AgentAuthMiddleware(meeting(threading.Barrier(THREADS)), SERVER)

    def get(number: int) -> Answer:
        token = bearer(subject=f"user-{number}")
        return serve(middleware, environ(HTTP_AUTHORIZATION=token))

    with ThreadPoolExecutor(THREADS) as threads:
        for numbers in (range(THREADS), range(THREADS, 2 * THREADS)):
            answers = list(threads.map(get, numbers))

            assert [answer.raised for answer in answers] == [None] * THREADS
            assert [answer.body.decode() for answer in answers] == [
                f"user-{number} user-{number} user-{number}" for number in numbers
            ]


def test_threads_that_come_at_once_fetch_the_keys_once() -> None:
    barrier = threading.Barrier(THREADS)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    with FakeIssuer.serve() as issuer:
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )
        middleware = AgentAuthMiddleware(app, server)

        def get(number: int) -> int:
            token = issuer.token(RESOURCE, subject=f"user-{number}")
            barrier.wait(30)
            return serve(
                middleware, environ(HTTP_AUTHORIZATION=f"Bearer {token}")
            ).status

        with ThreadPoolExecutor(THREADS) as threads:
            statuses = list(threads.map(get, range(THREADS)))

        assert statuses == [204] * THREADS
        assert issuer.requests == [
            "/.well-known/oauth-authorization-server",
            "/jwks.json",
        ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("first", ["import", "use"])
def test_middleware_works_in_a_forked_child_and_in_its_parent(first: str) -> None:
    """The child has to fetch: its token is signed with a key nobody knows yet."""
    with FakeIssuer.serve() as issuer:
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.middleware.apps.forking",
                issuer.issuer,
                first,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        ) as forking:
            if first == "use":
                assert present(issuer.token(RESOURCE), forking) == "parent 204"
                issuer.rotate()
            assert present(issuer.token(RESOURCE), forking) == "child 204"
            assert present(issuer.token(RESOURCE), forking) == "parent 204"
            _, errors = forking.communicate(timeout=30)

        assert forking.returncode == 0
        assert errors == b""


def present(token: str, forking: subprocess.Popen[bytes]) -> str:
    """What comes of *token*."""
    given, told = forking.stdin, forking.stdout
    assert given is not None
    assert told is not None
    given.write(f"{token}\n".encode())
    given.flush()
    return told.readline().decode().strip()
