"""The embedded server as an ASGI application: its settings and its URLs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentauth_middleware._core.keys import IssuerKeys
from agentauth_middleware._core.urls import check_url, path_of
from agentauth_middleware._io.perform import AsyncPerformer
from agentauth_middleware.authorization_server.audit import AuditRecord
from agentauth_middleware.authorization_server.events import notify
from agentauth_middleware.authorization_server.identity import register
from agentauth_middleware.authorization_server.metadata import (
    publish_keys,
    publish_metadata,
)
from agentauth_middleware.authorization_server.refusals import (
    NOT_STORED,
    Refused,
    unavailable,
)
from agentauth_middleware.authorization_server.revocation import revoke_token
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.authorization_server.settings import AgentProvider
from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.authorization_server.token import grant
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.resource_server import ResourceServer
from agentauth_middleware.stores import Store

if TYPE_CHECKING:
    import httpx

__all__ = ["AuthorizationServer"]

_LONGEST = 365 * 86_400
Endpoint = Callable[[Service, Request, AuditRecord], Awaitable[Response]]


class AuthorizationServer:
    """Registers agents and issues tokens for *resources*."""

    def __init__(
        self,
        issuer: str,
        *,
        resources: Sequence[ResourceServer],
        providers: Sequence[AgentProvider],
        database: str | os.PathLike[str],
        store: Store,
        max_auth_age: int = 3600,
        access_token_lifetime: int = 3600,
        assertion_lifetime: int = 3600,
        http_client: httpx.AsyncClient | None = None,
        insecure_loopback: bool = False,
    ) -> None:
        """
        Args:
            issuer: This server's identifier, to the letter as in the ``Issuer`` of
                each of *resources*; its URLs are below it.
            resources: What tokens can be had for.
            providers: Who may vouch for agents' users.
            database: A file for users, links, registrations and signing keys.
            store: The one that the doors of *resources* use, for revocations.
            max_auth_age: Seconds since a user signed in at the provider, at most.
            access_token_lifetime: Seconds.
            assertion_lifetime: Seconds for which an agent may get access tokens
                without asking its provider again.
            http_client: Makes all requests to providers, and is never closed here.
            insecure_loopback: Allow http URLs on a loopback host, while developing.

        Raises:
            ConfigurationError: something of this cannot work.
        """
        check_url(
            issuer, "AuthorizationServer.issuer", insecure_loopback=insecure_loopback
        )
        _check_resources(issuer, resources)
        _check_providers(issuer, providers, insecure_loopback)
        for name, seconds in {
            "max_auth_age": max_auth_age,
            "access_token_lifetime": access_token_lifetime,
            "assertion_lifetime": assertion_lifetime,
        }.items():
            if not 0 < seconds <= _LONGEST:
                raise ConfigurationError(
                    f"AuthorizationServer.{name}: {seconds!r} is not between 1 and "
                    f"{_LONGEST} seconds"
                )
        self.service = Service(
            issuer=issuer,
            resources=tuple(resources),
            providers={provider.issuer: provider for provider in providers},
            keys={
                provider.issuer: IssuerKeys(
                    provider.keys, insecure_loopback=insecure_loopback
                )
                for provider in providers
            },
            state=State(database),
            store=store,
            perform=AsyncPerformer(store, http_client),
            max_auth_age=max_auth_age,
            access_token_lifetime=access_token_lifetime,
            assertion_lifetime=assertion_lifetime,
        )
        self._app = Starlette(
            routes=_routes(self.service),
            exception_handlers={HTTPException: _refuse_route},
            lifespan=self._live,
        )
        # It would send agents to whatever their Host header says.
        self._app.router.redirect_slashes = False

    def add_user(self, user_id: str, *, email: str | None = None) -> None:
        """Make a user known; one who is known already keeps what is known.

        Blocks, like the next three: in an event loop call them through
        ``anyio.to_thread.run_sync``.

        Args:
            user_id: What tokens carry as ``sub``.
            email: So that their agents are answered ``interaction_required``.

        Raises:
            ValueError: *user_id* is empty.
            UnavailableError: the database failed.
        """
        self.state.add_user(user_id, email=email)

    def link(self, provider: str, subject: str, user_id: str) -> None:
        """Say that *subject* of *provider* is *user_id* here; for seeding.

        Nothing happens to a link that was withdrawn, so it may be called at each start.
        If *subject* was another user, all doors are told that the agent's access for
        that one is over.

        Raises:
            ValueError: one of the three is not known here.
            UnavailableError: the database failed, or the store did not take it; call
                again.
        """
        self._check_provider(provider)
        self.state.link(provider, subject, user_id)
        self._tell_about(provider, subject)

    def relink(self, provider: str, subject: str, user_id: str) -> None:
        """``link``, also after a withdrawal: the user has let the agent in again."""
        self._check_provider(provider)
        self.state.relink(provider, subject, user_id)
        self._tell_about(provider, subject)

    def disconnect(self, user_id: str, registration_id: str | None = None) -> None:
        """End what agents have of *user_id*, or one agent: tokens, and getting others.

        *registration_id* is the agent's ``sub`` in tokens. Its link is withdrawn, and
        all doors are told.

        Raises:
            ValueError: there is no such user, or they have no such registration.
            UnavailableError: the database failed, or the store did not take it; call
                again.
        """
        self.state.disconnect_user(user_id, registration_id)
        self.service.tell_resource_servers(lambda untold: untold.user_id == user_id)

    @property
    def state(self) -> State:
        """What is kept. No door hears of changes that are made here by themselves."""
        return self.service.state

    def _check_provider(self, provider: str) -> None:
        if provider not in self.service.providers:
            known = ", ".join(self.service.providers)
            raise ValueError(
                f"link: {provider!r} is none of the providers, which are {known}"
            )

    def _tell_about(self, provider: str, subject: str) -> None:
        self.service.tell_resource_servers(
            lambda untold: (untold.provider, untold.subject) == (provider, subject)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncGenerator[None, None]:
        await anyio.to_thread.run_sync(self._start)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.service.perform.aclose()

    def _start(self) -> None:
        _ = self.service.signer
        self.service.tell_resource_servers(lambda untold: False)


def _check_resources(issuer: str, resources: Sequence[ResourceServer]) -> None:
    if not resources:
        raise ConfigurationError(
            "AuthorizationServer.resources: empty; name the ResourceServer that "
            "tokens are for"
        )
    for server in resources:
        if issuer not in [trusted.issuer for trusted in server.issuers]:
            raise ConfigurationError(
                f"AuthorizationServer.resources: {server.resource} does not trust "
                f"{issuer}; add Issuer({issuer!r}) to its issuers, to the letter"
            )


def _check_providers(
    issuer: str, providers: Sequence[AgentProvider], insecure_loopback: bool
) -> None:
    if not providers:
        raise ConfigurationError(
            "AuthorizationServer.providers: empty; name at least one AgentProvider, or "
            "no agent can ever register"
        )
    names = [provider.issuer for provider in providers]
    if len(set(names)) != len(names):
        raise ConfigurationError(
            "AuthorizationServer.providers: the same issuer twice; keep one of them"
        )
    if issuer in names:
        raise ConfigurationError(
            "AuthorizationServer.providers: this server cannot vouch for itself; name "
            "who signs in the users of agents"
        )
    for provider in providers:
        check_url(
            provider.issuer, "AgentProvider.issuer", insecure_loopback=insecure_loopback
        )
        if provider.jwks_uri is not None:
            check_url(
                provider.jwks_uri,
                "AgentProvider.jwks_uri",
                insecure_loopback=insecure_loopback,
            )


def _routes(service: Service) -> list[Route]:
    path = unquote(path_of(service.issuer)).rstrip("/")
    # RFC 8414 §3.1 inserts the suffix; agents that append it are served as well, and
    # those that read "the path" with a slash at its end.
    suffix = "/.well-known/oauth-authorization-server"
    described = {f"{suffix}{path}{slash}" for slash in ("", "/")} | {
        f"{path}{suffix}{slash}" for slash in ("", "/")
    }
    return [
        *(
            _document(service, "metadata", path_, publish_metadata)
            for path_ in sorted(described)
        ),
        _document(service, "keys", f"{path}/.well-known/jwks.json", publish_keys),
        _endpoint(service, "registration", f"{path}/agent/identity", register),
        _endpoint(service, "token", f"{path}/oauth2/token", grant),
        _endpoint(service, "revocation", f"{path}/oauth2/revoke", revoke_token),
        # Not for pages, unlike those above.
        Route(
            f"{path}/agent/event/notify",
            partial(_answer, service, "event", notify),
            methods=["POST"],
        ),
    ]


def _document(service: Service, action: str, path: str, endpoint: Endpoint) -> Route:
    answer = partial(_answer, service, action, endpoint)
    return _readable_by_all(Route(path, answer, methods=["GET"]))


def _endpoint(service: Service, action: str, path: str, endpoint: Endpoint) -> Route:
    """A POST endpoint that agents in browsers may call (RFC 6749 §3.2)."""
    answer = partial(_answer, service, action, endpoint)
    return _readable_by_all(Route(path, answer, methods=["POST"]))


async def _answer(
    service: Service, action: str, endpoint: Endpoint, request: Request
) -> Response:
    """What *endpoint* answers, or why it does not; with a record for the log."""
    record = AuditRecord(action)
    try:
        response = await endpoint(service, request, record)
    except Refused as refused:
        record.write_refused(refused.code, refused.message)
        return refused.response()
    except UnavailableError as failure:
        record.write_unavailable(failure.reason, str(failure))
        return unavailable(failure)
    if request.method == "POST":
        record.write_granted()
    return response


def _readable_by_all(route: Route) -> Route:
    """*route* for pages of all origins, without credentials.

    Around the route and not within it, where a preflight would be the wrong method.
    """
    cors = CORSMiddleware(
        route,
        allow_origins=["*"],
        allow_methods=sorted(route.methods or ()),
        allow_headers=["*"],
        expose_headers=["WWW-Authenticate", "Retry-After"],
        max_age=86_400,
    )
    return Route(route.path, cors)


async def _refuse_route(request: Request, refused: Exception) -> Response:
    """No such URL, or no such method there."""
    assert isinstance(refused, HTTPException)  # noqa: S101 - what it is registered for
    headers = {**(refused.headers or {}), **NOT_STORED}
    return PlainTextResponse(refused.detail, refused.status_code, headers)
