"""The benchmarks run and measure what they say.

How fast anything is, is not tested: a busy machine is no failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware.stores import MemoryStore
from benchmarks.middlewares import check_middleware
from benchmarks.scene import Scene
from benchmarks.sides import SIDES, Side

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
ROWS_OF_A_MIDDLEWARE = {
    "bare application",
    "RS256 check",
    "ES256 check",
    "EdDSA check",
    "remembered token",
    "remembered token, audited",
    "new token, RS256",
    "new token, ES256",
    "new token, EdDSA",
    "public route",
    "no credential",
    "other client, session",
    "other client, key",
    "forged signature",
    "unknown kid",
    "64 kB of junk",
}


def run_benchmarks(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def quick_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, Any]]:
    """What a quick run prints, and what it writes."""
    path = tmp_path_factory.mktemp("benchmarks") / "rows.json"
    run = run_benchmarks("--quick", "--json", str(path))

    assert run.returncode == 0, run.stderr

    return run.stdout, json.loads(path.read_text())


def test_benchmarks_measure_both_middlewares_alike(
    quick_run: tuple[str, dict[str, Any]],
) -> None:
    _, written = quick_run

    assert _names(written, "ASGI") == _names(written, "WSGI")
    assert _names(written, "ASGI") >= ROWS_OF_A_MIDDLEWARE


@pytest.mark.parametrize("group", ["policy", "introspection", "keys", "1,000 issuers"])
def test_benchmarks_measure_tokens_and_keys_at_both_middlewares(
    quick_run: tuple[str, dict[str, Any]], group: str
) -> None:
    _, written = quick_run

    assert _names(written, f"{group}, WSGI")
    assert _names(written, f"{group}, ASGI") >= _names(written, f"{group}, WSGI")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_benchmarks_measure_under_a_server(
    quick_run: tuple[str, dict[str, Any]],
) -> None:
    _, written = quick_run

    assert _names(written, "uvicorn") >= {
        "unprotected",
        "remembered token",
        "new token, RS256",
        "p99, remembered token",
    }


def test_benchmarks_leave_out_what_needs_a_missing_program(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    arguments = ("--only", "uvicorn", "--quick", "--json", str(path))
    run = run_benchmarks(*arguments, environment={**os.environ, "PATH": ""})

    assert run.returncode == 0, run.stderr
    assert "left out; there is no wrk" in run.stderr
    assert json.loads(path.read_text())["rows"] == []


def _names(written: dict[str, Any], group: str) -> set[str]:
    return {row["name"] for row in written["rows"] if row["group"] == group}


@pytest.mark.parametrize(
    "name",
    [
        "checks of a new token, RS256",
        "procedure, awaiting driver",
        "memory of one",
        "full collection",
        "finding one",
        "agentauth_middleware.asgi",
    ],
)
def test_benchmarks_measure_beyond_the_middlewares(
    quick_run: tuple[str, dict[str, Any]], name: str
) -> None:
    _, written = quick_run

    assert [row for row in written["rows"] if row["name"] == name]


def test_benchmarks_hold_rows_against_limits_and_targets(
    quick_run: tuple[str, dict[str, Any]],
) -> None:
    printed, written = quick_run
    judged = [row for row in written["rows"] if row["verdict"] is not None]

    assert all(row["value"]["median"] > 0 or row["target"] == 0 for row in judged)
    assert {row["verdict"] for row in judged} <= {"ok", "over", "under"}
    assert all(row["name"] in printed for row in written["rows"])
    assert written["environment"]["versions"]["cryptography"] in printed


def test_benchmarks_help_gives_examples() -> None:
    run = run_benchmarks("--help")

    assert run.returncode == 0
    assert "python -m benchmarks --quick" in run.stdout


def test_benchmarks_name_the_groups_for_one_that_is_unknown() -> None:
    run = run_benchmarks("--only", "asgy")

    assert run.returncode == 2
    assert "'asgi'" in run.stderr


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Generator[Side, None, None]:
    with closing(SIDES[request.param]()) as side:
        yield side


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def test_benchmarks_stop_if_the_application_gets_no_access(
    side: Side, scene: Scene
) -> None:
    with pytest.raises(AssertionError):
        check_middleware(side, side.bare, scene)


def test_benchmarks_stop_if_a_revoked_token_is_let_through(
    side: Side, scene: Scene
) -> None:
    middleware = side.middleware(side.bare, scene.server, MemoryStore())

    with pytest.raises(AssertionError, match="a revoked token is let through"):
        check_middleware(side, middleware, scene)
