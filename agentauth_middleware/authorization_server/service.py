"""What the endpoints of the embedded server share: settings, state and keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import anyio.to_thread

from agentauth_middleware._core.issuers.keys import IssuerKeys, verify
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.revocations.log import read_on
from agentauth_middleware._core.throttles import Budgets
from agentauth_middleware._core.tokens.jose import CompactJWS
from agentauth_middleware._io.drive import drive_async
from agentauth_middleware._io.perform import AsyncPerformer
from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.authorization_server.settings import (
    AgentProvider,
    IntrospectionClient,
    is_vouched_for,
    provider_from_json,
    provider_to_json,
)
from agentauth_middleware.authorization_server.state import Registration, State
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    UnavailableError,
)
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store

__all__ = ["LEEWAY", "Service"]

_logger = logging.getLogger("agentauth_middleware")
LEEWAY = 60
"""Seconds by which the clocks of providers may differ from ours."""


_SINGLE_REVOCATIONS = 20
"""An hour; beyond that revoking one token of an agent revokes all it has by then."""


@dataclass
class Service:
    """The embedded server without its URLs."""

    issuer: str
    resources: Sequence[ResourceServer]
    providers: Mapping[str, AgentProvider]
    keys: Mapping[str, IssuerKeys]
    """Of each provider."""
    insecure_loopback: bool
    state: State
    store: Store
    perform: AsyncPerformer
    max_auth_age: int
    access_token_lifetime: int
    assertion_lifetime: int
    introspection_clients: Mapping[str, IntrospectionClient]
    """By their ``client_id``."""
    revocations: RevocationView = field(default_factory=RevocationView)
    single_revocations: Budgets = field(
        default_factory=lambda: Budgets(_SINGLE_REVOCATIONS, 3600.0, 4096)
    )
    """Of each agent: how many of its tokens may be revoked one by one."""
    clock: Callable[[], float] = time.time
    steady_clock: Callable[[], float] = time.monotonic
    """A monotonic clock, by which the log is read. Its instants have no meaning
    elsewhere."""

    @property
    def introspection_endpoint(self) -> str:
        """Its URL; the endpoint exists only if a client may use it."""
        return self.issuer.rstrip("/") + "/oauth2/introspect"

    @cached_property
    def signer(self) -> Signer:
        """The signing keys; the first use makes them, and blocks."""
        return Signer(self.state.signing_keys(new_key()))

    @cached_property
    def removed_providers(self) -> Mapping[str, tuple[AgentProvider, IssuerKeys]]:
        """Those that the settings no longer have: they may take away, and no more.

        The first use reads them from the database, and blocks.
        """
        kept = self.state.remember_providers(
            {name: provider_to_json(one) for name, one in self.providers.items()}
        )
        found: dict[str, tuple[AgentProvider, IssuerKeys]] = {}
        for issuer, settings in kept.items():
            try:
                provider = provider_from_json(settings)
                keys = IssuerKeys(
                    provider.keys, insecure_loopback=self.insecure_loopback
                )
            except (ConfigurationError, TypeError, ValueError) as fault:
                _logger.warning(
                    "events of %s, which was removed, are refused: %s", issuer, fault
                )
            else:
                found[issuer] = provider, keys
        return found

    def cut_off_removed_providers(self) -> None:
        """Revoke what was registered through who is no longer trusted. Blocks.

        Raises:
            UnavailableError: the database failed.
        """
        revoked = self.state.revoke_unless(
            lambda provider, client_id: is_vouched_for(
                provider, client_id, self.providers
            )
        )
        if revoked:
            _logger.warning(
                "%d registrations were revoked: their providers or client_ids are no "
                "longer in the settings",
                revoked,
            )

    async def find_registration(self, registration_id: str) -> Registration | None:
        """The registration of that id, if it lives and its provider is still trusted.

        Raises:
            UnavailableError: the database failed.
        """
        found = await anyio.to_thread.run_sync(self.state.registration, registration_id)
        if found is None or not is_vouched_for(
            found.provider, found.client_id, self.providers
        ):
            return None
        return found

    async def check_event_signature(self, jws: CompactJWS, issuer: str) -> None:
        """Check that *issuer*, a provider that is or was trusted, has signed *jws*.

        Raises:
            KeyError: it is none.
            InvalidTokenError: as ``check_signature``, like the others.
            TooManyRequestsError: as above.
            UnavailableError: its keys are out of reach, or the database failed.
        """
        if issuer in self.providers:
            await self.check_signature(jws, self.providers[issuer])
            return
        removed = await anyio.to_thread.run_sync(lambda: self.removed_providers)
        provider, keys = removed[issuer]
        await self._check_signature(jws, provider, keys)

    async def check_signature(self, jws: CompactJWS, provider: AgentProvider) -> None:
        """Check that *provider* has signed *jws*.

        Raises:
            InvalidTokenError: it has not; for the reason ``bad_signature`` if not with
                the key that is named.
            TooManyRequestsError: junk may be why its keys are not asked for now.
            UnavailableError: its keys are out of reach.
        """
        await self._check_signature(jws, provider, self.keys[provider.issuer])

    async def _check_signature(
        self, jws: CompactJWS, provider: AgentProvider, keys: IssuerKeys
    ) -> None:
        if jws.header.algorithm not in provider.algorithms:
            raise InvalidTokenError("algorithm_not_accepted")
        await drive_async(verify(keys, jws, self.clock), self.perform)

    async def read_log(self) -> RevocationView:
        """What the log of the store says by now.

        Raises:
            UnavailableError: it cannot be read.
        """
        asked_at = self.steady_clock()
        # A read that was under way already may lack what came just before.
        while self.revocations.read_at < asked_at:
            await drive_async(read_on(self.revocations, asked_at), self.perform)
        return self.revocations

    async def find_cutoff(self, registration: Registration) -> float | None:
        """The latest revocation in the log that touches *registration*, epoch seconds.

        Raises:
            UnavailableError: the log cannot be read.
        """
        view = await self.read_log()
        agent = (self.issuer, registration.id)
        return view.cutoff(self.issuer, registration.user_id, agent)

    def tell_resource_servers(self, concerns: Callable[[Registration], bool]) -> None:
        """Append the revocations of registrations to the log that are not in it yet.

        If a failing store or a crash interrupts it, the next call appends the rest.
        Appending one twice changes nothing. Blocks.

        Raises:
            UnavailableError: one that *concerns* the caller could not be told. Others
                do not fail the call, and are tried again the next time.
        """
        for registration in sorted(
            self.state.untold(), key=lambda untold: not concerns(untold)
        ):
            try:
                self._tell(registration)
            except UnavailableError as failure:
                if concerns(registration):
                    raise
                _logger.warning(
                    "the revocation of %s could not be told: %s",
                    registration.id,
                    failure,
                )

    def _tell(self, registration: Registration) -> None:
        try:
            revoke_blocking(
                self.store,
                self.issuer,
                subject=registration.user_id,
                agent=registration.id,
                retention=self.access_token_lifetime,
            )
        except ValueError as fault:
            raise UnavailableError("revocation_not_told", str(fault)) from fault
        self.state.note_told(registration.id)
