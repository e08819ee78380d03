"""What ``FakeIssuer`` lacks of an authorization server: clients that register, a user
who always says yes, and the exchange of a code for a token."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from agentauth_middleware.testing import FakeIssuer, ServedIssuer

AGENT = "assistant"
"""Who acts for the user with every token that is given out here."""
USER = "alice"

Message = Mapping[str, str]


@dataclass
class Authorization:
    """The endpoints of an issuer, and what they were asked for."""

    issuer: ServedIssuer
    url: str
    authorization_requests: list[Message] = field(default_factory=list[Message])
    token_requests: list[Message] = field(default_factory=list[Message])
    _open: dict[str, Message] = field(default_factory=dict[str, Message])

    @property
    def metadata(self) -> dict[str, Any]:
        """What a client has to know (RFC 8414 §2)."""
        return {
            "issuer": self.issuer.issuer,
            "jwks_uri": f"{self.issuer.issuer}/jwks.json",
            "registration_endpoint": f"{self.url}/register",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    def register(self, client: Mapping[str, Any]) -> dict[str, Any]:
        """RFC 7591 §3.2.1"""
        return {**client, "client_id": f"client-{secrets.token_hex(4)}"}

    def authorize(self, request: Message) -> str:
        """Where the browser is sent back to (RFC 6749 §4.1.2)."""
        self.authorization_requests.append(request)
        assert request["response_type"] == "code"
        assert request["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(12)
        self._open[code] = request
        returned = {"code": code, "state": request.get("state", "")}
        return f"{request['redirect_uri']}?{urlencode(returned)}"

    def exchange(self, request: Message) -> dict[str, Any]:
        """An access token for a code (RFC 6749 §4.1.3, RFC 7636 §4.6, RFC 8707 §2)."""
        self.token_requests.append(request)
        authorized = self._open.pop(request["code"])
        digest = hashlib.sha256(request["code_verifier"].encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert challenge == authorized["code_challenge"]
        assert request["redirect_uri"] == authorized["redirect_uri"]
        scope = authorized.get("scope", "")
        token = self.issuer.token(
            request["resource"],
            subject=USER,
            agent=AGENT,
            scopes=scope.split(),
            client_id=authorized["client_id"],
        )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": scope,
        }


@contextmanager
def authorizing() -> Generator[Authorization, None, None]:
    """A served ``FakeIssuer`` that clients can get tokens from, on two free ports."""
    with FakeIssuer.serve() as issuer:
        server = _Server(issuer)
        body = json.dumps(server.authorization.metadata).encode()
        fields = {"content-type": "application/json"}
        path = "/.well-known/oauth-authorization-server"
        issuer.replies[path] = (200, fields, body)
        thread = threading.Thread(
            target=server.serve_forever, args=(0.02,), daemon=True
        )
        thread.start()
        try:
            yield server.authorization
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, issuer: ServedIssuer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        url = f"http://127.0.0.1:{self.server_port}"
        self.authorization = Authorization(issuer, url)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if path != "/authorize":
            self._answer(404)
            return
        url = self._authorization.authorize(dict(parse_qsl(query)))
        self._answer(302, {"location": url})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        match self.path:
            case "/register":
                self._answer_json(201, self._authorization.register(json.loads(body)))
            case "/token":
                form = dict(parse_qsl(body))
                self._answer_json(200, self._authorization.exchange(form))
            case _:
                self._answer(404)

    @property
    def _authorization(self) -> Authorization:
        return cast(_Server, self.server).authorization

    def _answer_json(self, status: int, members: Mapping[str, Any]) -> None:
        fields = {"content-type": "application/json", "cache-control": "no-store"}
        self._answer(status, fields, json.dumps(members).encode())

    def _answer(
        self, status: int, fields: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        self.send_response(status)
        length = {"content-length": str(len(body))}
        for name, value in {**length, **(fields or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is not the place for an access log."""
