"""What the repository promises of itself: one list of linters, one command for CI."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_hooks_run_the_linters_of_make_lint() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nlint: $(READY)\n")[2].partition("\n\n")[0]
    (checked,) = re.findall(r"^CHECKED := \$\(wildcard (.*)\)$", makefile, re.MULTILINE)
    wanted = [
        line.strip().replace("$(VENV)", ".venv").replace("$(CHECKED)", checked)
        for line in recipe.splitlines()
    ]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()

    assert re.findall(r"entry: (.*)", hooks) == wanted


def test_hosted_ci_only_calls_the_command_of_the_repository() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()

    assert re.findall(r"- run: (.*)", workflow) == [".ci/run"]
