"""Whatever an issuer answers about a token, only a good answer lets it in."""

from __future__ import annotations

import pytest

from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.hostile.answers import (
    ACTIVE,
    ANSWERS,
    JWT,
    OPAQUE,
    Answer,
    envelope,
    in_envelope,
    named_answers,
    plain,
    signed_answer,
)
from tests.hostile.issuers import CLIENT, PUBLISHED
from tests.hostile.judge import is_judged_good, judge_answer
from tests.hostile.middlewares import Hall, Verdict, instants
from tests.hostile.running import Tally, seed_of, try_all
from tests.support.tokens import ISSUER, RESOURCE, as_json


def _server(*, signed: bool) -> ResourceServer:
    """Asks about each token, opaque or not."""
    introspection = Introspection(
        CLIENT,
        client_secret="a-secret",
        endpoint=f"{ISSUER}/introspect",
        signed=signed,
        always=True,
    )
    issuer = Issuer(ISSUER, jwks=PUBLISHED, introspection=introspection)
    return ResourceServer(RESOURCE, issuers=[issuer])


SERVERS = {signed: _server(signed=signed) for signed in (False, True)}


def present(hall: Hall, answer: Answer, lines: tuple[bytes, ...]) -> Verdict:
    """What both middlewares make of a token that *answer* is given about.

    They are new, so that nobody is held off because of what an issuer said before.
    """
    middlewares = hall.make(SERVERS[answer.is_signed])
    middlewares.endpoint.reply = reply = answer.reply
    (one, other), first, last = instants(lambda: middlewares.ask(lines))
    assert middlewares.endpoint.asked >= 2
    assert (one.status, one.reason) == (other.status, other.reason)
    assert one.status in (204, 401, 429, 503)
    if one.is_let_in:
        assert is_judged_good(
            lambda: judge_answer(
                reply.status,
                dict(reply.fields),
                reply.body,
                is_signed=answer.is_signed,
                is_about_jwt=lines == JWT,
                instants=(first, last),
            )
        )
    return one


@pytest.mark.parametrize("lines", [OPAQUE, JWT], ids=["opaque", "JWT"])
@pytest.mark.parametrize("is_signed", [False, True], ids=["plain", "signed"])
def test_good_answer_of_this_file_is_good(
    is_signed: bool, lines: tuple[bytes, ...], hall: Hall
) -> None:
    """Else everything below would be refused for a reason of its own."""
    good = plain(as_json(ACTIVE), "good")
    if is_signed:
        good = in_envelope(signed_answer(envelope()), "good")

    assert present(hall, good, lines).is_let_in


@pytest.mark.parametrize("name", list(named_answers()))
def test_answer_of_the_corpus_gets_a_verdict(name: str, hall: Hall) -> None:
    """And only a good one lets in the token that it is about."""
    answer = named_answers()[name]
    for lines in (OPAQUE, JWT):
        present(hall, answer, lines)


def try_answers(hall: Hall, how_many: int, number: int | None) -> Tally:
    tally = Tally()

    def attempt(answer: Answer) -> None:
        tally.tried.add(hash(answer.reply))
        for lines in (OPAQUE, JWT):
            verdict = present(hall, answer, lines)
            tally.reasons[verdict.reason] += 1
            tally.let_in += verdict.is_let_in

    try_all(ANSWERS, attempt, how_many=how_many, number=number)
    return tally


def test_made_up_answers_let_in_only_what_they_call_active(hall: Hall) -> None:
    """The same ones in each run."""
    tally = try_answers(hall, how_many=80, number=1)

    assert len(tally.tried) >= 60
    assert tally.let_in


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_thousands_of_answers_let_in_only_what_they_call_active(
    hall: Hall, request: pytest.FixtureRequest
) -> None:
    """Others in each run; a failure tells how to have the same again."""
    tally = try_answers(hall, how_many=800, number=seed_of(request))

    assert len(tally.tried) >= 600
    assert 0 < tally.let_in < sum(tally.reasons.values()) / 2
