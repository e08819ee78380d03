"""Issuers that do not follow RFC 9068 to the letter: what each loosening lets in."""

from __future__ import annotations

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
from agentauth_middleware.errors import ConfigurationError, InvalidTokenError
from agentauth_middleware.settings.issuer import Issuer
from tests.support.tokens import (
    ISSUER,
    NOW,
    RESOURCE,
    claims,
    header,
    jwks,
    key,
    sign,
)

LENIENT = Issuer(ISSUER, token_types=["at+jwt", "JWT", None])


def jwt(
    typ: str | None = "JWT", without: tuple[str, ...] = (), /, **changes: Any
) -> bytes:
    """A token of that ``typ``, its claims changed."""
    head = header(key(), typ=typ, without=["typ"] if typ is None else ())
    return sign(claims(without=without, **changes), head=head)


def check(presented: bytes, trust: Issuer = LENIENT) -> Access:
    unverified = read_token(presented)
    check_header(unverified, trust)
    candidates = parse_key_set(jwks(key())).candidates(unverified.jws.header)
    verify_signature(unverified.jws, candidates)
    return check_claims(unverified, Terms(trust, RESOURCE, 60), NOW)


def reason_for(presented: bytes, trust: Issuer = LENIENT) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        check(presented, trust)
    return refused.value.reason


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", "at+jwt", None])
def test_other_types_are_taken_where_the_issuer_is_allowed_them(
    typ: str | None,
) -> None:
    assert check(jwt(typ)).subject == "user-1"


@pytest.mark.parametrize("typ", ["JWT", None])
def test_other_types_are_refused_by_default(typ: str | None) -> None:
    assert reason_for(jwt(typ), Issuer(ISSUER)) == "wrong_token_type"


def test_type_that_was_not_listed_is_refused() -> None:
    trust = Issuer(ISSUER, token_types=["JWT"])

    assert reason_for(jwt("at+jwt"), trust) == "wrong_token_type"
    assert reason_for(jwt(None), trust) == "wrong_token_type"


OTHER_KINDS: dict[str, bytes] = {
    "ID token with a nonce": jwt(nonce="n"),
    "ID token with at_hash": jwt(at_hash="h", scope="openid"),
    "ID token with c_hash": jwt(c_hash="h", scope="openid"),
    "ID token whose client is its audience": jwt(client_id=RESOURCE),
    "no mark of an access token": jwt("JWT", ("client_id",), azp="client-1"),
    "ID token with s_hash": jwt(s_hash="h", scope="openid"),
    "ID token that tells about a person": jwt(email="a@example.com"),
    "roles of a person at a client": jwt(roles=["admin"], preferred_username="ana"),
    "roles for nobody in particular": jwt("JWT", ("client_id",), roles=["admin"]),
    "groups": jwt("JWT", ("client_id",), groups=["admin"]),
    "security event": jwt(events={"https://x": {}}),
    "DPoP proof": jwt(htm="GET", htu=RESOURCE),
    "refresh token": jwt(typ="Refresh"),
    "offline token": jwt(typ="Offline"),
    "ID token by a claim": jwt(typ="ID"),
    "ID token by its use": jwt(token_use="id"),
}


@pytest.mark.parametrize("presented", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_token_of_another_kind_is_told_by_what_it_carries(presented: bytes) -> None:
    trust = Issuer(ISSUER, token_types=["JWT"], require_client_id=False)

    assert reason_for(presented, trust) == "wrong_token_type"


@pytest.mark.parametrize(
    "mark",
    [
        {"scope": "notes.read"},
        {"scp": "notes.read"},
        {"permissions": ["notes:read"]},
        {"typ": "Bearer"},
        {"token_use": "access"},
    ],
)
def test_access_token_is_told_by_what_it_carries(mark: dict[str, Any]) -> None:
    without = () if {"typ", "token_use"} & mark.keys() else ("client_id",)
    trust = Issuer(ISSUER, token_types=["JWT"], require_client_id=False)

    assert check(jwt("JWT", without, **mark), trust).subject == "user-1"


@pytest.mark.parametrize(
    "typ",
    [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "token-introspection+jwt",
        "statuslist+jwt",
        "client-authentication+jwt",
        "application/secevent+jwt",
        "id+jwt",
        "rt+jwt",
        "kb+jwt",
        "JOSE",
        "",
    ],
)
def test_type_of_another_kind_can_never_be_allowed(typ: str) -> None:
    with pytest.raises(ConfigurationError, match="is no type of access token"):
        Issuer(ISSUER, token_types=[typ])


@pytest.mark.parametrize(
    ("claim", "value", "scopes"),
    [
        ("scp", "a b", {"a", "b"}),
        ("scp", ["a", "b"], {"a", "b"}),
        ("permissions", ["crm:read"], {"crm:read"}),
        ("scope", "a", {"a"}),
    ],
)
def test_scopes_stand_where_the_issuer_writes_them(
    claim: str, value: object, scopes: set[str]
) -> None:
    trust = Issuer(ISSUER, scope_claims=["scope", "scp", "permissions"])

    assert check(jwt("at+jwt", **{claim: value}), trust).scopes == scopes


def test_scopes_of_all_places_count() -> None:
    trust = Issuer(ISSUER, scope_claims=["scope", "permissions"])
    presented = jwt("at+jwt", scope="a", permissions=["b"])

    assert check(presented, trust).scopes == {"a", "b"}


def test_scopes_elsewhere_are_none_by_default() -> None:
    presented = jwt("at+jwt", scp="a", permissions=["b"], roles=["c"])

    assert check(presented, Issuer(ISSUER)).scopes == frozenset()


@pytest.mark.parametrize("value", [["a"], 1, {"a": 1}])
def test_scope_itself_is_one_string(value: object) -> None:
    trust = Issuer(ISSUER, scope_claims=["scope", "scp"])

    assert reason_for(jwt("at+jwt", scope=value), trust) == "malformed"


@pytest.mark.parametrize("names", [["scope"], ["scope", "scp"]])
def test_scope_may_be_an_array_where_the_issuer_is_allowed_that(
    names: list[str],
) -> None:
    trust = Issuer(ISSUER, scope_as_array=True, scope_claims=names)

    assert check(jwt("at+jwt", scope=["a", "b"]), trust).scopes == {"a", "b"}
    assert check(jwt("at+jwt", scope="a b"), trust).scopes == {"a", "b"}
    assert reason_for(jwt("at+jwt", scope=["a", 1]), trust) == "malformed"


def test_nonce_may_be_in_access_tokens_where_the_issuer_is_allowed_that() -> None:
    trust = Issuer(ISSUER, token_types=["JWT"], allow_nonce=True)

    assert check(jwt(nonce="n", typ="Bearer"), trust).subject == "user-1"
    assert reason_for(jwt(nonce="n", typ="ID"), trust) == "wrong_token_type"
    assert reason_for(jwt(nonce="n", at_hash="h"), trust) == "wrong_token_type"
    assert reason_for(jwt(nonce="n", client_id=RESOURCE), trust) == "wrong_token_type"


def test_claim_that_lists_scopes_marks_an_access_token() -> None:
    """Also beside words about a person, which ID tokens have."""
    told = {"preferred_username": "ana", "roles": ["notes.read"]}
    trust = Issuer(ISSUER, token_types=["JWT"], scope_claims=["roles"])

    assert check(jwt(**told), trust).scopes == {"notes.read"}
    assert reason_for(jwt(**told), LENIENT) == "wrong_token_type"


@pytest.mark.parametrize("value", [[1], 1, {"a": 1}])
def test_scopes_are_strings_in_any_place(value: object) -> None:
    trust = Issuer(ISSUER, scope_claims=["scp"])

    assert reason_for(jwt("at+jwt", scp=value), trust) == "malformed"


def test_client_is_named_where_the_issuer_names_it() -> None:
    trust = Issuer(ISSUER, client_id_claims=["client_id", "azp", "cid"])

    assert check(jwt("at+jwt", azp="other"), trust).client_id == "client-1"
    assert check(jwt("at+jwt", ("client_id",), cid="c"), trust).client_id == "c"
    assert reason_for(jwt("at+jwt", ("client_id",)), trust) == "malformed"


@pytest.mark.parametrize(
    ("missing", "setting"),
    [("jti", "require_jti"), ("client_id", "require_client_id")],
)
def test_what_an_issuer_leaves_out_may_be_missing(missing: str, setting: str) -> None:
    presented = jwt("at+jwt", (missing,))

    assert reason_for(presented, Issuer(ISSUER)) == "malformed"

    access = check(presented, Issuer(ISSUER, **{setting: False}))  # type: ignore[arg-type]

    assert (access.token_id, access.client_id).count(None) == 1


@pytest.mark.parametrize("value", ["", [], None])
def test_what_may_be_missing_may_be_empty(value: object) -> None:
    trust = Issuer(ISSUER, require_jti=False, require_client_id=False)

    assert check(jwt("at+jwt", jti=value), trust).token_id is None
    assert check(jwt("at+jwt", client_id=value), trust).client_id is None


@pytest.mark.parametrize("value", [1, ["a"], {}])
def test_what_may_be_missing_may_not_be_junk(value: object) -> None:
    trust = Issuer(ISSUER, require_jti=False, require_client_id=False)

    assert reason_for(jwt("at+jwt", jti=value), trust) == "malformed"
    assert reason_for(jwt("at+jwt", client_id=value), trust) == "malformed"


@pytest.mark.parametrize("name", ["exp", "iat", "sub"])
def test_rest_must_always_be_there(name: str) -> None:
    trust = Issuer(ISSUER, require_jti=False, require_client_id=False)

    assert reason_for(jwt("at+jwt", (name,)), trust) == "malformed"


def test_more_can_be_required() -> None:
    trust = Issuer(ISSUER, required_claims=["auth_time"])

    assert reason_for(jwt("at+jwt"), trust) == "malformed"
    assert check(jwt("at+jwt", auth_time=NOW), trust).auth_time == NOW


def test_audience_may_be_missing_from_the_tokens_of_listed_clients() -> None:
    trust = Issuer(ISSUER, require_audience=False, client_ids=["client-1"])

    assert check(jwt("at+jwt", ("aud",)), trust).audience == ()
    assert reason_for(jwt("at+jwt", ("aud",), client_id="x"), trust) == "wrong_client"
    assert reason_for(jwt("at+jwt", aud="x"), trust) == "wrong_audience"
    assert check(jwt("at+jwt", aud=[]), trust).audience == ()


def test_audience_may_not_be_missing_from_the_tokens_of_anybody() -> None:
    with pytest.raises(ConfigurationError, match=r"Issuer\.client_ids"):
        Issuer(ISSUER, require_audience=False)


def test_clients_can_be_listed() -> None:
    trust = Issuer(ISSUER, client_ids=["client-1", "client-2"])

    assert check(jwt("at+jwt"), trust).client_id == "client-1"
    assert reason_for(jwt("at+jwt", client_id="client-3"), trust) == "wrong_client"


def test_token_may_be_too_old_though_it_has_not_expired() -> None:
    trust = Issuer(ISSUER, max_token_age=100)

    assert check(jwt("at+jwt", iat=NOW - 160), trust).issued_at == NOW - 160
    assert reason_for(jwt("at+jwt", iat=NOW - 161), trust) == "expired"
