"""A clock that is set back or ahead: the embedded server's, with all that it bounds."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from agentauth_middleware.authorization_server import IntrospectionClient
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.testing import FakeProvider, ServedIssuer
from tests.authorization_server.embedded import (
    ISSUER,
    RESOURCE,
    Embedded,
    claims_of,
    embed,
    trusted,
)

HALF_AN_HOUR = 1800
SECRET = "one-that-nobody-guesses"
GATEWAY = IntrospectionClient("gateway", resource=RESOURCE, client_secret=SECRET)


def set_clock(embedded: Embedded, seconds: float) -> None:
    """Set the server's clock back, or ahead, by *seconds*."""
    embedded.server.service.clock = lambda: time.time() + seconds


def is_active(embedded: Embedded, token: str) -> bool:
    answer = embedded.introspect(
        token, client_id=GATEWAY.client_id, client_secret=SECRET
    )
    assert answer.status_code == 200, answer.text
    found: bool = answer.json()["active"]
    return found


@pytest.mark.parametrize("seconds", [-HALF_AN_HOUR, HALF_AN_HOUR])
def test_revoked_token_is_inactive_whatever_befalls_the_clock(
    tmp_path: Path, seconds: int
) -> None:
    with embed(tmp_path, introspection_clients=[GATEWAY]) as embedded:
        token = embedded.access_token()
        before = is_active(embedded, token)
        set_clock(embedded, seconds)
        revoke_blocking(embedded.store, ISSUER, token_id=str(claims_of(token)["jti"]))
        after = is_active(embedded, token)

    assert (before, after) == (True, False)


def test_log_is_read_again_after_the_clock_was_ahead(tmp_path: Path) -> None:
    with embed(tmp_path, introspection_clients=[GATEWAY]) as embedded:
        token = embedded.access_token()
        set_clock(embedded, HALF_AN_HOUR)
        before = is_active(embedded, token)
        set_clock(embedded, 0)
        revoke_blocking(embedded.store, ISSUER, subject="user-ana")
        after = is_active(embedded, token)

    assert (before, after) == (True, False)


def test_event_is_asked_for_again_while_the_clock_is_behind(tmp_path: Path) -> None:
    """A 400 would be final, and the user stay connected."""
    with embed(tmp_path) as embedded:
        token = embedded.access_token()
        event = embedded.provider.revoked_event(ISSUER)
        set_clock(embedded, -HALF_AN_HOUR)
        early = embedded.push(event)
        set_clock(embedded, 0)
        in_time = embedded.push(event)
        opened = embedded.call_api(token)

    assert early.status_code == 503
    assert 0 < int(early.headers["retry-after"]) <= 600
    assert in_time.status_code == 202
    assert opened.status_code == 401


def test_event_is_taken_while_the_clock_is_ahead(tmp_path: Path) -> None:
    with embed(tmp_path) as embedded:
        embedded.access_token()
        set_clock(embedded, HALF_AN_HOUR)

        assert embedded.push().status_code == 202


def test_statement_seen_is_refused_after_the_clock_was_ahead(tmp_path: Path) -> None:
    """What was seen must not be forgotten by a clock that is set right afterwards."""
    with embed(tmp_path) as embedded:
        assertion = embedded.provider.id_jag(ISSUER)
        first = embedded.register(assertion)
        set_clock(embedded, HALF_AN_HOUR)
        now = int(time.time()) + HALF_AN_HOUR
        embedded.register(iat=now, exp=now + 300, auth_time=now)
        set_clock(embedded, 0)
        again = embedded.register(assertion)

    assert first.status_code == 200
    assert again.json()["error"] == "replay_detected"


def test_statements_seen_are_forgotten_in_the_end(tmp_path: Path) -> None:
    with embed(tmp_path) as embedded:
        embedded.register()
        later = int(time.time()) + 3 * 3600
        set_clock(embedded, 3 * 3600)
        embedded.register(iat=later, exp=later + 300, auth_time=later)
        file = embedded.server.state.path
    with closing(sqlite3.connect(file)) as sql:
        (kept,) = sql.execute("SELECT count(*) FROM seen").fetchone()

    assert kept == 1


@pytest.mark.parametrize("seconds", [-HALF_AN_HOUR, HALF_AN_HOUR])
def test_keys_are_known_whatever_befalls_the_clock(
    tmp_path: Path,
    served: ServedIssuer,
    served_provider: FakeProvider,
    seconds: int,
) -> None:
    keys = json.dumps(served_provider.jwks).encode()
    served.replies["/jwks.json"] = (200, {"content-type": "application/json"}, keys)
    provider = trusted(
        served_provider, jwks=None, jwks_uri=f"{served.issuer}/jwks.json"
    )
    with embed(
        tmp_path,
        provider=served_provider,
        providers=[provider],
        insecure_loopback=True,
    ) as embedded:
        before = embedded.register()
        set_clock(embedded, seconds)
        now = int(time.time()) + seconds
        after = embedded.register(iat=now, exp=now + 300, auth_time=now)

    assert (before.status_code, after.status_code) == (200, 200)
