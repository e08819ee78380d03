"""What a JWT access token must be (RFC 9068), claim by claim and edge by edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentauth_middleware._core.tokens.jose import parse_key_set, verify_signature
from agentauth_middleware._core.tokens.jwt_access_token import (
    check_claims,
    check_header,
    read_token,
)
from agentauth_middleware._core.tokens.token_claims import Terms
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidTokenError
from agentauth_middleware.settings.issuer import Issuer
from tests.support.tokens import (
    ISSUER,
    NOW,
    RESOURCE,
    Key,
    claims,
    header,
    jwks,
    key,
    sign,
    token,
)

LEEWAY = 60
TRUST = Issuer(ISSUER)


def check(
    presented: bytes,
    trust: Issuer = TRUST,
    *,
    signers: Sequence[Key] = (),
    resource: str = RESOURCE,
    now: float = NOW,
    leeway: int = LEEWAY,
) -> Access:
    """What *presented* gives, by the two halves in their order."""
    unverified = read_token(presented)
    check_header(unverified, trust)
    keys = parse_key_set(jwks(*(signers or [key()])))
    candidates = keys.candidates(unverified.jws.header)
    verify_signature(unverified.jws, candidates)
    return check_claims(unverified, Terms(trust, resource, leeway), now)


def reason_for(presented: bytes, trust: Issuer = TRUST, **options: Any) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        check(presented, trust, **options)
    return refused.value.reason


# What a good token gives


def test_good_token_gives_access() -> None:
    access = check(
        token(
            scope="mail.read mail.send",
            auth_time=NOW - 100,
            acr="phr",
            amr=["pwd", "hwk"],
        )
    )

    assert access.issuer == ISSUER
    assert access.subject == "user-1"
    assert access.client_id == "client-1"
    assert access.audience == (RESOURCE,)
    assert access.scopes == {"mail.read", "mail.send"}
    assert access.token_id == "token-1"
    assert (access.issued_at, access.expires_at) == (NOW - 10, NOW + 300)
    assert (access.auth_time, access.acr) == (NOW - 100, "phr")
    assert access.amr == ("pwd", "hwk")
    assert access.claims["client_id"] == "client-1"


def test_access_holds_no_token() -> None:
    """Whoever got hold of it could send it on, and would be taken for the client."""
    presented = token(scope="mail.read")
    access = check(presented)
    signature = presented.rpartition(b".")[2]

    assert signature.decode() not in repr(access)
    assert signature not in access.payload


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("RS256", "RS256"),
        ("PS256", "PS256"),
        ("ES256", "ES256"),
        ("EdDSA", "EdDSA"),
        ("EdDSA", "Ed25519"),
    ],
)
def test_usual_algorithm_is_accepted(algorithm: str, name: str) -> None:
    signer = key(algorithm)
    presented = sign(claims(), signer, header(signer, alg=name))

    assert check(presented, signers=[signer]).subject == "user-1"


@pytest.mark.parametrize(
    "algorithm", ["RS384", "RS512", "PS384", "PS512", "ES384", "ES512"]
)
def test_unusual_algorithm_is_accepted_where_settings_say_so(algorithm: str) -> None:
    signer = key(algorithm)
    presented = token(signer)
    opted_in = Issuer(ISSUER, algorithms=[algorithm])

    assert check(presented, opted_in, signers=[signer]).subject == "user-1"
    assert reason_for(presented, signers=[signer]) == "alg_not_allowed"


def test_algorithm_that_settings_leave_out_is_refused() -> None:
    """Also one of the usual ones, and also under its other name."""
    only_rsa = Issuer(ISSUER, algorithms=["RS256"])
    only_new_name = Issuer(ISSUER, algorithms=["Ed25519"])

    assert reason_for(token(), only_rsa) == "alg_not_allowed"
    assert (
        reason_for(token(key("EdDSA")), only_new_name, signers=[key("EdDSA")])
        == "alg_not_allowed"
    )


@pytest.mark.parametrize(
    "typ", ["at+jwt", "AT+JWT", "application/at+jwt", "APPLICATION/at+jwt"]
)
def test_type_is_accepted_in_both_spellings(typ: str) -> None:
    presented = sign(claims(), head=header(key(), typ=typ))

    assert check(presented).subject == "user-1"


@pytest.mark.parametrize(
    "audience",
    [
        pytest.param(RESOURCE, id="string"),
        pytest.param([RESOURCE], id="array"),
        pytest.param(["https://other.example", RESOURCE], id="among others"),
        pytest.param(RESOURCE + "/", id="with the slash that URL classes add"),
    ],
)
def test_audience_names_the_resource(audience: object) -> None:
    assert check(token(aud=audience)).subject == "user-1"


def test_audience_may_lack_the_slash_that_the_resource_has() -> None:
    presented = token(aud="https://api.example.com")

    assert check(presented, resource="https://api.example.com/").audience


@pytest.mark.parametrize("audience", ["client-77", ["x", "urn:api"]], ids=repr)
def test_audience_may_be_what_settings_say(audience: object) -> None:
    trust = Issuer(ISSUER, audience=["client-77", "urn:api"])

    assert check(token(aud=audience), trust).subject == "user-1"


# Claims that are missing or wrong


@pytest.mark.parametrize("name", ["exp", "iat", "sub", "client_id", "jti", "iss"])
def test_required_claim_must_be_there(name: str) -> None:
    assert reason_for(sign(claims(without=[name]))) == "malformed"


def test_audience_must_be_there() -> None:
    assert reason_for(sign(claims(without=["aud"]))) == "wrong_audience"


@pytest.mark.parametrize("name", ["iss", "sub", "client_id", "jti", "acr", "scope"])
@pytest.mark.parametrize("value", [1, True, ["a"], {}, {"a": "b"}], ids=repr)
def test_claim_must_be_a_string(name: str, value: object) -> None:
    assert reason_for(token(**{name: value})) == "malformed"


EMPTY = pytest.mark.parametrize("empty", [None, "", []], ids=repr)


@EMPTY
def test_empty_scope_is_none(empty: object) -> None:
    """RFC 6749 has no word for it, and some servers write it all the same."""
    assert check(token(scope=empty)).scopes == frozenset()


@EMPTY
@pytest.mark.parametrize("name", ["nbf", "auth_time", "acr", "sub_profile"])
def test_empty_claim_says_nothing(name: str, empty: object) -> None:
    found = check(token(**{name: empty}))

    assert found.subject == "user-1"
    assert (found.acr, found.auth_time) == (None, None)


@EMPTY
@pytest.mark.parametrize("name", ["iss", "sub", "client_id", "jti", "exp", "iat"])
def test_required_claim_must_not_be_empty(name: str, empty: object) -> None:
    assert reason_for(token(**{name: empty})) == "malformed"


@EMPTY
def test_audience_must_not_be_empty(empty: object) -> None:
    assert reason_for(token(aud=empty)) == "wrong_audience"


@EMPTY
def test_actor_is_never_passed_over(empty: object) -> None:
    assert reason_for(token(act=empty)) == "malformed"


@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize(
    "value",
    [True, False, str(NOW), [NOW], {}, -1, 2**53 + 2, 10**20],
    ids=repr,
)
def test_claim_must_be_an_instant(name: str, value: object) -> None:
    assert reason_for(token(**{name: value})) == "malformed"


@pytest.mark.parametrize("literal", [b"1e999", b"NaN", b"Infinity", b"-Infinity"])
def test_expiry_must_be_finite(literal: bytes) -> None:
    """Python reads ``1e999`` as infinity: a token that never expires."""
    payload = b'{"iss":"%s","sub":"u","aud":"%s","client_id":"c","iat":1,"exp":%s' % (
        ISSUER.encode(),
        RESOURCE.encode(),
        literal,
    )

    assert reason_for(sign(payload + b',"jti":"j"}')) == "malformed"


def test_instants_may_have_fractions() -> None:
    access = check(token(iat=NOW - 1.5, exp=NOW + 1.5, nbf=NOW - 0.5))

    assert (access.issued_at, access.expires_at) == (NOW - 1.5, NOW + 1.5)


@pytest.mark.parametrize(
    "audience",
    [
        pytest.param("https://other.example.com", id="another API"),
        pytest.param("https://api.example.com.evil.example", id="longer host"),
        pytest.param("https://api.example.co", id="prefix"),
        pytest.param("https://api.example.com/tools", id="below the resource"),
        pytest.param("https://api.example.com//", id="two slashes"),
        pytest.param("https://api.example.com:443", id="default port"),
        pytest.param("https://API.example.com", id="upper-case host"),
        pytest.param("http://api.example.com", id="http"),
        pytest.param("api.example.com", id="host alone"),
        pytest.param("https://api.example.com?", id="empty query"),
        pytest.param("https://api.example.com#x", id="fragment"),
        pytest.param(" https://api.example.com", id="space"),
        pytest.param("https://\u0430pi.example.com", id="Cyrillic look-alike"),
        pytest.param(["https://api.example.com.evil.example", "api"], id="array"),
        pytest.param("client-1", id="the client"),
        pytest.param(ISSUER, id="the issuer"),
        pytest.param([], id="empty array"),
    ],
)
def test_audience_that_is_not_the_resource_is_refused(audience: object) -> None:
    assert reason_for(token(aud=audience)) == "wrong_audience"


def test_audience_below_an_origin_keeps_its_slash() -> None:
    """Only for an origin are the two spellings one identifier."""
    at_path = "https://api.example.com/tools"

    assert check(token(aud=at_path), resource=at_path).audience == (at_path,)
    assert reason_for(token(aud=at_path + "/"), resource=at_path) == "wrong_audience"
    assert reason_for(token(aud=at_path), resource=at_path + "/") == "wrong_audience"


@pytest.mark.parametrize("value", [1, {}, [1], ["a", None], [RESOURCE, 1]])
def test_audience_must_be_one_or_several_strings(value: object) -> None:
    assert reason_for(token(aud=value)) == "malformed"


def test_audience_of_settings_replaces_the_resource() -> None:
    trust = Issuer(ISSUER, audience="client-77")

    assert reason_for(token(), trust) == "wrong_audience"
    assert reason_for(token(aud="client-7"), trust) == "wrong_audience"
    assert reason_for(token(aud="client-77/"), trust) == "wrong_audience"


# Times, on the boundary and one second inside


@pytest.mark.parametrize(
    ("expires", "leeway", "verdict"),
    [
        pytest.param(NOW - 59, 60, "good", id="expired 59 s ago, leeway 60"),
        pytest.param(NOW - 60, 60, "expired", id="expired by exactly the leeway"),
        pytest.param(NOW - 59.5, 60, "good", id="half a second inside"),
        pytest.param(NOW + 1, 0, "good", id="one second left, no leeway"),
        pytest.param(NOW, 0, "expired", id="expires now, no leeway"),
        pytest.param(NOW - 299, 300, "good", id="expired 299 s ago, leeway 300"),
        pytest.param(NOW - 300, 300, "expired", id="expired 300 s ago, leeway 300"),
        pytest.param(0, 60, "expired", id="expired in 1970"),
    ],
)
def test_expiry(expires: float, leeway: int, verdict: str) -> None:
    presented = token(exp=expires, iat=0)

    if verdict == "good":
        assert check(presented, leeway=leeway).expires_at == expires
    else:
        assert reason_for(presented, leeway=leeway) == verdict


@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize(
    ("ahead", "leeway", "is_good"),
    [
        pytest.param(0, 0, True, id="now, no leeway"),
        pytest.param(1, 0, False, id="one second ahead, no leeway"),
        pytest.param(59, 60, True, id="one second inside the leeway"),
        pytest.param(60, 60, True, id="ahead by exactly the leeway"),
        pytest.param(61, 60, False, id="one second beyond the leeway"),
        pytest.param(60.5, 60, False, id="half a second beyond the leeway"),
    ],
)
def test_start(name: str, ahead: float, leeway: int, is_good: bool) -> None:
    presented = token(**{name: NOW + ahead})

    if is_good:
        assert check(presented, leeway=leeway).subject == "user-1"
    else:
        assert reason_for(presented, leeway=leeway) == "not_yet_valid"


# Other kinds of tokens


@pytest.mark.parametrize(
    "typ",
    [
        *("JWT", "jwt", "", "at", "at+jwt ", " at+jwt", "at+jwt;v=1", "rt+jwt"),
        *("logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-id-jag+jwt"),
        *("token-introspection+jwt", "statuslist+jwt", "oauth-authz-req+jwt"),
        *("client-authentication+jwt", "txntoken+jwt"),
        *("application/secevent+jwt", "application/application/at+jwt"),
    ],
)
def test_type_of_another_kind_is_refused(typ: str) -> None:
    presented = sign(claims(), head=header(key(), typ=typ))

    assert reason_for(presented) == "wrong_token_type"


def test_type_must_be_there() -> None:
    presented = sign(claims(), head=header(key(), without=["typ"]))

    assert reason_for(presented) == "wrong_token_type"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events", {"https://schemas.openid.net/secevent/caep/…": {}}),
        ("events", None),
        ("token_introspection", {"active": True}),
        ("htm", "GET"),
        ("htu", "https://api.example.com"),
    ],
)
def test_mark_of_another_kind_is_refused_whatever_the_type(
    name: str, value: object
) -> None:
    assert reason_for(token(**{name: value})) == "wrong_token_type"


# What is checked first


def test_nothing_is_said_about_claims_before_the_signature_is_verified() -> None:
    """Else the reason would tell what only the issuer can have meant."""
    stranger = Key("key-1", "ES256", key("ES256", "stranger").private)
    wrong: dict[str, Any] = {"exp": 0, "aud": "x", "sub": "", "jti": 1, "act": None}
    for name, value in wrong.items():
        assert reason_for(token(stranger, **{name: value})) == "bad_signature"


def test_type_is_looked_at_before_the_issuer() -> None:
    presented = sign(claims(without=["iss"]), head=header(key(), typ="logout+jwt"))

    assert reason_for(presented) == "wrong_token_type"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="empty"),
        pytest.param(b"not JSON", id="text"),
        pytest.param(b'{"iss":"a","iss":"b"}', id="issuer twice"),
        pytest.param(b'{"iss":"\xff"}', id="no UTF-8"),
    ],
)
def test_payload_must_be_an_object(payload: bytes) -> None:
    assert reason_for(sign(payload)) == "malformed"


def test_payload_has_so_many_objects_and_arrays_at_most() -> None:
    """They are counted before it is read: anybody can send it, signed by nobody."""
    most: list[list[str]] = [[] for _ in range(510)]
    too_many = sign(claims(x=[*most, []])).rpartition(b".")[0] + b"."

    assert len(check(token(x=most)).claims["x"]) == 510  # and the two around them
    with pytest.raises(InvalidTokenError, match="too many"):
        read_token(too_many)
