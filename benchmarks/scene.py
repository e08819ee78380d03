"""What is measured: a resource server as somebody would configure it, and its tokens.

The settings have routes, scopes and three issuers; the store is a ``SQLiteStore``
whose log holds a thousand revocations. The tokens are RFC 9068 access tokens for an
agent that acts for a user, about 1.4 kB long under RS256.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from agentauth_middleware import Access, Issuer, Principal, ResourceServer, Route
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.testing import FakeIssuer

__all__ = [
    "ALGORITHMS",
    "SETTING",
    "NewTokens",
    "Scene",
    "check_access",
    "claims_of",
    "mint",
    "resource_server",
]

NewTokens: TypeAlias = Mapping[str, Sequence[Sequence[str]]]
"""By algorithm and number of the round, tokens that no middleware has seen before."""

ALGORITHMS = ("RS256", "ES256", "EdDSA")
RESOURCE = "https://api.example.com"
REVOCATIONS = 1000
_BATCH = 8
"""New tokens in a round."""
SETTING = (
    "three issuers with given keys, six routes, three scopes, a SQLiteStore with "
    f"{REVOCATIONS} revocations; RFC 9068 tokens of about 1.4 kB under RS256, for an "
    "agent that acts for a user"
)

_SCOPES = {
    "notes.read": "Read your notes",
    "notes.write": "Write notes for you",
    "mail.send": "Send mail in your name",
}
_ROUTES = (
    Route("/health", public=True),
    Route("/admin/*", agent="forbidden", max_age=600),
    Route("/notes", methods=("GET",), scopes=("notes.read",)),
    Route("/notes", scopes=("notes.write",)),
    Route("/notes/{id}", methods=("GET",), scopes=("notes.read",), user="required"),
    Route("/notes/{id}", scopes=("notes.write",), user="required"),
)
_GRANTED = ("notes.read", "notes.write")
_CLAIMS: Mapping[str, Any] = {
    "auth_time": 1_760_000_000,
    "acr": "urn:example:loa:substantial",
    "amr": ["pwd", "otp"],
    "sid": "b6a1b5c2-4a3e-4f0e-9d0c-5f5b8d0f1a77",
    "groups": ["engineering", "oncall", "newsletter"],
    "roles": ["editor", "reviewer"],
    "entitlements": ["notes:unlimited", "mail:100-per-day", "export:pdf"],
    "tenant": "0d3f9a52-6a1e-4b55-8f0c-2f7f6f1f6f0b",
    "agent_platform": "desktop-assistant/4.2",
    "agent_context_id": "conv_01JD7W2Z8Y4QK3M5N6P7R8S9T0",
}
"""What else real tokens carry (RFC 9068 §2.2)."""


class Scene:
    """Issuers, settings and a store with revocations: what middlewares are built
    from."""

    def __init__(self, folder: Path, *, max_remembered_tokens: int = 20_000) -> None:
        self.issuers = {
            algorithm: FakeIssuer(
                f"https://{algorithm.lower()}.as.example.com", algorithm=algorithm
            )
            for algorithm in ALGORITHMS
        }
        self.server = resource_server(
            [issuer.trust() for issuer in self.issuers.values()],
            max_remembered_tokens=max_remembered_tokens,
        )
        self.store = SQLiteStore(folder / "agentauth.sqlite")
        self._revoke_others()

    def _revoke_others(self) -> None:
        """By token, by subject, and by subject and agent; none that is presented."""
        for number in range(REVOCATIONS):
            issuer = self.issuers[ALGORITHMS[number % 3]].issuer
            name = f"somebody-{number}"
            if number % 2:
                revoke_blocking(self.store, issuer, token_id=name)
            else:
                agent = _agent(number)
                revoke_blocking(self.store, issuer, subject=name, agent=agent)

    def token(
        self, algorithm: str = "RS256", *, header: Mapping[str, Any] | None = None
    ) -> str:
        """A token that nobody has seen."""
        return mint(self.issuers[algorithm], header=header)

    def tokens(self, count: int, algorithm: str = "RS256") -> list[str]:
        return [self.token(algorithm) for _ in range(count)]

    def new_tokens(self, rounds: range) -> NewTokens:
        """A batch of each algorithm for each of the *rounds*."""
        return {
            algorithm: [self.tokens(_BATCH, algorithm) for _ in rounds]
            for algorithm in ALGORITHMS
        }

    def revoke(self, token: str) -> None:
        """Take back what *token* gives, as an application's own button would."""
        claims = claims_of(token)
        revoke_blocking(self.store, claims["iss"], token_id=claims["jti"])


def resource_server(
    issuers: Sequence[Issuer] | Callable[[str], Issuer | None], **settings: Any
) -> ResourceServer:
    """The API that is protected."""
    return ResourceServer(
        RESOURCE,
        issuers=issuers,
        name="Notes",
        scopes=_SCOPES,
        routes=_ROUTES,
        **settings,
    )


def mint(issuer: FakeIssuer, *, header: Mapping[str, Any] | None = None) -> str:
    """A token of *issuer* that nobody has seen: one of many users, one of a few
    agents."""
    return issuer.token(
        RESOURCE,
        subject=f"user-{secrets.token_hex(12)}",
        agent=_agent(secrets.randbelow(8)),
        scopes=_GRANTED,
        client_id="https://assistant.example.net/oauth/client.json",
        expires_in=3600,
        header=header,
        **_CLAIMS,
    )


def check_access(access: Access | None, token: str) -> None:
    """Stop the run unless *access* is what *token* says."""
    claims = claims_of(token)
    issuer = claims["iss"]

    assert access is not None
    assert access.user == Principal(issuer, claims["sub"])
    assert access.agent == Principal(issuer, claims["act"]["sub"])
    assert access.scopes == frozenset(_GRANTED)
    assert access.token_id == claims["jti"]


def _agent(number: int) -> str:
    return f"https://agents.example.net/{number % 8}"


def claims_of(token: str) -> dict[str, Any]:
    """What *token* says."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "==="))
    return claims
