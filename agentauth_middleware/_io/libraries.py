"""httpx, and httpx2, which continues it: one interface, in classes of their own.

A client handed in is of either. Our own is of the one that is installed, httpx first.
Neither is imported before it is needed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

__all__ = ["errors", "library_of", "own_library"]

_NAMES = ("httpx", "httpx2")


def own_library() -> ModuleType:
    """The one that our own clients are made with."""
    first, second = _NAMES
    try:
        return import_module(first)
    except ModuleNotFoundError:
        return import_module(second)


def library_of(client: object, kind: str) -> ModuleType | None:
    """The library whose class *kind* *client* is of; ``None`` if it is of neither."""
    loaded = (module for module in _loaded() if isinstance(client, vars(module)[kind]))
    return next(loaded, None)


def errors(*names: str) -> tuple[type[Exception], ...]:
    """The exceptions of these *names*, of each library that can have raised one."""
    return tuple(vars(module)[name] for module in _loaded() for name in names)


def _loaded() -> list[ModuleType]:
    """The library, if it is imported: an object of its classes exists only then."""
    modules = (sys.modules.get(name) for name in _NAMES)
    return [module for module in modules if module is not None]
