"""Rows, and how they are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from benchmarks.rounds import METHOD, Figure
from benchmarks.scene import SETTING

__all__ = ["Row", "as_table", "environment", "write_json"]

_DISTRIBUTIONS = (
    "agentauth-middleware",
    "anyio",
    "cryptography",
    "pyjwt",
    "starlette",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, and what it is held against."""

    group: str
    name: str
    value: Figure
    unit: Literal["µs", "ms", "bytes", "MB", "s", "calls", "req/s"]
    ratio: Figure | None = None
    """*value* as a multiple of what *of* names, measured in the same rounds."""
    of: str | None = None
    target: float | None = None
    """The most that *ratio* may be; of *value*, where there is no ratio."""
    least: float | None = None
    """The least, where more is better."""

    @property
    def verdict(self) -> Literal["ok", "over", "under"] | None:
        judged = (self.value if self.ratio is None else self.ratio).median
        if self.least is not None:
            return "ok" if judged >= self.least else "under"
        if self.target is not None:
            return "ok" if judged <= self.target else "over"
        return None


def environment() -> dict[str, Any]:
    """What the figures depend on, besides the code."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
    }


def write_json(path: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Write *rows* with all that is known about the run."""
    document = {
        "environment": about,
        "setting": SETTING,
        "method": METHOD,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def as_table(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """*rows* below one another, by group; what misses its target says so."""
    versions = ", ".join(f"{name} {of}" for name, of in about["versions"].items())
    lines = [
        f"{about['python']} on {about['machine']}, {about['processors']} processors, "
        f"load {about['load']}",
        versions,
    ]
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", group]
        lines.append(_line(row))
    return "\n".join(lines)


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio.median:8.3f} x {row.of}"
    line = f"  {row.name:<48}{row.value.median:10.2f} {row.unit:<6}{ratio:<28}"
    if row.target is not None:
        line += f"  at most {row.target:.4g}  {row.verdict}"
    if row.least is not None:
        line += f"  at least {row.least:.4g}  {row.verdict}"
    return line.rstrip()
