"""The doors that all hostile requests go through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.doors import Hall, opened


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    """Doors of each kind of settings."""
    with opened() as hall:
        yield hall
