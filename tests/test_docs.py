"""What the documentation shows is run here, and what it quotes is compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client

from agentauth_middleware.testing import FakeIssuer

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in _BLOCK.findall(page.read_text()) if name == language]


def run(page: Path) -> dict[str, Any]:
    """The names that *page* defines, its Python blocks run from top to bottom."""
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102 - our own pages
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs_as_written(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_to_what_is_there(page: Path) -> None:
    missing = [
        link
        for link in _LINK.findall(page.read_text())
        if not (page.parent / link).exists()
    ]

    assert missing == []


class Exchange:
    """A request and its answer as a page shows them."""

    def __init__(self, block: str) -> None:
        request, answer, *body = block.strip().split("\n\n")
        self.path = request.split(" ")[1]
        self.has_token = "Authorization" in request
        status_line, *headers = answer.splitlines()
        self.status = int(status_line.split(" ")[1])
        self.headers = dict(header.split(": ", 1) for header in headers)
        self.body = body[0]


def test_readme_shows_what_the_agent_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both applications answer as quoted; the issuer's keys are given to them."""
    monkeypatch.chdir(tmp_path)
    issuer = FakeIssuer()
    source = README.read_text().replace(
        'Issuer("https://as.example.com")',
        f'Issuer("https://as.example.com", jwks={issuer.jwks!r})',
    )
    page = tmp_path / "README.md"
    page.write_text(source)
    names = run(page)
    token = issuer.token(
        "https://api.example.com",
        subject="ana",
        agent="assistant-7",
        scopes=["notes.read"],
    )
    clients: list[Any] = [TestClient(names["app"]), Client(names["flask_app"])]

    for block in blocks(README, "http"):
        shown = Exchange(block)
        headers = {"Authorization": f"Bearer {token}"} if shown.has_token else {}
        for client in clients:
            answer = client.get(shown.path, headers=headers)
            assert answer.status_code == shown.status
            assert json.loads(answer.text) == json.loads(shown.body)
            for name, value in shown.headers.items():
                assert answer.headers[name] == value
