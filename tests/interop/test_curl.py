"""An agent that has a shell and is told nothing but the URL of an API."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Notes
from tests.support.challenges import parse_strictly

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        shutil.which("curl") is None, reason="no curl; run `make system-deps`"
    ),
]


def curl(*arguments: str) -> str:
    """What curl prints; it must not fail, nor wait for long."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def status_of(*arguments: str) -> int:
    return int(curl("--output", "/dev/null", "--write-out", "%{http_code}", *arguments))


def field_of(name: str, *arguments: str) -> str:
    """The field *name* of the answer, its lines joined."""
    joined = curl("--output", "/dev/null", "--write-out", "%{header_json}", *arguments)
    return ", ".join(json.loads(joined).get(name, []))


def get_json(url: str) -> Any:
    return json.loads(curl("--fail", url))


def test_curl_is_led_from_the_api_to_a_token_and_back(notes: Notes) -> None:
    """What is between, asking a user, is the authorization server's affair."""
    (challenge,) = parse_strictly(field_of("www-authenticate", f"{notes.url}/notes"))
    metadata = get_json(challenge.parameters["resource_metadata"])
    (issuer,) = metadata["authorization_servers"]
    server = get_json(f"{issuer}/.well-known/oauth-authorization-server")
    assert server["issuer"] == issuer
    token = notes.issuer.token(
        metadata["resource"],
        subject="alice",
        agent="assistant",
        scopes=metadata["scopes_supported"],
    )
    bearer = ("--oauth2-bearer", token)
    posted = ("--json", '{"text": "from a shell"}')
    made = json.loads(curl("--fail", *bearer, *posted, f"{notes.url}/notes"))
    listed = json.loads(curl("--fail", *bearer, f"{notes.url}/notes"))

    assert status_of(f"{notes.url}/notes") == 401
    assert made["text"] == "from a shell"
    assert made in listed["notes"]


def test_curl_reads_auth_md_that_the_refusal_names(notes: Notes) -> None:
    refused = json.loads(curl(f"{notes.url}/notes"))
    text = curl("--fail", refused["auth_md"])

    assert text.startswith("# ")
    assert notes.issuer.issuer in text


def test_curl_sends_no_large_body_to_a_refusal(notes: Notes, tmp_path: Path) -> None:
    """It asks first (``Expect: 100-continue``), and gets its answer either way."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * 3_000_000)
    upload = ("--request", "POST", "--data-binary", f"@{large}")

    assert status_of(*upload, f"{notes.url}/notes") == 401
    assert (
        status_of(*upload, "--oauth2-bearer", "no-token", f"{notes.url}/notes") == 401
    )


@pytest.mark.parametrize(
    ("arguments", "path", "status"),
    [
        pytest.param(("--head",), "/notes", 401, id="HEAD"),
        pytest.param(("--user", "alice:secret"), "/notes", 401, id="Basic"),
        pytest.param(("--oauth2-bearer", "a b"), "/notes", 400, id="malformed"),
        pytest.param((), "/notes?access_token=x", 401, id="token in the query"),
        pytest.param((), "/health", 200, id="public"),
    ],
)
def test_curl_gets_the_status_of_the_table(
    notes: Notes, arguments: tuple[str, ...], path: str, status: int
) -> None:
    assert status_of(*arguments, f"{notes.url}{path}") == status
