"""What users may import is what ``__all__`` says, and the other way round."""

from __future__ import annotations

import ast
import pkgutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import agentauth_middleware


def public_modules(path: list[str], prefix: str) -> list[str]:
    """The modules below a package without an underscore anywhere in their name."""
    names: list[str] = []
    for module in pkgutil.iter_modules(path, prefix):
        if not module.name.rpartition(".")[2].startswith("_"):
            names.append(module.name)
            spec = find_spec(module.name)
            if spec is not None and spec.submodule_search_locations is not None:
                places = list(spec.submodule_search_locations)
                names += public_modules(places, f"{module.name}.")
    return names


PUBLIC_MODULES = public_modules(
    list(agentauth_middleware.__path__), f"{agentauth_middleware.__name__}."
)


def test_package_exports_its_public_names_in_order() -> None:
    public = [
        name
        for name, value in vars(agentauth_middleware).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name != "annotations"
    ]
    exported: list[str] = getattr(agentauth_middleware, "__all__", [])

    assert exported == sorted(public)


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_module_declares_what_it_exports(module: str) -> None:
    """Read from the source, so that no extra has to be installed."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    if len(ast.parse(source).body) == 1:
        return  # a docstring alone: the folder exports nothing by itself

    assert source.count("\n__all__ = ") == 1, f"{module} needs an `__all__`"
