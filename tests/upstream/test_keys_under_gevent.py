"""A worker of greenlets, which patch what blocks before our imports or after them.

Under gevent a primitive that was bound before the patch blocks the only thread there
is, and with it every request of the worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.middleware.apps.starting import Running, gunicorn, running
from tests.support.deadlines import try_within
from tests.upstream.asking import RESOURCE
from tests.upstream.certificates import Authority
from tests.upstream.server import KEYS, PATIENCE, Upstream, serving

HOUR = 3600

ORDERS: dict[str, tuple[Sequence[str], str]] = {
    "the worker patches before it imports": ((), ""),
    "imported before the worker patches": (("--preload",), ""),
    "the application patches first": (("--preload",), "first"),
    "the application patches after its imports": (("--preload",), "last"),
}


def status_of(server: Running, path: str, token: str) -> int:
    connection = server.connect()
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    connection.request("GET", path, headers=headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def is_installed() -> None:
    """In CI everything is."""
    if not os.environ.get("CI"):
        pytest.importorskip("gevent", reason="needs gevent, of the group test")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(authority: Authority) -> Iterator[Upstream]:
    with serving("localhost", authority.certify_loopback()) as upstream:
        yield upstream


@pytest.mark.system
@pytest.mark.parametrize(("options", "patches"), ORDERS.values(), ids=ORDERS)
def test_keys_are_refreshed_in_the_background(
    options: Sequence[str], patches: str, secure: Upstream, tmp_path: Path
) -> None:
    upstream = secure
    command = gunicorn(
        *("greenlets:app", "--worker-class=gevent", "--workers=1", "--timeout=10"),
        *options,
    )
    token = upstream.signer.token(RESOURCE, expires_in=24 * HOUR)
    environment = {
        "ISSUER": upstream.url,
        "STORE": str(tmp_path / "store.sqlite"),
        "PATCHES": patches,
        "SSL_CERT_FILE": str(tmp_path / "authority.pem"),
    }
    with running(command, tmp_path / "log", **environment) as server:
        assert status_of(server, "/", token) == 204
        assert upstream.count(KEYS) == 1
        assert status_of(server, "/move-on", token) == 204
        with upstream.holding(KEYS) as held:
            assert status_of(server, "/", token) == 204
            assert held.arrived.wait(PATIENCE)
            # While the greenlet in the background waits for the issuer.
            assert status_of(server, "/", token) == 204
        deadline = time.monotonic() + PATIENCE
        # The next refresh is due an hour after the one that may just be ending.
        while upstream.count(KEYS) == 2 and time.monotonic() < deadline:
            assert status_of(server, "/move-on", token) == 204
            try_within(
                PATIENCE / 10,
                lambda: status_of(server, "/", token),
                until=lambda _: upstream.count(KEYS) > 2,
            )
        assert upstream.count(KEYS) > 2
        assert status_of(server, "/", token) == 204
