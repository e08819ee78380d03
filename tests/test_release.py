"""``make release``, in a clone: it checks everything before it changes anything."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
UNRELEASED = "## [Unreleased]\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository as it is committed, with the tool as it is."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    git(folder, "config", "user.name", "Test")
    git(folder, "config", "user.email", "test@example.com")
    return folder


def git(clone: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(clone), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def release(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tool = str(ROOT / "tools" / "release.py")
    return subprocess.run(
        [sys.executable, tool, *arguments], cwd=clone, capture_output=True, text=True
    )


def test_release_is_checked_dated_and_tagged(clone: Path) -> None:
    before = (clone / "CHANGELOG.md").read_text()
    done = release(clone, "9.8.7")
    after = (clone / "CHANGELOG.md").read_text()

    assert done.returncode == 0, done.stderr
    assert git(clone, "tag", "--points-at", "HEAD") == "v9.8.7\n"
    assert git(clone, "status", "--porcelain") == ""
    assert '\nversion = "9.8.7"\n' in (clone / "pyproject.toml").read_text()
    heading = f"{UNRELEASED}\n## [9.8.7] - {datetime.now(UTC):%Y-%m-%d}\n"
    assert after == before.replace(UNRELEASED, heading)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        pytest.param("1.2", "is no version", id="no version"),
        pytest.param("9.8.7", "has changes", id="uncommitted"),
        pytest.param("9.8.7", "exists already", id="tagged"),
        pytest.param("9.8.7", "nothing below", id="nothing new"),
    ],
)
def test_release_is_refused(
    version: str, told: str, clone: Path, request: pytest.FixtureRequest
) -> None:
    changelog = clone / "CHANGELOG.md"
    match request.node.callspec.id:
        case "uncommitted":
            changelog.write_text(changelog.read_text() + "\n")
        case "tagged":
            git(clone, "tag", "v9.8.7")
        case "nothing new":
            changelog.write_text(f"# Changelog\n\n{UNRELEASED}\n")
            git(clone, "commit", "--quiet", "-am", "Say nothing")
        case _:
            pass
    head = git(clone, "rev-parse", "HEAD")
    refused = release(clone, version)

    assert refused.returncode == 1
    assert told in refused.stderr
    assert git(clone, "rev-parse", "HEAD") == head
