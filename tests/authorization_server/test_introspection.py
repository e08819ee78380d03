"""The introspection endpoint: what a resource server learns of a token, and who may."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from starlette.testclient import TestClient

from agentauth_middleware import Introspection, Issuer, ResourceServer
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.authorization_server import IntrospectionClient
from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore, SQLiteStore
from agentauth_middleware.testing import FakeIssuer
from tests.authorization_server.embedded import (
    ANA,
    API,
    ISSUER,
    RESOURCE,
    Embedded,
    claims_of,
    embed,
    encoded,
    header_of,
    is_not_stored,
    resource_server,
)

PATH = "/oauth2/introspect"
METADATA = "/.well-known/oauth-authorization-server"
FILES = "https://files.example.com"
SECRET = "a secret of the notes API"
JWT_ANSWER = "application/token-introspection+jwt"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM = "application/x-www-form-urlencoded"
INACTIVE = {"active": False}

NOTES = IntrospectionClient("notes-api", resource=RESOURCE, client_secret=SECRET)
OTHER = IntrospectionClient("files-api", resource=FILES, client_secret=SECRET[::-1])
KEYS = FakeIssuer("signing-api")
OTHER_KEYS = FakeIssuer("other-signing-api")
SIGNING = IntrospectionClient(KEYS.issuer, resource=RESOURCE, jwks=KEYS.jwks)
OTHER_SIGNING = IntrospectionClient(
    OTHER_KEYS.issuer, resource=FILES, jwks=OTHER_KEYS.jwks
)
SETTINGS: dict[str, Any] = {
    "resources": [resource_server(), resource_server(resource=FILES)],
    "introspection_clients": [NOTES, OTHER, SIGNING, OTHER_SIGNING],
}


def basic(client_id: str = "notes-api", secret: str = SECRET) -> str:
    """As RFC 6749 §2.3.1 says: each form-encoded on its own, then joined."""
    return raw_basic(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())


def raw_basic(joined: bytes) -> str:
    return "Basic " + base64.b64encode(joined).decode()


def client_assertion(
    keys: FakeIssuer = KEYS, header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A good one with *claims* in it; ``None`` leaves one out."""
    now = int(time.time())
    members: dict[str, Any] = {
        "iss": keys.issuer,
        "sub": keys.issuer,
        "aud": ISSUER,
        "jti": base64.urlsafe_b64encode(time.time_ns().to_bytes(8, "big")).decode(),
        "iat": now,
        "exp": now + 60,
    }
    return keys.sign(
        {**members, **claims}, {"typ": "client-authentication+jwt", **(header or {})}
    )


def assertion_form(assertion: str | None = None, **form: str) -> dict[str, str]:
    return {
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion or client_assertion(),
        **form,
    }


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Embedded]:
    """A server with two resources, each of which may ask by secret and by key."""
    with embed(tmp_path, **SETTINGS) as running:
        yield running


def token_for(asked: Embedded, resource: str = RESOURCE, **form: str) -> str:
    return asked.access_token(resource=resource, **form)


# What is told of a token that is active.


def test_active_token_is_described(asked: Embedded) -> None:
    """No ``username``, and nothing else that is not in the token."""
    token = token_for(asked, scope="notes.read")
    answer = asked.introspect(token, auth=basic())
    claims = claims_of(token)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert is_not_stored(answer)
    assert answer.json() == {
        "active": True,
        "token_type": "Bearer",
        "iss": ISSUER,
        "sub": "user-ana",
        "sub_profile": "user",
        "aud": RESOURCE,
        "client_id": asked.provider.issuer,
        "scope": "notes.read",
        "act": {
            "iss": ISSUER,
            "sub": claims["act"]["sub"],
            "sub_profile": "ai_agent",
        },
        "exp": claims["exp"],
        "iat": claims["iat"],
        "jti": claims["jti"],
        "auth_time": claims["auth_time"],
    }


def test_what_the_provider_said_of_user_and_agent_is_told(asked: Embedded) -> None:
    said = {
        "amr": ["pwd", "otp"],
        "agent_platform": "desktop",
        "agent_context_id": "chat-1",
    }
    token = asked.exchange(asked.identity_assertion(**said), resource=RESOURCE)
    members = asked.introspect(token.json()["access_token"], auth=basic()).json()

    assert members["active"] is True
    assert {name: members[name] for name in said} == said


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense"])
def test_hint_changes_nothing(asked: Embedded, hint: str) -> None:
    answer = asked.introspect(token_for(asked), auth=basic(), token_type_hint=hint)

    assert answer.json()["active"] is True


def test_origin_may_be_spelt_with_a_slash(tmp_path: Path) -> None:
    client = IntrospectionClient("a", resource=f"{RESOURCE}/", client_secret=SECRET)
    with embed(tmp_path, introspection_clients=[client]) as embedded:
        answer = embedded.introspect(embedded.access_token(), auth=basic("a"))

    assert answer.json()["active"] is True


# What is not active.


def signed_by_us(asked: Embedded, **claims: Any) -> str:
    """An access token like a good one, apart from *claims*."""
    good = claims_of(token_for(asked))
    return asked.server.service.signer.sign({**good, **claims}, "at+jwt")


OTHER_TOKENS: dict[str, Callable[[Embedded], str]] = {
    "no JWT": lambda asked: "unknown",
    "no ASCII": lambda asked: "é\x00",
    "empty segments": lambda asked: "..",
    "long": lambda asked: "a." * 10_000,
    "unsigned": lambda asked: (
        f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}."
        f"{encoded(claims_of(token_for(asked)))}."
    ),
    "signed by a stranger": lambda asked: Signer([new_key()]).sign(
        claims_of(token_for(asked)), "at+jwt"
    ),
    "of another server that bears our name": lambda asked: FakeIssuer(ISSUER).token(
        RESOURCE, agent="agent-1"
    ),
    "issued under another name of ours": lambda asked: signed_by_us(
        asked, iss="https://old.example.com"
    ),
    "for another resource": lambda asked: token_for(asked, FILES),
    "for look-alikes": lambda asked: signed_by_us(
        asked, aud=[FILES, f"{RESOURCE}.example"]
    ),
    "expired": lambda asked: signed_by_us(asked, exp=int(time.time()) - 1),
    "our assertion": lambda asked: asked.identity_assertion(),
    "a token of ours as another type": lambda asked: asked.server.service.signer.sign(
        claims_of(token_for(asked)), "JWT"
    ),
    "our answer": lambda asked: (
        asked.introspect(token_for(asked), auth=basic(), accept=JWT_ANSWER).text
    ),
    "ID-JAG": lambda asked: asked.provider.id_jag(ISSUER),
}


@pytest.mark.parametrize("make_token", OTHER_TOKENS.values(), ids=OTHER_TOKENS)
def test_all_else_is_inactive(
    asked: Embedded, make_token: Callable[[Embedded], str]
) -> None:
    """And nothing more is said, signed or not."""
    token = make_token(asked)
    plain = asked.introspect(token, auth=basic())
    signed = asked.introspect(token, auth=basic(), accept=JWT_ANSWER)

    assert (plain.status_code, plain.json()) == (200, INACTIVE)
    assert is_not_stored(plain)
    assert signed.status_code == 200
    assert claims_of(signed.text)["token_introspection"] == INACTIVE


def test_one_audience_of_several_may_ask(asked: Embedded) -> None:
    token = signed_by_us(asked, aud=[FILES, RESOURCE])

    assert asked.introspect(token, auth=basic()).json()["active"] is True


def test_token_expires_by_our_clock_without_leeway(asked: Embedded) -> None:
    token = token_for(asked)
    expires_at = claims_of(token)["exp"]
    asked.server.service.clock = lambda: expires_at - 0.5
    before = asked.introspect(token, auth=basic()).json()
    asked.server.service.clock = lambda: expires_at
    after = asked.introspect(token, auth=basic()).json()

    assert before["active"] is True
    assert after == INACTIVE


def move_link(asked: Embedded, claims: dict[str, Any]) -> None:
    """Ana's account at the provider turns out to be Ben's."""
    asked.server.add_user("user-ben")
    asked.server.link(asked.provider.issuer, ANA, "user-ben")


REVOCATIONS: dict[str, Callable[[Embedded, dict[str, Any]], object]] = {
    "at the endpoint": lambda asked, claims: asked.post_form(
        "/oauth2/revoke", {"token": signed_by_us(asked, jti=claims["jti"])}
    ),
    "by its identifier": lambda asked, claims: revoke_blocking(
        asked.store, ISSUER, token_id=claims["jti"]
    ),
    "with its user": lambda asked, claims: revoke_blocking(
        asked.store, ISSUER, subject="user-ana"
    ),
    "with its agent": lambda asked, claims: revoke_blocking(
        asked.store, ISSUER, subject="user-ana", agent=claims["act"]["sub"]
    ),
    "with all tokens": lambda asked, claims: revoke_blocking(asked.store, ISSUER),
    "by the provider": lambda asked, claims: asked.push(),
    "by a button": lambda asked, claims: asked.server.disconnect("user-ana"),
    "when its link moved": move_link,
    "in our state alone": lambda asked, claims: asked.server.state.disconnect_user(
        "user-ana", None
    ),
}


@pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS)
def test_revoked_token_is_inactive_at_once(
    asked: Embedded, revoke: Callable[[Embedded, dict[str, Any]], object]
) -> None:
    token = token_for(asked)
    before = asked.introspect(token, auth=basic()).json()
    revoke(asked, claims_of(token))
    after = asked.introspect(token, auth=basic()).json()

    assert before["active"] is True
    assert after == INACTIVE


def test_revocation_of_others_changes_nothing(asked: Embedded) -> None:
    token = token_for(asked)
    revoke_blocking(asked.store, ISSUER, subject="user-ben")
    revoke_blocking(asked.store, ISSUER, subject="user-ana", agent="agent-x")
    revoke_blocking(asked.store, ISSUER, token_id="other")
    revoke_blocking(asked.store, "https://other.example", subject="user-ana")

    assert asked.introspect(token, auth=basic()).json()["active"] is True


def test_restart_changes_no_answer(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "revocations.db")
    with embed(tmp_path, store=store, **SETTINGS) as embedded:
        good, revoked = token_for(embedded), token_for(embedded)
        embedded.post_form("/oauth2/revoke", {"token": revoked})
    again = SQLiteStore(tmp_path / "revocations.db")
    with embed(tmp_path, store=again, **SETTINGS) as embedded:
        answers = [
            embedded.introspect(token, auth=basic()).json() for token in (good, revoked)
        ]

    assert answers[0]["active"] is True
    assert answers[1] == INACTIVE


class BrokenStore(MemoryStore):
    """A store that cannot be read once it is broken."""

    is_broken = False

    def read_log(self, after: int) -> Any:
        if self.is_broken:
            raise UnavailableError("store_unreachable", retry_after=9)
        return super().read_log(after)


def test_answer_without_the_log_is_none(tmp_path: Path) -> None:
    """A token is inactive only if it is; for whom it is not meant, it is anyway."""
    store = BrokenStore()
    with embed(tmp_path, store=store, **SETTINGS) as embedded:
        token = token_for(embedded)
        store.is_broken = True
        answer = embedded.introspect(token, auth=basic(), accept=JWT_ANSWER)
        unknown = embedded.introspect("unknown", auth=basic())
        not_theirs = embedded.introspect(token, auth=basic("files-api", SECRET[::-1]))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "9"
    assert answer.json() == {"error": "temporarily_unavailable"}
    assert is_not_stored(answer)
    assert (unknown.status_code, unknown.json()) == (200, INACTIVE)
    assert (not_theirs.status_code, not_theirs.json()) == (200, INACTIVE)


def test_answer_without_the_database_is_none(tmp_path: Path) -> None:
    with embed(tmp_path, **SETTINGS) as embedded:
        token = token_for(embedded)
        (tmp_path / "server.db").write_bytes(b"no database")
        answer = embedded.introspect(token, auth=basic())
        signed = embedded.introspect("unknown", **assertion_form())

    assert [answer.status_code, signed.status_code] == [503, 503]


# Signed answers.


def test_signed_answer_names_us_and_whom_it_is_for(asked: Embedded) -> None:
    token = token_for(asked)
    plain = asked.introspect(token, auth=basic()).json()
    began = int(time.time())
    answer = asked.introspect(token, auth=basic(), accept=JWT_ANSWER)
    keys = jwt.PyJWKSet.from_dict(asked.client.get("/.well-known/jwks.json").json())
    header = header_of(answer.text)
    claims = jwt.decode(
        answer.text, keys[header["kid"]], ["ES256"], audience="notes-api", issuer=ISSUER
    )

    assert answer.status_code == 200
    assert answer.headers["content-type"] == JWT_ANSWER
    assert is_not_stored(answer)
    assert header["typ"] == "token-introspection+jwt"
    assert claims["aud"] == "notes-api"
    assert began <= claims["iat"] <= time.time()
    assert claims["token_introspection"] == plain
    assert set(claims) == {"iss", "aud", "iat", "token_introspection"}


def test_signed_answer_is_no_access_token(asked: Embedded) -> None:
    client = IntrospectionClient(RESOURCE, resource=RESOURCE, client_secret=SECRET)
    token = token_for(asked)
    clients = asked.server.service.introspection_clients
    asked.server.service.introspection_clients = {**clients, RESOURCE: client}
    answer = asked.introspect(token, auth=basic(RESOURCE), accept=JWT_ANSWER).text

    assert claims_of(answer)["aud"] == RESOURCE
    assert asked.call_api(token).status_code == 200
    assert asked.call_api(answer).status_code == 401


@pytest.mark.parametrize(
    ("accept", "is_signed"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/jwt", False),
        (JWT_ANSWER, True),
        ("Application/Token-Introspection+JWT", True),
        (f"{JWT_ANSWER};q=0.9", True),
        (f"application/json, {JWT_ANSWER}", True),
    ],
)
def test_answer_is_signed_for_who_wants_it(
    asked: Embedded, accept: str | None, is_signed: bool
) -> None:
    answer = asked.introspect("unknown", auth=basic(), accept=accept)

    assert (answer.headers["content-type"] == JWT_ANSWER) is is_signed


# Who asks.


@pytest.mark.parametrize(
    "scheme", ["Basic", "basic", "BASIC", "Basic  "], ids=lambda scheme: repr(scheme)
)
def test_scheme_is_spelt_in_any_case(asked: Embedded, scheme: str) -> None:
    header = basic().replace("Basic", scheme)

    assert asked.introspect(token_for(asked), auth=header).json()["active"] is True


ODD = [
    pytest.param("colon:in:the:middle", id="colon"),
    pytest.param("per%cent %41 and % 100%", id="percent"),
    pytest.param("plus+plus+plus+plus", id="plus"),
    pytest.param(" space at both ends ", id="space"),
    pytest.param("nicht-ASCII: ä€𝄞 übung", id="non-ASCII"),
    pytest.param("&=?#/\\\"'<>;,@!$*()~._-", id="punctuation"),
    pytest.param("s" * 1000, id="long"),
]


@pytest.mark.parametrize("name", ODD)
def test_secret_of_any_characters_arrives(tmp_path: Path, name: str) -> None:
    """By both methods; and so does the name of the client."""
    client_id, secret = name[::-1], name
    client = IntrospectionClient(client_id, resource=RESOURCE, client_secret=secret)
    with embed(tmp_path, introspection_clients=[client]) as embedded:
        answers = [
            embedded.introspect("t", auth=basic(client_id, secret)),
            embedded.introspect("t", client_id=client_id, client_secret=secret),
            embedded.introspect("t", auth=basic(client_id, secret + "x")),
            embedded.introspect("t", client_id=client_id, client_secret=secret[:-1]),
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 401, 401]


@pytest.mark.parametrize("secret", ["a+b+c+d+e+f+g+h+i", "a%41b%42c%43d%44e", "ä" * 16])
def test_secret_that_was_not_encoded_is_another(tmp_path: Path, secret: str) -> None:
    client = IntrospectionClient("a", resource=RESOURCE, client_secret=secret)
    with embed(tmp_path, introspection_clients=[client]) as embedded:
        answers = [
            embedded.introspect("t", auth=raw_basic(f"a:{secret}".encode(charset)))
            for charset in ("utf-8", "latin-1")
        ]
        right = embedded.introspect("t", auth=basic("a", secret))

    assert [answer.status_code for answer in answers] == [401, 401]
    assert right.status_code == 200


def test_name_beside_the_header_may_only_repeat_it(asked: Embedded) -> None:
    same = asked.introspect("t", auth=basic(), client_id="notes-api")
    other = asked.introspect("t", auth=basic(), client_id="files-api")

    assert [same.status_code, other.status_code] == [200, 401]


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(basic(secret="wrong" * 5), id="wrong secret"),
        pytest.param(basic(secret=SECRET[:-1]), id="shorter secret"),
        pytest.param(basic(secret=SECRET[::-1]), id="secret of another"),
        pytest.param(basic(secret=""), id="empty secret"),
        pytest.param(basic("stranger"), id="stranger"),
        pytest.param(basic("", ""), id="nobody"),
        pytest.param(basic("signing-api", ""), id="client without a secret"),
        pytest.param(basic("signing-api", "None"), id="client whose secret is None"),
        pytest.param(raw_basic(b"notes-api"), id="no colon"),
        pytest.param(raw_basic(b"notes-api:\xff\xfe"), id="bytes that are no text"),
        pytest.param(raw_basic(b"notes-api:%ff%fe"), id="encoded bytes, no UTF-8"),
        pytest.param("Basic", id="nothing"),
        pytest.param("Basic !!!", id="no base64"),
        pytest.param(f"Basic {basic()[6:]}=", id="padding too many"),
        pytest.param(f"Basic realm=x {basic()[6:]}", id="two words"),
        pytest.param(basic().replace(" ", " " * 8192), id="too long to be decoded"),
        pytest.param(f"Bearer {basic()[6:]}", id="another scheme"),
        pytest.param("", id="empty header"),
    ],
)
def test_wrong_header_is_challenged(asked: Embedded, auth: str) -> None:
    answer = asked.introspect(token_for(asked), auth=auth)

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.headers["www-authenticate"].startswith('Basic realm="')
    assert is_not_stored(answer)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            {"client_id": "notes-api", "client_secret": "wrong"}, id="wrong secret"
        ),
        pytest.param(
            {"client_id": "files-api", "client_secret": SECRET}, id="of another"
        ),
        pytest.param({"client_id": "stranger", "client_secret": SECRET}, id="stranger"),
        pytest.param({"client_secret": SECRET}, id="no name"),
        pytest.param(
            {"client_id": "signing-api", "client_secret": "None"}, id="without one"
        ),
    ],
)
def test_wrong_form_is_refused(asked: Embedded, form: dict[str, str]) -> None:
    answer = asked.introspect(token_for(asked), **form)

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert "www-authenticate" not in answer.headers
    assert is_not_stored(answer)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"client_id": "notes-api"},
        {"client_id": "notes-api", "client_secret": ""},
        {"client_assertion_type": ASSERTION_TYPE},
    ],
    ids=["nothing", "name", "empty secret", "type alone"],
)
def test_who_does_not_say_who_asks_is_told_to(
    asked: Embedded, form: dict[str, str]
) -> None:
    answer = asked.introspect(token_for(asked), **form)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert is_not_stored(answer)


@pytest.mark.parametrize(
    ("auth", "make_form"),
    [
        pytest.param(
            basic(),
            lambda: {"client_id": "notes-api", "client_secret": SECRET},
            id="Basic and post",
        ),
        pytest.param(basic(), assertion_form, id="Basic and key"),
        pytest.param(
            None,
            lambda: assertion_form(client_id="notes-api", client_secret=SECRET),
            id="post and key",
        ),
        pytest.param("Bearer x", assertion_form, id="Bearer and key"),
    ],
)
def test_two_ways_at_once_are_refused(
    asked: Embedded, auth: str | None, make_form: Callable[[], dict[str, str]]
) -> None:
    answer = asked.introspect(token_for(asked), auth=auth, **make_form())

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def test_header_that_is_no_text_is_challenged(asked: Embedded) -> None:
    headers = [(b"content-type", FORM.encode()), (b"authorization", b"Basic \xff\xfe")]
    answer = asked.client.post(PATH, content="token=x", headers=headers)

    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


def test_two_headers_are_refused(asked: Embedded) -> None:
    answer = asked.client.post(
        PATH,
        content="token=x",
        headers=[
            ("content-type", FORM),
            ("authorization", basic()),
            ("authorization", basic()),
        ],
    )

    assert answer.status_code == 400


def test_credentials_in_the_query_count_for_nothing(asked: Embedded) -> None:
    form = {"client_id": "notes-api", "client_secret": SECRET, "token": "x"}
    answer = asked.client.post(f"{PATH}?{urlencode(form)}", data={"token": "x"})

    assert answer.status_code == 400


# Who asks with a key.


@pytest.mark.parametrize(
    "make_form",
    [
        pytest.param(assertion_form, id="as we advise"),
        pytest.param(
            lambda: assertion_form(client_id="signing-api"), id="with its name"
        ),
        pytest.param(
            lambda: assertion_form(client_assertion(header={"typ": "JWT"})), id="JWT"
        ),
        pytest.param(
            lambda: assertion_form(client_assertion(header={"typ": None})), id="no typ"
        ),
        pytest.param(
            lambda: assertion_form(client_assertion(header={"kid": None})), id="no kid"
        ),
        pytest.param(
            lambda: assertion_form(client_assertion(aud=f"{ISSUER}/")), id="slash"
        ),
        pytest.param(
            lambda: assertion_form(client_assertion(aud=ISSUER + PATH)),
            id="for the endpoint",
        ),
        pytest.param(
            lambda: assertion_form(
                client_assertion(iat=int(time.time()) + 50, exp=int(time.time()) + 350)
            ),
            id="clock ahead",
        ),
        pytest.param(
            lambda: assertion_form(
                client_assertion(iat=int(time.time()) - 90, exp=int(time.time()) - 50)
            ),
            id="clock behind",
        ),
    ],
)
def test_client_may_ask_with_its_key(
    asked: Embedded, make_form: Callable[[], dict[str, str]]
) -> None:
    answer = asked.introspect(token_for(asked), **make_form())

    assert answer.status_code == 200, answer.text
    assert answer.json()["active"] is True


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
def test_client_may_have_a_key_of_another_kind(tmp_path: Path, algorithm: str) -> None:
    keys = FakeIssuer("signing-api", algorithm=algorithm)
    client = IntrospectionClient("signing-api", resource=RESOURCE, jwks=keys.jwks)
    with embed(tmp_path, introspection_clients=[client]) as embedded:
        answer = embedded.introspect("t", **assertion_form(client_assertion(keys)))

    assert answer.status_code == 200


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    "make_assertion",
    [
        pytest.param(lambda: "x", id="no JWT"),
        pytest.param(lambda: "é", id="no ASCII"),
        pytest.param(lambda: client_assertion(pad="x" * 9000), id="long"),
        pytest.param(
            lambda: client_assertion(FakeIssuer("signing-api")), id="key of a stranger"
        ),
        pytest.param(
            lambda: client_assertion(
                FakeIssuer("signing-api"),
                header={"kid": header_of(KEYS.token("a"))["kid"]},
            ),
            id="signature of a stranger",
        ),
        pytest.param(
            lambda: client_assertion(OTHER_KEYS, iss="signing-api", sub="signing-api"),
            id="key of another client",
        ),
        pytest.param(lambda: client_assertion(FakeIssuer("stranger")), id="stranger"),
        pytest.param(
            lambda: client_assertion(iss="notes-api", sub="notes-api"),
            id="client without keys",
        ),
        pytest.param(lambda: client_assertion(iss=None), id="no iss"),
        pytest.param(lambda: client_assertion(sub=None), id="no sub"),
        pytest.param(lambda: client_assertion(sub="other-signing-api"), id="other sub"),
        pytest.param(lambda: client_assertion(aud=None), id="no aud"),
        pytest.param(
            lambda: client_assertion(aud="https://other.example"), id="other aud"
        ),
        pytest.param(lambda: client_assertion(aud=f"{ISSUER}{PATH}/"), id="aud below"),
        pytest.param(
            lambda: client_assertion(aud=f"{ISSUER}/oauth2/token"), id="aud is token"
        ),
        pytest.param(
            lambda: client_assertion(aud=[ISSUER, "https://other.example"]),
            id="several aud",
        ),
        pytest.param(lambda: client_assertion(aud=[ISSUER]), id="aud array"),
        pytest.param(lambda: client_assertion(exp=None), id="no exp"),
        pytest.param(
            lambda: client_assertion(iat=now() - 200, exp=now() - 65), id="expired"
        ),
        pytest.param(lambda: client_assertion(exp=now() + 310), id="lives long"),
        pytest.param(lambda: client_assertion(exp=now() - 1), id="exp before iat"),
        pytest.param(lambda: client_assertion(exp=str(now() + 60)), id="exp is text"),
        pytest.param(lambda: client_assertion(iat=None), id="no iat"),
        pytest.param(
            lambda: client_assertion(iat=now() + 70, exp=now() + 100), id="iat ahead"
        ),
        pytest.param(lambda: client_assertion(nbf=now() + 70), id="nbf ahead"),
        pytest.param(lambda: client_assertion(nbf="now"), id="nbf is text"),
        pytest.param(lambda: client_assertion(jti=None), id="no jti"),
        pytest.param(lambda: client_assertion(jti=""), id="empty jti"),
        pytest.param(
            lambda: client_assertion(header={"typ": "at+jwt"}), id="access token"
        ),
        pytest.param(
            lambda: client_assertion(header={"typ": "dpop+jwt"}), id="DPoP proof"
        ),
        pytest.param(
            lambda: f"{encoded({'alg': 'none'})}.{client_assertion().split('.')[1]}.",
            id="unsigned",
        ),
        pytest.param(
            lambda: jwt.encode(
                claims_of(client_assertion()), json.dumps(KEYS.jwks) * 2, "HS256"
            ),
            id="HMAC with the public key",
        ),
    ],
)
def test_wrong_assertion_is_refused(
    asked: Embedded, make_assertion: Callable[[], str]
) -> None:
    answer = asked.introspect(token_for(asked), **assertion_form(make_assertion()))

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert "www-authenticate" not in answer.headers
    assert is_not_stored(answer)


def test_algorithm_that_is_not_published_is_refused(tmp_path: Path) -> None:
    """A key may be good for several; what is accepted stands in the metadata."""
    keys = FakeIssuer("signing-api", algorithm="RS256")
    client = IntrospectionClient("signing-api", resource=RESOURCE, jwks=keys.jwks)
    claims = claims_of(client_assertion(keys))
    private: Any = keys._keys[-1].private  # pyright: ignore[reportPrivateUsage]
    with embed(tmp_path, introspection_clients=[client]) as embedded:
        status = {
            algorithm: embedded.introspect(
                "t",
                **assertion_form(
                    jwt.encode({**claims, "jti": algorithm}, private, algorithm)
                ),
            ).status_code
            for algorithm in ("RS256", "RS384", "RS512")
        }

    assert status == {"RS256": 200, "RS384": 401, "RS512": 401}


@pytest.mark.parametrize(
    "form",
    [
        {"client_assertion_type": ""},
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2"},
        {"client_id": "other-signing-api"},
        {"client_id": "stranger"},
    ],
    ids=["no type", "another type", "another's name", "a stranger's name"],
)
def test_wrong_words_beside_the_assertion_are_refused(
    asked: Embedded, form: dict[str, str]
) -> None:
    answer = asked.introspect("t", **assertion_form(**form))

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"


def test_assertion_is_good_once(asked: Embedded) -> None:
    """Its identifier is the client's own: another may have made up the same."""
    form = assertion_form(client_assertion(jti="one"))
    answers = [
        asked.introspect("t", **form),
        asked.introspect("t", **form),
        asked.introspect("t", **assertion_form(client_assertion(jti="one"))),
        asked.introspect(
            "t", **assertion_form(client_assertion(OTHER_KEYS, jti="one"))
        ),
    ]

    assert [answer.status_code for answer in answers] == [200, 401, 401, 200]


def test_refused_assertion_uses_up_nothing(asked: Embedded) -> None:
    """Or whoever guesses an identifier could lock its owner out."""
    forged = FakeIssuer("signing-api")
    asked.introspect("t", **assertion_form(client_assertion(forged, jti="one")))
    asked.introspect("t", **assertion_form(client_assertion(jti="one", aud="x")))
    answer = asked.introspect("t", **assertion_form(client_assertion(jti="one")))

    assert answer.status_code == 200


def test_assertion_is_remembered_as_long_as_it_may_be_good(tmp_path: Path) -> None:
    """To the end of the leeway, and beyond a restart."""
    form = assertion_form()
    with embed(tmp_path, **SETTINGS) as embedded:
        embedded.introspect("t", **form)
        late = time.time() + 60 + 55
        embedded.server.service.clock = lambda: late
        # Another makes room for those that are forgotten.
        embedded.introspect("t", **assertion_form(client_assertion(OTHER_KEYS)))
        replayed = embedded.introspect("t", **form)
    with embed(tmp_path, **SETTINGS) as embedded:
        restarted = embedded.introspect("t", **form)

    assert [replayed.status_code, restarted.status_code] == [401, 401]
    assert "presented before" in replayed.json()["error_description"]
    assert "presented before" in restarted.json()["error_description"]


# A middleware that shares nothing with us.


def in_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


FAR_KEY = ec.generate_private_key(ec.SECP384R1())
FAR_SECRET = "über: 100% + 1 secret"
FAR_CLIENTS = [
    IntrospectionClient("far: a+b", resource=RESOURCE, client_secret=FAR_SECRET),
    IntrospectionClient(
        "far key",
        resource=RESOURCE,
        jwks={"keys": [ECAlgorithm.to_jwk(FAR_KEY.public_key(), as_dict=True)]},
    ),
]


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize(
    "who",
    [
        Introspection("far: a+b", client_secret=FAR_SECRET),
        Introspection(
            "far: a+b", client_secret=FAR_SECRET, auth_method="client_secret_post"
        ),
        Introspection("far key", private_key=in_pem(FAR_KEY)),
    ],
    ids=["basic", "post", "key"],
)
def test_middleware_of_ours_elsewhere_learns_of_revocations_by_asking(
    tmp_path: Path, who: Introspection, signed: bool
) -> None:
    """It finds keys and endpoint by the metadata, and has a store of its own."""
    asking = replace(who, always=True, signed=signed)
    trusted = Issuer(ISSUER, introspection=asking)
    resource = ResourceServer(RESOURCE, issuers=[trusted])
    with embed(tmp_path, introspection_clients=FAR_CLIENTS) as embedded:
        good, revoked = embedded.access_token(), embedded.access_token()
        embedded.post_form("/oauth2/revoke", {"token": revoked})
        transport = httpx.ASGITransport(embedded.server)
        middleware = AgentAuthMiddleware(
            API,
            resource,
            store=MemoryStore(),
            http_client=httpx.AsyncClient(transport=transport),
        )
        with TestClient(middleware) as client:
            status = [
                client.get(
                    "/notes", headers={"authorization": f"Bearer {token}"}
                ).status_code
                for token in (good, revoked)
            ]

    assert status == [200, 401]


# What is no question.


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param("", FORM, id="empty"),
        pytest.param("token=", FORM, id="empty token"),
        pytest.param("token_type_hint=access_token", FORM, id="hint alone"),
        pytest.param("token=a&token=b", FORM, id="token twice"),
        pytest.param("token=a&x=1&x=2", FORM, id="anything twice"),
        pytest.param("token=%ff%fe", FORM, id="no UTF-8"),
        pytest.param("token=é".encode("latin-1"), FORM, id="no ASCII"),
        pytest.param(b"\x00\xff" * 100, FORM, id="junk"),
        pytest.param("token=" + "a" * 70_000, FORM, id="too long"),
        pytest.param('{"token":"a"}', "application/json", id="JSON"),
        pytest.param("token=a", "text/plain", id="text"),
    ],
)
@pytest.mark.parametrize("accept", [None, JWT_ANSWER])
def test_malformed_question_is_refused(
    asked: Embedded, body: str | bytes, content_type: str, accept: str | None
) -> None:
    headers = {"content-type": content_type, "authorization": basic()}
    answer = asked.client.post(
        PATH,
        content=body,
        headers=headers | ({"accept": accept} if accept else {}),
    )

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert is_not_stored(answer)


@pytest.mark.parametrize("twice", ["client_id", "client_secret"])
def test_credential_twice_is_refused(asked: Embedded, twice: str) -> None:
    pairs = [("client_id", "notes-api"), ("client_secret", SECRET), ("token", "x")]
    repeated = [pair for pair in pairs if pair[0] == twice]
    answer = asked.client.post(
        PATH, content=urlencode(pairs + repeated), headers={"content-type": FORM}
    )

    assert answer.status_code == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_question_is_posted(asked: Embedded, method: str) -> None:
    answer = asked.client.request(
        method, PATH, params={"token": "x"}, headers={"authorization": basic()}
    )

    assert answer.status_code == 405


def test_pages_may_not_ask(asked: Embedded) -> None:
    page = {"origin": "https://page.example"}
    posted = asked.client.post(
        PATH, data={"token": "x"}, headers=page | {"authorization": basic()}
    )
    preflight = asked.client.options(
        PATH, headers=page | {"access-control-request-method": "POST"}
    )

    assert [posted.status_code, preflight.status_code] == [200, 405]
    for answer in (posted, preflight):
        named = [name for name in answer.headers if name.startswith("access-control")]
        assert named == []


# What is published and logged.


def test_server_that_nobody_may_ask_has_no_endpoint(embedded: Embedded) -> None:
    answer = embedded.introspect("x", auth=basic())
    members = embedded.client.get(METADATA).json()

    assert answer.status_code == 404
    assert [name for name in members if "introspection" in name] == []


SECRETS = ["client_secret_basic", "client_secret_post"]


@pytest.mark.parametrize(
    ("clients", "methods"),
    [
        pytest.param([NOTES], SECRETS, id="secret"),
        pytest.param([SIGNING], ["private_key_jwt"], id="key"),
        pytest.param([SIGNING, NOTES], [*SECRETS, "private_key_jwt"], id="both"),
    ],
)
def test_metadata_says_how_to_ask(
    tmp_path: Path, clients: list[IntrospectionClient], methods: list[str]
) -> None:
    with embed(tmp_path, introspection_clients=clients) as embedded:
        members = embedded.client.get(METADATA).json()
    said = {name: members[name] for name in members if "introspection" in name}
    algorithms = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519", "ES384", "ES512"]
    signing = "introspection_endpoint_auth_signing_alg_values_supported"

    assert said == {
        "introspection_endpoint": ISSUER + PATH,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_signing_alg_values_supported": ["ES256"],
        **({signing: algorithms} if "private_key_jwt" in methods else {}),
    }


@pytest.mark.parametrize("path", ["/", "/tenant", "/tenant/", "/a%20b"])
def test_endpoint_is_below_the_issuer(tmp_path: Path, path: str) -> None:
    issuer = ISSUER + path
    with embed(
        tmp_path,
        issuer=issuer,
        resources=[resource_server(issuer)],
        introspection_clients=[NOTES, SIGNING],
    ) as embedded:
        members = embedded.client.get(issuer.rstrip("/") + METADATA).json()
        endpoint = members["introspection_endpoint"]
        answers = [
            embedded.client.post(
                endpoint,
                data={"token": embedded.access_token()}
                | assertion_form(client_assertion(aud=audience)),
            ).json()
            for audience in (issuer, endpoint)
        ]

    assert [answer["active"] for answer in answers] == [True, True]
    assert answers[0]["iss"] == issuer


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the records of this endpoint say."""
    found = [getattr(record, "agentauth", {}) for record in caplog.records]
    return [one for one in found if one.get("action") == "introspection"]


def test_each_answer_is_recorded_with_its_reason(
    asked: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentauth_middleware.audit")
    token, elsewhere = token_for(asked), token_for(asked, FILES)
    expired = signed_by_us(asked, exp=1)
    for asked_about in (token, "unknown", elsewhere, expired):
        asked.introspect(asked_about, auth=basic())
    asked.post_form("/oauth2/revoke", {"token": token})
    asked.introspect(token, auth=basic())
    asked.server.state.disconnect_user("user-ana", None)
    asked.introspect(elsewhere, auth=basic("files-api", SECRET[::-1]))
    its = {"registration_id": claims_of(token)["act"]["sub"]}
    notes, files = {"client_id": "notes-api"}, {"client_id": "files-api"}
    entry = {"action": "introspection", "outcome": "granted"}

    assert records(caplog) == [
        entry | notes | its | {"reason": "active_token"},
        entry | notes | {"reason": "unknown_token"},
        entry | notes | its | {"reason": "wrong_audience"},
        entry | notes | its | {"reason": "expired_token"},
        entry | notes | its | {"reason": "revoked_token"},
        entry | files | its | {"reason": "revoked_registration"},
    ]


def test_record_of_a_refusal_names_only_who_is_known(
    asked: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    """Some would write their secret where the name belongs."""
    caplog.set_level(logging.INFO, "agentauth_middleware.audit")
    asked.introspect("t", auth=basic(secret="wrong" * 5))
    asked.introspect("t", auth=basic(SECRET, "notes-api"))
    asked.introspect("t")
    said = [
        (record["outcome"], record["reason"], record.get("client_id"))
        for record in records(caplog)
    ]

    assert said == [
        ("refused", "invalid_client", "notes-api"),
        ("refused", "invalid_client", None),
        ("refused", "invalid_request", None),
    ]


def test_records_hold_neither_token_nor_secret(
    asked: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, assertion = token_for(asked), client_assertion()
    wrong = client_assertion(aud="x")
    asked.introspect(token, auth=basic())
    asked.introspect(token, auth=basic(secret=SECRET + "x"))
    asked.introspect(token, auth=basic(SECRET, "notes-api"))
    asked.introspect(token, client_id="notes-api", client_secret=SECRET)
    asked.introspect(token, **assertion_form(assertion))
    asked.introspect(token, **assertion_form(wrong))
    written = " ".join(
        f"{record.getMessage()} {vars(record)}"
        for record in caplog.records
        if record.name == "agentauth_middleware.audit"
    )
    kept = [SECRET, quote_plus(SECRET), basic()[6:], "user-ana"]
    kept += [part for one in (token, assertion, wrong) for part in one.split(".")[1:]]

    assert "introspection" in written
    assert [secret for secret in kept if secret in written] == []


# Settings.


def test_secret_does_not_show() -> None:
    """Not where settings are printed."""
    assert SECRET not in repr(NOTES)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"client_secret": None}, "neither", id="no proof"),
        pytest.param({"jwks": KEYS.jwks}, "exclude each other", id="two proofs"),
        pytest.param({"client_secret": ""}, "16 characters", id="empty secret"),
        pytest.param({"client_secret": "a" * 15}, "token_urlsafe", id="short secret"),
        pytest.param({"client_secret": b"a" * 16}, "client_secret", id="bytes"),
        pytest.param({"client_secret": f"{SECRET}\n"}, "strip", id="line break"),
        pytest.param({"client_secret": f"{SECRET}\ud800"}, "strip", id="surrogate"),
        pytest.param({"client_id": ""}, "client_id: '' is no text", id="no name"),
        pytest.param({"client_id": None}, "client_id: None", id="name is None"),
        pytest.param({"client_id": "a\nb"}, "line break", id="name of two lines"),
        pytest.param({"resource": None}, r"resource: None", id="no resource"),
        pytest.param(
            {"client_secret": None, "jwks": []}, "not a JWK Set", id="keys are a list"
        ),
        pytest.param(
            {"client_secret": None, "jwks": {}}, "keys is not an array", id="no keys"
        ),
        pytest.param(
            {"client_secret": None, "jwks": {"keys": []}},
            "no key in it can verify",
            id="no key",
        ),
        pytest.param(
            {"client_secret": None, "jwks": {"keys": [{"kty": "oct", "k": "YQ"}]}},
            "give public signing keys",
            id="symmetric key",
        ),
    ],
)
def test_client_that_cannot_ask_is_refused(settings: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "client_id": "notes-api",
        "resource": RESOURCE,
        "client_secret": SECRET,
        **settings,
    }

    with pytest.raises(ConfigurationError, match=says) as raised:
        IntrospectionClient(given.pop("client_id"), **given)
    assert str(raised.value).startswith("IntrospectionClient")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("clients", "says"),
    [
        pytest.param([NOTES, NOTES], "the same client_id twice", id="twice"),
        pytest.param(NOTES, "write a list", id="no list"),
        pytest.param(["notes-api"], "IntrospectionClient", id="text"),
        pytest.param([OTHER], f"'files-api' is for '{FILES}'", id="other resource"),
    ],
)
def test_clients_that_cannot_ask_are_refused(
    tmp_path: Path, clients: Any, says: str
) -> None:
    with (
        pytest.raises(ConfigurationError, match=says) as raised,
        embed(tmp_path, introspection_clients=clients),
    ):
        pass
    assert "introspection_clients" in str(raised.value)
