"""The life of an issuer's keys, by transcript: who asks for what, and when.

Each procedure is stepped by hand, several side by side where they meet in life, and
every operation is compared. Time passes only where a test says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware._core.issuers.keys import (
    IssuerKeys,
    lifetime_of,
    verify,
)
from agentauth_middleware._core.operations import Fetch, Procedure, Reply, Start
from agentauth_middleware._core.tokens.jose import CompactJWS, parse_compact
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    TooManyRequestsError,
    UnavailableError,
)
from agentauth_middleware.settings.issuer import Issuer
from tests.support.stepping import Clock, Stepper, json_reply, play
from tests.support.tokens import NOW, Key, jwks, key, sign

AS = "https://as.example.com/t1"
RFC8414 = "https://as.example.com/.well-known/oauth-authorization-server/t1"
OIDC_INSERTED = "https://as.example.com/.well-known/openid-configuration/t1"
OIDC_APPENDED = "https://as.example.com/t1/.well-known/openid-configuration"
KEYS = "https://as.example.com/keys/t1"
METADATA = {"issuer": AS, "jwks_uri": KEYS}

A, B, C = (key("ES256", name) for name in "abc")
MINUTE, DAY = 60.0, 86_400.0
BROKEN = UnavailableError("upstream_unreachable", "no answer")


def fetch(url: str, attempt: int, timeout: float, issuer: str = AS) -> Fetch:
    flight = f"{issuer}: {url}#{attempt}"
    accept = "application/json"
    if "/.well-known/" not in url:
        accept += ", application/jwk-set+json"
    return Fetch(url, flight, timeout, 512 * 1024, issuer=issuer, accept=accept)


def signed(
    kid: str | None,
    algorithm: str = "ES256",
    *,
    signer: Key | None = None,
    number: int = 0,
) -> CompactJWS:
    """A token that names *kid* and is signed by the key of that name, or *signer*."""
    head = {"alg": algorithm, "typ": "at+jwt"} | ({} if kid is None else {"kid": kid})
    signer = signer or key(algorithm, kid or "a")
    return parse_compact(sign({"number": number}, signer, head))


def verified(
    state: IssuerKeys, jws: CompactJWS, clock: Clock
) -> Procedure[list[str | None]]:
    """The name of the key that has verified *jws*."""
    yield from verify(state, jws, clock)
    return [jws.header.key_id]


class Keys:
    """The keys of an issuer whose set is at a known URL, and a clock."""

    def __init__(self, issuer: Issuer | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.state = IssuerKeys(issuer or Issuer(AS, jwks_uri=KEYS), **options)

    def find(self, kid: str | None, **options: Any) -> Stepper[list[str | None]]:
        """A request with a token that was signed by *kid*."""
        return Stepper(verified(self.state, signed(kid, **options), self.clock))

    def find_at_once(self, kid: str | None, **options: Any) -> list[str | None]:
        """The name of the key found for *kid* without asking for anything."""
        return play(verified(self.state, signed(kid, **options), self.clock), [])

    def refused(self, kid: str | None, **options: Any) -> str:
        """Why a request with a token signed by *kid* is refused, at once."""
        with pytest.raises(InvalidTokenError) as refused:
            self.find(kid, **options)
        return refused.value.reason

    def unavailable(self, kid: str | None, **options: Any) -> tuple[str, int]:
        """Why there is no verdict, at once, and how many seconds to wait."""
        try:
            self.find(kid, **options)
        except (TooManyRequestsError, UnavailableError) as failure:
            return failure.reason, failure.retry_after
        pytest.fail("a verdict, or something was asked for")


def starts(step: Stepper[Any]) -> bool:
    return isinstance(step.asks, Start)


def loaded(*keys: Key, **headers: str) -> Keys:
    """Keys that have just been fetched."""
    held = Keys()
    step = held.find(keys[0].kid)
    step.answer(json_reply(jwks(*keys), **headers))
    assert step.result == [keys[0].kid]
    return held


def failing(
    step: Stepper[Any], answer: object
) -> TooManyRequestsError | UnavailableError:
    try:
        step.answer(answer)
    except (TooManyRequestsError, UnavailableError) as failure:
        return failure
    pytest.fail("it did not fail")


def refused_for(step: Stepper[Any], answer: object) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        step.answer(answer)
    return refused.value.reason


# The first time


def test_transcript_of_a_cold_start() -> None:
    held = Keys(Issuer(AS))
    found = play(
        verified(held.state, signed("a"), held.clock),
        [
            (fetch(RFC8414, 0, 5.0), json_reply(METADATA)),
            (fetch(KEYS, 0, 5.0), json_reply(jwks(A, B))),
        ],
    )

    assert found == ["a"]
    assert held.find_at_once("b") == ["b"]


def test_transcript_with_a_given_address() -> None:
    held = Keys(Issuer(AS, jwks_uri=KEYS, timeout=2.5))
    found = play(
        verified(held.state, signed("a"), held.clock),
        [(fetch(KEYS, 0, 2.5), json_reply(jwks(A)))],
    )

    assert found == ["a"]


def test_given_keys_are_all_there_is_to_know() -> None:
    held = Keys(Issuer(AS, jwks=jwks(A, B)))

    for _ in range(3):
        assert held.find_at_once("a") == ["a"]
        assert held.refused("c") == "unknown_kid"
        held.clock.tick(400 * DAY)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(jwks(key("RS256")) | {"keys": [{"kty": "XYZ"}]}, id="unknown"),
        pytest.param({"keys": [{**A.jwk, "d": "AQAB"}]}, id="private"),
        pytest.param({"keys": [{**A.jwk, "use": "enc"}]}, id="for encryption"),
        pytest.param(
            {"keys": [A.jwk] * 101},
            id="more than a hundred",
        ),
    ],
)
def test_given_keys_that_cannot_verify_are_an_error_of_settings(
    document: Mapping[str, Any],
) -> None:
    with pytest.raises(ConfigurationError, match=r"Issuer\.jwks"):
        IssuerKeys(Issuer(AS, jwks=document))


HTML = Reply(200, {"content-type": "text/html"}, b'{"keys": []}')
ELSEWHERE = [
    *(
        pytest.param(Reply(status, {}, b""), id=f"{status}")
        for status in (400, 401, 403, 404, 410, 499)
    ),
    *(
        pytest.param(json_reply({}, status, location="https://evil.example"), id=name)
        for status, name in ((301, "301"), (302, "302"), (307, "307"), (308, "308"))
    ),
    pytest.param(
        Reply(404, {"content-type": "application/json"}, b"{}"), id="404, JSON"
    ),
    pytest.param(json_reply(METADATA, 300), id="300, JSON"),
    pytest.param(HTML, id="HTML"),
    pytest.param(Reply(200, {}, b"welcome"), id="no content type"),
    pytest.param(Reply(200, {"content-type": "text/plain"}, b"healthy"), id="text"),
    pytest.param(Reply(200, {"content-type": "text/plain"}, b"["), id="array as text"),
    pytest.param(Reply(200, {}, b"{}"), id="object of no content type"),
    pytest.param(
        Reply(200, {"content-type": "text/plain"}, b'{"status": "ok"}'),
        id="JSON as text on any path",
    ),
    pytest.param(json_reply(METADATA, content_type="text/xml"), id="XML"),
    pytest.param(json_reply(METADATA, content_type="text/json5"), id="JSON5"),
    pytest.param(
        json_reply(METADATA, content_type="text/html, application/json"),
        id="two content types",
    ),
]
"""What stands where an issuer publishes nothing: answers of gateways, login pages."""


@pytest.mark.parametrize("reply", ELSEWHERE)
def test_metadata_is_looked_for_at_the_next_url(reply: Reply) -> None:
    held = Keys(Issuer(AS))
    found = play(
        verified(held.state, signed("a"), held.clock),
        [
            (fetch(RFC8414, 0, 5.0), reply),
            (fetch(OIDC_INSERTED, 0, 5.0), reply),
            (fetch(OIDC_APPENDED, 0, 5.0), json_reply(METADATA)),
            (fetch(KEYS, 0, 5.0), json_reply(jwks(A))),
        ],
    )

    assert found == ["a"]


def test_issuer_without_a_path_has_two_places_for_its_metadata() -> None:
    origin = "https://as.example.com"
    held = Keys(Issuer(origin))
    found = play(
        verified(held.state, signed("a"), held.clock),
        [
            (
                fetch(
                    f"{origin}/.well-known/oauth-authorization-server", 0, 5.0, origin
                ),
                Reply(404, {}, b""),
            ),
            (
                fetch(f"{origin}/.well-known/openid-configuration", 0, 5.0, origin),
                json_reply({"issuer": origin, "jwks_uri": KEYS}),
            ),
            (fetch(KEYS, 0, 5.0, origin), json_reply(jwks(A))),
        ],
    )

    assert found == ["a"]


@pytest.mark.parametrize("reply", ELSEWHERE)
def test_metadata_nowhere_is_our_trouble(reply: Reply) -> None:
    step = Keys(Issuer(AS)).find("a")
    for url in (RFC8414, OIDC_INSERTED):
        assert step.asks == fetch(url, 0, 5.0)
        step.answer(reply)

    assert failing(step, reply).reason == "metadata_not_found"


IN_TROUBLE = [
    pytest.param(json_reply({}, 500), id="500"),
    pytest.param(json_reply({}, 503), id="503"),
    pytest.param(json_reply(METADATA, 500), id="500, with metadata"),
    pytest.param(Reply(502, {"content-type": "text/html"}, b"<h1>502</h1>"), id="502"),
    pytest.param(Reply(500, {}, b""), id="500, no content type"),
    pytest.param(json_reply({}, 204), id="204"),
    pytest.param(Reply(200, {"content-type": "application/json"}, b"{"), id="no JSON"),
    pytest.param(json_reply([METADATA]), id="array"),
]
UNUSABLE_REPLIES = [
    *IN_TROUBLE,
    pytest.param(json_reply({}, 301, location="https://evil.example"), id="301"),
    pytest.param(json_reply({}, 302, location="https://evil.example"), id="302"),
    pytest.param(HTML, id="HTML"),
    pytest.param(Reply(200, {}, b"{}"), id="no content type"),
]


@pytest.mark.parametrize("reply", IN_TROUBLE)
def test_metadata_that_cannot_be_read_is_looked_for_nowhere_else(reply: Reply) -> None:
    """A server in trouble must not send us to documents that it would not stand for."""
    step = Keys(Issuer(AS)).find("a")

    assert failing(step, reply).reason == "metadata_unusable"


@pytest.mark.parametrize("asked_before", [0, 1, 2])
def test_server_that_does_not_answer_is_asked_nothing_else(asked_before: int) -> None:
    step = Keys(Issuer(AS)).find("a")
    for _ in range(asked_before):
        step.answer(Reply(404, {}, b""))

    assert failing(step, BROKEN) is BROKEN


@pytest.mark.parametrize(
    "named",
    [AS + "/", AS.upper(), "https://AS.example.com/t1", AS + "?", "https://x.example"],
)
def test_metadata_must_name_the_issuer_to_the_letter(named: str) -> None:
    step = Keys(Issuer(AS)).find("a")

    assert failing(step, json_reply({**METADATA, "issuer": named})).reason == (
        "metadata_unusable"
    )


@pytest.mark.parametrize("named", [None, 1, [AS]], ids=repr)
def test_metadata_must_name_an_issuer(named: object) -> None:
    step = Keys(Issuer(AS)).find("a")

    assert failing(step, json_reply({**METADATA, "issuer": named})).reason == (
        "metadata_unusable"
    )


@pytest.mark.parametrize(
    "jwks_uri",
    [
        *(None, "", 1, "keys", "/keys", "//keys.example.com", [KEYS]),
        *("http://keys.example.com", "http://127.0.0.1/keys", "file:///etc/passwd"),
        *("https://user@keys.example.com", "https://keys.example.com/#x"),
        *("https://keys.example.com/\n", "https://k\u00e9ys.example.com"),
    ],
    ids=repr,
)
def test_metadata_must_name_an_https_url_for_the_keys(jwks_uri: object) -> None:
    step = Keys(Issuer(AS)).find("a")

    assert failing(step, json_reply({**METADATA, "jwks_uri": jwks_uri})).reason == (
        "metadata_unusable"
    )


def test_metadata_may_name_a_loopback_url_where_settings_allow_it() -> None:
    step = Keys(Issuer(AS), insecure_loopback=True).find("a")
    step.answer(json_reply({**METADATA, "jwks_uri": "http://127.0.0.1:9/keys"}))

    assert step.asks == fetch("http://127.0.0.1:9/keys", 0, 5.0)


def test_metadata_may_not_name_an_http_url_on_another_host_even_then() -> None:
    step = Keys(Issuer(AS), insecure_loopback=True).find("a")

    assert failing(
        step, json_reply({**METADATA, "jwks_uri": "http://x.example"})
    ).reason == ("metadata_unusable")


@pytest.mark.parametrize(
    "reply",
    [
        *UNUSABLE_REPLIES,
        *(
            pytest.param(json_reply(jwks(A), status), id=f"{status}, with keys")
            for status in (201, 301, 404, 500)
        ),
    ],
)
def test_keys_that_cannot_be_read_are_our_trouble(reply: Reply) -> None:
    step = Keys().find("a")

    assert failing(step, reply).reason == "keys_unusable"


NO_USABLE_KEY = [
    pytest.param([], id="empty"),
    pytest.param([{"kty": "XYZ", "kid": "x"}], id="of a kind nobody knows"),
    pytest.param([{**key("ES256", "x").jwk, "use": "enc"}], id="for encryption"),
    pytest.param([{**key("ES256", "x").jwk, "d": "AQAB"}], id="private"),
]


@pytest.mark.parametrize("keys", NO_USABLE_KEY)
@pytest.mark.parametrize("kid", ["a", None], ids=repr)
def test_set_without_a_usable_key_is_our_trouble(
    keys: list[object], kid: str | None
) -> None:
    """An issuer that has lost its keys has refused nobody's token."""
    step = Keys().find(kid)

    assert failing(step, json_reply({"keys": keys})).reason == "keys_unusable"


@pytest.mark.parametrize("keys", NO_USABLE_KEY)
def test_set_that_lost_its_usable_keys_is_our_trouble(keys: list[object]) -> None:
    held = loaded(A)
    held.clock.tick(100.0)

    assert failing(held.find("b"), json_reply({"keys": keys})).reason == "keys_unusable"
    assert held.unavailable("a")[0] == "keys_unusable"


@pytest.mark.parametrize("keys", NO_USABLE_KEY[1:])
def test_key_named_by_the_token_that_cannot_verify_is_a_verdict(
    keys: list[object],
) -> None:
    assert refused_for(Keys().find("x"), json_reply({"keys": keys})) == "key_mismatch"


def test_set_of_a_hundred_keys_with_certificates_is_read() -> None:
    some = {"x5c": ["MII="], "key_ops": ["verify"]}
    others = [{**A.jwk, **some, "kid": f"key-{number}"} for number in range(99)]
    step = Keys().find("a")
    step.answer(json_reply({"keys": [*others, {**A.jwk, **some}]}))

    assert step.result == ["a"]


@pytest.mark.parametrize(
    "document", [{}, {"keys": {}}, {"keys": [A.jwk] * 101}], ids=["{}", "{keys}", "101"]
)
def test_keys_must_be_a_set(document: object) -> None:
    assert failing(Keys().find("a"), json_reply(document)).reason == "keys_unusable"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/jwk-set+json",
        "application/json ; x=y",
    ],
)
def test_keys_may_come_as_any_kind_of_json(content_type: str) -> None:
    step = Keys().find("a")
    step.answer(json_reply(jwks(A), content_type=content_type))

    assert step.result == ["a"]


def test_one_deadline_bounds_all_exchanges_of_a_load() -> None:
    held = Keys(Issuer(AS))
    step = held.find("a")
    held.clock.tick(2.0)
    step.answer(Reply(404, {}, b""))
    assert step.asks == fetch(OIDC_INSERTED, 0, 3.0)
    held.clock.tick(2.5)
    step.answer(json_reply(METADATA))
    assert step.asks == fetch(KEYS, 0, 0.5)


def test_no_exchange_is_begun_when_the_time_is_up() -> None:
    held = Keys(Issuer(AS))
    step = held.find("a")
    held.clock.tick(5.0)

    assert failing(step, json_reply(METADATA)).reason == "upstream_timeout"


def test_all_who_are_cold_share_one_flight() -> None:
    """And the keys are there for all, although each asks with its own deadline."""
    held = Keys(Issuer(AS))
    first = held.find("a")
    held.clock.tick(0.5)
    second = held.find("b")
    assert first.asks == fetch(RFC8414, 0, 5.0)
    assert second.asks == fetch(RFC8414, 0, 5.0)
    first.answer(json_reply(METADATA))
    second.answer(json_reply(METADATA))
    assert first.asks == fetch(KEYS, 0, 4.5)
    assert second.asks == fetch(KEYS, 0, 5.0)
    first.answer(json_reply(jwks(A, B)))
    second.answer(json_reply(jwks(A, B)))

    assert (first.result, second.result) == (["a"], ["b"])


# A failure


@pytest.mark.parametrize(
    "answer", [BROKEN, json_reply({}, 500), HTML], ids=["no answer", "500", "HTML"]
)
def test_nobody_asks_for_two_seconds_after_a_failure(answer: object) -> None:
    held = Keys()
    failing(held.find("a"), answer)
    assert held.unavailable("a") == ("keys_unreachable", 5)
    held.clock.tick(1.75)
    assert held.unavailable("a") == ("keys_unreachable", 5)
    held.clock.tick(0.25)

    assert held.find("a").asks == fetch(KEYS, 1, 1.0)


def test_issuer_that_failed_keeps_two_requests_waiting_at_most() -> None:
    """Else one that hangs would have all threads of a server, whoever asks for it."""
    held = Keys()
    first = [held.find("a") for _ in range(40)]  # nobody knows yet
    assert {step.asks for step in first} == {fetch(KEYS, 0, 5.0)}
    for step in first:
        failing(step, BROKEN)
    held.clock.tick(2.0)
    waiting = [held.find("a") for _ in range(2)]
    assert {step.asks for step in waiting} == {fetch(KEYS, 1, 1.0)}
    assert held.unavailable("a") == ("keys_unreachable", 1)

    waiting[0].answer(json_reply(jwks(A)))
    held.clock.tick(2 * DAY)  # all is well again

    assert held.find("a").asks == fetch(KEYS, 2, 5.0)


def test_abandoned_wait_for_an_issuer_that_failed_leaves_its_place() -> None:
    held = Keys()
    failing(held.find("a"), BROKEN)
    held.clock.tick(2.0)
    for _ in range(5):
        step = held.find("a")
        assert step.asks == fetch(KEYS, 1, 1.0)
        step.close()


def test_keys_of_an_issuer_that_is_only_slow_come_in_the_background() -> None:
    held = Keys()
    failing(held.find("a"), BROKEN)
    held.clock.tick(2.0)
    step = held.find("a")
    step.answer(UnavailableError("upstream_timeout"))

    assert starts(step)

    with pytest.raises(UnavailableError):
        step.answer(None)


def test_new_attempt_after_a_failure_is_a_new_flight() -> None:
    """Performers give out the outcome of a flight that has just ended."""
    held = Keys(Issuer(AS))
    failing(held.find("a"), BROKEN)
    held.clock.tick(2.0)
    step = held.find("a")

    assert step.asks == fetch(RFC8414, 1, 1.0)


def test_metadata_is_asked_for_again_after_the_keys_were_not_to_be_had() -> None:
    """They may have moved."""
    held = Keys(Issuer(AS))
    step = held.find("a")
    step.answer(json_reply(METADATA))
    failing(step, json_reply({}, 404))
    held.clock.tick(2.0)
    step = held.find("a")
    assert step.asks == fetch(RFC8414, 1, 1.0)
    step.answer(json_reply({**METADATA, "jwks_uri": KEYS + "/moved"}))
    assert step.asks == fetch(KEYS + "/moved", 1, 1.0)
    step.answer(json_reply(jwks(A)))

    assert step.result == ["a"]


def test_success_ends_the_pause_after_a_failure() -> None:
    held = Keys()
    one, other = held.find("a"), held.find("a")
    failing(one, BROKEN)
    other.answer(json_reply(jwks(A)))
    held.clock.tick(1.0)

    assert held.find_at_once("a") == ["a"]
    assert held.find("b").asks == fetch(KEYS, 1, 1.0)


def test_late_failure_of_an_attempt_that_succeeded_changes_nothing() -> None:
    held = Keys()
    one, other = held.find("a"), held.find("a")
    one.answer(json_reply(jwks(A)))
    failing(other, BROKEN)
    held.clock.tick(1.0)

    assert held.find_at_once("a") == ["a"]
    assert held.find("b").asks == fetch(KEYS, 1, 1.0)


def test_late_answer_does_not_replace_a_newer_set() -> None:
    """The first of two waiters gives up, a second attempt succeeds, and only then
    comes what the first attempt had asked for."""
    held = Keys()
    patient, hasty = held.find("a"), held.find("a")
    failing(hasty, BROKEN)
    held.clock.tick(2.0)
    newer = held.find("b")
    assert newer.asks == fetch(KEYS, 1, 1.0)
    newer.answer(json_reply(jwks(B)))
    assert refused_for(patient, json_reply(jwks(A))) == "unknown_kid"

    assert held.find_at_once("b") == ["b"]


# A refresh


def test_known_key_is_used_at_once_until_a_refresh_is_due() -> None:
    held = loaded(A, cache_control="max-age=1200")
    held.clock.tick(1199.75)

    assert held.find_at_once("a") == ["a"]


def test_transcript_of_a_refresh_that_is_due() -> None:
    """It is started, and the request goes on."""
    held = loaded(A, cache_control="max-age=1200")
    held.clock.tick(1200.0)
    step = held.find("a")
    start = step.asks
    assert isinstance(start, Start)
    assert AS in start.key
    step.answer(None)
    assert step.result == ["a"]
    play(
        start.make_procedure(),
        [(fetch(KEYS, 1, 5.0), json_reply(jwks(A, B), cache_control="max-age=900"))],
    )
    assert held.find_at_once("b") == ["b"]
    held.clock.tick(899.75)
    assert held.find_at_once("a") == ["a"]
    held.clock.tick(0.25)

    assert starts(held.find("a"))


def test_refreshes_of_one_issuer_share_a_key_and_of_two_do_not() -> None:
    """By it the driver knows which is under way."""
    one = loaded(A)
    one.clock.tick(3600.0)
    other = Keys(Issuer("https://other.example", jwks_uri=KEYS))
    other.find("a").answer(json_reply(jwks(A)))
    other.clock.tick(3600.0)
    keys = [start_key(held) for held in (one, one, other)]

    assert keys[0] == keys[1] != keys[2]


def start_key(held: Keys) -> str:
    start = held.find("a").asks
    assert isinstance(start, Start)
    return start.key


def test_metadata_is_looked_up_again_once_a_day() -> None:
    held = Keys(Issuer(AS))
    step = held.find("a")
    step.answer(json_reply(METADATA))
    step.answer(json_reply(jwks(A), cache_control="max-age=86400"))
    held.clock.tick(DAY - 12.0)
    step = held.find("b")
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(A, B), cache_control="max-age=86400"))
    held.clock.tick(12.0)

    assert held.find("c").asks == fetch(RFC8414, 2, 1.0)


def test_refresh_that_fails_is_started_again_after_five_seconds() -> None:
    held = loaded(A)
    held.clock.tick(3600.0)
    start = held.find("a").asks
    assert isinstance(start, Start)
    failing(Stepper(start.make_procedure()), BROKEN)
    assert held.find_at_once("a") == ["a"]
    held.clock.tick(4.75)
    assert held.find_at_once("a") == ["a"]
    held.clock.tick(0.25)
    start = held.find("a").asks
    assert isinstance(start, Start)

    assert Stepper(start.make_procedure()).asks == fetch(KEYS, 2, 5.0)


def test_refresh_that_nobody_made_is_made_in_line() -> None:
    """Some servers run no threads."""
    held = loaded(A, B)
    held.clock.tick(3600.0)
    assert starts(held.find("a"))
    held.clock.tick(59.75)
    assert starts(held.find("a"))
    held.clock.tick(0.25)
    step = held.find("a")
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(A, C)))

    assert step.result == ["a"]
    assert held.find_at_once("c") == ["c"]


def make_overdue(held: Keys, seconds: float = 2 * 3600.0) -> None:
    """Let a refresh be due after *seconds*, and nobody make it for a minute."""
    held.clock.tick(seconds)
    assert starts(held.find("a"))
    held.clock.tick(60.0)


def test_refresh_that_nobody_noticed_is_made_in_the_background() -> None:
    """After a quiet night it has not been missed yet, so a known key need not wait."""
    held = loaded(A)
    held.clock.tick(8 * 3600.0)

    assert starts(held.find("a"))


def test_refresh_in_line_that_fails_leaves_the_old_keys_in_use() -> None:
    held = loaded(A)
    make_overdue(held)
    step = held.find("a")
    step.answer(BROKEN)

    assert step.result == ["a"]
    assert held.find_at_once("a") == ["a"]


def test_two_at_most_wait_for_a_refresh_in_line() -> None:
    held = loaded(A)
    make_overdue(held)
    waiting = [held.find("a"), held.find("a")]

    assert [step.asks for step in waiting] == [fetch(KEYS, 1, 1.0)] * 2
    assert held.find_at_once("a") == ["a"]
    waiting[0].answer(BROKEN)
    make_overdue(held)
    assert held.find("a").asks == fetch(KEYS, 2, 1.0)


def test_abandoned_wait_for_a_refresh_leaves_its_place() -> None:
    """A client that goes away ends its request in the middle."""
    held = loaded(A)
    make_overdue(held)
    for _ in range(5):
        step = held.find("a")
        assert step.asks == fetch(KEYS, 1, 1.0)
        step.close()


def test_keys_are_used_for_a_day_after_the_last_success() -> None:
    held = loaded(A)
    make_overdue(held, DAY - 70.0)
    step = held.find("a")
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(BROKEN)
    assert step.result == ["a"]
    held.clock.tick(9.75)
    step = held.find("a")
    assert starts(step)
    step.answer(None)
    assert step.result == ["a"]
    held.clock.tick(0.25)
    step = held.find("a")
    assert step.asks == fetch(KEYS, 2, 1.0)
    assert failing(step, BROKEN) is BROKEN
    assert held.unavailable("a") == ("keys_unreachable", 5)


def test_keys_that_were_out_of_use_are_used_again_once_fetched() -> None:
    held = loaded(A)
    held.clock.tick(3 * DAY)
    step = held.find("a")
    step.answer(json_reply(jwks(A)))

    assert step.result == ["a"]
    assert held.find_at_once("a") == ["a"]


def test_set_is_replaced_as_a_whole() -> None:
    held = loaded(A, B)
    held.clock.tick(100.0)
    step = held.find("c")
    assert held.find_at_once("b") == ["b"]  # while the other waits
    step.answer(json_reply(jwks(C)))

    assert step.result == held.find_at_once("c") == ["c"]
    assert not held.state.current.knows(signed("a").header)
    assert not held.state.current.knows(signed("b").header)


@pytest.mark.parametrize("reply", UNUSABLE_REPLIES)
def test_set_is_not_replaced_by_a_bad_one(reply: Reply) -> None:
    held = loaded(A, B)
    held.clock.tick(100.0)
    assert failing(held.find("c"), reply).reason == "keys_unusable"

    assert held.find_at_once("a") == ["a"]
    assert held.find_at_once("b") == ["b"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, 3600.0, id="nothing said"),
        pytest.param({"cache-control": "max-age=1200"}, 1200.0, id="as said"),
        pytest.param({"cache-control": "public, max-age=1200"}, 1200.0, id="second"),
        pytest.param({"cache-control": "public,MAX-AGE=1200"}, 1200.0, id="upper case"),
        pytest.param({"cache-control": 'max-age="1200"'}, 1200.0, id="quoted"),
        pytest.param({"cache-control": "max-age=600"}, 600.0, id="floor"),
        pytest.param({"cache-control": "max-age=599"}, 600.0, id="below the floor"),
        pytest.param({"cache-control": "max-age=0"}, 600.0, id="nothing"),
        pytest.param({"cache-control": "max-age=86400"}, DAY, id="ceiling"),
        pytest.param({"cache-control": "max-age=86401"}, DAY, id="above the ceiling"),
        pytest.param({"cache-control": f"max-age={10**30}"}, DAY, id="for ever"),
        pytest.param({"cache-control": "s-maxage=1200"}, 3600.0, id="shared caches"),
        pytest.param({"cache-control": "max-age=-1"}, 3600.0, id="negative"),
        pytest.param({"cache-control": "max-age=soon"}, 3600.0, id="no number"),
        pytest.param({"cache-control": "no-store"}, 3600.0, id="no-store"),
    ],
)
def test_lifetime_is_what_the_server_says_within_bounds(
    headers: Mapping[str, str], seconds: float
) -> None:
    assert lifetime_of(Reply(200, headers, b"")) == seconds


# A key that nobody has seen


def test_transcript_of_a_rotated_key() -> None:
    """It is good on its first request."""
    held = loaded(A)
    held.clock.tick(100.0)
    found = play(
        verified(held.state, signed("b"), held.clock),
        [(fetch(KEYS, 1, 1.0), json_reply(jwks(A, B)))],
    )

    assert found == ["b"]
    assert held.find_at_once("a") == ["a"]


def test_key_that_a_set_asked_for_later_lacks_is_refused() -> None:
    held = loaded(A)
    held.clock.tick(100.0)

    assert refused_for(held.find("x"), json_reply(jwks(A))) == "unknown_kid"


def test_key_that_the_first_set_lacks_is_refused_without_asking_again() -> None:
    held = Keys()

    assert refused_for(held.find("x"), json_reply(jwks(A))) == "unknown_kid"
    assert held.refused("x") == "unknown_kid"


def test_key_that_was_not_there_is_refused_for_a_minute_at_once() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    assert held.refused("x") == "unknown_kid"
    held.clock.tick(59.75)
    assert held.refused("x") == "unknown_kid"
    held.clock.tick(0.25)
    step = held.find("x")
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, key("ES256", "x"))))

    assert step.result == ["x"]


def test_key_that_was_not_there_is_used_as_soon_as_another_brings_it_along() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("b"), json_reply(jwks(A)))
    held.clock.tick(12.0)
    held.find("c").answer(json_reply(jwks(A, B, C)))

    assert held.find_at_once("b") == ["b"]


def test_one_refetch_is_allowed_every_twelve_seconds() -> None:
    """While nobody may ask nobody can say, and that is no verdict about the token."""
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    held.clock.tick(0.25)
    assert held.unavailable("b") == ("keys_cooling_down", 12)
    assert held.refused("x") == "unknown_kid"
    held.clock.tick(11.5)
    assert held.unavailable("b") == ("keys_cooling_down", 1)
    held.clock.tick(0.25)
    step = held.find("b")
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]


def test_flood_of_unknown_keys_makes_five_exchanges_a_minute() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    exchanges = 0
    for number in range(240):
        try:
            step = held.find(f"flood-{number}")
        except TooManyRequestsError:
            pass
        else:
            exchanges += 1
            assert refused_for(step, json_reply(jwks(A))) == "unknown_kid"
        assert held.find_at_once("a") == ["a"]
        held.clock.tick(0.25)

    assert exchanges == 5


def test_requests_at_the_same_moment_share_one_refetch() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    one, other = held.find("b"), held.find("c")
    assert one.asks == other.asks == fetch(KEYS, 1, 1.0)
    one.answer(json_reply(jwks(A, B)))
    assert one.result == ["b"]

    assert refused_for(other, json_reply(jwks(A, B))) == "unknown_kid"


def test_exchange_begun_before_a_key_was_seen_says_nothing_against_it() -> None:
    """It may have been published in between."""
    held = loaded(A)
    held.clock.tick(100.0)
    first = held.find("b")
    held.clock.tick(0.5)
    second = held.find("c")
    assert second.asks == fetch(KEYS, 1, 1.0)
    first.answer(json_reply(jwks(A, B)))
    failure = failing(second, json_reply(jwks(A, B)))

    assert (failure.reason, failure.retry_after) == ("keys_cooling_down", 12)
    held.clock.tick(11.5)
    assert held.find("c").asks == fetch(KEYS, 2, 1.0)


def test_it_says_nothing_either_to_the_one_who_joined_it() -> None:
    """Who comes later is in the exchange from its beginning, not from their own."""
    held = loaded(A)
    held.clock.tick(100.0)
    first = held.find("b")
    held.clock.tick(0.5)
    second = held.find("c")
    assert first.asks == second.asks
    failure = failing(second, json_reply(jwks(A, B)))

    assert (failure.reason, failure.retry_after) == ("keys_cooling_down", 12)


def test_it_says_enough_about_a_key_that_others_asked_for_in_time() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    first = held.find("x")
    held.clock.tick(0.5)
    second = held.find("x")
    assert refused_for(first, json_reply(jwks(A))) == "unknown_kid"

    assert refused_for(second, json_reply(jwks(A))) == "unknown_kid"


def test_what_an_exchange_brought_is_taken_once() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    first, second = held.find("b"), held.find("b")
    first.answer(json_reply(jwks(A, B)))
    second.answer(json_reply(jwks(B)))

    assert held.find_at_once("a") == ["a"]


def test_exchange_begun_before_a_key_was_seen_may_bring_it() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    held.find("b")
    held.clock.tick(0.5)
    second = held.find("c")
    second.answer(json_reply(jwks(A, C)))

    assert second.result == ["c"]


def test_nobody_joins_an_exchange_that_has_taken_its_second() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    held.find("b")
    held.clock.tick(1.0)

    assert held.unavailable("c") == ("keys_cooling_down", 11)


def test_two_at_most_wait_for_a_refetch() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    waiting = [held.find("b"), held.find("c")]
    assert held.unavailable("d") == ("keys_cooling_down", 1)
    assert held.find_at_once("a") == ["a"]
    waiting[0].answer(json_reply(jwks(A, B)))

    assert waiting[0].result == ["b"]
    held.clock.tick(12.0)
    assert held.find("e").asks == fetch(KEYS, 2, 1.0)


@pytest.mark.parametrize("end", ["refused", "failed", "abandoned"])
def test_place_of_a_waiter_is_free_again_however_it_ends(end: str) -> None:
    held = loaded(A)
    for _ in range(5):
        held.clock.tick(100.0)
        step = held.find("x")
        if starts(step):
            step.answer(None)
        assert isinstance(step.asks, Fetch)
        if end == "refused":
            refused_for(step, json_reply(jwks(A)))
        elif end == "failed":
            failing(step, BROKEN)
        else:
            step.close()


def test_failed_refetch_is_our_trouble_and_nobody_asks_for_a_moment() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    assert failing(held.find("b"), BROKEN) is BROKEN
    assert held.unavailable("b") == ("keys_unreachable", 5)
    assert held.find_at_once("a") == ["a"]
    held.clock.tick(12.0)
    step = held.find("b")
    assert starts(step)  # a refresh is due as well
    step.answer(None)

    assert step.asks == fetch(KEYS, 2, 1.0)


def test_removed_key_stops_verifying_at_once() -> None:
    """Taking a key out is how an issuer revokes all that it signed."""
    held = loaded(A)
    held.clock.tick(100.0)
    held.find("b").answer(json_reply(jwks(B)))
    held.clock.tick(1.0)
    remembered = verify(held.state, signed("a"), held.clock, seen_at=NOW)

    with pytest.raises(InvalidTokenError, match="0 fit"):
        play(remembered, [])
    assert held.unavailable("a") == ("keys_cooling_down", 11)
    held.clock.tick(11.0)
    assert refused_for(held.find("a"), json_reply(jwks(B))) == "unknown_kid"


def test_junk_under_a_name_spoils_it_for_no_token_to_come() -> None:
    """It names the key to which the issuer will rotate."""
    held = loaded(A)
    held.clock.tick(100.0)
    junk = held.find("b", signer=A)
    assert refused_for(junk, json_reply(jwks(A))) == "unknown_kid"
    held.clock.tick(12.0)
    step = held.find("b")
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]
    assert held.refused("b", signer=A) == "bad_signature"


def test_token_first_seen_while_nothing_may_be_fetched_is_judged_later() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    held.clock.tick(1.0)
    assert held.unavailable("b") == ("keys_cooling_down", 11)
    held.clock.tick(11.0)
    refused_for(held.find("y"), json_reply(jwks(A)))

    assert held.refused("b") == "unknown_kid"


# A signature that does not verify

REPLACED = Key("a", "ES256", key("ES256", "successor").private)


def test_key_replaced_under_its_old_name_is_good_on_its_first_request() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    step = held.find("a", signer=REPLACED)
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(REPLACED)))

    assert step.result == ["a"]


def test_signature_that_the_current_key_did_not_make_is_refused() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    step = held.find("a", signer=REPLACED)
    assert refused_for(step, json_reply(jwks(A))) == "bad_signature"

    assert held.refused("a", signer=REPLACED) == "bad_signature"


def test_forged_signatures_cause_one_fetch_in_twelve_seconds() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    fetches = 0
    for number in range(40):
        try:
            step = held.find("a", signer=REPLACED, number=number)
        except TooManyRequestsError:
            pass
        else:
            fetches += 1
            assert refused_for(step, json_reply(jwks(A))) == "bad_signature"
        assert held.find_at_once("a") == ["a"]
        held.clock.tick(0.5)

    assert fetches == 2


def test_forged_signatures_do_not_delay_a_key_of_a_new_name() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("a", signer=REPLACED), json_reply(jwks(A)))
    held.clock.tick(1.0)
    step = held.find("b")
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]


def test_unknown_names_do_not_delay_a_key_replaced_under_its_name() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    held.clock.tick(1.0)

    assert held.find("a", signer=REPLACED).asks == fetch(KEYS, 2, 1.0)


def test_key_of_another_kind_under_its_old_name_is_good_on_its_first_request() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    step = held.find("a", algorithm="RS256")
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(key("RS256", "a"))))

    assert step.result == ["a"]


def test_signature_under_given_keys_is_judged_at_once() -> None:
    held = Keys(Issuer(AS, jwks=jwks(A)))

    assert held.refused("a", signer=REPLACED) == "bad_signature"
    assert held.refused("x") == "unknown_kid"


def test_flood_of_junk_is_forgotten_in_bounded_memory() -> None:
    """What is forgotten is new again: never a verdict too early."""
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    held.clock.tick(1.0)
    for number in range(5000):
        held.state.first_seen.put(number.to_bytes(32), NOW)

    assert held.unavailable("x") == ("keys_cooling_down", 11)


# The clock set back


def after_start(step: Stepper[Any]) -> Stepper[Any]:
    """*step* behind the refresh that it has begun in the background."""
    assert starts(step)
    step.answer(None)
    return step


def test_rotated_key_is_fetched_although_the_set_seems_to_come_from_the_future() -> (
    None
):
    """It counts as never asked for, and not as asked for after the key was seen."""
    held = loaded(A)
    held.clock.tick(-1800.0)
    step = after_start(held.find("b"))
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]


def test_rotated_key_is_no_verdict_while_nobody_may_ask_after_a_step_back() -> None:
    held = loaded(A)
    held.clock.tick(-1800.0)
    waiting = [after_start(held.find("b")), after_start(held.find("c"))]
    other = held.find("d")
    assert starts(other)

    assert failing(other, None).reason == "keys_cooling_down"
    for step in waiting:
        step.close()


def test_key_that_was_not_there_is_asked_for_again_after_a_step_back() -> None:
    """Else it would be refused for the hour, or the day, that the clock went back."""
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("b"), json_reply(jwks(A)))
    held.clock.tick(-3600.0)
    step = after_start(held.find("b"))
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]


def test_pause_after_a_failure_ends_with_a_step_back() -> None:
    held = Keys()
    failing(held.find("a"), BROKEN)
    held.clock.tick(-3600.0)
    step = held.find("a")
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(A)))

    assert step.result == ["a"]


def test_pause_after_a_failed_refetch_ends_with_a_step_back() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    failing(held.find("b"), BROKEN)
    held.clock.tick(-3600.0)
    step = after_start(held.find("b"))
    assert step.asks == fetch(KEYS, 2, 1.0)
    step.answer(json_reply(jwks(A, B)))

    assert step.result == ["b"]


def test_small_step_back_makes_no_verdict_too_early() -> None:
    """Which of two instants was first is not known then."""
    held = loaded(A)
    held.clock.tick(100.0)
    refused_for(held.find("x"), json_reply(jwks(A)))
    held.clock.tick(12.0)
    refused_for(held.find("y"), json_reply(jwks(A)))
    held.clock.tick(-0.25)
    step = held.find("x")
    assert step.asks == fetch(KEYS, 3, 1.0)  # as one that was begun a moment ago

    assert refused_for(step, json_reply(jwks(A))) == "unknown_kid"


def test_failed_refresh_after_a_step_back_is_tried_again_after_five_seconds() -> None:
    held = loaded(A)
    held.clock.tick(-3600.0)
    start = held.find("a").asks
    assert isinstance(start, Start)
    failing(Stepper(start.make_procedure()), BROKEN)

    assert held.find_at_once("a") == ["a"]


def test_nobody_joins_an_exchange_of_before_a_step_back() -> None:
    """It may be any time ago that it was begun, so that asking costs a permission."""
    held = loaded(A)
    held.clock.tick(100.0)
    held.find("b").close()
    held.clock.tick(-30.0)
    held.find("c").close()

    assert held.unavailable("d") == ("keys_cooling_down", 12)


def test_metadata_is_looked_up_again_after_a_step_back() -> None:
    """Else the keys would be asked for at the old place till the clock is there."""
    held = Keys(Issuer(AS))
    step = held.find("a")
    step.answer(json_reply(METADATA))
    step.answer(json_reply(jwks(A)))
    held.clock.tick(-7 * DAY)
    start = held.find("a").asks
    assert isinstance(start, Start)

    assert Stepper(start.make_procedure()).asks == fetch(RFC8414, 1, 5.0)


def test_given_keys_mind_no_clock() -> None:
    held = Keys(Issuer(AS, jwks=jwks(A)))
    held.clock.tick(-DAY)

    assert held.find_at_once("a") == ["a"]
    assert held.refused("b") == "unknown_kid"


# Generations: what is remembered under a key goes with it


def generation_after(first: list[Key], second: list[Key]) -> bool:
    """Whether a refresh from *first* to *second* begins another generation."""
    held = loaded(*first)
    before = held.state.generation
    make_overdue(held)
    held.find("a").answer(json_reply(jwks(*second)))
    return held.state.generation != before


def test_generation_goes_on_while_keys_are_added() -> None:
    assert not generation_after([A], [A, B])
    assert not generation_after([A, B], [B, A])


def test_generation_ends_when_a_key_is_dropped_or_replaced() -> None:
    replaced = Key("b", "ES256", key("ES256", "other").private)

    assert generation_after([A, B], [A])
    assert generation_after([A, B], [A, replaced])


def test_each_drop_of_a_key_begins_a_generation_of_its_own() -> None:
    held = loaded(A, B, C)
    seen = {held.state.generation}
    for rest in ([A, B], [A], [A, B, C], [A]):
        make_overdue(held)
        held.find("a").answer(json_reply(jwks(*rest)))
        seen.add(held.state.generation)

    assert len(seen) == 4


# Tokens without kid


def test_token_without_kid_asks_again_only_if_no_key_fits() -> None:
    held = loaded(A)
    assert held.find_at_once(None) == [None]
    held.clock.tick(100.0)
    step = held.find(None, algorithm="RS256", signer=key("RS256", "rsa"))
    assert step.asks == fetch(KEYS, 1, 1.0)
    signer = key("RS256", "rsa")
    step.answer(json_reply(jwks(A, signer)))

    assert step.result == [None]


def test_token_without_kid_that_no_key_fits_says_nothing_about_other_algorithms() -> (
    None
):
    held = loaded(A)
    held.clock.tick(100.0)
    rsa = held.find(None, algorithm="RS256", signer=key("RS256", "rsa"))
    assert refused_for(rsa, json_reply(jwks(A))) == "unknown_kid"
    held.clock.tick(12.0)
    okp = held.find(None, algorithm="EdDSA")

    assert okp.asks == fetch(KEYS, 2, 1.0)


def test_token_without_kid_may_be_signed_by_any_key_that_fits() -> None:
    held = loaded(A, B)

    assert held.find_at_once(None, signer=A) == [None]
    assert held.find_at_once(None, signer=B) == [None]


def test_token_without_kid_is_good_after_its_key_was_replaced() -> None:
    held = loaded(A, B)
    held.clock.tick(100.0)
    step = held.find(None, signer=C)
    assert step.asks == fetch(KEYS, 1, 1.0)
    step.answer(json_reply(jwks(B, C)))

    assert step.result == [None]


def test_token_without_kid_is_refused_when_too_many_keys_fit() -> None:
    """Each costs a check of the signature."""
    ten = [key("ES256", f"k{number}") for number in range(10)]

    assert loaded(*ten).find_at_once(None, signer=ten[9]) == [None]
    assert loaded(*ten, A).refused(None, signer=A) == "unknown_kid"


def test_two_issuers_with_equal_key_names_have_their_own_keys() -> None:
    mine, theirs = Keys(), Keys(Issuer("https://idp.example.net", jwks_uri=KEYS + "2"))
    mine.find("a").answer(json_reply(jwks(A)))
    impostor = Key("a", "ES256", B.private)
    step = theirs.find("a")
    assert step.asks == fetch(KEYS + "2", 0, 5.0, "https://idp.example.net")

    assert refused_for(step, json_reply(jwks(impostor))) == "bad_signature"
    assert mine.find_at_once("a") == ["a"]


def test_keys_elsewhere_are_fetched_from_public_addresses_only() -> None:
    """Whoever wrote the metadata must not make us ask what only we can reach."""
    elsewhere = "https://keys.example.net/t1"
    step = Keys(Issuer(AS)).find("a")
    step.answer(json_reply({**METADATA, "jwks_uri": elsewhere}))

    assert step.asks == replace(fetch(elsewhere, 0, 5.0), public_only=True)


@pytest.mark.parametrize(
    "issuer",
    [Issuer(AS), Issuer(AS, jwks_uri="https://keys.internal/t1")],
    ids=["at the origin of the issuer", "written by the operator"],
)
def test_keys_may_be_in_a_private_network(issuer: Issuer) -> None:
    step = Keys(issuer).find("a")
    if issuer.jwks_uri is None:
        step.answer(json_reply(METADATA))

    assert step.asks == fetch(issuer.jwks_uri or KEYS, 0, 5.0)


def test_loopback_counts_as_written_by_who_allowed_it() -> None:
    elsewhere = "http://127.0.0.1:9000/keys"
    step = Keys(Issuer("http://127.0.0.1:8000"), insecure_loopback=True).find("a")
    step.answer(json_reply({"issuer": "http://127.0.0.1:8000", "jwks_uri": elsewhere}))

    assert step.asks == fetch(elsewhere, 0, 5.0, "http://127.0.0.1:8000")


def test_loopback_is_no_public_address_where_nobody_allowed_it() -> None:
    elsewhere = "https://127.0.0.1:9000/keys"
    step = Keys(Issuer(AS)).find("a")
    step.answer(json_reply({**METADATA, "jwks_uri": elsewhere}))

    assert step.asks == replace(fetch(elsewhere, 0, 5.0), public_only=True)


def test_unchanged_set_is_asked_for_by_its_etag_and_used_on() -> None:
    held = Keys()
    first = json_reply(jwks(A))
    tagged = Reply(200, {**first.headers, "etag": '"one"'}, first.body)
    play(
        verified(held.state, signed("a"), held.clock),
        [(fetch(KEYS, 0, 5.0), tagged)],
    )
    held.clock.now += DAY + 1
    step = held.find("a")

    assert step.asks == replace(fetch(KEYS, 1, 5.0), etag='"one"')

    step.answer(Reply(304, {}, b""))

    assert step.result == ["a"]
    assert held.find_at_once("a") == ["a"]


def moved() -> Stepper[list[str | None]]:
    """A request that waits for a set that has just moved, and had an etag before."""
    held = Keys(Issuer(AS))
    first = held.find("a")
    first.answer(json_reply(METADATA))
    first.answer(json_reply(jwks(A), etag='"one"'))
    held.clock.tick(DAY)
    step = held.find("a")
    step.answer(json_reply({**METADATA, "jwks_uri": KEYS + "/moved"}))
    return step


def test_etag_is_told_only_where_it_came_from() -> None:
    """Two servers may call different sets by one name."""
    assert moved().asks == fetch(KEYS + "/moved", 1, 5.0)


def test_nothing_new_elsewhere_says_nothing_about_the_old_set() -> None:
    assert failing(moved(), Reply(304, {}, b"")).reason == "keys_unusable"


def test_nothing_new_is_no_answer_about_a_set_without_an_etag() -> None:
    held = loaded(A)
    held.clock.tick(DAY)

    assert failing(held.find("a"), Reply(304, {}, b"")).reason == "keys_unusable"


def test_nothing_new_is_no_answer_to_who_did_not_ask_for_it() -> None:
    """304 is for a set that is here; without one it is a server's mistake."""
    step = Keys().find("a")

    with pytest.raises(UnavailableError):
        step.answer(Reply(304, {"etag": '"one"'}, b""))


def test_keys_are_used_as_long_as_the_operator_allows() -> None:
    held = Keys(Issuer(AS, jwks_uri=KEYS, max_key_age=7 * 86_400))
    play(
        verified(held.state, signed("a"), held.clock),
        [(fetch(KEYS, 0, 5.0), json_reply(jwks(A)))],
    )
    make_overdue(held, 7 * DAY - 61)
    step = held.find("a")  # overdue, so in line
    step.answer(BROKEN)

    assert step.result == ["a"]

    held.clock.now += 10
    step = held.find("a")
    with pytest.raises(UnavailableError):
        step.answer(BROKEN)


def test_keys_are_used_no_longer_than_the_operator_allows() -> None:
    """Whatever their server says."""
    held = Keys(Issuer(AS, jwks_uri=KEYS, max_key_age=3600))
    held.find("a").answer(json_reply(jwks(A), cache_control="max-age=86400"))
    held.clock.tick(3599.75)
    assert held.find_at_once("a") == ["a"]
    held.clock.tick(0.25)

    assert held.find("a").asks == fetch(KEYS, 1, 5.0)


def test_file_with_keys_is_looked_at_again_after_seconds(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    held = Keys(Issuer(AS, jwks_file=file))
    step = held.find("a")

    assert step.asks == fetch(file.as_uri(), 0, 5.0)

    step.answer(json_reply(jwks(A)))
    held.clock.now += 11

    assert isinstance(held.find("a").asks, Start)


def test_nobody_waits_longer_than_an_exchange_may_take() -> None:
    held = Keys(Issuer(AS, jwks_uri=KEYS, timeout=0.25))
    held.find("a").answer(json_reply(jwks(A)))
    held.clock.tick(100.0)

    assert held.find("b").asks == fetch(KEYS, 1, 0.25)


def test_new_key_is_fetched_while_a_refresh_is_due_whoever_asked_before() -> None:
    """Where no thread makes it, a failed refetch must not cost twelve seconds more."""
    held = loaded(A)
    held.clock.tick(100.0)
    failing(held.find("b"), BROKEN)
    held.clock.tick(5.0)
    step = held.find("b")
    assert starts(step)
    step.answer(None)

    assert isinstance(step.asks, Fetch)


def test_key_named_like_an_algorithm_is_not_mistaken_for_one() -> None:
    held = loaded(A)
    held.clock.tick(100.0)
    junk = held.find("RS256", algorithm="RS256", signer=key("RS256", "rsa"))
    refused_for(junk, json_reply(jwks(A)))
    held.clock.tick(20.0)
    unnamed = held.find(None, algorithm="RS256", signer=key("RS256", "rsa"))

    assert isinstance(unnamed.asks, Fetch)


def test_keys_do_not_outlive_a_clock_set_back() -> None:
    held = loaded(A)
    held.clock.tick(-5 * DAY)
    assert starts(held.find("a"))
    held.clock.tick(DAY)

    assert held.find("a").asks == fetch(KEYS, 1, 5.0)


def test_two_issuers_share_no_exchange_though_they_name_one_url() -> None:
    """One of them may only be followed to public addresses."""
    mine = Keys().find("a")
    theirs = Keys(Issuer("https://idp.example.net")).find("a")
    theirs.answer(json_reply({"issuer": "https://idp.example.net", "jwks_uri": KEYS}))

    assert isinstance(mine.asks, Fetch)
    assert isinstance(theirs.asks, Fetch)
    assert mine.asks.url == theirs.asks.url
    assert mine.asks.flight != theirs.asks.flight
