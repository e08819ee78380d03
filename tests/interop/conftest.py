"""The applications and the clients that meet here, all real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware.testing import ServedIssuer
from tests.examples.programs import free_port, running
from tests.interop.authorization import AGENT, USER, Authorization, authorizing
from tests.interop.middlewares import RunningMiddleware
from tests.support.exchange import MIDDLEWARES, running_middleware

APPLICATIONS = {
    "FastAPI on uvicorn": (
        "uvicorn --factory examples.fastapi_app.app:create_app --port {port}",
        "Uvicorn running on",
    ),
    "Flask on gunicorn": (
        "gunicorn --workers 2 --bind 127.0.0.1:{port}"
        " examples.flask_app.app:create_app()",
        "Listening at",
    ),
}
MCP_SERVER = "uvicorn --factory tests.interop.mcp_server:create_app --port {port}"

NODE = Path(__file__).parent / "node"

Node = Callable[..., Any]


@dataclass(frozen=True)
class Notes:
    """One of the example applications, running."""

    url: str
    authorization: Authorization

    @property
    def issuer(self) -> ServedIssuer:
        return self.authorization.issuer

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/.well-known/oauth-protected-resource"

    def token(self, *scopes: str) -> str:
        """One with which an agent acts for a user of the application."""
        return self.issuer.token(self.url, subject=USER, agent=AGENT, scopes=scopes)


def missing_programs() -> list[str]:
    """What is not installed of the clients and servers, each with the reason."""
    missing = [
        f"{module}: not installed; see the group interop of pyproject.toml"
        for module in ("authlib", "mcp", "oauth2_provider", "requests_oauthlib")
        if find_spec(module) is None
    ]
    for program in ("curl", "node"):
        if shutil.which(program) is None:
            missing.append(f"{program}: not installed; run `make system-deps`")
    for package in json.loads((NODE / "package.json").read_text())["dependencies"]:
        if not has_node_package(package):
            missing.append(f"{package}: not installed; run `make system-deps`")
    return missing


def has_node_package(name: str) -> bool:
    return (NODE / "node_modules" / name).is_dir()


@pytest.fixture(scope="session")
def authorization() -> Generator[Authorization, None, None]:
    with authorizing() as authorization:
        yield authorization


@pytest.fixture(scope="session", params=APPLICATIONS)
def notes(
    request: pytest.FixtureRequest,
    authorization: Authorization,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Notes, None, None]:
    """A test that asks for it runs against both applications."""
    command, started = APPLICATIONS[request.param]
    port, folder = free_port(), tmp_path_factory.mktemp("notes")
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AGENTAUTH_ISSUER": authorization.issuer.issuer,
        "AGENTAUTH_RESOURCE": url,
        "AGENTAUTH_STORE": str(folder / "agentauth.db"),
        "NOTES_DATABASE": str(folder / "notes.db"),
    }
    with running(command.format(port=port).split(), environment) as program:
        program.wait_for_line(started)
        yield Notes(url, authorization)
    assert not [line for line in program.lines if "Traceback" in line]


@pytest.fixture(scope="session")
def mcp_url(authorization: Authorization) -> Generator[str, None, None]:
    """Where a real MCP server answers, with nothing but our middleware in front of
    it."""
    pytest.importorskip("mcp")
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    environment = {
        "AGENTAUTH_ISSUER": authorization.issuer.issuer,
        "AGENTAUTH_RESOURCE": url,
    }
    with running(MCP_SERVER.format(port=port).split(), environment) as program:
        program.wait_for_line("Uvicorn running on")
        yield url
    assert not [line for line in program.lines if "Traceback" in line]


@pytest.fixture(params=MIDDLEWARES)
def start_middleware(request: pytest.FixtureRequest) -> RunningMiddleware:
    """A test that asks for it runs on each side."""
    return partial(running_middleware, request.param, store=None)


@pytest.fixture(scope="session")
def node() -> Node:
    """Runs a script of ``node/`` on an object and gives back what it prints."""
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        pytest.skip("no node or no packages for it; run `make system-deps`")

    def run(script: str, **told: Any) -> Any:
        finished = subprocess.run(
            ["node", script, json.dumps(told)],
            cwd=NODE,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return run
