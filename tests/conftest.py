"""What any test may use. Fixtures for one subject stand in that subject's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # By which coverage measures the processes that run tests; not what they start.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

# On a busy machine an example may take long; that is no failure.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where gunicorn puts a socket of its own, else into the user's home."""
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(folder))
        yield


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), "trio"], ids=["asyncio", "trio"]
)
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Coroutine tests, marked ``pytest.mark.anyio``, run on both event loops."""
    backend: str | tuple[str, dict[str, Any]] = request.param
    return backend
