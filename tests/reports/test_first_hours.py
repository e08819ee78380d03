"""What operators and developers meet in their first hours."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware import Issuer, Route
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from tests.io.test_neighbours import process
from tests.reports.asking import ISSUER, MIDDLEWARES, ask, bearer, server
from tests.support.exchange import running_middleware

ROOT = Path(__file__).parents[2]
AUDIT = "agentauth_middleware.audit"


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_log_says_what_was_found_and_expected(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``wrong_audience`` alone did not say which audience the token has."""
    caplog.set_level(logging.INFO, AUDIT)
    ask(kind, server(trust={"audience": "notes-api"}), bearer(aud="account"))

    assert "GET /notes" in caplog.text
    assert "aud is ('account',); expected 'notes-api'" in caplog.text


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_log_names_the_setting_that_helps(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``user_required`` for a token whose ``sub`` is a person did not say which
    setting tells us so."""
    caplog.set_level(logging.INFO, AUDIT)
    ask(kind, server(routes=[Route("/notes", user="required")]), bearer())

    assert 'Issuer(subjects="users")' in caplog.text


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_log_tells_of_a_slash(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An issuer that differs by a slash at its end was an unknown one among others."""
    caplog.set_level(logging.INFO, AUDIT)
    other = Issuer(f"{ISSUER.issuer}/", jwks=ISSUER.jwks)
    ask(kind, server(issuers=[other]), bearer())

    assert "differs by the slash" in caplog.text


def test_revocation_that_matches_nothing_says_so() -> None:
    """``revoke`` with an issuer that differs by a slash revoked nothing, and said
    nothing."""
    store = MemoryStore()
    middleware = running_middleware("wsgi", server(), store)

    with pytest.raises(ValueError, match="differs by the slash"):
        revoke_blocking(store, f"{ISSUER.issuer}/", subject="ana")
    assert middleware.seen == []


@pytest.mark.parametrize("kind", MIDDLEWARES)
def test_one_agent_is_revoked_for_all_users(kind: str) -> None:
    """There was no way to take back one agent without naming each user."""
    store = MemoryStore()
    middleware = running_middleware(kind, server(), store)
    revoke_blocking(store, ISSUER.issuer, agent="assistant")

    def status(subject: str, agent: str) -> int:
        old: dict[str, Any] = {"iat": 1_700_000_000}
        fields = dict(bearer(subject=subject, agent=agent, **old))
        return middleware.get("/notes", fields).status

    assert [status("ana", "assistant"), status("ben", "assistant")] == [401, 401]
    assert status("ana", "summarizer") == 200


WORKER = """
import sys
from wsgiref.util import setup_testing_defaults
from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.wsgi import AgentAuthMiddleware

issuers = [Issuer("https://as.example.com")]
middleware = AgentAuthMiddleware(print, ResourceServer(sys.argv[1], issuers=issuers))
for _ in range(2):
    environ = {"wsgi.multiprocess": True}
    setup_testing_defaults(environ)
    assert list(middleware(environ, lambda *_: None))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="noticed on Linux alone")
def test_workers_with_a_store_each_are_warned_of_once() -> None:
    """A revocation told to one worker's ``MemoryStore`` was not enforced by the
    others, and nothing said so."""
    resource = f"https://host-{os.getpid()}.example.com"
    with process() as other:
        assert not other.ask(f"MemoryStore {resource}")
        worker = subprocess.run(
            [sys.executable, "-c", WORKER, resource],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )

    assert worker.stderr.count("each with a MemoryStore of its own") == 1


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("issuers.md", "`always=True` does not ask on every request"),
        ("settings.md", "Inactive answers per address of a client, per process"),
        ("operating.md", 'sqlite3 revocations.sqlite ".backup copy'),
        ("identity.md", 'Do plain tokens of users need `subjects="users"`'),
    ],
)
def test_page_says_what_it_left_open(page: str, words: str) -> None:
    """Pages misled about what is asked when, what is counted where, how to back up a
    file, and which dialect needs which setting."""
    assert words in (ROOT / "docs" / page).read_text()


def test_auth_md_lists_openid_discovery() -> None:
    """``auth.md`` named only the metadata URL of RFC 8414, which issuers with OpenID
    discovery alone do not serve."""
    page = ask("wsgi", server(), path="/auth.md").body.decode()

    assert "/.well-known/oauth-authorization-server" in page
    assert "/.well-known/openid-configuration" in page
