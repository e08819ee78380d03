"""The verifier: tokens from elsewhere, awaited and blocking."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx
import httpx2
import pytest

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware._middleware.audit import hashed
from agentauth_middleware.access import Access, current_access
from agentauth_middleware.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore, SQLiteStore
from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from agentauth_middleware.verifier import Verifier
from tests.support.deadlines import try_within

RESOURCE = "https://api.example.com"
ISSUER = FakeIssuer()
SERVER = ResourceServer(RESOURCE, issuers=[ISSUER.trust()])
THREADS = 8
ROOT = Path(__file__).parents[2]

Verify: TypeAlias = Callable[..., Access]
"""A verifier's arguments after the verifier itself."""


def verify_in(backend: str, verifier: Verifier, token: Any, **settings: Any) -> Access:
    """What *token* gives in a new event loop of *backend*."""

    async def verify() -> Access:
        return await verifier.verify(token, **settings)

    return anyio.run(verify, backend=backend)


@pytest.fixture(params=["asyncio", "trio", "blocking"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """A test that asks for it runs in every way there is to verify."""

    def verify(verifier: Verifier, token: Any, **settings: Any) -> Access:
        if request.param == "blocking":
            return verifier.verify_blocking(token, **settings)
        return verify_in(request.param, verifier, token, **settings)

    return verify


@pytest.fixture
def served() -> Iterator[ServedIssuer]:
    with FakeIssuer.serve() as issuer:
        yield issuer


def server_of(*issuers: ServedIssuer, **settings: Any) -> ResourceServer:
    trusted = [issuer.trust() for issuer in issuers]
    return ResourceServer(RESOURCE, issuers=trusted, insecure_loopback=True, **settings)


# What a token gives


@pytest.mark.parametrize("kind", [str, str.encode])
def test_good_token_says_who_and_what_for(
    verify: Verify, kind: Callable[[str], object]
) -> None:
    token = ISSUER.token(RESOURCE, agent="assistant-7", scopes=["mail.send"])
    access = verify(Verifier(SERVER), kind(token), scopes=["mail.send"])

    user, agent = access.require_delegation()
    assert (user.subject, agent.subject) == ("user-1", "assistant-7")
    assert access.scopes == {"mail.send"}
    assert current_access() is None


# Minted as this file is read, which may be long before they are used.
DAY = 86_400
FORGER = FakeIssuer()
KEY_ID = ISSUER.jwks["keys"][0]["kid"]

BAD: dict[str, tuple[str | bytes, type[RequestRefusedError], str]] = {
    "expired": (
        ISSUER.token(RESOURCE, expires_in=-61),
        InvalidTokenError,
        "expired",
    ),
    "for another": (
        ISSUER.token("https://other.example.com", expires_in=DAY),
        InvalidTokenError,
        "wrong_audience",
    ),
    "forged": (
        FORGER.token(RESOURCE, header={"kid": KEY_ID}, expires_in=DAY),
        InvalidTokenError,
        "bad_signature",
    ),
    "of a stranger": (
        FakeIssuer("https://stranger.example.net").token(RESOURCE, expires_in=DAY),
        InvalidTokenError,
        "unknown_issuer",
    ),
    "bound to a key": (
        ISSUER.token(RESOURCE, cnf={"jkt": "thumbprint"}, expires_in=DAY),
        InvalidTokenError,
        "sender_constrained",
    ),
    "revoked": (
        ISSUER.token(RESOURCE, jti="revoked", expires_in=DAY),
        InvalidTokenError,
        "revoked",
    ),
    "with its scheme": (
        f"Bearer {ISSUER.token(RESOURCE, expires_in=DAY)}",
        InvalidRequestError,
        "malformed_credential",
    ),
    "empty": ("", InvalidRequestError, "malformed_credential"),
    "not ASCII": ("tökén", InvalidRequestError, "malformed_credential"),
    "too long": (b"a" * 16_385, InvalidRequestError, "credential_too_long"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_token_is_refused_as_at_a_middleware(verify: Verify, kind: str) -> None:
    token, error, reason = BAD[kind]
    store = MemoryStore()
    revoke_blocking(store, ISSUER.issuer, token_id="revoked")

    with pytest.raises(error) as refused:
        verify(Verifier(SERVER, store=store), token)
    assert refused.value.reason == reason


def test_missing_scope_is_refused_naming_all_that_are_needed(verify: Verify) -> None:
    token = ISSUER.token(RESOURCE, scopes=["mail.read"])

    with pytest.raises(InsufficientScopeError) as refused:
        verify(Verifier(SERVER), token, scopes=["mail.read", "mail.send"])
    assert refused.value.scopes == ("mail.read", "mail.send")


@pytest.mark.parametrize("scopes", ["mail.send", ["two words"]])
def test_what_is_no_list_of_scopes_is_named(verify: Verify, scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^scopes: "):
        verify(Verifier(SERVER), ISSUER.token(RESOURCE), scopes=scopes)


# What is remembered


def test_keys_out_of_reach_are_no_verdict(verify: Verify, served: ServedIssuer) -> None:
    served.replies["/jwks.json"] = (500, {}, b"")

    with pytest.raises(UnavailableError):
        verify(Verifier(server_of(served)), served.token(RESOURCE))


def test_token_revoked_elsewhere_is_refused_within_a_second(
    verify: Verify, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.db"
    verifier = Verifier(SERVER, store=SQLiteStore(path))
    token = ISSUER.token(RESOURCE, iat=1_000_000_000)
    verify(verifier, token)
    revoke_blocking(SQLiteStore(path), ISSUER.issuer, subject="user-1")

    def reason() -> str | None:
        try:
            verify(verifier, token)
        except InvalidTokenError as refused:
            return refused.reason
        return None

    assert try_within(1, reason, until=bool) == "revoked"


def test_every_way_to_verify_shares_one_memory(served: ServedIssuer) -> None:
    verifier = Verifier(server_of(served))
    token = served.token(RESOURCE)
    access = verifier.verify_blocking(token)

    assert verify_in("asyncio", verifier, token) is access
    assert verify_in("trio", verifier, token) is access
    assert served.requests == [
        "/.well-known/oauth-authorization-server",
        "/jwks.json",
    ]


# The record of each decision


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is audited during a test."""
    caplog.set_level(logging.DEBUG, "agentauth_middleware.audit")
    return caplog


def members_of(record: logging.LogRecord) -> dict[str, Any]:
    members: dict[str, Any] = record.__dict__["agentauth"]
    return members


def test_audit_of_a_good_token_names_no_request(
    verify: Verify, audit: pytest.LogCaptureFixture
) -> None:
    token = ISSUER.token(RESOURCE, agent="assistant-7", scopes=["mail.send"])
    verify(Verifier(SERVER), token, scopes=["mail.send"])
    (record,) = audit.records
    members = dict(members_of(record))

    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "granted: delegated"
    assert 0 < members.pop("duration") < 60
    assert members == {
        "outcome": "granted",
        "reason": "delegated",
        "issuer": ISSUER.issuer,
        "subject": hashed(ISSUER.issuer, "user-1"),
        "agent": f"{ISSUER.issuer} assistant-7",
        "client_id": "client-1",
        "scopes": ["mail.send"],
    }


@pytest.mark.parametrize("kind", BAD)
def test_audit_of_a_bad_token_says_why(
    verify: Verify, kind: str, audit: pytest.LogCaptureFixture
) -> None:
    """And whose it is, where it was good once: not even then the token itself."""
    token, error, reason = BAD[kind]
    store = MemoryStore()
    verifier = Verifier(SERVER, store=store)
    revoke_blocking(store, ISSUER.issuer, token_id="revoked")
    audit.clear()
    with pytest.raises(error):
        verify(verifier, token)
    (record,) = audit.records
    members = members_of(record)

    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"refused: {reason}")
    assert (members["reason"], members["status"]) == (reason, error.status)
    assert ("subject" in members) is (kind in ("bound to a key", "revoked"))
    assert not {"method", "route"} & {*members}
    assert not token or str(token) not in repr(record.__dict__)


def test_audit_of_a_missing_scope_names_whose_token_it_is(
    verify: Verify, audit: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InsufficientScopeError):
        verify(Verifier(SERVER), ISSUER.token(RESOURCE), scopes=["mail.send"])
    (record,) = audit.records

    told = "refused: insufficient_scope: needs mail.send; has none"
    assert record.getMessage() == told
    assert members_of(record)["subject"] == hashed(ISSUER.issuer, "user-1")


def test_audit_of_our_own_trouble_is_a_warning(
    verify: Verify, served: ServedIssuer, audit: pytest.LogCaptureFixture
) -> None:
    served.replies["/jwks.json"] = (500, {}, b"")
    with pytest.raises(UnavailableError):
        verify(Verifier(server_of(served)), served.token(RESOURCE))

    assert [
        (record.levelname, members_of(record)["status"]) for record in audit.records
    ] == [("WARNING", 503)]


# Loops, threads, processes


def test_one_verifier_fetches_in_one_event_loop_after_another() -> None:
    serve = FakeIssuer.serve
    with serve() as first, serve() as second, serve() as third:
        verifier = Verifier(server_of(first, second, third))
        in_turn = (("asyncio", first), ("trio", second), ("asyncio", third))
        seen = [
            verify_in(backend, verifier, issuer.token(RESOURCE)).issuer
            for backend, issuer in in_turn
        ]

    assert seen == [first.issuer, second.issuer, third.issuer]


def test_threads_that_come_at_once_fetch_the_keys_once(served: ServedIssuer) -> None:
    verifier = Verifier(server_of(served))
    barrier = threading.Barrier(THREADS)

    def subject(number: int) -> str | None:
        token = served.token(RESOURCE, subject=f"user-{number}")
        barrier.wait(30)
        return verifier.verify_blocking(token).subject

    with ThreadPoolExecutor(THREADS) as threads:
        subjects = list(threads.map(subject, range(THREADS)))

    assert subjects == [f"user-{number}" for number in range(THREADS)]
    assert len(served.requests) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_come_at_once_fetch_the_keys_once(
    backend: str, served: ServedIssuer
) -> None:
    verifier = Verifier(server_of(served))
    subjects: set[str | None] = set()

    async def verify(number: int) -> None:
        token = served.token(RESOURCE, subject=f"user-{number}")
        subjects.add((await verifier.verify(token)).subject)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(THREADS):
                tasks.start_soon(verify, number)

    anyio.run(main, backend=backend)

    assert subjects == {f"user-{number}" for number in range(THREADS)}
    assert len(served.requests) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_verifier_works_in_a_forked_child_and_in_its_parent() -> None:
    """The child has to fetch, with a client that is not its parent's."""
    with FakeIssuer.serve() as known, FakeIssuer.serve() as new:
        tokens = [known.token(RESOURCE), new.token(RESOURCE), new.token(RESOURCE)]
        program = [sys.executable, "-m", "tests.verifier.forking"]
        run = subprocess.run(
            [*program, known.issuer, new.issuer, *tokens],
            capture_output=True,
            cwd=ROOT,
            text=True,
            timeout=30,
            check=False,
        )

    assert run.stderr == ""
    assert run.stdout.splitlines() == ["parent user-1", "child user-1", "parent user-1"]


# HTTP clients


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_given_client_makes_the_requests_and_stays_open(
    library: Any, served: ServedIssuer
) -> None:
    asked: list[str] = []

    def note(request: Any) -> None:
        asked.append(request.url.path)

    with library.Client(event_hooks={"request": [note]}) as client:
        verifier = Verifier(server_of(served), http_client=client)
        verifier.verify_blocking(served.token(RESOURCE))
        verifier.close()

        assert asked == served.requests
        assert not client.is_closed
        with pytest.raises(ConfigurationError, match="call verify_blocking"):
            verify_in("asyncio", verifier, served.token(RESOURCE))


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_given_async_client_makes_the_requests_and_stays_open(
    backend: str, library: Any, served: ServedIssuer
) -> None:
    asked: list[str] = []

    async def note(request: Any) -> None:
        asked.append(request.url.path)

    async def main() -> None:
        async with library.AsyncClient(event_hooks={"request": [note]}) as client:
            verifier = Verifier(server_of(served), http_client=client)
            await verifier.verify(served.token(RESOURCE))
            await verifier.aclose()

            assert not client.is_closed
            with pytest.raises(ConfigurationError, match="call verify,"):
                verifier.verify_blocking(served.token(RESOURCE))

    anyio.run(main, backend=backend)

    assert asked == served.requests


def test_closed_verifier_fetches_again(served: ServedIssuer) -> None:
    with FakeIssuer.serve() as other:
        verifier = Verifier(server_of(served, other))
        verifier.verify_blocking(served.token(RESOURCE))
        verifier.close()

        async def main() -> Access:
            await verifier.aclose()
            return await verifier.verify(other.token(RESOURCE))

        assert anyio.run(main).issuer == other.issuer


# What it is built from


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"resource_server": RESOURCE}, "resource_server", id="a URL"),
        pytest.param(
            {"resource_server": ResourceServer}, "resource_server", id="class"
        ),
        pytest.param({"store": "tokens.db"}, "store", id="a path"),
        pytest.param({"store": MemoryStore}, "store", id="class of stores"),
        pytest.param({"http_client": object()}, "http_client", id="no client"),
        pytest.param({"http_client": httpx.Client}, "http_client", id="client class"),
    ],
)
def test_argument_of_the_wrong_kind_is_named_with_its_fix(
    settings: dict[str, Any], named: str
) -> None:
    arguments: dict[str, Any] = {"resource_server": SERVER, **settings}

    with pytest.raises(ConfigurationError, match=f"^{named}: "):
        Verifier(**arguments)


def test_keys_that_cannot_verify_are_refused_when_built() -> None:
    issuer = Issuer(ISSUER.issuer, jwks={"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})

    with pytest.raises(ConfigurationError):
        Verifier(ResourceServer(RESOURCE, issuers=[issuer]))
