"""Which tokens a revocation refuses, and what stands in the log."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._core.revocations.cut_offs import (
    Revocation,
    RevocationView,
    read_revocation,
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
    view.apply(LogPage(1, (revocation.to_record(),)), NOW)
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
    for revocation in [*TARGETS.values(), replace(latest, at=NOW + 10)]:
        view.apply(LogPage(1, (revocation.to_record(),)), NOW)

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
        Revocation(ISSUER, NOW + seconds, "user-1").to_record()
        for seconds in (0, 20, 10)
    ]
    for order in itertools.permutations(records):
        view = RevocationView()
        view.apply(LogPage(3, (*order, *order)), NOW)

        assert view.refuses(access(issued_at=NOW + 20))
        assert not view.refuses(access(issued_at=NOW + 21))


def test_view_follows_the_log_but_keeps_what_it_knows() -> None:
    """An older copy of the log may take its place: then it is read on from there."""
    view = RevocationView()
    view.apply(LogPage(7, (Revocation(ISSUER, NOW, "user-1").to_record(),)), NOW + 10.0)
    view.apply(LogPage(5, ()), NOW + 11.0)

    assert view.position == 5
    assert view.refuses(access())


def test_view_is_as_fresh_as_its_last_read() -> None:
    """Of two threads that read at once, the slower may have asked first."""
    view = RevocationView()
    view.apply(LogPage(7, ()), NOW + 10.0)
    view.apply(LogPage(7, ()), NOW)

    assert view.read_at == NOW + 10.0


def test_page_is_taken_in_once_by_all_who_share_it() -> None:
    """Two hundred requests with a page of two thousand records would take seconds."""
    looked_at: list[bytes] = []

    class Records(tuple[bytes, ...]):
        def __iter__(self) -> Iterator[bytes]:
            looked_at.extend(self[:])
            return super().__iter__()

    page = LogPage(1, Records([Revocation(ISSUER, NOW, "user-1").to_record()]))
    view = RevocationView()
    for _ in range(200):
        view.apply(page, NOW)

    assert len(looked_at) == 1
    assert view.refuses(access())


def test_page_taken_in_again_after_another_forgets_nothing() -> None:
    """Whoever shares a page may come late with it."""
    view = RevocationView()
    first = LogPage(1, (Revocation(ISSUER, NOW, "user-1").to_record(),))
    second = LogPage(2, (Revocation(ISSUER, NOW, "user-2").to_record(),))
    for page in (first, second, first):
        view.apply(page, NOW)

    assert view.refuses(access())
    assert view.refuses(access(subject="user-2"))


def test_page_is_taken_in_once_by_threads_that_share_it() -> None:
    """Each on its own they would keep each other from it for seconds."""
    begun: list[int] = []
    together = threading.Barrier(8)

    class Records(tuple[bytes, ...]):
        def __iter__(self) -> Iterator[bytes]:
            begun.append(threading.get_ident())
            for record in self[:]:
                os.sched_yield()  # lets the others run
                yield record

    page = LogPage(1, Records([Revocation(ISSUER, NOW, "user-1").to_record()] * 5))
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
    record = Revocation(ISSUER, NOW, "user-1").to_record()
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
    first = [Revocation(ISSUER, NOW).to_record()]
    editions = [view.edition]
    for records in ([], first, first, [Revocation(ISSUER, NOW + 1).to_record()]):
        view.apply(LogPage(1, tuple(records)), NOW)
        editions.append(view.edition)

    assert editions[1] is editions[0]
    assert editions[2] is not editions[1]
    assert editions[3] is editions[2]
    assert editions[4] is not editions[3]


# Records

REVOCATIONS = [
    Revocation(ISSUER, NOW),
    Revocation(ISSUER, NOW + 0.123456, "user-1"),
    Revocation(ISSUER, NOW, 'quote " and é and 😀'),
    Revocation(ISSUER, NOW, "user-1", (OTHER, "agent-1")),
    Revocation(ISSUER, NOW, token_id="token-1"),
]


@pytest.mark.parametrize("revocation", REVOCATIONS, ids=repr)
def test_record_gives_back_its_revocation(revocation: Revocation) -> None:
    assert read_revocation(revocation.to_record()) == revocation


def test_record_has_a_form_that_stays() -> None:
    """Stores outlive releases: another version reads what this one wrote."""
    record = (
        b'{"iss":"https://as.example.com","at":1,"sub":"u","act":{"iss":"i","sub":"a"}}'
    )
    revocation = Revocation(ISSUER, 1, "u", ("i", "a"))

    assert read_revocation(record) == revocation
    assert json.loads(revocation.to_record()) == json.loads(record)
    assert json.loads(Revocation(ISSUER, 1, token_id="j").to_record()) == {
        "iss": ISSUER,
        "at": 1,
        "jti": "j",
    }


UNREADABLE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff", id="no text"),
    pytest.param(b"[]", id="array"),
    pytest.param(b"{}", id="empty"),
    pytest.param(b'{"at":1}', id="no issuer"),
    pytest.param(b'{"iss":"","at":1}', id="issuer empty"),
    pytest.param(b'{"iss":"i"}', id="no instant"),
    pytest.param(b'{"iss":"i","at":"1"}', id="instant string"),
    pytest.param(b'{"iss":"i","at":true}', id="instant true"),
    pytest.param(b'{"iss":"i","at":1,"sub":""}', id="subject empty"),
    pytest.param(b'{"iss":"i","at":1,"sub":null}', id="subject null"),
    pytest.param(b'{"iss":"i","at":1,"sub":"u","act":null}', id="agent null"),
    pytest.param(b'{"iss":"i","at":1,"sub":"u","act":{}}', id="agent empty"),
    pytest.param(
        b'{"iss":"i","at":1,"sub":"u","act":{"sub":"a"}}', id="agent of no issuer"
    ),
    pytest.param(b'{"iss":"i","at":1,"jti":1}', id="token number"),
    pytest.param(b'{"iss":"i","at":1,"at":2}', id="instant twice"),
    pytest.param(b'{"iss":"i","at":1,"sid":"s"}', id="a member nobody knows"),
    pytest.param(
        b'{"iss":"i","at":1,"act":{"iss":"i","sub":"a"},"jti":"j"}',
        id="agent and token",
    ),
    pytest.param(b'{"iss":"i","at":1,"sub":"u","jti":"j"}', id="subject and token"),
    pytest.param(
        b'{"iss":"i","at":1,"jti":"j","act":{"iss":"i","sub":"a"}}',
        id="agent and token",
    ),
]


@pytest.mark.parametrize("record", UNREADABLE)
def test_record_that_cannot_be_understood_is_not_passed_over(record: bytes) -> None:
    """Half understood is worse: it would refuse nobody, or everybody."""
    view = RevocationView()

    with pytest.raises(ValueError, match=r"."):
        read_revocation(record)
    with pytest.raises(ValueError, match=r"."):
        view.apply(LogPage(1, (record,)), NOW)
    assert view.position == 0
    assert view.read_at < NOW
