"""The time that an exchange with an issuer has left, whatever befalls the clock.

And what the operator is told of metadata that cannot be found or used.
"""

from __future__ import annotations

import pytest

from agentauth_middleware._core.issuers.discovery import (
    LONGEST_TIMEOUT,
    Discovery,
    discover,
    read_issuer_metadata,
    time_left,
)
from agentauth_middleware.errors import UnavailableError
from tests.support.stepping import Stepper, json_reply

URL = "https://as.example.com/jwks.json"


@pytest.mark.parametrize(
    ("now", "left"),
    [
        pytest.param(1000.0, 5.0, id="at the beginning"),
        pytest.param(1003.0, 2.0, id="later"),
        pytest.param(-800.0, LONGEST_TIMEOUT, id="clock set back meanwhile"),
    ],
)
def test_exchange_has_time_until_its_deadline(now: float, left: float) -> None:
    assert time_left(URL, lambda: now, 1005.0) == left


def test_exchange_has_no_time_once_the_clock_is_past_its_deadline() -> None:
    with pytest.raises(UnavailableError) as raised:
        time_left(URL, lambda: 2800.0, 1005.0)

    assert raised.value.reason == "upstream_timeout"


AUTH0 = "https://notes.eu.auth0.com"
METADATA = f"{AUTH0}/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("described", "expected"),
    [(f"{AUTH0}/", AUTH0), (AUTH0, f"{AUTH0}/")],
    ids=["more", "less"],
)
def test_metadata_of_an_issuer_that_differs_by_a_slash_says_so(
    described: str, expected: str
) -> None:
    with pytest.raises(UnavailableError) as raised:
        read_issuer_metadata(
            json_reply({"issuer": described}),
            METADATA,
            expected,
            insecure_loopback=False,
        )

    assert str(raised.value) == (
        f"{METADATA} describes {described!r}; expected {expected!r}, which differs by "
        f"the slash at its end; write {described!r}"
    )


def test_metadata_that_is_nowhere_says_where_it_was_looked_for() -> None:
    issuer = "https://sso.example.com/realms/notes"
    state = Discovery(issuer, insecure_loopback=False)
    step = Stepper(discover(state, "1", lambda: 1000.0, 1005.0))
    step.answer(json_reply({}, 404))
    step.answer(json_reply({}, 404))

    with pytest.raises(UnavailableError) as raised:
        step.answer(json_reply({}, 404))

    assert f"{issuer}/.well-known/openid-configuration (404)" in str(raised.value)
    assert str(raised.value).endswith("name its keys with Issuer(jwks_uri=...)")
