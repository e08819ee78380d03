"""Fixtures for tests of protected applications; pytest finds them by itself.

Every run of pytest in the environment loads this module, so what the fixtures need is
imported when one of them is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentauth_middleware.testing._run import RUNS

if TYPE_CHECKING:
    from agentauth_middleware.testing import ActAs, AgentTokens, FakeIssuer

__all__ = ["act_as", "agent_token", "agentauth_app", "agentauth_issuer"]


def pytest_configure(config: pytest.Config) -> None:
    RUNS.append(config)
    config.add_cleanup(partial(RUNS.remove, config))


@pytest.fixture(scope="session")
def agentauth_issuer() -> FakeIssuer:
    """An issuer without any network, the same for all tests.

    An application built from settings of the test's own may trust it by itself:
    ``ResourceServer(..., issuers=[agentauth_issuer.trust()])``.
    """
    from agentauth_middleware.testing import FakeIssuer

    return FakeIssuer()


@pytest.fixture
def agentauth_app(request: pytest.FixtureRequest) -> Any:
    """The application under test: override it; by default it is the fixture ``app``."""
    try:
        return request.getfixturevalue("app")
    except pytest.FixtureLookupError as missing:
        if missing.argname != "app":
            raise
    pytest.fail(
        "which application is under test? Define a fixture named agentauth_app that "
        "returns it",
        pytrace=False,
    )


@pytest.fixture
def agent_token(
    agentauth_app: Any, agentauth_issuer: FakeIssuer
) -> Iterator[AgentTokens]:
    """Mints tokens that ``agentauth_app`` accepts as those of its own issuer.

    ``agent_token(user="ana", agent="assistant", scopes=["notes.read"])`` is a good
    one; ``agent_token.expired(...)``, ``.revoked``, ``.wrong_audience``,
    ``.wrong_issuer`` and ``.forged`` are refused.
    """
    from agentauth_middleware.testing import trusting

    with trusting(agentauth_app, agentauth_issuer) as tokens:
        yield tokens


@pytest.fixture
def act_as(request: pytest.FixtureRequest, agentauth_issuer: FakeIssuer) -> ActAs:
    """Lets a test client act for a user.

    ``with act_as(client, user="ana", agent="assistant", scopes=["notes.read"]):``
    """
    from agentauth_middleware.testing import ActAs

    return ActAs(agentauth_issuer, partial(request.getfixturevalue, "agentauth_app"))
