"""ID-JAGs: which are taken, which are not, and what is asked of whom for it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from jwt.algorithms import ECAlgorithm

from agentauth_middleware.testing import FakeProvider, ServedIssuer
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    PROVIDER,
    RESOURCE,
    Embedded,
    embed,
    encoded,
    registration,
    resource_server,
    trusted,
)
from tests.support.tokens import key

DAY = 86_400


def seconds(offset: int) -> int:
    """The instant *offset* seconds from now."""
    return int(time.time()) + offset


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        pytest.param({}, {}, id="as it should be"),
        pytest.param({"typ": "application/oauth-id-jag+jwt"}, {}, id="typ in full"),
        pytest.param({"typ": "OAuth-ID-JAG+JWT"}, {}, id="typ in other letters"),
        pytest.param({}, {"aud": [ISSUER]}, id="one audience in an array"),
        pytest.param({}, {"aud": f"{ISSUER}/"}, id="origin with its slash"),
        pytest.param({}, {"agent_platform": "x", "color": 1}, id="other members"),
        pytest.param({}, {"resource": RESOURCE}, id="for our resource"),
        pytest.param({}, {"resource": [f"{RESOURCE}/"]}, id="for it, with its slash"),
        pytest.param({}, {"scope": "notes.read other"}, id="a scope among ours"),
        pytest.param({}, {"aud_sub": "user-ana"}, id="what we call the user"),
        pytest.param(
            {},
            {"sub_id": {"format": "iss_sub", "iss": PROVIDER, "sub": ANA}},
            id="the same user once more",
        ),
        pytest.param({}, {"amr": ["pwd", "a b"]}, id="methods of authentication"),
        pytest.param(
            {},
            {"email": None, "phone_number": "+15550100", "phone_number_verified": True},
            id="a verified phone number alone",
        ),
    ],
)
def test_id_jag_is_accepted(
    embedded: Embedded, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    answer = embedded.register(header=header, **claims)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "make_claims",
    [
        pytest.param(
            lambda: {"iat": seconds(-350), "exp": seconds(-50)}, id="just expired"
        ),
        pytest.param(
            lambda: {"iat": seconds(50), "exp": seconds(350)}, id="a clock ahead"
        ),
        pytest.param(
            lambda: {"iat": seconds(0), "exp": seconds(600)}, id="ten minutes long"
        ),
        pytest.param(lambda: {"auth_time": seconds(-3650)}, id="signed in an hour ago"),
        pytest.param(lambda: {"auth_time": seconds(50)}, id="signed in just now"),
        pytest.param(lambda: {"nbf": seconds(50)}, id="valid in a moment"),
    ],
)
def test_id_jag_is_accepted_within_the_leeway(
    embedded: Embedded, make_claims: Callable[[], dict[str, Any]]
) -> None:
    assert embedded.register(**make_claims()).status_code == 200


@pytest.mark.parametrize(
    ("make_claims", "error"),
    [
        *(
            pytest.param(lambda name=name: {name: None}, error, id=f"no {name}")
            for name, error in {
                "iss": "invalid_request",
                "sub": "invalid_request",
                "aud": "invalid_audience",
                "client_id": "invalid_request",
                "jti": "invalid_request",
                "iat": "invalid_request",
                "exp": "invalid_request",
            }.items()
        ),
        pytest.param(lambda: {"sub": 7}, "invalid_request", id="sub is a number"),
        pytest.param(lambda: {"sub": ""}, "invalid_request", id="sub is empty"),
        pytest.param(lambda: {"jti": 7}, "invalid_request", id="jti is a number"),
        pytest.param(lambda: {"exp": "9" * 10}, "invalid_request", id="exp in quotes"),
        pytest.param(lambda: {"exp": True}, "invalid_request", id="exp is true"),
        pytest.param(lambda: {"exp": 1e300}, "invalid_request", id="exp is enormous"),
        pytest.param(lambda: {"amr": [["pwd"]]}, "invalid_request", id="amr is nested"),
        pytest.param(
            lambda: {"agent_platform": {"a": 1}}, "invalid_request", id="platform"
        ),
        pytest.param(
            lambda: {"aud": [ISSUER, "https://b.example"]},
            "invalid_audience",
            id="two audiences",
        ),
        pytest.param(
            lambda: {"aud": [ISSUER, ISSUER]}, "invalid_audience", id="us twice"
        ),
        pytest.param(
            lambda: {"aud": "https://api.example.com"},
            "invalid_audience",
            id="the API as audience",
        ),
        pytest.param(
            lambda: {"aud": f"{ISSUER}.example"}, "invalid_audience", id="a prefix"
        ),
        pytest.param(
            lambda: {"iat": seconds(-400), "exp": seconds(-61)}, "expired", id="expired"
        ),
        pytest.param(
            lambda: {"exp": seconds(DAY)}, "invalid_request", id="good for a day"
        ),
        pytest.param(
            lambda: {"iat": seconds(0), "exp": seconds(601)},
            "invalid_request",
            id="a second too long",
        ),
        pytest.param(
            lambda: {"iat": seconds(30), "exp": seconds(30)},
            "invalid_request",
            id="no lifetime at all",
        ),
        pytest.param(
            lambda: {"iat": seconds(600), "exp": seconds(900)},
            "invalid_request",
            id="issued in ten minutes",
        ),
        pytest.param(
            lambda: {"nbf": seconds(120)}, "invalid_request", id="not valid yet"
        ),
        pytest.param(
            lambda: {"client_id": "https://other.example"},
            "invalid_client_id",
            id="another client",
        ),
        pytest.param(
            lambda: {"cnf": {"jkt": "x"}}, "invalid_request", id="bound, unproven"
        ),
        *(
            pytest.param(
                lambda resource=resource: {"resource": resource},
                "invalid_request",
                id=f"resource {resource}",
            )
            for resource in (
                "https://b.example",
                ["https://b.example"],
                [RESOURCE, "https://b.example"],
                [],
                "",
                7,
            )
        ),
        *(
            pytest.param(
                lambda scope=scope: {"scope": scope},
                "invalid_request",
                id=f"scope {scope}",
            )
            for scope in ("", " ", 7, ["notes.read"], "admin", "NOTES.READ")
        ),
        *(
            pytest.param(
                lambda name=name, value=value: {name: value},
                "invalid_request",
                id=f"{name}, which is not understood",
            )
            for name, value in {
                "act": {"sub": "x"},
                "authorization_details": [{"type": "x"}],
                "tenant": "t",
                "aud_tenant": "t",
            }.items()
        ),
        *(
            pytest.param(
                lambda name=name: {"aud_sub": name},
                "invalid_request",
                id=f"aud_sub {name!r}",
            )
            for name in ("user-ben", "", 7)
        ),
        *(
            pytest.param(
                lambda name=name: {"sub_id": name},
                "invalid_request",
                id=f"sub_id {name}",
            )
            for name in (
                "user",
                {},
                {"format": "iss_sub", "iss": PROVIDER, "sub": "other"},
                {"format": "iss_sub", "iss": "https://b.example", "sub": ANA},
                {"format": "opaque", "id": ANA},
                {"format": "saml-nameid", "issuer": PROVIDER, "nameid": ANA},
            )
        ),
        pytest.param(
            lambda: {"email_verified": "true"},
            "missing_verified_email",
            id="verified in quotes",
        ),
        pytest.param(
            lambda: {"email_verified": 1}, "missing_verified_email", id="verified is 1"
        ),
        pytest.param(
            lambda: {"email_verified": False},
            "missing_verified_email",
            id="not verified",
        ),
        pytest.param(
            lambda: {"email": None}, "missing_verified_email", id="no contact at all"
        ),
        pytest.param(
            lambda: {"email": None, "email_verified": True},
            "invalid_request",
            id="verified, but no address",
        ),
        pytest.param(
            lambda: {"email": None, "phone_number_verified": True},
            "invalid_request",
            id="verified, but no number",
        ),
        pytest.param(
            lambda: {"auth_time": "now"}, "invalid_request", id="auth_time is text"
        ),
    ],
)
def test_id_jag_is_refused(
    embedded: Embedded, make_claims: Callable[[], dict[str, Any]], error: str
) -> None:
    answer = embedded.register(**make_claims())

    assert answer.status_code == 400
    assert answer.json()["error"] == error


@pytest.mark.parametrize(
    "make_claims",
    [
        pytest.param(lambda: {"auth_time": None}, id="absent"),
        pytest.param(lambda: {"auth_time": seconds(-3670)}, id="too long ago"),
        pytest.param(lambda: {"auth_time": seconds(120)}, id="in the future"),
    ],
)
def test_id_jag_without_a_fresh_sign_in_demands_one(
    embedded: Embedded, make_claims: Callable[[], dict[str, Any]]
) -> None:
    """Also of users who are linked: nothing they do here can cure it."""
    answer = embedded.register(**make_claims())

    assert answer.status_code == 401
    assert answer.json()["error"] == "login_required"
    assert answer.json()["max_age"] == 3600
    assert answer.headers["www-authenticate"] == (
        'AgentAuth error="login_required", '
        'error_description="the user must sign in again at the provider", '
        'max_age="3600"'
    )


@pytest.mark.parametrize(
    "header",
    [
        *(
            pytest.param({"typ": name}, id=f"typ {name}")
            for name in (None, "JWT", "at+jwt", "logout+jwt", "secevent+jwt")
        ),
        pytest.param({"crit": ["exp"], "exp": 1}, id="crit"),
        pytest.param({"b64": False}, id="b64"),
    ],
)
def test_id_jag_of_another_kind_is_refused(
    embedded: Embedded, header: dict[str, Any]
) -> None:
    answer = embedded.register(header=header)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def test_id_jag_without_a_signature_is_refused(embedded: Embedded) -> None:
    _, payload, _ = embedded.provider.id_jag(ISSUER).split(".")
    header = encoded({"alg": "none", "typ": "oauth-id-jag+jwt"})

    answer = embedded.register(f"{header}.{payload}.")

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_signature"


def test_id_jag_signed_with_the_public_key_as_a_secret_is_refused(
    embedded: Embedded,
) -> None:
    jwk = embedded.provider.jwks["keys"][0]
    key = ECAlgorithm.from_jwk(jwk)
    assert isinstance(key, EllipticCurvePublicKey)
    public = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = encoded({"alg": "HS256", "typ": "oauth-id-jag+jwt", "kid": jwk["kid"]})
    _, payload, _ = embedded.provider.id_jag(ISSUER).split(".")
    signed = f"{header}.{payload}".encode()
    signature = encoded(hmac.digest(public, signed, hashlib.sha256))

    answer = embedded.register(f"{header}.{payload}.{signature}")

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_signature"


def test_id_jag_changed_on_the_way_is_refused(embedded: Embedded) -> None:
    header, _, signature = embedded.provider.id_jag(ISSUER).split(".")
    _, payload, _ = embedded.provider.id_jag(ISSUER, subject="another").split(".")

    answer = embedded.register(f"{header}.{payload}.{signature}")

    assert answer.json()["error"] == "invalid_signature"


def test_id_jag_with_an_algorithm_not_allowed_is_refused(tmp_path: Path) -> None:
    provider = FakeProvider(PROVIDER)
    both = {"keys": [*provider.jwks["keys"], key("EdDSA", "another").jwk]}
    providers = [trusted(provider, jwks=both, algorithms=("EdDSA",))]
    with embed(tmp_path, provider=provider, providers=providers) as embedded:
        answer = embedded.register()

    assert answer.json()["error"] == "invalid_signature"


@pytest.mark.parametrize("clients", [("app-1", "app-2")])
def test_id_jag_may_name_any_client_registered_for_its_provider(
    tmp_path: Path, clients: tuple[str, ...]
) -> None:
    provider = FakeProvider(PROVIDER)
    providers = [trusted(provider, client_ids=clients)]
    with embed(tmp_path, provider=provider, providers=providers) as embedded:
        listed = embedded.register(client_id="app-2")
        issuer_itself = embedded.register(client_id=PROVIDER)

    assert listed.status_code == 200
    assert issuer_itself.json()["error"] == "invalid_client_id"


@pytest.mark.parametrize(
    "presented",
    [
        pytest.param("x", id="a letter"),
        pytest.param("..", id="empty segments"),
        pytest.param("a.b.c", id="no base64"),
        pytest.param("é.é.é", id="not ASCII"),
        pytest.param("\x00.\x00.\x00", id="zeros"),
        pytest.param("e30.e30.", id="empty objects"),
        pytest.param("W10.W10.", id="arrays"),
        pytest.param(f"{encoded({'alg': 'ES256'})}.{'e30'}.AA.AA.AA", id="encrypted"),
        pytest.param(
            f"{encoded({'alg': 'ES256', 'typ': 'oauth-id-jag+jwt'})}."
            + encoded(b'{"iss":"https://agents.example.org","iss":"b"}')
            + ".AA",
            id="a claim twice",
        ),
        pytest.param(
            f"{encoded({'alg': 'ES256', 'typ': 'oauth-id-jag+jwt'})}."
            + encoded(b"[" * 3000)
            + ".AA",
            id="deep",
        ),
        pytest.param(
            f"{encoded({'alg': 'ES256', 'typ': 'oauth-id-jag+jwt'})}."
            + encoded(b'{"iss":"\\ud800"}')
            + ".AA",
            id="half a character",
        ),
        pytest.param("a" * 8193, id="too long"),
    ],
)
def test_what_is_no_id_jag_is_refused(embedded: Embedded, presented: str) -> None:
    answer = embedded.register(presented)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def test_id_jag_of_any_length_is_not_read(embedded: Embedded) -> None:
    fits = embedded.provider.id_jag(ISSUER, filler="a" * 5000)
    longer = embedded.provider.id_jag(ISSUER, filler="a" * 6000)

    assert len(fits) < 8192 < len(longer)
    assert embedded.register(fits).status_code == 200
    assert embedded.register(longer).json()["error"] == "invalid_request"


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 2000])
def test_signature_of_a_wrong_length_is_refused(
    embedded: Embedded, length: int
) -> None:
    header, payload, _ = embedded.provider.id_jag(ISSUER).split(".")

    answer = embedded.register(f"{header}.{payload}.{encoded(bytes(length))}")

    assert answer.json()["error"] == "invalid_signature"


def test_stranger_is_asked_nothing(embedded: Embedded, served: ServedIssuer) -> None:
    """Neither its metadata nor where the header says that its keys are."""
    stranger = FakeProvider(served.issuer)
    jku = f"{served.issuer}/jwks.json"

    answer = embedded.register(stranger.id_jag(ISSUER, header={"jku": jku, "x5u": jku}))

    assert answer.status_code == 400
    assert answer.json()["error"] == "issuer_not_enabled"
    assert served.requests == []


def test_key_in_the_header_is_not_used(
    embedded: Embedded, served: ServedIssuer
) -> None:
    forger = FakeProvider(PROVIDER)
    header = {
        "jwk": forger.jwks["keys"][0],
        "jku": f"{served.issuer}/jwks.json",
        "kid": embedded.provider.jwks["keys"][0]["kid"],
    }

    answer = embedded.register(forger.id_jag(ISSUER, header=header))

    assert answer.json()["error"] == "invalid_signature"
    assert served.requests == []


def test_unknown_keys_are_asked_for_once(
    tmp_path: Path, served: ServedIssuer, served_provider: FakeProvider
) -> None:
    served.replies["/jwks.json"] = as_json(served_provider.jwks)
    with embed_served(tmp_path, served_provider) as embedded:
        assert embedded.register().status_code == 200
        served.requests.clear()
        answers = [embedded.register(header={"kid": f"k{n}"}) for n in range(100)]

    assert served.requests.count("/jwks.json") <= 1
    assert {answer.status_code for answer in answers} <= {400, 429}
    assert answers[0].json()["error"] == "invalid_signature"


def test_new_key_of_a_provider_is_found(
    tmp_path: Path, served: ServedIssuer, served_provider: FakeProvider
) -> None:
    served.replies["/jwks.json"] = as_json(served_provider.jwks)
    with embed_served(tmp_path, served_provider) as embedded:
        before = embedded.register()
        served_provider.rotate(keep_old=False)
        served.replies["/jwks.json"] = as_json(served_provider.jwks)
        after = embedded.register()

    assert (before.status_code, after.status_code) == (200, 200)


@pytest.mark.parametrize("status", [404, 500])
def test_keys_out_of_reach_are_no_verdict(
    tmp_path: Path, served: ServedIssuer, served_provider: FakeProvider, status: int
) -> None:
    """Nor is the assertion used up."""
    served.replies["/jwks.json"] = (status, {}, b"")
    assertion = served_provider.id_jag(ISSUER)
    with embed_served(tmp_path, served_provider) as embedded:
        answer = embedded.register(assertion)
        clock = embedded.server.service.clock
        embedded.server.service.clock = lambda: clock() + 10
        served.replies["/jwks.json"] = as_json(served_provider.jwks)
        later = embedded.register(assertion)

    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert later.status_code == 200


def test_id_jag_is_good_once(embedded: Embedded) -> None:
    assertion = embedded.provider.id_jag(ISSUER)

    first, second = embedded.register(assertion), embedded.register(assertion)

    assert first.status_code == 200
    assert second.status_code == 400
    assert second.json()["error"] == "replay_detected"


def test_identifier_used_again_in_another_id_jag_is_refused(
    embedded: Embedded,
) -> None:
    embedded.register(jti="same")

    assert embedded.register(jti="same", amr=["otp"]).json()["error"] == (
        "replay_detected"
    )


def test_identifiers_of_different_providers_do_not_meet(tmp_path: Path) -> None:
    """Otherwise one provider could use up the assertions of another."""
    one, other = FakeProvider(PROVIDER), FakeProvider("https://other.example")
    providers = [trusted(one), trusted(other)]
    with embed(tmp_path, provider=one, providers=providers) as embedded:
        embedded.server.state.link(other.issuer, "x", "user-ana")
        first = embedded.register(one.id_jag(ISSUER, jti="same"))
        second = embedded.register(other.id_jag(ISSUER, jti="same", subject="x"))

    assert (first.status_code, second.status_code) == (200, 200)


def test_provider_cannot_speak_for_the_users_of_another(tmp_path: Path) -> None:
    one, other = FakeProvider(PROVIDER), FakeProvider("https://other.example")
    providers = [trusted(one), trusted(other)]
    with embed(tmp_path, provider=one, providers=providers) as embedded:
        same_subject = embedded.register(other.id_jag(ISSUER))
        in_its_name = embedded.register(other.id_jag(ISSUER, iss=one.issuer))

    assert same_subject.json()["error"] == "interaction_required"
    assert in_its_name.json()["error"] == "invalid_signature"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"auth_time": None}, id="no sign-in"),
        pytest.param({"aud": "https://b.example"}, id="audience"),
        pytest.param({"client_id": "x"}, id="client"),
        pytest.param({"email_verified": False}, id="contact"),
        pytest.param({"cnf": {"jkt": "x"}}, id="bound"),
    ],
)
def test_refused_id_jag_does_not_use_up_its_identifier(
    embedded: Embedded, fault: dict[str, Any]
) -> None:
    refused = embedded.register(jti="same", **fault)
    corrected = embedded.register(jti="same")

    assert refused.status_code in (400, 401)
    assert corrected.status_code == 200


def test_forged_id_jag_does_not_use_up_its_identifier(embedded: Embedded) -> None:
    embedded.register(FakeProvider(PROVIDER).id_jag(ISSUER, jti="same"))

    assert embedded.register(jti="same").status_code == 200


@pytest.mark.anyio
async def test_id_jag_presented_many_times_at_once_is_good_once(
    embedded: Embedded,
) -> None:
    presented = registration(embedded.provider.id_jag(ISSUER))
    statuses: list[int] = []

    async def present(client: httpx.AsyncClient) -> None:
        answer = await client.post("/agent/identity", json=presented)
        statuses.append(answer.status_code)

    transport = httpx.ASGITransport(embedded.server)
    async with (
        httpx.AsyncClient(transport=transport, base_url=ISSUER) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(12):
            tasks.start_soon(present, client)

    assert sorted(statuses) == [200] + [400] * 11


def as_json(document: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """What ``ServedIssuer`` replies with."""
    answer = httpx.Response(200, json=document)
    return 200, {"content-type": "application/json"}, answer.content


def embed_served(folder: Path, provider: FakeProvider) -> Any:
    """A server that fetches the keys of *provider*."""
    return embed(
        folder,
        provider=provider,
        providers=[trusted(provider, jwks=None)],
        resources=[resource_server()],
        insecure_loopback=True,
    )
