"""What a server gets to see of who we are, and what nobody else does."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote_plus

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._io.clients import BlockingHTTPClient
from agentauth_middleware.settings.client_authentication import (
    ClientAuthentication,
    load_private_key,
)
from tests.support.carrying_out import Get, everything_told, failure_of, fetch
from tests.support.scripted_server import Script, Server, answer_all

Serve: TypeAlias = Callable[[Script], Server]

ISSUER = "https://as.example"
TOKEN = (("token", "opaque"),)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def authenticated(url: str, authentication: ClientAuthentication) -> Fetch:
    return fetch(url, form=TOKEN, authentication=authentication)


def by_key(key: Any, algorithm: str, **others: Any) -> ClientAuthentication:
    return ClientAuthentication(
        "private_key_jwt",
        "us",
        private_key=key,
        algorithm=algorithm,
        audience=ISSUER,
        **others,
    )


ODD = pytest.mark.parametrize(
    "odd", ["a:b", "100%", "%3A", "a+b", "a b", "a&b=c", "é€😀", "~*-._", ""], ids=ascii
)


@ODD
def test_basic_encodes_user_and_password_as_in_a_form(
    get: Get, serve: Serve, odd: str
) -> None:
    """Else a colon in the name would end it, and who decodes a percent gets another."""
    server = serve(answer_all)
    get(
        authenticated(server.url, ClientAuthentication("client_secret_basic", odd, odd))
    )
    scheme, _, credentials = server.fields()["authorization"].partition(" ")
    user, colon, password = base64.b64decode(credentials).decode("ascii").partition(":")

    assert scheme == "Basic"
    assert colon == ":"
    assert " " not in user
    assert (unquote_plus(user), unquote_plus(password)) == (odd, odd)
    assert ":" not in password
    assert server.bodies == [b"token=opaque"]


@pytest.mark.parametrize(
    ("client_id", "secret", "header"),
    [
        pytest.param("s6BhdRkqt3", "gX1fBat3bV", "s6BhdRkqt3:gX1fBat3bV", id="plain"),
        pytest.param("a:b c", "100%+é", "a%3Ab+c:100%25%2B%C3%A9", id="odd"),
    ],
)
def test_basic_is_spelt_as_the_standard_has_it(
    get: Get, serve: Serve, client_id: str, secret: str, header: str
) -> None:
    """RFC 6749 §2.3.1 and appendix B."""
    server = serve(answer_all)
    authentication = ClientAuthentication("client_secret_basic", client_id, secret)
    get(authenticated(server.url, authentication))
    expected = base64.b64encode(header.encode()).decode()

    assert server.fields()["authorization"] == f"Basic {expected}"


@ODD
def test_post_puts_user_and_password_into_the_body_alone(
    get: Get, serve: Serve, odd: str
) -> None:
    server = serve(answer_all)
    get(authenticated(server.url, ClientAuthentication("client_secret_post", odd, odd)))
    form = parse_qs(server.bodies[0].decode(), keep_blank_values=True)

    assert form == {"token": ["opaque"], "client_id": [odd], "client_secret": [odd]}
    assert "authorization" not in server.fields()


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (ED25519, "EdDSA")]
)
def test_private_key_jwt_is_an_assertion_for_the_issuer(
    get: Get, serve: Serve, key: Any, algorithm: str
) -> None:
    server = serve(answer_all)
    before = int(time.time())
    get(authenticated(server.url, by_key(key, algorithm, key_id="first")))
    form = parse_qs(server.bodies[0].decode())
    (assertion,) = form.pop("client_assertion")
    claims = jwt.decode(
        assertion,
        key.public_key(),
        algorithms=[algorithm],
        audience=ISSUER,
        options={"require": ["iss", "sub", "aud", "jti", "iat", "exp"]},
    )

    assert jwt.get_unverified_header(assertion) == {
        "alg": algorithm,
        "typ": "client-authentication+jwt",
        "kid": "first",
    }
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("us", "us", ISSUER)
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] <= 60
    assert form == {
        "token": ["opaque"],
        "client_id": ["us"],
        "client_assertion_type": [
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ],
    }
    assert "authorization" not in server.fields()


def test_private_key_jwt_is_made_for_each_request(get: Get, serve: Serve) -> None:
    """Servers refuse one that they have seen; and it need not name its key."""
    server = serve(answer_all)
    asked = authenticated(server.url, by_key(P256, "ES256"))
    get(asked)
    get(asked)
    assertions = [
        parse_qs(body.decode())["client_assertion"][0] for body in server.bodies
    ]
    unverified = {"verify_signature": False}
    named = {jwt.decode(one, options=unverified)["jti"] for one in assertions}  # type: ignore[arg-type]

    assert len(named) == 2
    assert "kid" not in jwt.get_unverified_header(assertions[0])


def test_authentication_of_a_given_client_is_left_out(serve: Serve) -> None:
    """Servers refuse a client that authenticates in two ways (RFC 6749 §2.3)."""
    server = serve(answer_all)
    authentication = ClientAuthentication("client_secret_post", "us", "secret")
    with httpx.Client(auth=("other", "other")) as given:
        client = BlockingHTTPClient(given)
        client.carry_out(authenticated(server.url, authentication))
        client.carry_out(fetch(server.url))

    assert "authorization" not in server.fields(0)
    assert server.fields(1)["authorization"].startswith("Basic ")


@pytest.mark.parametrize("end", ["", "\udc00"], ids=["text", "no text"])
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_secret_is_told_to_nobody_but_the_server(
    get: Get, nobodys_url: str, method: Any, end: str
) -> None:
    asked = authenticated(
        nobodys_url, ClientAuthentication(method, "us", f"SECRET{end}")
    )
    failure = failure_of(get, asked)
    encoded = base64.b64encode(b"us:SECRET").decode()

    assert failure.reason == "upstream_unreachable"
    assert "SECRET" not in everything_told(failure)
    assert encoded not in everything_told(failure)
    assert "SECRET" not in repr(asked)


def test_private_key_is_not_shown() -> None:
    assert "private_key=" not in repr(by_key(P256, "ES256"))


@pytest.mark.parametrize(
    "incomplete",
    [
        ClientAuthentication("client_secret_basic", "us"),
        ClientAuthentication("client_secret_post", "us"),
        ClientAuthentication("private_key_jwt", "us", private_key=P256),
    ],
    ids=lambda authentication: authentication.method,
)
def test_incomplete_authentication_is_a_bug(
    get: Get, incomplete: ClientAuthentication
) -> None:
    """Settings see to it; a request without would only look like a refusal."""
    with pytest.raises(TypeError, match=incomplete.method):
        get(authenticated("https://as.example/introspect", incomplete))


# Loading the key


def pem(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return encoded


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        pytest.param(RSA, "RS256", id="RSA"),
        pytest.param(P256, "ES256", id="P-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), "ES384", id="P-384"),
        pytest.param(ec.generate_private_key(ec.SECP521R1()), "ES512", id="P-521"),
        pytest.param(ED25519, "EdDSA", id="Ed25519"),
    ],
)
@pytest.mark.parametrize("spell", [bytes, bytes.decode], ids=["bytes", "text"])
def test_load_private_key_chooses_the_algorithm(
    key: Any, algorithm: str, spell: Callable[[bytes], str | bytes]
) -> None:
    loaded, chosen = load_private_key(spell(pem(key)))

    assert chosen == algorithm
    assert pem(loaded) == pem(key)


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        pytest.param(b"", "is no private key", id="empty"),
        pytest.param("schlüssel", "is no private key", id="no PEM"),
        pytest.param("\udc00", "is no private key", id="no text"),
        pytest.param(
            P256.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ),
            "is no private key",
            id="public",
        ),
        pytest.param(
            P256.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "is encrypted",
            id="encrypted",
        ),
        pytest.param(
            pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505
            "2048 bits",
            id="short RSA",
        ),
        pytest.param(
            pem(ec.generate_private_key(ec.SECP256K1())), "another kind", id="k1"
        ),
        pytest.param(
            pem(x25519.X25519PrivateKey.generate()), "another kind", id="X25519"
        ),
        pytest.param(pem(dsa.generate_private_key(2048)), "another kind", id="DSA"),
    ],
)
def test_load_private_key_refuses_what_cannot_sign(
    unfit: str | bytes, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        load_private_key(unfit)
