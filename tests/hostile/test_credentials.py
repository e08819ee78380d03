"""Whatever comes as a credential, both middlewares say the same and let nothing bad
in."""

from __future__ import annotations

import pytest

from agentauth_middleware.access import Access
from tests.hostile.corpus import CORPUS, GOOD_ONES
from tests.hostile.credentials import CREDENTIALS, GOOD_TOKEN, Credential, bearer
from tests.hostile.judge import is_judged_good, judge_request
from tests.hostile.middlewares import KINDS, Hall, Middlewares, Verdict, instants
from tests.hostile.running import Tally, seed_of, try_all

ANSWERS = {
    (204, None),
    (400, "invalid_request"),
    (401, None),
    (401, "invalid_token"),
}
DEADLINE = 10.0
"""Seconds. Nothing takes a hundredth of that, even on a busy machine; what grows with
the square of a megabyte would take longer."""


def present(kind: str, middlewares: Middlewares, credential: Credential) -> Verdict:
    """What both middlewares make of *credential*, which is checked to be as it should
    be."""
    lines, query = credential.lines, credential.query
    (one, other), first, last = instants(lambda: middlewares.ask(lines, query))
    assert last - first < DEADLINE
    check_answer(one)
    check_answer(other)
    if len(lines) > 1:
        check_several_lines(one, other)
        return one
    assert (one.status, one.reason, one.error) == (
        other.status,
        other.reason,
        other.error,
    )
    if one.is_let_in:
        rules = KINDS[kind].rules
        assert is_judged_good(lambda: judge_request(lines, rules, first, last))
        assert one.access is not None
        check_access(one.access)
    return one


def check_answer(verdict: Verdict) -> None:
    if verdict.reason == "unknown_issuer_lookup_failed":
        assert verdict.status == 429
    else:
        assert (verdict.status, verdict.error) in ANSWERS


def check_several_lines(on_asgi: Verdict, on_wsgi: Verdict) -> None:
    """Under WSGI they are one line by now, which may be of another scheme."""
    assert (on_asgi.status, on_asgi.reason) == (400, "duplicate_authorization")
    assert on_wsgi.reason in ("malformed_credential", "no_credentials")


def check_access(access: Access) -> None:
    """Handlers can look at all there is."""
    assert hash(access) == hash(access)
    assert access.claims["iss"] == access.issuer
    assert isinstance(access.amr, tuple)
    assert isinstance(access.authorization_details, tuple)
    assert isinstance(access.agent_platform, str | None)


@pytest.mark.parametrize("kind", KINDS)
def test_good_token_of_this_file_is_good(kind: str, hall: Hall) -> None:
    """Else everything below would be refused for a reason of its own. Only where all
    tokens are asked about is it not: there none is active."""
    verdict = present(
        kind, hall.middlewares[kind], Credential(bearer(GOOD_TOKEN), "good")
    )

    assert verdict.is_let_in == (kind != "asked about all tokens")


@pytest.mark.parametrize("name", CORPUS)
def test_credential_of_the_corpus_is_refused(name: str, hall: Hall) -> None:
    """By the strict settings; by others unless they may let it in."""
    verdicts = {
        kind: present(kind, middlewares, CORPUS[name])
        for kind, middlewares in hall.middlewares.items()
    }

    assert verdicts["strict"].is_let_in == (name in GOOD_ONES)
    assert not verdicts["asked about all tokens"].is_let_in


def test_good_ones_are_in_the_corpus() -> None:
    assert CORPUS.keys() >= GOOD_ONES


def try_credentials(hall: Hall, how_many: int, number: int | None) -> Tally:
    """Present so many different ones to the middlewares of all kinds."""
    tally = Tally()

    def attempt(credential: Credential) -> None:
        key = hash((credential.lines, credential.query))
        tally.tried.add(key)
        if credential.is_signed_again:
            tally.signed_again.add(key)
        for kind, middlewares in hall.middlewares.items():
            verdict = present(kind, middlewares, credential)
            tally.reasons[verdict.reason] += 1
            tally.let_in += verdict.is_let_in

    try_all(CREDENTIALS, attempt, how_many=how_many, number=number)
    return tally


REASONS = {
    *("alg_not_allowed", "bad_signature", "contradictory_profiles", "expired"),
    *("credential_too_long", "duplicate_authorization", "encrypted_token"),
    *("inactive_token", "key_mismatch", "malformed", "unknown_issuer_lookup_failed"),
    *("malformed_credential", "no_credentials", "not_yet_valid", "two_methods"),
    *("sender_constrained", "unknown_issuer", "unknown_kid", "unknown_token_kind"),
    *("wrong_audience", "wrong_client", "wrong_token_type"),
}
"""What many credentials get far enough to be refused for."""


def test_made_up_credentials_get_in_only_if_they_are_good(hall: Hall) -> None:
    """The same ones in each run."""
    tally = try_credentials(hall, how_many=400, number=1)

    assert len(tally.tried) >= 300
    assert len(tally.signed_again) >= len(tally.tried) / 2


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_thousand_credentials_get_in_only_if_they_are_good(
    hall: Hall, request: pytest.FixtureRequest
) -> None:
    """Others in each run; a failure tells how to have the same again."""
    tally = try_credentials(hall, how_many=13_000, number=seed_of(request))

    assert len(tally.tried) >= 10_000
    assert len(tally.signed_again) >= len(tally.tried) / 2
    assert tally.reasons.keys() >= REASONS
    assert 0 < tally.let_in < sum(tally.reasons.values()) / 4
