"""What proxies the environment names, under a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.middleware.apps.starting import ROOT, running, uvicorn
from tests.upstream.asking import RESOURCE
from tests.upstream.server import PATIENCE, Upstream

APP = "lazy_startup:app"


@pytest.mark.system
def test_exclusion_of_a_network_keeps_the_lifespan(
    upstream: Upstream, tmp_path: Path
) -> None:
    """httpx knows no such thing, and the server took its fault for "no lifespan"."""
    environment = {
        "ISSUER": upstream.url,
        "HTTP_PROXY": "http://proxy.invalid:1",
        "NO_PROXY": "localhost,127.0.0.0/8,fd07:b51a:cc66:f0::/64",
    }
    headers = {"Authorization": f"Bearer {upstream.signer.token(RESOURCE)}"}
    with running(uvicorn(APP), tmp_path / "log", **environment) as server:
        connection = server.connect()
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()

        assert (answer.status, answer.read()) == (200, b"is open")
        connection.close()


@pytest.mark.system
def test_proxy_that_cannot_be_used_stops_the_server(upstream: Upstream) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "uvicorn", f"tests.middleware.apps.{APP}", "--port=0"],
        env={
            **os.environ,
            "ISSUER": upstream.url,
            "ALL_PROXY": "gopher://user:a-secret@proxy.invalid:1",
        },
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )

    assert completed.returncode == 3
    assert "ALL_PROXY: cannot be used as a proxy" in completed.stderr
    assert "a-secret" not in completed.stderr
