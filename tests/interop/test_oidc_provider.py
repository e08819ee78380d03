"""Tokens that npm's ``oidc-provider`` issues: JWTs, and opaque ones."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from agentauth_middleware import Introspection, Issuer, ResourceServer, Route
from tests.interop.conftest import has_node_package
from tests.interop.middlewares import (
    AUDIT,
    RunningMiddleware,
    ask,
    is_our_trouble,
    is_refused,
    reasons,
    seen_access,
)
from tests.interop.oidc_provider import AGENT, OIDCProvider, serving
from tests.support.deadlines import try_within

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        shutil.which("node") is None or not has_node_package("oidc-provider"),
        reason="no node, or no oidc-provider for it; run `make system-deps`",
    ),
]

OPAQUE = "https://notes.example.com"
"""The resource whose tokens tell nothing to whoever holds them."""
OTHER_OPAQUE = "https://others.example.com"
JWT = {"RS256": "https://rs.example.com", "ES256": "https://es.example.com"}
"""Those whose tokens are JWTs."""

SCOPES = {"notes.read": "Read your notes", "notes.write": "Add to your notes"}
ROUTES = (
    Route("/notes", methods=("GET",), scopes=("notes.read",)),
    Route("/notes", methods=("POST",), scopes=("notes.read", "notes.write")),
)
ALWAYS_ASKED = Route("/vault", introspect=True)

SECRET = "of: the+API, 100% & more/?="
"""Each of these characters means something on the way."""


CLIENTS = ("api-basic", "api-post", "api-key-ec", "api-key-rsa")
"""As whom the API may ask, each in its own way."""
STRANGERS = ("api-basic", "api-post", "api-key-ec", "nobody")


def credentials(client: str) -> dict[str, Any]:
    """What *client* shows, as settings of ``Introspection``."""
    match client:
        case "api-post":
            return {"client_secret": SECRET, "auth_method": "client_secret_post"}
        case "api-key-ec":
            return {"private_key": _pem(_ec_key()), "key_id": "ec"}
        case "api-key-rsa":
            return {"private_key": _pem(_rsa_key())}
        case _:
            return {"client_secret": SECRET}


def wrong_credentials(client: str) -> dict[str, Any]:
    match client:
        case "api-key-ec":
            return {"private_key": _pem(ec.generate_private_key(ec.SECP256R1()))}
        case "nobody":
            return credentials(client)
        case _:
            return {**credentials(client), "client_secret": "not-it"}


@cache
def _ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _registered() -> list[dict[str, Any]]:
    """The clients as the provider knows them (RFC 7591 §2)."""
    public = [
        {**ECAlgorithm.to_jwk(_ec_key().public_key(), as_dict=True), "kid": "ec"},
        {**RSAAlgorithm.to_jwk(_rsa_key().public_key(), as_dict=True), "kid": "rsa"},
    ]
    asks_only: dict[str, Any] = {
        "grant_types": [],
        "response_types": [],
        "redirect_uris": [],
    }
    with_secret = {**asks_only, "client_secret": SECRET}
    with_key = {
        **asks_only,
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": public},
    }
    return [
        {**with_secret, "client_id": "api-basic"},
        {
            **with_secret,
            "client_id": "api-post",
            "token_endpoint_auth_method": "client_secret_post",
            "introspection_signed_response_alg": "ES256",
        },
        {**with_key, "client_id": "api-key-ec"},
        {**with_key, "client_id": "api-key-rsa"},
    ]


def _resources() -> dict[str, Any]:
    opaque = {"scope": " ".join(SCOPES), "accessTokenFormat": "opaque"}
    told: dict[str, Any] = {
        resource: {**opaque, "audience": resource}
        for resource in (OPAQUE, OTHER_OPAQUE)
    }
    for algorithm, resource in JWT.items():
        sign = {"sign": {"alg": algorithm}}
        told[resource] = {**opaque, "accessTokenFormat": "jwt", "jwt": sign}
    return told


@contextmanager
def started(port: int = 0) -> Generator[OIDCProvider, None, None]:
    with serving(_resources(), _registered(), port=port) as provider:
        yield provider


@pytest.fixture(scope="module")
def provider() -> Iterator[OIDCProvider]:
    """One for all tests that leave it as it is."""
    with started() as provider:
        yield provider


@pytest.fixture
def own_provider() -> Iterator[OIDCProvider]:
    """One whose keys a test may change, and that it may stop."""
    with started() as provider:
        yield provider


def resource_server(
    resource: str,
    provider: OIDCProvider,
    introspection: Introspection | None = None,
    **settings: Any,
) -> ResourceServer:
    """One that learns the rest from the provider. *settings* are ``Issuer``'s."""
    issuer = Issuer(provider.issuer, introspection=introspection, **settings)
    return ResourceServer(
        resource,
        issuers=[issuer],
        scopes=SCOPES,
        routes=ROUTES if introspection is None else (*ROUTES, ALWAYS_ASKED),
        insecure_loopback=True,
    )


def asking(client: str = "api-basic", **settings: Any) -> Introspection:
    # A busy machine is no reason to give up.
    chosen: dict[str, Any] = {**credentials(client), "timeout": 20, **settings}
    return Introspection(client, **chosen)


@pytest.mark.parametrize("algorithm", JWT)
def test_jwt_is_accepted_with_discovered_keys(
    start_middleware: RunningMiddleware, provider: OIDCProvider, algorithm: str
) -> None:
    resource = JWT[algorithm]
    middleware = start_middleware(resource_server(resource, provider))
    answer = ask(middleware, provider.token(resource, "notes.read"))
    access = seen_access(middleware)

    assert answer.status == 200
    assert access.scopes == {"notes.read"}
    assert access.client_id == AGENT
    assert access.issuer == provider.issuer
    assert access.audience == (resource,)


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("client", CLIENTS)
def test_opaque_token_is_accepted_by_introspection(
    start_middleware: RunningMiddleware,
    provider: OIDCProvider,
    client: str,
    signed: bool,
) -> None:
    asked = asking(client, signed=signed)
    middleware = start_middleware(resource_server(OPAQUE, provider, asked))
    answer = ask(middleware, provider.token(OPAQUE, "notes.read"))
    access = seen_access(middleware)

    assert answer.status == 200
    assert access.scopes == {"notes.read"}
    assert access.client_id == AGENT
    assert access.issuer == provider.issuer
    assert access.audience == (OPAQUE,)


@pytest.mark.parametrize("resource", [OPAQUE, JWT["ES256"]], ids=["opaque", "JWT"])
def test_token_of_a_user_tells_who_it_is(
    start_middleware: RunningMiddleware, provider: OIDCProvider, resource: str
) -> None:
    server = resource_server(resource, provider, asking(), subjects="users")
    middleware = start_middleware(server)
    tokens = provider.user_tokens("alice", resource, "notes.read")
    answer = ask(middleware, tokens["access_token"])
    access = seen_access(middleware)

    assert answer.status == 200
    assert access.user is not None
    assert access.user.subject == "alice"
    assert access.user.issuer == provider.issuer
    assert access.client_id == AGENT


@pytest.mark.parametrize("resource", [OPAQUE, JWT["ES256"]], ids=["opaque", "JWT"])
def test_token_needs_the_scopes_of_the_route(
    start_middleware: RunningMiddleware, provider: OIDCProvider, resource: str
) -> None:
    middleware = start_middleware(resource_server(resource, provider, asking()))
    reading = provider.token(resource, "notes.read")
    writing = provider.token(resource, "notes.read", "notes.write")

    assert ask(middleware, reading, method="POST").status == 403
    assert ask(middleware, writing, method="POST").status == 200


@pytest.mark.parametrize(
    ("ours", "theirs", "signed"),
    [
        pytest.param(OPAQUE, OTHER_OPAQUE, False, id="opaque"),
        pytest.param(OPAQUE, OTHER_OPAQUE, True, id="opaque, signed answer"),
        pytest.param(JWT["ES256"], JWT["RS256"], False, id="JWT"),
    ],
)
def test_token_for_another_resource_is_refused(
    start_middleware: RunningMiddleware,
    provider: OIDCProvider,
    ours: str,
    theirs: str,
    signed: bool,
) -> None:
    middleware = start_middleware(
        resource_server(ours, provider, asking(signed=signed))
    )
    answer = ask(middleware, provider.token(theirs, "notes.read"))

    assert is_refused(answer)
    assert middleware.seen == []


@pytest.mark.parametrize("other", ["refresh_token", "id_token"])
def test_token_of_another_kind_is_refused(
    start_middleware: RunningMiddleware, provider: OIDCProvider, other: str
) -> None:
    """A refresh token is active too, and has the scopes; but it is for nobody."""
    server = resource_server(OPAQUE, provider, asking(), audience=[OPAQUE, AGENT])
    middleware = start_middleware(server)
    tokens = provider.user_tokens("alice", OPAQUE, "notes.read")

    assert is_refused(ask(middleware, tokens[other]))
    assert ask(middleware, tokens["access_token"]).status == 200


@pytest.mark.parametrize("resource", [OPAQUE, JWT["ES256"]], ids=["opaque", "JWT"])
def test_token_bound_to_a_key_is_no_bearer_token(
    start_middleware: RunningMiddleware, provider: OIDCProvider, resource: str
) -> None:
    middleware = start_middleware(resource_server(resource, provider, asking()))
    token = provider.token(resource, "notes.read", bound=True)

    assert is_refused(ask(middleware, token))
    assert middleware.seen == []


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
def test_unknown_opaque_token_is_refused(
    start_middleware: RunningMiddleware, provider: OIDCProvider, signed: bool
) -> None:
    middleware = start_middleware(
        resource_server(OPAQUE, provider, asking(signed=signed))
    )

    assert is_refused(ask(middleware, secrets.token_urlsafe(32)))


def test_revoked_token_is_refused_when_it_is_forgotten(
    start_middleware: RunningMiddleware, provider: OIDCProvider
) -> None:
    middleware = start_middleware(
        resource_server(OPAQUE, provider, asking(remember_for=1))
    )
    token = provider.token(OPAQUE, "notes.read")
    before = ask(middleware, token)
    provider.revoke(token)
    after = try_within(
        3, lambda: ask(middleware, token), lambda answer: answer.status != 200
    )

    assert before.status == 200
    assert is_refused(after)


def test_revoked_token_is_refused_at_once_where_it_is_always_asked_about(
    start_middleware: RunningMiddleware, provider: OIDCProvider
) -> None:
    middleware = start_middleware(
        resource_server(OPAQUE, provider, asking(remember_for=300))
    )
    token = provider.token(OPAQUE, "notes.read")
    before = ask(middleware, token, "/vault")
    provider.revoke(token)

    assert before.status == 200
    assert is_refused(ask(middleware, token, "/vault"))


@pytest.mark.parametrize("client", STRANGERS)
def test_wrong_credentials_of_ours_are_not_held_against_the_client(
    start_middleware: RunningMiddleware,
    provider: OIDCProvider,
    client: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = Introspection(client, **wrong_credentials(client), timeout=20)
    middleware = start_middleware(resource_server(OPAQUE, provider, asked))
    with caplog.at_level(logging.INFO, AUDIT):
        answer = ask(middleware, provider.token(OPAQUE, "notes.read"))

    assert is_our_trouble(answer)
    assert reasons(caplog) == ["introspection_refused_us"]
    assert middleware.seen == []


def test_jwt_that_the_provider_does_not_introspect_is_our_trouble(
    start_middleware: RunningMiddleware, provider: OIDCProvider
) -> None:
    """It answers 400 about each JWT, so that such a setting lets nobody in."""
    middleware = start_middleware(resource_server(JWT["ES256"], provider, asking()))
    token = provider.token(JWT["ES256"], "notes.read")

    assert ask(middleware, token).status == 200
    assert is_our_trouble(ask(middleware, token, "/vault"))


@pytest.mark.parametrize(
    ("keep_old", "status"),
    [
        pytest.param(True, 200, id="old key still published"),
        pytest.param(False, 401, id="old key removed"),
    ],
)
def test_new_key_passes_on_its_first_request(
    start_middleware: RunningMiddleware,
    own_provider: OIDCProvider,
    keep_old: bool,
    status: int,
) -> None:
    resource = JWT["ES256"]
    middleware = start_middleware(resource_server(resource, own_provider))
    old = own_provider.token(resource, "notes.read")
    before = ask(middleware, old)
    own_provider.change_keys(keep_old=keep_old)
    new = own_provider.token(resource, "notes.read")

    assert before.status == 200
    assert ask(middleware, new).status == 200
    assert ask(middleware, old).status == status


def test_answer_signed_with_a_new_key_passes_on_the_first_request(
    start_middleware: RunningMiddleware, own_provider: OIDCProvider
) -> None:
    middleware = start_middleware(
        resource_server(OPAQUE, own_provider, asking(signed=True))
    )
    before = ask(middleware, own_provider.token(OPAQUE, "notes.read"))
    own_provider.change_keys(keep_old=False)
    after = ask(middleware, own_provider.token(OPAQUE, "notes.read"))

    assert before.status == after.status == 200


def test_known_tokens_go_on_while_the_provider_is_stopped(
    start_middleware: RunningMiddleware, own_provider: OIDCProvider
) -> None:
    asked = asking(remember_for=300)
    opaque = start_middleware(resource_server(OPAQUE, own_provider, asked))
    jwt = start_middleware(resource_server(JWT["ES256"], own_provider))
    jwt_without_keys = start_middleware(resource_server(JWT["ES256"], own_provider))
    tokens = [own_provider.token(OPAQUE, "notes.read") for _ in range(2)]
    jwts = [own_provider.token(JWT["ES256"], "notes.read") for _ in range(2)]
    known = [ask(opaque, tokens[0]), ask(jwt, jwts[0])]
    own_provider.program.stop()
    known += [ask(opaque, tokens[0]), ask(jwt, jwts[0]), ask(jwt, jwts[1])]

    assert [answer.status for answer in known] == [200] * 5
    assert is_our_trouble(ask(opaque, tokens[1]))
    assert is_our_trouble(ask(opaque, tokens[0], "/vault"))
    assert is_our_trouble(ask(jwt_without_keys, jwts[0]))


def test_tokens_of_a_provider_that_comes_back_are_accepted(
    start_middleware: RunningMiddleware, own_provider: OIDCProvider
) -> None:
    """It has other keys then, and has forgotten its tokens."""
    middlewares = {
        resource: start_middleware(resource_server(resource, own_provider, asking()))
        for resource in (OPAQUE, JWT["ES256"])
    }
    old = {
        resource: own_provider.token(resource, "notes.read") for resource in middlewares
    }
    own_provider.program.stop()
    assert all(
        is_our_trouble(ask(middlewares[resource], old[resource])) for resource in old
    )
    with started(own_provider.port) as back:
        for resource, middleware in middlewares.items():
            new = back.token(resource, "notes.read")
            answer = try_within(
                15, partial(ask, middleware, new), lambda answer: answer.status != 503
            )

            assert answer.status == 200
            assert is_refused(ask(middleware, old[resource]))
