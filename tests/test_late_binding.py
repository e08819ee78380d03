"""Nothing that blocks is bound at import.

gevent replaces locks, queues, threads and sockets. `gunicorn -k gevent --preload` has
it do so after our modules were imported. A name that was taken from `threading` before
that, or a lock that was made, blocks the only thread of the process.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "agentauth_middleware").rglob("*.py"))

BLOCKING = {
    "_thread",
    "concurrent.futures",
    "multiprocessing",
    "queue",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
}
CALM = {"monotonic", "perf_counter", "time", "thread_time", "time_ns"}
"""What of ``time`` does not sleep."""


def bound_at_import(tree: ast.Module) -> Iterator[str]:
    """What a module takes from those above as it is imported."""
    for node in _run_at_import(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                for alias in names:
                    if _is_blocking(module, alias.name):
                        yield f"from {module} import {alias.name}"
            case ast.Attribute(value=ast.expr() as owner, attr=attribute):
                module = ast.unparse(owner)
                if _is_blocking(module, attribute):
                    yield f"{module}.{attribute}"
            case _:
                pass


def _is_blocking(module: str, name: str) -> bool:
    if module == "time":
        return name not in CALM
    if name.endswith("Error"):
        return False
    return module in BLOCKING or f"{module}.{name}" in BLOCKING


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All but the bodies of functions, annotations and what only type checkers see."""
    yield node
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            children: list[ast.AST] = [*node.decorator_list, *defaults]
        case ast.Lambda():
            children = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        case ast.AnnAssign():
            children = [] if node.value is None else [node.value]
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            children = list(node.orelse)
        case _:
            children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _run_at_import(child)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_binds_nothing_that_blocks(file: Path) -> None:
    assert list(bound_at_import(ast.parse(file.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "from threading import Lock",
        "from threading import Lock as Lock",
        "from queue import SimpleQueue",
        "from concurrent.futures import Future",
        "from concurrent import futures",
        "from time import sleep",
        "LOCK = threading.Lock()",
        "class A:\n    lock = threading.RLock()",
        "def f(connect=socket.create_connection): ...",
        "def f(*, sleep=time.sleep): ...",
        "@threading.Thread\ndef f(): ...",
        "WORKERS: int = concurrent.futures.ThreadPoolExecutor()",
        "make = lambda event=threading.Event(): event",
        "if True:\n    from socket import socket",
    ],
)
def test_what_would_be_bound_is_found(line: str) -> None:
    assert list(bound_at_import(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "import threading",
        "from time import time",
        "def f(timer=time.monotonic): return threading.Lock()",
        "make = lambda: threading.Lock()",
        "x: threading.Lock",
        "FAULTS = (OSError, ssl.SSLError)",
        "if TYPE_CHECKING:\n    from threading import Lock",
    ],
)
def test_what_is_looked_up_late_is_not_found(line: str) -> None:
    assert list(bound_at_import(ast.parse(line))) == []


PROGRAM = """
import _queue, _thread, gc, importlib, pkgutil, queue, socket, threading
import agentauth_middleware

FOUND = (
    _thread.LockType, type(threading.RLock()), _queue.SimpleQueue, queue.Queue,
    threading.Condition, threading.Event, threading.Semaphore, threading.Thread,
    socket.socket,
)
OURS = "agentauth_middleware"
for module in pkgutil.walk_packages(agentauth_middleware.__path__, OURS + "."):
    if "__main__" not in module.name:
        try:
            importlib.import_module(module.name)
        except ImportError as missing:
            assert "pip install" in str(missing), missing

def is_ours(value):
    return type(value).__module__.startswith(OURS)

import sys
seen = set()
def walk(path, value):
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FOUND):
        print(path, type(value).__name__)
    elif is_ours(value) or isinstance(value, (dict, list, tuple, set)):
        for inner in gc.get_referents(value):
            walk(path, inner)

for name, module in list(sys.modules.items()):
    if name.split(".")[0] == OURS:
        for attribute, value in vars(module).items():
            if not attribute.startswith("__"):
                walk(f"{name}.{attribute}", value)
"""


def test_no_module_holds_a_lock_of_its_own() -> None:
    """Not even inside of an object that it made as it was imported."""
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT
    )

    assert completed.stderr == ""
    assert completed.stdout == ""
