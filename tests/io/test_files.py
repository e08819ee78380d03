"""Key sets from the disk, for those who let no machine out to fetch them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentauth_middleware._core.operations import Reply
from tests.support.carrying_out import Get, failure_of, fetch

KEYS = b'{"keys": []}'


@pytest.mark.parametrize("name", ["keys.json", "our keys & more?#%é.json"])
def test_file_is_read(get: Get, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(KEYS)
    reply = get(fetch(path.as_uri()))

    assert reply == Reply(200, {"content-type": "application/json"}, KEYS)


def test_file_is_read_each_time(get: Get, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for body in (b"old", b"new"):
        path.write_bytes(body)

        assert get(fetch(path.as_uri())).body == body


def test_file_of_the_limit_is_read_and_no_longer_one(get: Get, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"x" * 1000)

    assert get(fetch(path.as_uri())).body == b"x" * 1000

    path.write_bytes(b"x" * 1001)

    assert failure_of(get, fetch(path.as_uri())).reason == "upstream_too_large"


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    """To open it for reading waits till somebody writes."""
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def nothing(path: Path) -> None: ...


@pytest.mark.parametrize("make", [folder, pipe, device, dangling, nothing])
def test_what_is_no_file_is_not_read(
    get: Get, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "keys.json"
    make(path)
    failure = failure_of(get, fetch(path.as_uri()))

    assert failure.reason == "upstream_unreachable"
    assert str(failure).startswith(f"GET {path.as_uri()}: ")


@pytest.mark.parametrize("url", ["file:", "file://", "file:///%00", "file://[::1/keys"])
def test_url_of_no_file_here_is_not_read(get: Get, url: str) -> None:
    assert failure_of(get, fetch(url)).reason == "upstream_unreachable"


@pytest.mark.parametrize("host", ["as.example", "10.0.0.1"])
def test_file_of_another_machine_is_not_read_here(
    get: Get, tmp_path: Path, host: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(KEYS)
    url = path.as_uri().replace("file://", f"file://{host}")

    assert failure_of(get, fetch(url)).reason == "upstream_unreachable"


@pytest.mark.parametrize("scheme", ["file", "FILE"])
def test_document_of_somebody_else_can_name_no_file(
    get: Get, tmp_path: Path, scheme: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(KEYS)
    url = path.as_uri().replace("file", scheme, 1)

    assert get(fetch(url)).body == KEYS
    assert failure_of(get, fetch(url, public_only=True)).reason == "upstream_refused"
