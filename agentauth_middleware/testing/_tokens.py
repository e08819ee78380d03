"""Tokens for an application under test, good ones and bad ones by name."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from agentauth_middleware._syntax.scopes import check_words
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.testing._issuer import FakeIssuer

__all__ = ["AgentTokens", "TokenOptions"]

_CLIENT = "client-1"
_NOBODY = "https://nobody.invalid"
_DIALECTS_WITH_NAMESPACE = ("actor_profile", "authmd")


class TokenOptions(TypedDict, total=False):
    """What a token says; by default ``agent-1``, or the first that ``Issuer.agents``
    lists, acts for ``user-1``, without scopes."""

    user: str | None
    """The subject; with ``None`` the agent acts for itself."""
    agent: str | tuple[str, str] | None
    """Who acts, one of another namespace as a pair ``(issuer, subject)``; with ``None``
    the user does, or without a user a service."""
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
        """*issuer* signs; *resources* are what middlewares protect, and their
        stores."""
        self._issuer = issuer
        self._resources = resources

    def __call__(self, **options: Unpack[TokenOptions]) -> str:
        return self._mint({}, **options)

    def expired(self, **options: Unpack[TokenOptions]) -> str:
        """A token that expired an hour ago."""
        now = int(time.time())
        return self._mint({"iat": now - 7200, "exp": now - 3600}, **options)

    def revoked(self, **options: Unpack[TokenOptions]) -> str:
        """A token that was good; its revocation stands in the store of the
        middleware."""
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
        """A token from an issuer that is not trusted."""
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
        **options: Unpack[TokenOptions],
    ) -> str:
        """A token as described, and with *changes* made to it last."""
        _check_options(options)
        server = self._server(options.get("resource"))
        issuer = _issuer_named(options.get("issuer"), server)
        user = options.get("user", "user-1")
        agent = _agent(options, issuer)
        members: dict[str, Any] = {
            "iss": issuer.issuer,
            "sub_profile": _profile(user, agent),
            "act": _act(agent, issuer) if user is not None and agent else None,
            **(options.get("claims") or {}),
            **changes,
        }
        audience = issuer.audience[0] if issuer.audience else server.resource
        subject = agent[1] if user is None and agent else user
        return (signer or self._issuer).token(
            members.pop("aud", audience),
            subject=subject or _CLIENT,
            scopes=check_words(
                options.get("scopes", ()), "act_as, agent_token: scopes"
            ),
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
            raise LookupError(f"no middleware protects {name!r}; there is {[*servers]}")
        return servers[name]

    def _stores(self, resource: str | None) -> list[Store]:
        name = self._server(resource).resource
        return [store for server, store in self._resources if server.resource == name]


def _check_options(options: TokenOptions) -> None:
    known = TokenOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(
                f"act_as and agent_token have no option {name!r}; they have "
                f"{', '.join(known)}"
            )


def _agent(options: TokenOptions, issuer: Issuer) -> tuple[str, str] | None:
    """Who acts, as namespace and subject; by default one that the settings let act.

    Raises:
        ValueError: a token can name an agent of another namespace as its actor alone.
    """
    acts_alone = options.get("user", "") is None
    if "agent" not in options:
        return _usual_agent(issuer, acts_alone=acts_alone)
    agent = options["agent"]
    named = (issuer.issuer, agent) if isinstance(agent, str) else agent
    if acts_alone and named and named[0] != issuer.issuer:
        raise ValueError(
            f"agent={agent!r} cannot act on its own in a token of {issuer.issuer}; "
            "give it a user, or name one of that issuer's own agents"
        )
    return named


def _usual_agent(issuer: Issuer, *, acts_alone: bool) -> tuple[str, str]:
    """The first that is listed; on their own act only those of the issuer itself."""
    for name in issuer.agents or ():
        namespace, subject = (issuer.issuer, name) if isinstance(name, str) else name
        if namespace == issuer.issuer or not acts_alone:
            return namespace, subject
    return issuer.issuer, "agent-1"


def _act(agent: tuple[str, str], issuer: Issuer) -> dict[str, str]:
    """The actor, whose namespace is left out where it goes without saying."""
    namespace, subject = agent
    if namespace == issuer.issuer and issuer.identity not in _DIALECTS_WITH_NAMESPACE:
        return {"sub": subject}
    return {"iss": namespace, "sub": subject}


def _profile(user: str | None, agent: tuple[str, str] | None) -> str:
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
