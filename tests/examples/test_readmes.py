"""What the READMEs of the examples say to type, typed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.examples.programs import ROOT, environ, free_port, running
from tests.support.deadlines import try_within

READMES = {"fastapi": "fastapi_app", "flask": "flask_app"}
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"^\| `([A-Z_]+)` \| `(\S+)` \|", re.MULTILINE)


def readme(folder: str) -> str:
    return (ROOT / "examples" / folder / "README.md").read_text()


def run(block: str, environment: Mapping[str, str]) -> str:
    """The output of a block that a person pastes into a terminal."""
    finished = subprocess.run(
        ["sh", "-ec", block],
        cwd=ROOT,
        env=environ(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize(("extra", "folder"), READMES.items())
def test_readme_works_as_typed(extra: str, folder: str, tmp_path: Path) -> None:
    """Except that ports are free ones and files are temporary."""
    port = str(free_port())
    blocks = [block.replace("8000", port) for block in _BLOCK.findall(readme(folder))]
    install, issuer, serve, discover, use, disconnect, try_again = blocks
    environment = {
        "AGENTAUTH_RESOURCE": f"http://127.0.0.1:{port}",
        "AGENTAUTH_STORE": str(tmp_path / "agentauth.db"),
        "NOTES_DATABASE": str(tmp_path / "notes.db"),
    }
    assert f".[{extra}]" in install
    with running(["sh", "-c", f"exec {issuer}"], environment) as tokens:
        tokens.wait_for_line("export BOB=")
        exported = [line.removeprefix("export ") for line in tokens.lines]
        environment |= dict(line.split("=", 1) for line in exported)
        with running(["sh", "-c", f"exec {serve}"], environment) as server:
            server.wait_for_line(port)
            discovered = run(discover, environment)
            used = run(use, environment)
            run(disconnect, environment)
            refused = try_within(
                1,
                lambda: run(try_again, environment),
                until=lambda late: "200 OK" not in late,
            )

    assert "401 Unauthorized" in discovered
    assert environment["AGENTAUTH_ISSUER"] in discovered
    assert "# " in discovered
    assert used.count("Buy milk") == 2
    assert '"notes":[]' in used
    assert 'error="invalid_token"' in refused


@pytest.mark.parametrize(("extra", "folder"), READMES.items())
def test_readme_tells_the_settings(extra: str, folder: str) -> None:
    source = (ROOT / "examples" / folder / "app.py").read_text()
    settings = dict(_SETTING.findall(readme(folder)))
    used = dict(re.findall(r'environ\.get\("([A-Z_]+)", "([^"]+)"\)', source))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert settings == used
    assert extra in project["optional-dependencies"]


def test_both_examples_keep_their_notes_alike() -> None:
    schemas = {
        (ROOT / "examples" / folder / "schema.sql").read_text()
        for folder in READMES.values()
    }

    assert len(schemas) == 1
