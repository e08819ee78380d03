"""The suites of users, as pytest runs them for whoever has installed the library."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
TIMEOUT = 60

APP = """
import pytest
from starlette.testclient import TestClient
from agentauth_middleware.testing import assert_challenge
from tests.testing.notes_api import starlette_app

client = TestClient(starlette_app())
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-W", "error", *arguments, timeout=TIMEOUT)


def test_suite_of_the_page_passes(pytester: pytest.Pytester) -> None:
    """Every test it shows, in one file, warnings being errors."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    suite = "\n".join(blocks)
    shown = suite.count("\ndef test_") + 4  # one has five kinds of token
    pytester.makepyfile(suite)

    run(pytester).assert_outcomes(passed=shown)


def test_application_under_test_has_to_be_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(agent_token): agent_token()")
    result = run(pytester)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Define a fixture named agentauth_app*"])


def test_fault_in_the_users_own_fixture_is_theirs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def app(missing): ...

        def test_it(agent_token): agent_token()
        """
    )
    result = run(pytester)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'missing' not found*"])


def test_failed_assertion_shows_the_users_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        APP
        + """
def test_it(act_as):
    with act_as(client):
        assert_challenge(client.get("/"), 401)
"""
    )
    result = run(pytester)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '> *assert_challenge(client.get("/"), 401)',
            "E *AssertionError: expected status 401, got:",
            "E *status: *200",
        ]
    )
    result.stdout.no_fnmatch_line("*_challenges.py*")


def test_suite_that_asks_for_nothing_loads_nothing(pytester: pytest.Pytester) -> None:
    """The plugin is loaded by every run of the environment."""
    pytester.makepyfile(
        """
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("agentauth")
            heavy = {
                *("anyio", "asyncio", "cryptography", "fastapi", "flask", "httpx"),
                *("jwt", "sqlite3", "starlette", "werkzeug"),
            }
            assert not heavy & sys.modules.keys()
        """
    )
    # These bring such modules along themselves.
    others = ("anyio", "hypothesispytest", "timeout")
    arguments = [word for name in others for word in ("-p", f"no:{name}")]

    run(pytester, *arguments).assert_outcomes(passed=1)


def test_switched_off_plugin_leaves_no_trust(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        APP
        + """
def test_it():
    from agentauth_middleware.testing import trusting

    with pytest.raises(RuntimeError, match="switched off"), trusting(client): ...
"""
    )

    run(pytester, "-p", "no:agentauth").assert_outcomes(passed=1)


def test_run_within_a_run_ends_only_its_own_trust(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        APP
        + """
pytest_plugins = ["pytester"]

def test_it(pytester, act_as):
    pytester.makepyfile("def test_inner(act_as): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    with act_as(client):
        assert client.get("/").status_code == 200
"""
    )

    run(pytester).assert_outcomes(passed=1)
