"""The time that an exchange with an issuer has left, whatever befalls the clock."""

from __future__ import annotations

import pytest

from agentauth_middleware._core.issuers.discovery import LONGEST_TIMEOUT, time_left
from agentauth_middleware.errors import UnavailableError

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
