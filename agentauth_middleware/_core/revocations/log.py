"""Reading the log of revocations: as often as needed, and no more.

A view that is older than a quarter of a second is read on before a decision. One
request reads; the others go on while the view is under three quarters of a second old.
A read that takes long and succeeds is no failure: newer entries are read, and then the
request is served.

When another log has taken the place of the one that was read, or an older copy of it,
what this process knows is appended to it first.
"""

from __future__ import annotations

from math import inf

from agentauth_middleware._core.operations import (
    AppendLog,
    Clock,
    Procedure,
    ReadLog,
)
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.throttles import Slots
from agentauth_middleware.errors import UnavailableError

READ_LOG_AFTER = 0.25
"""Seconds. A request that finds the view of the log older reads on first."""
SERVE_WHILE_READING = 0.75
"""Seconds. While one request reads, the others go on with a view no older than this."""
_READS = 3
"""How many reads a request makes at most, if each takes longer than a view stays
fresh."""
_APPENDED_AT_ONCE = 10_000


def is_fresh(view: RevocationView, now: float) -> bool:
    """Whether a decision may rest on *view* as it is."""
    return 0 <= now - view.read_at < READ_LOG_AFTER


def refresh_view(
    view: RevocationView, reader: Slots, max_age: float, clock: Clock
) -> Procedure[None]:
    """Read the log on, unless another request is reading and the view is young enough.

    *max_age* is how many seconds old the view may be if the log cannot be read.

    Raises:
        UnavailableError: the log cannot be read, and the view is older than that.
    """
    asked_at = clock()
    if view.read_at > asked_at:
        view.read_at = -inf  # the clock was set back, so the age of the view is unknown
    is_reader = reader.take()
    if not is_reader and 0 <= asked_at - view.read_at < SERVE_WHILE_READING:
        return
    try:
        for _ in range(_READS):
            yield from read_on(view, clock())
            if clock() - view.read_at < SERVE_WHILE_READING:
                return
    except UnavailableError:
        if max_age != inf and not 0 <= clock() - view.read_at < max_age:
            raise
    finally:
        if is_reader:
            reader.give_back()


def read_on(view: RevocationView, asked_at: float) -> Procedure[None]:
    """Bring *view* to where the log ends; requests that do so at once share a read.

    Raises:
        UnavailableError: the log cannot be read.
    """
    if not view.is_due_for_a_full_read:
        yield from _read_to_the_end(view, asked_at)
        return
    full = RevocationView()
    yield from _read_to_the_end(full, asked_at)
    view.replace_by(full)


def _read_to_the_end(view: RevocationView, asked_at: float) -> Procedure[None]:
    while True:
        after = view.position
        page = yield from ReadLog(after, asked_at)
        if view.is_of_another_log(page, after):
            known = view.begin_again(page.epoch)
            for start in range(0, len(known), _APPENDED_AT_ONCE):
                yield from AppendLog(known[start : start + _APPENDED_AT_ONCE])
            continue
        view.apply(page, asked_at)
        if page.is_last:
            return
