"""The docs' table of dialects says the truth about plain tokens of users."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from agentauth_middleware._core.tokens.identity import read_identity
from agentauth_middleware.access import IdentityDialect

PAGE = Path(__file__).parents[4] / "docs" / "identity.md"
COLUMN = 4
PLAIN = {"iss": "https://as.example.com", "sub": "auth0|u9", "client_id": "app"}


def needs() -> dict[str, str]:
    """By dialect, the first word about ``subjects="users"``."""
    rows = re.findall(r'^\| `"(\w+)"`.*$', PAGE.read_text(), re.MULTILINE)
    lines = re.findall(r'^\| `"\w+"`.*$', PAGE.read_text(), re.MULTILINE)
    cells = [re.split(r"(?<!\\)\|", line)[COLUMN].split() for line in lines]
    words = [re.sub(r"\W", "", first) for first, *_ in cells]
    return dict(zip(rows, words, strict=True))


def is_user(dialect: IdentityDialect, *, subjects_are_users: bool) -> bool:
    found = read_identity(
        PLAIN,
        "https://as.example.com",
        "app",
        dialect,
        subjects_are_users=subjects_are_users,
    )
    return found.user is not None


def test_table_has_every_dialect() -> None:
    assert {*needs()} >= {*get_args(IdentityDialect)}


@pytest.mark.parametrize(
    "dialect",
    [name for name in get_args(IdentityDialect) if name != "workos_blueprint"],
)
def test_table_says_when_subjects_have_to_be_users(dialect: IdentityDialect) -> None:
    """A blueprint's tokens are never plain ones."""
    is_changed_by_setting = is_user(dialect, subjects_are_users=True)

    assert not is_user(dialect, subjects_are_users=False)
    assert is_changed_by_setting is (needs()[dialect] in ("yes", "only"))
