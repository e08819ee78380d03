"""Modules that need an extra say so where it is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec

import pytest


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_missing_extra_is_named(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Python itself writes there for a module that must not be found.
    monkeypatch.setitem(sys.modules, framework, None)
    spec = find_spec(f"agentauth_middleware.{framework}")
    assert spec is not None
    assert spec.loader is not None
    command = rf"pip install agentauth-middleware\[{framework}\]"

    with pytest.raises(ImportError, match=command):
        spec.loader.exec_module(module_from_spec(spec))
