"""The small agent provider as an application: what it signs and what it delivers."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from agentauth_middleware.testing import FakeProvider, ServedIssuer, provider_app
from tests.authorization_server.embedded import ISSUER, PROVIDER, Embedded, claims_of

PATHS = ["/assertions", "/disconnect"]


@pytest.fixture
def client(embedded: Embedded) -> TestClient:
    """The provider that the embedded server trusts."""
    return TestClient(provider_app(embedded.provider), PROVIDER)


def test_provider_signs_for_its_user(client: TestClient, embedded: Embedded) -> None:
    members = {
        "audience": ISSUER,
        "subject": "provider-user-1",
        "email": "ana@example.com",
    }
    signed = client.post("/assertions", json=members).json()["assertion"]

    assert claims_of(signed)["sub"] == "provider-user-1"
    assert embedded.register(signed).status_code == 200


def test_provider_publishes_its_keys(client: TestClient, embedded: Embedded) -> None:
    metadata = client.get("/.well-known/oauth-authorization-server").json()

    assert metadata["issuer"] == PROVIDER
    assert client.get(metadata["jwks_uri"]).json() == embedded.provider.jwks


def test_provider_tells_how_the_event_was_received(
    client: TestClient, served: ServedIssuer
) -> None:
    """Here by a server that takes no POST at all."""
    answer = client.post("/disconnect", json=disconnection(f"{served.issuer}/events"))

    assert answer.status_code == 200
    assert answer.json() == {"status": 501}


@pytest.mark.parametrize(
    "receiver", ["http://127.0.0.1:1/events", "nonsense", "http://[", "http://x:99999"]
)
def test_provider_tells_that_the_event_was_not_received(
    client: TestClient, receiver: str
) -> None:
    assert client.post("/disconnect", json=disconnection(receiver)).status_code == 502


def disconnection(receiver: str) -> dict[str, str]:
    return {"audience": ISSUER, "subject": "a", "events_endpoint": receiver}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [None, [], {}, "x", {"audience": ISSUER}])
def test_provider_refuses_what_it_does_not_understand(
    client: TestClient, path: str, body: Any
) -> None:
    assert client.post(path, json=body).status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_provider_refuses_members_that_are_no_strings(
    client: TestClient, path: str
) -> None:
    members = {"audience": [ISSUER], "subject": 1, "email": 2, "events_endpoint": 3}

    assert client.post(path, json=members).status_code == 400


def test_claims_and_header_may_be_replaced_and_left_out() -> None:
    provider = FakeProvider(PROVIDER)
    claims = claims_of(provider.id_jag(ISSUER, email=None, jti="x", auth_time=None))
    event = claims_of(provider.revoked_event(ISSUER, subject="a", toe=1))

    assert claims["jti"] == "x"
    assert claims.keys().isdisjoint({"auth_time", "email", "email_verified"})
    assert (event["sub"], event["toe"]) == ("a", 1)
