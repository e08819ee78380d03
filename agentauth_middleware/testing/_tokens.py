"""Tokens for an application under test, good ones and bad ones by name."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any, TypedDict, Unpack

from agentauth_middleware.resource_server import Issuer, ResourceServer
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import Store
from agentauth_middleware.testing._issuer import FakeIssuer

__all__ = ["AgentTokens", "TokenOptions"]

_CLIENT = "client-1"
_NOBODY = "https://nobody.invalid"


class TokenOptions(TypedDict, total=False):
    """What a token says; by default ``agent-1``, or the first that ``Issuer.agents``
    lists, acts for ``user-1``, without scopes."""

    user: str | None
    """The subject; with ``None`` the agent acts for itself."""
    agent: str | None
    """Who acts; with ``None`` the user does, or without a user a service."""
    scopes: Iterable[str]
    resource: str
    """Which of the application's resources it is for, where there are several."""
    issuer: str
    """Which of the resource's issuers it is from; by default the first."""
    claims: Mapping[str, Any]
    """Added, or in place of others; one that is ``None`` is left out."""


class AgentTokens:
    """Called, it gives a good access token; by name, one that is refused with a 401.

    All take the same options, those of ``TokenOptions``.
    """

    def __init__(
        self,
        issuer: FakeIssuer,
        resources: Sequence[tuple[ResourceServer, Store]],
    ) -> None:
        """*issuer* signs; *resources* are what doors protect, and their stores."""
        self._issuer = issuer
        self._resources = resources

    def __call__(self, **options: Unpack[TokenOptions]) -> str:
        return self._mint({}, **options)

    def expired(self, **options: Unpack[TokenOptions]) -> str:
        """A token that expired an hour ago."""
        now = int(time.time())
        return self._mint({"iat": now - 7200, "exp": now - 3600}, **options)

    def revoked(self, **options: Unpack[TokenOptions]) -> str:
        """A token that was good; its revocation stands in the store of the door."""
        token_id = secrets.token_urlsafe(12)
        token = self._mint({"jti": token_id}, **options)
        name = options.get("resource")
        issuer = _issuer_named(options.get("issuer"), self._server(name))
        for store in self._stores(name):
            revoke_blocking(store, issuer.issuer, token_id=token_id)
        return token

    def wrong_audience(self, **options: Unpack[TokenOptions]) -> str:
        """A token for another API, which its holder may try here."""
        return self._mint({"aud": _NOBODY}, **options)

    def wrong_issuer(self, **options: Unpack[TokenOptions]) -> str:
        """A token from an issuer that nobody trusts."""
        return self._mint({"iss": _NOBODY}, **options)

    def forged(self, **options: Unpack[TokenOptions]) -> str:
        """A token signed with a key that only claims to be the issuer's."""
        forger = FakeIssuer(algorithm=self._issuer.algorithm)
        return self._mint({}, signer=forger, key_id=self._issuer.key_id, **options)

    def _mint(
        self,
        changes: Mapping[str, Any],
        *,
        signer: FakeIssuer | None = None,
        key_id: str | None = None,
        user: str | None = "user-1",
        agent: str | EllipsisType | None = ...,
        scopes: Iterable[str] = (),
        resource: str | None = None,
        issuer: str | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A token as described, and with *changes* made to it last."""
        server = self._server(resource)
        named = _issuer_named(issuer, server)
        agent = _usual_agent(named) if agent is ... else agent
        members: dict[str, Any] = {
            "iss": named.issuer,
            "sub_profile": _profile(user, agent),
            **(claims or {}),
            **changes,
        }
        audience = named.audience[0] if named.audience else server.resource
        return (signer or self._issuer).token(
            members.pop("aud", audience),
            subject=user or agent or _CLIENT,
            agent=agent if user else None,
            scopes=scopes,
            client_id=_CLIENT,
            header={"kid": key_id} if key_id else None,
            **members,
        )

    def _server(self, resource: str | None) -> ResourceServer:
        servers = {server.resource: server for server, _ in self._resources}
        if resource is None and len(servers) > 1:
            raise LookupError(f"several resources; add resource=, one of {[*servers]}")
        name = next(iter(servers)) if resource is None else resource
        if name not in servers:
            raise LookupError(f"no door protects {name!r}; there is {[*servers]}")
        return servers[name]

    def _stores(self, resource: str | None) -> list[Store]:
        name = self._server(resource).resource
        return [store for server, store in self._resources if server.resource == name]


def _usual_agent(issuer: Issuer) -> str:
    """One that the settings let act."""
    listed = (
        name[1]
        for name in issuer.agents or ()
        if isinstance(name, tuple) and name[0] == issuer.issuer
    )
    return next(listed, "agent-1")


def _profile(user: str | None, agent: str | None) -> str:
    """What the subject is, said so that nothing has to be assumed of it."""
    if user is not None:
        return "user"
    return "service" if agent is None else "ai_agent"


def _issuer_named(name: str | None, server: ResourceServer) -> Issuer:
    if name is None:
        return server.listed_issuers[0]
    for issuer in server.listed_issuers:
        if issuer.issuer == name:
            return issuer
    known = [issuer.issuer for issuer in server.listed_issuers]
    raise LookupError(f"{server.resource} trusts no issuer {name!r}; it trusts {known}")
