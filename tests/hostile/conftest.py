"""The middlewares that all hostile requests go through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.middlewares import Hall, opened


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    """Middlewares of each kind of settings."""
    with opened() as hall:
        yield hall
