"""What any test may use. Fixtures for one subject stand in that subject's file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

# On a busy machine an example may take long; that is no failure.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), "trio"], ids=["asyncio", "trio"]
)
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Coroutine tests, marked ``pytest.mark.anyio``, run on both event loops."""
    backend: str | tuple[str, dict[str, Any]] = request.param
    return backend
