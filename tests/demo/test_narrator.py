"""Colour is for people at a terminal who have not said otherwise (no-color.org)."""

from __future__ import annotations

import io

import pytest

from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.walk import Hop

HOP = Hop(7, "access token", "POST /token", ("a=b",), "200 OK", ("c: d",), "Because.")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: io.StringIO) -> str:
    Narrator(out).tell(HOP)
    return out.getvalue()


def test_hop_is_told_with_number_request_answer_and_reason() -> None:
    assert told(io.StringIO()).splitlines() == [
        "",
        " 7. access token",
        "    > POST /token",
        "    >   a=b",
        "    < 200 OK",
        "    <   c: d",
        "    Because.",
    ]


def test_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    assert "\x1b[" in told(Terminal())


def test_terminal_gets_no_colour_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b[" not in told(Terminal())


def test_anything_but_a_terminal_gets_no_colour() -> None:
    assert "\x1b[" not in told(io.StringIO())
