"""What the table does not say of each answer: that every client can read it, and that
nothing in it comes from the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from tests.support.challenges import (
    Challenge,
    find_by_expression,
    find_in_bearer,
    parse_strictly,
)
from tests.support.exchange import Answer, Middleware
from tests.support.scenarios import (
    AUTH_MD_URL,
    METADATA_URL,
    REFUSED,
    Issuers,
    Scenario,
    Token,
    challenges_of,
    invalid_token,
    no_credentials,
)

Answers: TypeAlias = Mapping[str, Answer]

# RFC 6750 §3, without what regular expressions stumble over.
SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x2B\x2D-\x3C\x3E-\x5B\x5D-\x7E]+")
PARAMETERS = (
    "error",
    "error_description",
    "scope",
    "acr_values",
    "max_age",
    "algs",
    "realm",
    "resource_metadata",
)


# The readers


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        ("Bearer", [Challenge("Bearer")]),
        ('Basic realm="simple"', [Challenge("Basic", {"realm": "simple"})]),
        (
            # RFC 9110 §11.6.1
            'Basic realm="simple", Newauth realm="apps", type=1, '
            'title="Login to \\"apps\\""',
            [
                Challenge("Basic", {"realm": "simple"}),
                Challenge(
                    "Newauth",
                    {"realm": "apps", "type": "1", "title": 'Login to "apps"'},
                ),
            ],
        ),
        (
            'Bearer A = "a, b=c", b="" , DPoP algs="ES256"',
            [
                Challenge("Bearer", {"a": "a, b=c", "b": ""}),
                Challenge("DPoP", {"algs": "ES256"}),
            ],
        ),
        (
            "Negotiate a87421000492aa874209af8bc028==, Bearer",
            [
                Challenge("Negotiate", token68="a87421000492aa874209af8bc028=="),
                Challenge("Bearer"),
            ],
        ),
    ],
)
def test_strict_reader_reads(value: str, challenges: list[Challenge]) -> None:
    assert parse_strictly(value) == challenges


@pytest.mark.parametrize(
    "value",
    [
        "",
        " Bearer",
        "Bearer ",
        "Bearer,",
        'Bearer a="b',
        'Bearer a="b" c="d"',
        'Bearer a="b",',
        'Bearer a="b",, c="d"',
        'Bearer a="b", A="c"',
        'Bearer a="\x00"',
        'Bearer a="b\n"',
        "Bearer a=b c",
        "Bearer\ta=b",
        'Bearer a="b"c"',
        '"Bearer" a=b',
        "Bearer a=https://a.example",
    ],
    ids=repr,
)
def test_strict_reader_refuses(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_strictly(value)


def test_readers_by_expression_read_what_clients_read() -> None:
    lines = ['Bearer scope="a b", max_age=5', 'DPoP error="late"']

    assert find_by_expression(lines, "scope") == "a b"
    assert find_by_expression(lines, "max_age") == "5"
    assert find_in_bearer(lines, "error") == "late"
    assert find_in_bearer(lines[::-1], "error") is None
    assert find_in_bearer(["Bearer"], "scope") is None
    assert find_by_expression(['Bearer scope=""'], "scope") == '""'


# Each refusal of the table


@pytest.fixture
def answers(middleware: Middleware, issuers: Issuers) -> Answers:
    """How one middleware answers the table's refused requests, by the scenario's
    name."""
    return {
        scenario.name: middleware.ask(scenario.request(issuers)) for scenario in REFUSED
    }


def test_fields_are_fit_for_any_client_and_no_cache(answers: Answers) -> None:
    for scenario, answer in answers.items():
        assert answer.field("cache-control") == "no-store", scenario
        assert answer.field("etag") is None, scenario
        assert answer.field("content-length") == str(len(answer.body)), scenario
        for name, value in answer.fields:
            assert re.fullmatch(r"[a-z-]+", name), scenario
            assert re.fullmatch(r"[\x20-\x7E]{1,8000}", value), scenario


def test_challenges_keep_to_the_standards(answers: Answers) -> None:
    for scenario, answer in answers.items():
        lines = answer.lines("www-authenticate")
        challenges = challenges_of(answer)

        assert len(lines) == (answer.status in (400, 401, 403)), scenario
        assert len(challenges) == len(lines), scenario
        for line, challenge in zip(lines, challenges, strict=True):
            assert faults_of(line, challenge, answer.status) == [], scenario


def faults_of(line: str, challenge: Challenge, status: int) -> list[str]:
    """What a client would miss in *challenge*, or stumble over."""
    found = challenge.parameters
    written = ", ".join(f'{name}="{value}"' for name, value in found.items())
    error, scope = found.get("error"), found.get("scope")
    rules = {
        "Bearer, one space, no space around =, all quoted": line == f"Bearer {written}",
        "in the usual order": list(found)
        == [name for name in PARAMETERS if name in found],
        "leads to the metadata": found["resource_metadata"] == METADATA_URL,
        "has an error but without credentials": error is not None or status == 401,
        "describes an error and nothing else": (error is None)
        == ("error_description" not in found),
        "describes it in plain words": error is None
        or DESCRIPTION.fullmatch(found["error_description"]),
        "has words of scope": scope is None or SCOPE.fullmatch(scope),
        "says which scope is missing": error != "insufficient_scope"
        or (scope is not None and status == 403),
    }
    return [rule for rule, holds in rules.items() if not holds]


def test_clients_without_a_grammar_read_the_same(answers: Answers) -> None:
    for scenario, answer in answers.items():
        lines = answer.lines("www-authenticate")
        for challenge in challenges_of(answer):
            for name in PARAMETERS:
                value = challenge.parameters.get(name)

                assert find_by_expression(lines, name) == value, scenario
                assert find_in_bearer(lines, name) == value, scenario


def test_bodies_say_the_same_as_challenges(answers: Answers) -> None:
    links = {"resource_metadata": METADATA_URL, "auth_md": AUTH_MD_URL}
    for scenario, answer in answers.items():
        body = answer.json()
        for challenge in challenges_of(answer):
            if "error" not in challenge.parameters:
                assert body == {"detail": body["detail"], **links}, scenario
            else:
                said = {name: str(value) for name, value in body.items()}
                assert said == {**challenge.parameters, **links}, scenario
        assert all(value not in (None, "", [], {}) for value in body.values())


def test_texts_are_the_same_whatever_is_wrong_with_a_token(answers: Answers) -> None:
    """Which check failed is nobody's business: it would help to get by the others."""
    bad = [
        answers[scenario.name]
        for scenario in REFUSED
        if scenario.expected.challenge == invalid_token("").challenge
    ]

    assert len(bad) > 20
    assert len(set(bad)) == 1


# Where they come from


SPOOFED = (
    ("Host", "evil.example"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Real-IP", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1;host=evil.example;proto=gopher"),
    ("X-Original-URL", "/health"),
    ("X-Rewrite-URL", "/health"),
    ("X-HTTP-Method-Override", "OPTIONS"),
    ("X-Forwarded-User", "root"),
    ("X-Script-Name", "/evil"),
    ("Script-Name", "/evil"),
    ("Remote-User", "root"),
    ("Agentauth.Access", "root"),
    ("Agentauth-Access", "root"),
)


def test_spoofed_fields_change_no_refusal(
    answers: Answers, middleware: Middleware, issuers: Issuers
) -> None:
    for scenario in REFUSED:
        request = scenario.request(issuers)
        fields = tuple(line for line in request.fields if line[0] != "Host")
        spoofed = middleware.ask(replace(request, fields=SPOOFED + fields))

        assert spoofed == answers[scenario.name], scenario.name


# Long enough that nothing of ours contains it by chance.
MARK = "zqxjkv"


def _claim(name: str, value: Any) -> Scenario:
    return Scenario(name, no_credentials(), Token(claims={name: value}))


_NO_TOKEN: tuple[str, ...] = ()
CARRIERS = (
    replace(_claim("jti", MARK), target="/notes"),
    replace(_claim("scope", MARK), target="/notes"),
    replace(_claim("act", {"sub": MARK}), target="/people"),
    replace(_claim("acr", MARK), target="/strong"),
    _claim("aud", f"https://{MARK}.example"),
    _claim("iss", f"https://{MARK}.example"),
    _claim("act", {"sub": {MARK: MARK}}),
    _claim("cnf", {"jkt": MARK}),
    _claim("exp", MARK),
    Scenario("subject", no_credentials(), Token(subject=MARK), target="/users"),
    Scenario("kid", no_credentials(), Token(header={"kid": MARK})),
    Scenario("typ", no_credentials(), Token(header={"typ": MARK})),
    Scenario("token", no_credentials(), authorization=(f"Bearer {MARK}",)),
    Scenario("malformed", no_credentials(), authorization=(f'Bearer "{MARK}"',)),
    Scenario("scheme", no_credentials(), authorization=(f"{MARK} {MARK}",)),
    Scenario("path", no_credentials(), authorization=_NO_TOKEN, target=f"/{MARK}"),
    Scenario("query", no_credentials(), authorization=_NO_TOKEN, target=f"/?{MARK}"),
    Scenario("query and header", no_credentials(), target=f"/?access_token={MARK}"),
    Scenario(
        "other fields",
        no_credentials(),
        authorization=_NO_TOKEN,
        fields=tuple((name, MARK) for name, _ in SPOOFED),
    ),
    Scenario("method", no_credentials(), authorization=_NO_TOKEN, method=MARK.upper()),
    Scenario(
        "own URL",
        no_credentials(),
        target=f"/.well-known/oauth-protected-resource?{MARK}",
        method="POST",
    ),
)


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
def test_nothing_of_a_request_comes_back(
    carrier: Scenario, middleware: Middleware, issuers: Issuers
) -> None:
    answer = middleware.ask(carrier.request(issuers))

    assert answer.status >= 400
    assert MARK not in repr(answer).lower()
