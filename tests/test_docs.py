"""What the documentation shows is run here, and what it quotes is compared."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]*)(?:#([^):]*))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return blocks_in(page.read_text(), language)


def blocks_in(text: str, language: str) -> list[str]:
    return [body for name, body in _BLOCK.findall(text) if name == language]


def section(page: Path, heading: str) -> str:
    """What stands on *page* under *heading*, down to the next one of any level."""
    _, _, rest = page.read_text().partition(f"\n{heading}\n")
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def run(page: Path) -> dict[str, Any]:
    """The names that *page* defines, its Python blocks run from top to bottom."""
    names: dict[str, Any] = {"__name__": page.stem}
    with root_logger_kept():
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), names)  # noqa: S102 - our own pages
    return names


@contextmanager
def root_logger_kept() -> Generator[None, None, None]:
    """Litestar sets level and handlers as an application is made."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


@pytest.fixture
def log_level() -> Iterator[None]:
    """What a page sets does not count for other tests."""
    logger = logging.getLogger("agentauth_middleware.audit")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("log_level")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs_as_written(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_to_what_is_there(page: Path) -> None:
    missing = [
        f"{target}#{anchor}"
        for target, anchor in _LINK.findall(page.read_text())
        if not _is_there(page.parent / target if target else page, anchor)
    ]

    assert missing == []


def _is_there(target: Path, anchor: str) -> bool:
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """The names under which code hosts know the headings of *page*."""
    headings = _HEADING.findall(page.read_text())
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }
