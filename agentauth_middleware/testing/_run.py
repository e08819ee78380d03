"""Whether pytest is running in this very process.

The plugin says so when pytest has configured itself, and takes it back. No setting and
no environment variable can: those reach production, and the processes tests start.
"""

from __future__ import annotations

RUNS: list[object] = []
"""The runs under way; more than one where a test runs pytest itself."""


def check_runs_under_pytest() -> None:
    """Refuse to go on outside of a run.

    Raises:
        RuntimeError: there is none, or its plugin was switched off.
    """
    if not RUNS:
        raise RuntimeError(
            "a middleware trusts a fake issuer only while pytest runs in the same "
            "process. In a test: is the plugin switched off? Add "
            "-p agentauth_middleware.testing.pytest_plugin"
        )
