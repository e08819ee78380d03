"""The embedded server as an ASGI application, and what an application does to it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from agentauth_middleware._core.issuers.keys import IssuerKeys
from agentauth_middleware._io.perform import AsyncPerformer
from agentauth_middleware._syntax.urls import check_url
from agentauth_middleware.authorization_server.routing import refuse_route, routes
from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.authorization_server.settings import (
    AgentProvider,
    IntrospectionClient,
    check_introspection_clients,
    check_providers,
    check_resources,
    check_seconds,
    check_store,
)
from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.stores._users import note_user

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AuthorizationServer"]


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
        introspection_clients: Sequence[IntrospectionClient] = (),
        http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        insecure_loopback: bool = False,
    ) -> None:
        """
        Args:
            issuer: This server's identifier, to the letter as in the ``Issuer`` of
                each of *resources*; its URLs are below it.
            resources: What tokens can be had for.
            providers: Who may vouch for agents' users. What was registered through
                one that is no longer among them is revoked at start.
            database: A file for users, links, registrations and signing keys.
            store: The one that the middlewares of *resources* use, for revocations.
            max_auth_age: Seconds since a user signed in at the provider, at most.
            access_token_lifetime: Seconds.
            assertion_lifetime: Seconds for which an agent may get access tokens
                without asking its provider again.
            introspection_clients: The resource servers that may ask about tokens; with
                none there is no such endpoint.
            http_client: Makes all requests to providers, and is never closed here.
            insecure_loopback: Allow http URLs on a loopback host, while developing.

        Raises:
            ConfigurationError: something of this cannot work.
        """
        check_url(
            issuer, "AuthorizationServer.issuer", insecure_loopback=insecure_loopback
        )
        check_resources(issuer, resources)
        check_providers(issuer, providers, insecure_loopback=insecure_loopback)
        check_introspection_clients(introspection_clients, resources)
        check_store(store)
        for resource in resources:
            note_user(store, resource)
        check_seconds("max_auth_age", max_auth_age)
        check_seconds("access_token_lifetime", access_token_lifetime)
        check_seconds("assertion_lifetime", assertion_lifetime)
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
            insecure_loopback=insecure_loopback,
            state=State(database),
            store=store,
            perform=AsyncPerformer(store, http_client),
            max_auth_age=max_auth_age,
            access_token_lifetime=access_token_lifetime,
            assertion_lifetime=assertion_lifetime,
            introspection_clients={
                client.client_id: client for client in introspection_clients
            },
        )
        self._app = Starlette(
            routes=routes(self.service),
            exception_handlers={HTTPException: refuse_route},
            lifespan=self._live,
        )
        # It would redirect agents to the host in their Host header.
        self._app.router.redirect_slashes = False

    def add_user(self, user_id: str, *, email: str | None = None) -> None:
        """Add a user; one that exists is not changed.

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
        If *subject* was another user, all middlewares are told that the agent's access
        for that one is over.

        Raises:
            ValueError: one of the three is not known here.
            UnavailableError: the database failed, or the store did not take it; call
                again.
        """
        self._check_provider(provider)
        self.state.link(provider, subject, user_id)
        self._tell_about(provider, subject)

    def relink(self, provider: str, subject: str, user_id: str) -> None:
        """``link``, also after a withdrawal: the user wants the agent again."""
        self._check_provider(provider)
        self.state.relink(provider, subject, user_id)
        self._tell_about(provider, subject)

    def disconnect(self, user_id: str, registration_id: str | None = None) -> None:
        """End the access of all agents, or of one agent, to *user_id*: tokens and
        registrations.

        *registration_id* is the agent's ``sub`` in tokens. Its link is withdrawn, and
        all middlewares are told.

        Raises:
            ValueError: there is no such user, or they have no such registration.
            UnavailableError: the database failed, or the store did not take it; call
                again.
        """
        self.state.disconnect_user(user_id, registration_id)
        self.service.tell_resource_servers(lambda untold: untold.user_id == user_id)

    @property
    def state(self) -> State:
        """The database. Changes made here directly are not told to middlewares."""
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
        _ = self.service.signer, self.service.removed_providers
        self.service.cut_off_removed_providers()
        self.service.tell_resource_servers(lambda untold: False)
