"""What is built is what users should get: the package, its types, its licence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
PACKAGE = "agentauth_middleware"

IMPORT_EVERY_MODULE = f"""
import importlib, pkgutil, {PACKAGE} as package
for module in pkgutil.walk_packages(package.__path__, "{PACKAGE}."):
    print(importlib.import_module(module.name).__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_has_the_whole_package_and_nothing_beside_it(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.suffix in {".py", ".typed"}
    }
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    described = {name for name in packed if ".dist-info/" in name}

    assert sources <= packed
    assert all(name.startswith(f"{PACKAGE}/") for name in packed - described)
    assert any(name.endswith("/licenses/LICENSE") for name in described)


def test_readme_of_the_wheel_leads_to_the_repository(wheel: Path) -> None:
    """On a package index a relative link leads nowhere."""
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
        described = archive.read(name).decode()
    targets = re.findall(r"\]\(([^)]+)\)", described)

    assert "# agentauth-middleware" in described
    assert targets
    assert [link for link in targets if not link.startswith(("https://", "#"))] == []


@pytest.mark.timeout(240)
def test_installed_wheel_has_a_demo(wheel: Path, tmp_path: Path) -> None:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    version = metadata.version("agentauth-middleware")
    subprocess.run(
        [*uv, "venv", "--python", sys.executable, str(environment)], check=True
    )
    subprocess.run(
        [
            *(*uv, "pip", "install", "--python", str(python)),
            f"agentauth-middleware[demo] @ {wheel.as_uri()}",
        ],
        check=True,
    )
    outside = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}

    def run(*command: str) -> str:
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env=outside,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return ran.stdout

    agentauth = str(environment / "bin" / "agentauth")
    assert run(agentauth, "--version") == f"agentauth {version}\n"
    assert run(str(python), "-m", PACKAGE, "--version") == f"agentauth {version}\n"
    assert "revoked" in run(agentauth, "demo")


def test_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERY_MODULE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    places = [Path(line) for line in run.stdout.splitlines()]

    assert places
    assert all(place.is_relative_to(tmp_path) for place in places)
