"""Make a release: ``make release VERSION=0.2.0``.

Checks first, in an empty folder: the distribution is built, and the wheel is installed
into a fresh environment, where ``agentauth --version`` and ``agentauth demo`` have to
work. Then the version and the date go into ``pyproject.toml`` and ``CHANGELOG.md``, and
both are committed and tagged. Nothing is pushed and nothing is uploaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

_EXAMPLES = """\
examples:
  python tools/release.py 0.2.0            check, commit and tag
  python tools/release.py 0.2.0 --check    only check; change nothing
"""
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")
_UNRELEASED = "## [Unreleased]\n"
_IN_PYPROJECT = re.compile(r'^version = "[^"]+"$', re.MULTILINE)


class ReleaseError(Exception):
    """Why there is no release; for the person who asked for it."""


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="release.py",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", help="the new version, such as 0.2.0")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    root = Path(_output("git", "rev-parse", "--show-toplevel").strip())
    try:
        release(root, options.version, only_check=options.check)
    except ReleaseError as fault:
        print(f"No release: {fault}", file=sys.stderr)
        return 1
    return 0


def release(root: Path, version: str, *, only_check: bool) -> None:
    """Check the repository at *root* and make *version* of it.

    Raises:
        ReleaseError: something stands in the way; nothing was changed.
    """
    _check_repository(root, version)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        _run("git", "clone", "--quiet", "--no-hardlinks", str(root), str(copy))
        write_version(copy, version)
        _check_distribution(copy, Path(folder), version)
    if only_check:
        print(f"{version} can be released. Nothing was changed.")
        return
    write_version(root, version)
    _run("git", "-C", str(root), "commit", "--quiet", "-am", f"Release {version}")
    _run("git", "-C", str(root), "tag", "-a", f"v{version}", "-m", f"Version {version}")
    print(f"Committed and tagged v{version}. To publish it: git push --follow-tags")


def _check_repository(root: Path, version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version; write it as 0.2.0")
    if _output("git", "-C", str(root), "status", "--porcelain"):
        raise ReleaseError("the working tree has changes; commit them first")
    if _output("git", "-C", str(root), "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists already")
    if not unreleased(root).strip():
        raise ReleaseError("CHANGELOG.md has nothing below [Unreleased]")


def unreleased(root: Path) -> str:
    """What the changelog says of changes since the last release."""
    _, _, below = (root / "CHANGELOG.md").read_text().partition(_UNRELEASED)
    return below.partition("\n## [")[0]


def write_version(root: Path, version: str) -> None:
    """Write *version* into ``pyproject.toml``, and its date into the changelog."""
    pyproject, changelog = root / "pyproject.toml", root / "CHANGELOG.md"
    named = f'version = "{version}"'
    pyproject.write_text(_IN_PYPROJECT.sub(named, pyproject.read_text(), count=1))
    dated = f"{_UNRELEASED}\n## [{version}] - {datetime.now(UTC):%Y-%m-%d}\n"
    changelog.write_text(changelog.read_text().replace(_UNRELEASED, dated, 1))


def _check_distribution(source: Path, folder: Path, version: str) -> None:
    """Build the distribution of *source*, and try the wheel in a fresh environment."""
    print("Building the distribution", flush=True)
    built = folder / "dist"
    _run(*_UV, "build", "--quiet", "--out-dir", str(built), str(source))
    (wheel,) = built.glob("*.whl")
    print(f"Installing {wheel.name} into a fresh environment", flush=True)
    environment = folder / "environment"
    _run(*_UV, "venv", "--quiet", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    _run(
        *(*_UV, "pip", "install", "--quiet", "--python", str(python)),
        f"agentauth-middleware[demo] @ {wheel.as_uri()}",
    )
    shutil.rmtree(source)
    agentauth = str(environment / "bin" / "agentauth")
    found = _output(agentauth, "--version", cwd=folder).strip()
    if found != f"agentauth {version}":
        raise ReleaseError(f"the wheel says {found!r}; expected agentauth {version}")
    print("Running agentauth demo from it", flush=True)
    _output(agentauth, "demo", cwd=folder)


_UV = (sys.executable, "-m", "uv")


def _run(*command: str) -> None:
    _output(*command)


def _output(*command: str, cwd: Path | None = None) -> str:
    """What *command* prints.

    Raises:
        ReleaseError: it failed.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-2000:]
        raise ReleaseError(f"{' '.join(command)} failed:\n{told}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
