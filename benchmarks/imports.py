"""How long a worker waits for ``import agentauth_middleware.asgi``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks import targets
from benchmarks.report import Row
from benchmarks.rounds import figure

__all__ = ["measure_imports"]

_DEPENDENCIES = "its dependencies"
_PROGRAM = """
import time
started = time.perf_counter()
import {}
print(time.perf_counter() - started)
"""
_MIDDLEWARE = "agentauth_middleware.asgi"
_THEIRS = "starlette.applications, jwt, cryptography"
"""What the middleware stands on, as an application would import it."""


def measure_imports(processes: int, note: Callable[[str], None]) -> Iterator[Row]:
    """Both in processes of their own, by turns."""
    ours: list[float] = []
    theirs: list[float] = []
    for modules in (_MIDDLEWARE, _THEIRS):
        _import(modules)  # so that all is compiled
    for number in range(processes):
        note(f"process {number + 1} of {processes}")
        ours.append(_import(_MIDDLEWARE))
        theirs.append(_import(_THEIRS))
    pairs = zip(ours, theirs, strict=True)
    ratio = figure(our / their for our, their in pairs)
    yield Row(
        "import", f"{_DEPENDENCIES}: starlette, jwt, cryptography", figure(theirs), "ms"
    )
    yield Row(
        "import", _MIDDLEWARE, figure(ours), "ms", ratio, _DEPENDENCIES, targets.IMPORT
    )


def _import(modules: str) -> float:
    """Milliseconds that a new process takes to import *modules*."""
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(modules)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(run.stdout) * 1000
