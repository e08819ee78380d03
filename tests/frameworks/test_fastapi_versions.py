"""The tests for FastAPI, on the oldest release that is supported.

What a handler depends on has no public name in FastAPI, and the place where an included
router keeps its routes has changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
VERSIONS = ["0.133.0"]
"""The oldest that is supported."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", VERSIONS)
def test_fastapi_of_older_versions_passes_the_same_tests(
    version: str, tmp_path: Path
) -> None:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [*uv, "venv", "--python", sys.executable, str(python.parents[1])], check=True
    )
    subprocess.run(
        [
            *(*uv, "pip", "install", "--python", str(python)),
            *("--requirements", "pyproject.toml", "--group", "test"),
            *("--extra", "fastapi", "--extra", "flask"),
            f"fastapi=={version}",
        ],
        cwd=ROOT,
        check=True,
    )
    installed = subprocess.run(
        [python, "-c", "import fastapi; print(fastapi.__version__)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    # What Python or Starlette has deprecated since is no news.
    tests = [
        *("-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider"),
        # What trio says of streams that older Starlette does not close.
        *("-W", "ignore::pytest.PytestUnraisableExceptionWarning"),
        *sorted(map(str, Path(__file__).parent.glob("test_fastapi*.py"))),
        str(Path(__file__).with_name("test_context.py")),
        str(Path(__file__).with_name("test_streamed_refusals.py")),
    ]
    run = subprocess.run(
        [python, "-m", "pytest", *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )

    assert installed.stdout.strip() == version
    assert run.returncode == 0, run.stdout
