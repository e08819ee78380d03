"""Scope words, in tokens and in settings."""

from __future__ import annotations

import pytest

from agentauth_middleware._syntax.scopes import check_scopes, parse_scopes
from agentauth_middleware.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("mail.read", {"mail.read"}),
        ("mail.read mail.send", {"mail.read", "mail.send"}),
        ("mail.send mail.read mail.send", {"mail.read", "mail.send"}),
        (" mail.read  mail.send ", {"mail.read", "mail.send"}),
        ("", set[str]()),
        ("  ", set[str]()),
        ("a+b a,b a\tb", {"a+b", "a,b", "a\tb"}),
        ("Mail.Read", {"Mail.Read"}),
    ],
)
def test_scopes_are_separated_by_spaces_alone(text: str, scopes: set[str]) -> None:
    assert parse_scopes(text) == scopes


def test_tokens_that_say_the_same_share_one_set() -> None:
    """Thousands of them are remembered."""
    assert parse_scopes("a b") is parse_scopes("a b")


def test_scopes_of_settings_keep_their_order_and_lose_repetitions() -> None:
    assert check_scopes(["b", "a", "b"], "key") == ("b", "a")
    assert check_scopes([], "key") == ()


@pytest.mark.parametrize(
    ("scopes", "fault"),
    [
        pytest.param("mail.read", "write a list", id="one string"),
        pytest.param([""], "printable ASCII", id="empty"),
        pytest.param(["mail read"], "printable ASCII", id="space"),
        pytest.param(['mail"read'], "printable ASCII", id="quote"),
        pytest.param(["mail\\read"], "printable ASCII", id="backslash"),
        pytest.param(["mail\r\nread"], "printable ASCII", id="line break"),
        pytest.param(["mail\n"], "printable ASCII", id="line break behind"),
        pytest.param(["m\u00e4il"], "printable ASCII", id="not ASCII"),
        pytest.param(["mail", "offline_access"], "remove it", id="offline_access"),
    ],
)
def test_scope_that_cannot_stand_in_a_challenge_is_refused(
    scopes: list[str], fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"^Route\.scopes: ") as refused:
        check_scopes(scopes, "Route.scopes")

    assert fault in str(refused.value)
