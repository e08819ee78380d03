"""The architecture, read from the import statements of every module.

All of them count: those inside functions and under ``TYPE_CHECKING`` as well, since
a module that names another's types knows that module.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = "agentauth_middleware"
ROOT = Path(__file__).parents[1]

LAYERS: dict[str, tuple[str, ...]] = {
    "words": ("reasons", "errors", "access", "_syntax.*"),
    "settings": ("", "settings.*"),
    "core": ("_core.*",),
    "stores": ("stores.*", "revocation"),
    "drivers": ("_io.*",),
    "shared by both sides": ("_middleware.*",),
    "middlewares": ("asgi", "wsgi", "verifier"),
    "frameworks": ("starlette", "fastapi", "flask", "mcp", "refusals", "testing.*"),
    "embedded": ("authorization_server.*",),
    "commands": ("cli.*", "__main__"),
}
"""From the lowest up; names are those below the package, which is ``""`` itself."""

FRAMEWORKS = ("django", "fastapi", "flask", "starlette", "werkzeug")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's name, as in LAYERS, and its file."""
    folder = ROOT / PACKAGE
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that ``from … import`` names, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(ROOT)
    return ".".join([*folder.parts, *filter(None, [node.module])])


def imported_names(path: Path) -> Iterator[str]:
    """Everything a file imports, dotted; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, path)
            yield from (f"{source}.{alias.name}" for alias in node.names)


FILES: Mapping[str, Path] = dict(modules())
IMPORTS: Mapping[str, frozenset[str]] = {
    module: frozenset(imported_names(path)) for module, path in FILES.items()
}


def full_name(module: str) -> str:
    return f"{PACKAGE}.{module}" if module else PACKAGE


def own_modules(module: str) -> set[str]:
    """The modules of ours that *module* imports."""
    return {
        ours
        for ours in FILES
        for name in IMPORTS[module]
        if name == full_name(ours) or name.rpartition(".")[0] == full_name(ours)
    }


def within(name: str, places: Iterable[str]) -> bool:
    """Whether a dotted *name* is one of *places* or lies inside one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def layer_of(module: str) -> str | None:
    for layer, members in LAYERS.items():
        folders = [member.removesuffix(".*") for member in members if "*" in member]
        if module in members or within(module, folders):
            return layer
    return None


def test_every_module_has_a_layer() -> None:
    homeless = [module for module in FILES if layer_of(module) is None]

    assert homeless == [], (
        f"Each module belongs to a layer; enter these in LAYERS: {homeless}"
    )


@pytest.mark.parametrize("module", [name for name in FILES if layer_of(name)])
def test_module_imports_its_own_layer_and_those_below(module: str) -> None:
    rank = list(LAYERS).index
    own = layer_of(module)
    assert own is not None
    above = {
        f"{imported} ({layer})"
        for imported in own_modules(module)
        if (layer := layer_of(imported)) is not None and rank(layer) > rank(own)
    }

    assert not above, (
        f"A module imports its own layer and those below it. {module or PACKAGE} "
        f"is in the layer {own} and imports {sorted(above)}."
    )


@dataclass(frozen=True)
class Rule:
    """What some modules may not import, and why."""

    modules: tuple[str, ...]
    may_not_import: tuple[str, ...]
    because: str
    but: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """Exceptions: what these modules may import all the same."""


RULES = {
    "core-waits-for-nothing": Rule(
        modules=("_core", "_syntax", "settings"),
        may_not_import=(
            *("anyio", "asyncio", "trio", "concurrent", "multiprocessing", "threading"),
            *("http.client", "httpx", "redis", "socket", "sqlite3", "ssl"),
            *("subprocess", "urllib.request"),
        ),
        because="the core does no I/O and knows no event loop and no thread; "
        "what has to be waited for is asked of a driver with an operation",
        # Its lock is held for a look-up only, in functions that cannot yield.
        but={"_core.cache": ("threading",)},
    ),
    "core-is-told": Rule(
        modules=("_core", "_syntax"),
        may_not_import=("os", "random", "secrets", "time", "uuid"),
        because="clock, randomness and environment are handed to the core, so that "
        "the same input always gives the same decision",
    ),
    "core-does-not-speak": Rule(
        modules=("_core", "_syntax", "settings"),
        may_not_import=("contextvars", "logging"),
        because="the middleware writes the log and sets the context; the core returns "
        "what goes there",
    ),
    "core-and-drivers-know-no-framework": Rule(
        modules=("_core", "_io", "_middleware", "_syntax", "stores"),
        may_not_import=FRAMEWORKS,
        because="frameworks are met in the middlewares",
        but={
            # The ASGI side speaks Starlette's types, and fills its conventions.
            "_middleware.asgi_caller": ("starlette",),
            "_middleware.asgi_exchange": ("starlette.types",),
            "_middleware.asgi_first_piece": ("starlette.types",),
        },
    ),
    "words-know-no-framework": Rule(
        modules=("access", "errors", "reasons", "settings"),
        may_not_import=("httpx", *FRAMEWORKS),
        because="settings, `Access` and errors serve every middleware",
    ),
    "asgi-middleware": Rule(
        modules=(
            *("asgi", "starlette", "fastapi", "mcp"),
            *("_middleware.asgi_caller", "_middleware.asgi_exchange"),
            "_middleware.asgi_first_piece",
        ),
        may_not_import=(
            *("flask", "werkzeug"),
            *(f"{PACKAGE}.flask", f"{PACKAGE}.wsgi"),
        ),
        because="an ASGI application does not load what only WSGI needs",
    ),
    "wsgi-middleware": Rule(
        modules=("wsgi", "flask"),
        may_not_import=(
            *("fastapi", "starlette"),
            *(f"{PACKAGE}.asgi", f"{PACKAGE}.fastapi", f"{PACKAGE}.starlette"),
        ),
        because="a WSGI application does not load what only ASGI needs",
    ),
    "extras": Rule(
        modules=("asgi", "starlette", "wsgi", "verifier"),
        may_not_import=("fastapi", "flask", "mcp"),
        because="only the module named after it may need an extra",
    ),
    "production-knows-no-tests": Rule(
        modules=("authorization_server", "fastapi", "flask", "mcp", "starlette"),
        may_not_import=(f"{PACKAGE}.testing",),
        because="what trusts a fake issuer is asked for by tests, and by the demo",
    ),
    "pytest-plugin": Rule(
        modules=("testing",),
        may_not_import=("pytest",),
        because="a FakeIssuer serves programs that are no tests as well",
        but={"testing.pytest_plugin": ("pytest",)},
    ),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rule_of_imports_is_kept(rule: Rule) -> None:
    broken = sorted(
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if within(module, rule.modules)
        for name in names
        if within(name, rule.may_not_import)
        and not within(name, rule.but.get(module, ()))
    )

    assert broken == [], f"Not allowed, for {rule.because}: {broken}"


def distribution_name(text: str) -> str:
    """The normalized name of a requirement such as ``PyJWT[crypto]>=2``."""
    name = re.match(r"[\w.-]+", text)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def test_what_is_imported_is_declared() -> None:
    """What users get by `pip install` is enough: nothing comes along by luck."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = {distribution_name(text) for text in project["dependencies"]}
    optional = {
        extra: {distribution_name(text) for text in texts}
        for extra, texts in project["optional-dependencies"].items()
    }
    # Named in annotations alone: a client of it may be handed in.
    always.add("httpx2")
    # The plugin is loaded by pytest and nothing else.
    optional["testing"] = {"pytest"}
    distributions = packages_distributions()
    undeclared = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in sorted(names)
        if (top := name.partition(".")[0]) not in {PACKAGE, *sys.stdlib_module_names}
        and not {distribution_name(text) for text in distributions.get(top, [top])}
        & (always | optional.get(module.partition(".")[0], set()))
    ]

    assert undeclared == [], f"Missing in pyproject.toml: {undeclared}"


LIGHT = {
    "": ("httpx", "anyio", "asyncio", "sqlite3", *FRAMEWORKS),
    "asgi": ("httpx", "sqlite3", "werkzeug", "flask", "fastapi"),
    "wsgi": ("httpx", "sqlite3", "starlette", "flask", "fastapi"),
    "testing.pytest_plugin": (
        *("anyio", "asyncio", "cryptography", "httpx", "jwt", "sqlite3"),
        *FRAMEWORKS,
    ),
    "verifier": ("httpx", "sqlite3", *FRAMEWORKS),
}
"""What importing a module must not load, ever so indirectly."""


@pytest.mark.parametrize("module", [name for name in LIGHT if name in FILES])
def test_import_stays_light(module: str) -> None:
    """Start-up time and memory are paid by every worker: heavy parts come on use."""
    program = f"import sys, {full_name(module)}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    heavy = set(LIGHT[module]) & set(run.stdout.split())

    assert not heavy, f"`import {full_name(module)}` loads {sorted(heavy)}"
