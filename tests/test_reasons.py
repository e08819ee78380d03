"""Reason codes: constants, all of them used, all of them documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from agentauth_middleware.reasons import Reason

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "agentauth_middleware"
CODES = {str(reason) for reason in Reason}
OWN_WORDS = {
    ("authorization_server/endpoints/introspect.py", "wrong_audience"),
    ("authorization_server/id_jag.py", "expired"),
    ("authorization_server/state.py", "revoked"),
    ("cli/_demo/walk.py", "insufficient_scope"),
    ("errors.py", "insufficient_scope"),
}
"""Text that is equal to a code and means something else: codes of the embedded server
and of the standards."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name != "reasons.py":
            yield name, ast.parse(path.read_text())


def test_docs_list_every_reason_and_no_other() -> None:
    page = (ROOT / "docs" / "refusals.md").read_text()
    listed = {
        word
        for line in page.splitlines()
        if line.startswith("|")
        for word in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", line.split("|")[4])
    }

    assert listed == CODES


def test_every_reason_is_given_by_the_code() -> None:
    used = {
        node.attr
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    }

    assert used == {reason.name for reason in Reason}


def test_no_reason_is_written_as_text() -> None:
    written = {
        (name, node.value)
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in CODES
    }

    assert written == OWN_WORDS
