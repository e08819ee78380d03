from __future__ import annotations

import os

import pytest

from tests.interop.conftest import missing_programs

pytestmark = pytest.mark.interop


def test_every_program_is_here() -> None:
    """Without one the tests of it are skipped, and in CI that must not go unseen."""
    missing = missing_programs()
    if missing and os.environ.get("CI") != "true":
        pytest.skip("; ".join(missing))

    assert not missing
