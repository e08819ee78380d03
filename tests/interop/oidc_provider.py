"""npm's ``oidc-provider``, and how its tokens are come by."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.examples.programs import Program, running

SCRIPT = "tests/interop/node/oidc_provider.mjs"

AGENT, AGENT_SECRET = "agent", "secret-of-the-agent"
CALLBACK = "http://127.0.0.1/callback"


@dataclass(frozen=True)
class OIDCProvider:
    """A running one."""

    issuer: str
    program: Program
    http: httpx.Client

    @property
    def port(self) -> int:
        port = httpx.URL(self.issuer).port
        assert port is not None
        return port

    def token(self, resource: str, *scopes: str, bound: bool = False) -> str:
        """An access token with which the agent acts for itself.

        *bound* makes it one that is good only together with proof of a key.
        """
        form = {
            "grant_type": "client_credentials",
            "resource": resource,
            "scope": " ".join(scopes),
        }
        proof = {"dpop": _proof(f"{self.issuer}/token")} if bound else {}
        token: str = self._post("/token", form, proof).json()["access_token"]
        return token

    def user_tokens(self, user: str, resource: str, *scopes: str) -> dict[str, str]:
        """What the agent gets to act for *user*, who says yes.

        The access token, the refresh token and the ID token, by their names in the
        answer (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
        """
        verifier = secrets.token_urlsafe(32)
        form = {
            "grant_type": "authorization_code",
            "resource": resource,
            "code": self._authorize(user, resource, scopes, verifier),
            "code_verifier": verifier,
            "redirect_uri": CALLBACK,
        }
        tokens: dict[str, str] = self._post("/token", form).json()
        return tokens

    def revoke(self, token: str) -> None:
        """RFC 7009 §2.1"""
        self._post("/token/revocation", {"token": token})

    def change_keys(self, *, keep_old: bool) -> None:
        """Sign with new keys from now on; *keep_old* leaves the old ones published."""
        self._post(f"/change-keys{'?keep' if keep_old else ''}", {})

    def _authorize(
        self, user: str, resource: str, scopes: tuple[str, ...], verifier: str
    ) -> str:
        """The code that a browser brings back (RFC 6749 §4.1.2, RFC 7636 §4.2)."""
        digest = sha256(verifier.encode()).digest()
        asked = {
            "client_id": AGENT,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "resource": resource,
            "scope": " ".join(["openid", "offline_access", *scopes]),
            "prompt": "consent",
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        page = self.http.get(f"{self.issuer}/auth", params=asked)
        for answer in ({"prompt": "login", "login": user}, {"prompt": "consent"}):
            page = self.http.post(_target(page), data=answer)
            page = self.http.get(_target(page))
        self.http.cookies.clear()
        return _target(page).params["code"]

    def _post(
        self,
        path: str,
        form: Mapping[str, str],
        fields: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        answer = self.http.post(
            f"{self.issuer}{path}",
            data=form,
            headers=fields,
            auth=(AGENT, AGENT_SECRET),
        )
        assert answer.is_success, answer.text
        return answer


def _target(page: httpx.Response) -> httpx.URL:
    """Where a browser goes from *page*."""
    assert page.has_redirect_location, page.text
    return page.url.join(page.headers["location"])


def _proof(url: str) -> str:
    """That its sender has a key, which is a new one (RFC 9449 §4.2)."""
    key = ec.generate_private_key(ec.SECP256R1())
    claims = {
        "jti": secrets.token_urlsafe(12),
        "htm": "POST",
        "htu": url,
        "iat": int(time.time()),
    }
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(claims, key, "ES256", headers={"typ": "dpop+jwt", "jwk": public})


@contextmanager
def serving(
    resources: Mapping[str, Any], clients: list[dict[str, Any]], *, port: int = 0
) -> Generator[OIDCProvider, None, None]:
    """One that knows these *resources* and, beside the agent, these *clients*."""
    agent = {
        "client_id": AGENT,
        "client_secret": AGENT_SECRET,
        "grant_types": ["authorization_code", "client_credentials", "refresh_token"],
        "redirect_uris": [CALLBACK],
        "application_type": "native",
    }
    told = {"port": port, "resources": resources, "clients": [agent, *clients]}
    with (
        running(["node", SCRIPT, json.dumps(told)], {}) as program,
        httpx.Client() as http,
    ):
        line = program.wait_for_line("issuer: ")
        yield OIDCProvider(line.removeprefix("issuer: "), program, http)
