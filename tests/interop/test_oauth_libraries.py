"""Clients of ``requests-oauthlib`` and ``authlib``."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from tests.interop.conftest import Notes

oauthlib = pytest.importorskip("requests_oauthlib", reason="see the group interop")
authlib = pytest.importorskip("authlib.integrations.requests_client")

pytestmark = pytest.mark.interop

CLIENT = "client-1"
CALLBACK = "http://127.0.0.1/callback"
BOTH = "notes.read notes.write"


class Session(Protocol):
    """What sessions of both libraries do."""

    def get(self, url: str) -> Any: ...
    def post(self, url: str, *, json: Any) -> Any: ...
    def fetch_token(self, url: str, **settings: Any) -> Any: ...


@pytest.fixture(autouse=True)
def _plain_http_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both refuse http, as they should, unless the environment allows it."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


def bearer(token: str) -> dict[str, str]:
    return {"access_token": token, "token_type": "Bearer"}


def oauthlib_session(token: str) -> Session:
    session: Session = oauthlib.OAuth2Session(CLIENT, token=bearer(token))
    return session


def authlib_session(token: str) -> Session:
    session: Session = authlib.OAuth2Session(CLIENT, token=bearer(token))
    return session


@pytest.mark.parametrize("open_session", [oauthlib_session, authlib_session])
def test_library_uses_a_token(notes: Notes, open_session: Any) -> None:
    reader = open_session(notes.token("notes.read"))
    writer = open_session(notes.token("notes.read", "notes.write"))
    made = writer.post(f"{notes.url}/notes", json={"text": "from a library"})
    refused = reader.post(f"{notes.url}/notes", json={"text": "not allowed"})

    assert made.status_code == 201
    assert made.json() in reader.get(f"{notes.url}/notes").json()["notes"]
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize("token", ["abc.def.ghi", "opaque"])
@pytest.mark.parametrize("open_session", [oauthlib_session, authlib_session])
def test_library_hears_that_its_token_is_no_good(
    notes: Notes, open_session: Any, token: str
) -> None:
    response = open_session(token).get(f"{notes.url}/notes")

    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_oauthlib_gets_a_token_and_uses_it(notes: Notes) -> None:
    session = oauthlib.OAuth2Session(
        CLIENT, redirect_uri=CALLBACK, scope=BOTH.split(), pkce="S256"
    )
    server = notes.authorization.metadata
    url, _ = session.authorization_url(server["authorization_endpoint"])
    returned = session.request("GET", url, withhold_token=True, allow_redirects=False)
    session.fetch_token(
        server["token_endpoint"],
        authorization_response=returned.headers["location"],
        include_client_id=True,
        resource=notes.url,
    )

    assert session.get(f"{notes.url}/notes").status_code == 200


def test_authlib_gets_a_token_and_uses_it(notes: Notes) -> None:
    session = authlib.OAuth2Session(
        CLIENT,
        redirect_uri=CALLBACK,
        scope=BOTH,
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
    )
    server = notes.authorization.metadata
    verifier = "v" * 43
    url, _ = session.create_authorization_url(
        server["authorization_endpoint"], code_verifier=verifier
    )
    returned = session.get(url, withhold_token=True, allow_redirects=False)
    session.fetch_token(
        server["token_endpoint"],
        authorization_response=returned.headers["location"],
        code_verifier=verifier,
        resource=notes.url,
    )

    assert session.get(f"{notes.url}/notes").status_code == 200


def test_library_that_puts_the_token_in_the_query_sends_no_credentials(
    notes: Notes,
) -> None:
    session = authlib.OAuth2Session(
        CLIENT, token=bearer(notes.token("notes.read")), token_placement="uri"
    )
    response = session.get(f"{notes.url}/notes")

    assert response.status_code == 401
    assert "error" not in response.json()
    assert "error=" not in response.headers["www-authenticate"]
