"""Which tokens a revocation refuses, and what stands in the log."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._core.revocations.cut_offs import (
    MOST_SKEW,
    Revocation,
    RevocationView,
    clamped,
)
from agentauth_middleware.access import Access, Principal
from tests.support.tokens import ISSUER, NOW

OTHER = "https://idp.example.net"
AGENT = Principal(ISSUER, "agent-1")


def access(**changes: Any) -> Access:
    """A token of user-1's agent-1, issued just now."""
    members: dict[str, Any] = {
        "issuer": ISSUER,
        "subject": "user-1",
        "agent": AGENT,
        "token_id": "token-1",
        "issued_at": NOW,
        **changes,
    }
    return Access(**members)


def refuses(revocation: Revocation, token: Access) -> bool:
    view = RevocationView()
    view.apply(LogPage(1, (revocation.entry,)), NOW)
    return view.refuses(token)


def test_nothing_is_refused_without_a_revocation() -> None:
    assert not RevocationView().refuses(access())


@pytest.mark.parametrize(
    ("revocation", "is_refused"),
    [
        pytest.param(Revocation(ISSUER, NOW), True, id="its issuer"),
        pytest.param(Revocation(OTHER, NOW), False, id="another issuer"),
        pytest.param(Revocation(ISSUER, NOW, "user-1"), True, id="its user"),
        pytest.param(Revocation(ISSUER, NOW, "user-2"), False, id="another user"),
        pytest.param(Revocation(OTHER, NOW, "user-1"), False, id="namesake elsewhere"),
        pytest.param(
            Revocation(ISSUER, NOW, "user-1", (ISSUER, "agent-1")), True, id="its agent"
        ),
        pytest.param(
            Revocation(ISSUER, NOW, "user-1", (ISSUER, "agent-2")),
            False,
            id="the user's other agent",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, "user-1", (OTHER, "agent-1")),
            False,
            id="an agent of that name elsewhere",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, "user-2", (ISSUER, "agent-1")),
            False,
            id="its agent for another user",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, agent=(ISSUER, "agent-1")),
            True,
            id="its agent for all users",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, agent=(ISSUER, "agent-2")),
            False,
            id="another agent for all users",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, agent=(OTHER, "agent-1")),
            False,
            id="an agent of that name elsewhere, for all users",
        ),
        pytest.param(
            Revocation(ISSUER, NOW, token_id="token-1"), True, id="the token itself"
        ),
        pytest.param(
            Revocation(ISSUER, NOW, token_id="token-2"), False, id="another token"
        ),
        pytest.param(
            Revocation(OTHER, NOW, token_id="token-1"),
            False,
            id="a token of that name elsewhere",
        ),
    ],
)
def test_revocation_refuses_what_it_names(
    revocation: Revocation, is_refused: bool
) -> None:
    assert refuses(revocation, access()) is is_refused


TARGETS = {
    "issuer": Revocation(ISSUER, NOW),
    "subject": Revocation(ISSUER, NOW, "user-1"),
    "agent": Revocation(ISSUER, NOW, "user-1", (ISSUER, "agent-1")),
}


@pytest.mark.parametrize("revocation", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(
    ("issued_at", "is_refused"),
    [
        pytest.param(NOW - 3600, True, id="an hour before"),
        pytest.param(NOW - 1, True, id="one second before"),
        pytest.param(NOW, True, id="in the same second"),
        pytest.param(NOW + 1, False, id="one second after"),
        pytest.param(None, True, id="nobody knows when"),
    ],
)
def test_revocation_refuses_tokens_issued_up_to_its_instant(
    revocation: Revocation, issued_at: float | None, is_refused: bool
) -> None:
    assert refuses(revocation, access(issued_at=issued_at)) is is_refused


@pytest.mark.parametrize("latest", TARGETS.values(), ids=TARGETS)
def test_of_several_revocations_the_latest_counts(latest: Revocation) -> None:
    """However wide or narrow it is, and those beside it."""
    view = RevocationView()
    revocations = [*TARGETS.values(), replace(latest, at=NOW + 10)]
    for position, revocation in enumerate(revocations, start=1):
        view.apply(LogPage(position, (revocation.entry,)), NOW)

    assert view.refuses(access(issued_at=NOW + 10))
    assert not view.refuses(access(issued_at=NOW + 11))


def test_token_issued_in_the_second_of_a_revocation_is_refused() -> None:
    """``iat`` has whole seconds: what was issued a moment before says the same."""
    revocation = Revocation(ISSUER, NOW + 0.25, "user-1")

    assert refuses(revocation, access(issued_at=NOW))
    assert not refuses(revocation, access(issued_at=NOW + 1))


def test_single_token_is_refused_whenever_it_was_issued() -> None:
    revocation = Revocation(ISSUER, NOW, token_id="token-1")

    assert refuses(revocation, access(issued_at=NOW + 3600))


def test_token_without_a_name_is_not_taken_for_a_named_one() -> None:
    """Nor for all tokens of its issuer, whenever they were issued."""
    revocation = Revocation(ISSUER, NOW)

    assert not refuses(revocation, access(token_id=None, issued_at=NOW + 1))


def test_user_is_refused_with_and_without_an_agent() -> None:
    assert refuses(Revocation(ISSUER, NOW, "user-1"), access(agent=None))


def test_agent_of_a_user_leaves_the_user_alone() -> None:
    revocation = Revocation(ISSUER, NOW, "user-1", (ISSUER, "agent-1"))

    assert not refuses(revocation, access(agent=None))


def test_earlier_actors_are_history() -> None:
    """Only the immediate actor is in the token's power (RFC 8693 §4.1)."""
    revocation = Revocation(ISSUER, NOW, "user-1", (ISSUER, "agent-1"))
    now_another = access(agent=Principal(ISSUER, "agent-2"), chain=(AGENT,))

    assert not refuses(revocation, now_another)


def test_revocations_are_taken_in_any_order_and_twice() -> None:
    records = [
        Revocation(ISSUER, NOW + seconds, "user-1").entry for seconds in (0, 20, 10)
    ]
    for order in itertools.permutations(records):
        view = RevocationView()
        view.apply(LogPage(3, (*order, *order)), NOW)

        assert view.refuses(access(issued_at=NOW + 20))
        assert not view.refuses(access(issued_at=NOW + 21))


def test_view_that_begins_again_keeps_what_it_knows() -> None:
    """Another log has taken the place of the one that was read."""
    view = RevocationView()
    known = Revocation(ISSUER, NOW, "user-1").entry
    view.apply(LogPage(7, (known,), epoch="first"), NOW + 10.0)
    (told,) = view.begin_again("second")
    view.apply(LogPage(9, (), epoch="first"), NOW + 11.0)

    assert (told.key, told.at) == known
    assert (view.position, view.epoch) == (0, "second")
    assert view.refuses(access())


def test_view_is_as_fresh_as_its_last_read() -> None:
    """Of two threads that read at once, the slower may have asked first."""
    view = RevocationView()
    view.apply(LogPage(7, ()), NOW + 10.0)
    view.apply(LogPage(7, ()), NOW)

    assert view.read_at == NOW + 10.0


def test_page_is_taken_in_once_by_all_who_share_it() -> None:
    """Two hundred requests with a page of two thousand records would take seconds."""
    looked_at: list[tuple[bytes, float]] = []

    class Records(tuple[tuple[bytes, float], ...]):
        def __iter__(self) -> Iterator[tuple[bytes, float]]:
            looked_at.extend(self[:])
            return super().__iter__()

    page = LogPage(1, Records([Revocation(ISSUER, NOW, "user-1").entry]))
    view = RevocationView()
    for _ in range(200):
        view.apply(page, NOW)

    assert len(looked_at) == 1
    assert view.refuses(access())


def test_page_taken_in_again_after_another_forgets_nothing() -> None:
    """Whoever shares a page may come late with it."""
    view = RevocationView()
    first = LogPage(1, (Revocation(ISSUER, NOW, "user-1").entry,))
    second = LogPage(2, (Revocation(ISSUER, NOW, "user-2").entry,))
    for page in (first, second, first):
        view.apply(page, NOW)

    assert view.refuses(access())
    assert view.refuses(access(subject="user-2"))


def test_page_is_taken_in_once_by_threads_that_share_it() -> None:
    """Each on its own they would keep each other from it for seconds."""
    begun: list[int] = []
    together = threading.Barrier(8)

    class Records(tuple[tuple[bytes, float], ...]):
        def __iter__(self) -> Iterator[tuple[bytes, float]]:
            begun.append(threading.get_ident())
            for record in self[:]:
                os.sched_yield()  # lets the others run
                yield record

    page = LogPage(1, Records([Revocation(ISSUER, NOW, "user-1").entry] * 5))
    view = RevocationView()

    def apply(_: int) -> bool:
        together.wait(10)
        view.apply(page, NOW)
        return view.refuses(access())

    with ThreadPoolExecutor(8) as pool:
        refuse = list(pool.map(apply, range(8)))

    assert len(begun) == 1
    assert refuse == [True] * 8


def test_late_page_does_not_move_the_view_back() -> None:
    """Whoever shares a page may come late with it; the log need not be read again."""
    view = RevocationView()
    pages = [LogPage(number, ()) for number in range(1, 6)]
    for page in (*pages, pages[0]):
        view.apply(page, NOW)

    assert view.position == 5


def test_page_that_is_not_the_last_makes_no_view_fresh() -> None:
    view = RevocationView()
    record = Revocation(ISSUER, NOW, "user-1").entry
    view.apply(LogPage(1, (record,), is_last=False), NOW)

    assert view.read_at < NOW
    assert view.position == 1
    assert view.refuses(access())


@pytest.mark.parametrize("applied_at", [NOW, NOW - 100.0])
def test_view_is_as_old_as_the_question_that_its_page_answers(
    applied_at: float,
) -> None:
    view = RevocationView()
    view.apply(LogPage(1, (), asked_at=NOW - 5.0), applied_at)

    assert view.read_at == NOW - 5.0


def test_view_tells_whether_there_is_news() -> None:
    """Only then are the tokens that it has cleared looked at again."""
    view = RevocationView()
    first = [Revocation(ISSUER, NOW).entry]
    editions = [view.edition]
    pages = [[], first, first, [Revocation(ISSUER, NOW + 1).entry]]
    for position, entries in enumerate(pages):
        view.apply(LogPage(position, tuple(entries)), NOW)
        editions.append(view.edition)

    assert editions[1] is editions[0]
    assert editions[2] is not editions[1]
    assert editions[3] is editions[2]
    assert editions[4] is not editions[3]


# What the log keeps


def test_entry_says_to_people_what_it_refuses() -> None:
    agent = Revocation(ISSUER, 1, "u", ("i", "a")).to_cut_off()
    single = Revocation(ISSUER, 1, token_id="j").to_cut_off()

    assert json.loads(agent.record) == {
        "iss": ISSUER,
        "at": 1,
        "sub": "u",
        "act": {"iss": "i", "sub": "a"},
    }
    assert json.loads(single.record) == {"iss": ISSUER, "at": 1, "jti": "j"}


@pytest.mark.parametrize("retention", [60.0, 86_400.0, math.inf])
def test_entry_is_kept_until_its_tokens_have_expired_by_any_clock(
    retention: float,
) -> None:
    cut_off = Revocation(ISSUER, NOW).to_cut_off(retention)

    assert cut_off.forget_at == NOW + retention + 3600 + 300


def test_targets_that_differ_have_keys_that_differ() -> None:
    """However their names are put together."""
    names = ["a", "b", "1:a", "-", "a b", "é", "\ud800"]
    revocations = [
        *(Revocation(issuer, NOW) for issuer in names),
        *(Revocation(one, NOW, two) for one in names for two in names),
        *(Revocation("a", NOW, one, (two, "x")) for one in names for two in names),
        *(Revocation("a", NOW, one, ("x", two)) for one in names for two in names),
        *(Revocation(one, NOW, token_id=two) for one in names for two in names),
    ]

    assert len({revocation.key for revocation in revocations}) == len(revocations)


def test_revocation_from_a_clock_far_ahead_counts_from_now() -> None:
    latest = NOW + MOST_SKEW

    assert clamped(NOW + 7200, latest) == NOW
    assert clamped(NOW + 60, latest) == NOW + 60
    assert clamped(NOW - 60, latest) == NOW - 60


def test_view_forgets_what_a_full_read_no_longer_finds() -> None:
    view = RevocationView()
    for number in range(3):
        entries = tuple((b"%d %d" % (number, n), NOW) for n in range(100_000))
        view.apply(LogPage(number + 1, entries), NOW)
    assert not view.is_due_for_a_full_read
    for number in range(3):
        again = tuple((b"2 %d" % n, NOW) for n in range(100_001))
        view.apply(LogPage(number + 4, again), NOW)
    assert view.is_due_for_a_full_read

    full, edition = RevocationView(), view.edition
    full.apply(LogPage(9, (Revocation(ISSUER, NOW, "user-1").entry,)), NOW + 1)
    view.replace_by(full)

    assert view.refuses(access())
    assert view.begin_again("").__len__() == 1
    assert view.read_at == NOW + 1
    assert view.edition is not edition
    assert not view.is_due_for_a_full_read
