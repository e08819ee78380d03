"""Access tokens that come by other ways than HTTP: over gRPC, in a message of a queue.

::

    verifier = Verifier(server, store=SQLiteStore("tokens.db"))

    access = await verifier.verify(token, scopes=["notes.write"])
    access = verifier.verify_blocking(token, scopes=["notes.write"])

A token is remembered, verified and refused as by a middleware of the same settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from agentauth_middleware._core.decide import verify_token
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Procedure
from agentauth_middleware._core.publish.challenge import Refusal, refusal_for
from agentauth_middleware._io.drive import drive, drive_async
from agentauth_middleware._io.libraries import library_of
from agentauth_middleware._io.perform import AsyncPerformer, BlockingPerformer
from agentauth_middleware._middleware.arguments import (
    check_key_files,
    check_resource_server,
    check_store,
)
from agentauth_middleware._middleware.audit import is_audited, write_audit
from agentauth_middleware._syntax.scopes import check_scopes
from agentauth_middleware.access import Access
from agentauth_middleware.errors import (
    ConfigurationError,
    InvalidRequestError,
    RequestRefusedError,
    UnavailableError,
)
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore, Store
from agentauth_middleware.stores._users import note_user

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["Verifier"]


class Verifier:
    """Tells what an access token for *resource_server* gives, or refuses it.

    One object serves asyncio and trio, several event loops, threads, and the children
    of a fork, all with the same memory. What it knows goes with it: make one for each
    process and not one for each token.

    Does not look at routes, which are about requests: name the scopes that the
    operation needs, and let the guards of ``Access`` check the rest. Knows of no proof
    of possession: a token that is bound to a key is refused. Writes no challenge and
    does not set ``current_access()``: its caller writes the answer. Each decision has
    its audit record, which names no method and no route.
    """

    def __init__(
        self,
        resource_server: ResourceServer,
        *,
        store: Store | None = None,
        http_client: httpx.AsyncClient
        | httpx2.AsyncClient
        | httpx.Client
        | httpx2.Client
        | None = None,
    ) -> None:
        """*store* is what processes share, by default this process's memory: give it
        the one of the middlewares, and a revocation is known here as well.
        *http_client* makes all requests to issuers, and is never closed here; with one
        for event loops there is only ``verify``, with one that blocks only
        ``verify_blocking``.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or an issuer's given
                keys cannot verify anything.
        """
        check_resource_server(resource_server, "Verifier(ResourceServer(...))")
        check_store(store)
        check_key_files(resource_server)
        self.resource_server = resource_server
        self._state = MiddlewareState(resource_server)
        self._perform_async: AsyncPerformer | None = None
        self._perform: BlockingPerformer | None = None
        self._store = MemoryStore() if store is None else store
        note_user(self._store, resource_server)
        if http_client is None:
            self._perform_async = AsyncPerformer(self._store)
            self._perform = BlockingPerformer(self._store)
            if self._state.fetches:
                self._perform.prepare()
            return
        if library_of(http_client, "Client") is not None:
            blocking = cast("httpx.Client | httpx2.Client", http_client)
            self._perform = BlockingPerformer(self._store, blocking)
        else:
            awaited = cast("httpx.AsyncClient | httpx2.AsyncClient", http_client)
            self._perform_async = AsyncPerformer(self._store, awaited)

    async def verify(self, token: str | bytes, *, scopes: Iterable[str] = ()) -> Access:
        """What *token* gives, which must be good and carry all of *scopes*.

        *token* is the bare token, without ``Bearer``.

        Raises:
            InvalidRequestError: it has not the form of a token.
            InvalidTokenError: it is expired, revoked, bound to a key, for another
                resource, or otherwise no good.
            InsufficientScopeError: it lacks one of *scopes*.
            ActorRefusedError: its agent may not act, or not use one of *scopes*.
            UnavailableError: keys, introspection or the log are out of reach; says
                nothing about the token.
            ConfigurationError: one of *scopes* is not a scope, or *http_client* blocks.
        """
        if self._perform_async is None:
            raise ConfigurationError(
                "http_client: a Client blocks; call verify_blocking, or give an "
                "AsyncClient"
            )
        needed = check_scopes(scopes, "scopes")
        return await drive_async(self._decide(token, needed), self._perform_async)

    def verify_blocking(
        self, token: str | bytes, *, scopes: Iterable[str] = ()
    ) -> Access:
        """``verify``, for code that runs in threads and not in an event loop.

        Raises:
            InvalidRequestError, InvalidTokenError, InsufficientScopeError,
            ActorRefusedError, UnavailableError: as ``verify`` does.
            ConfigurationError: one of *scopes* is not a scope, or *http_client* has
                to be awaited.
        """
        if self._perform is None:
            raise ConfigurationError(
                "http_client: an AsyncClient has to be awaited; call verify, or give a "
                "Client"
            )
        needed = check_scopes(scopes, "scopes")
        return drive(self._decide(token, needed), self._perform)

    async def aclose(self) -> None:
        """Close the HTTP clients made here for this event loop and for the background.

        The next ``verify`` that needs one makes another.
        """
        if self._perform_async is not None:
            await self._perform_async.aclose()

    def close(self) -> None:
        """Close the HTTP client made here for ``verify_blocking``.

        The next one that is needed is made anew.
        """
        if self._perform is not None:
            self._perform.close()

    def _decide(self, token: str | bytes, scopes: Iterable[str]) -> Procedure[Access]:
        """What *token* gives if it carries all of *scopes*; with the record of it."""
        started = time.perf_counter()
        presented = b""
        try:
            presented = _as_bytes(token)
            access = yield from verify_token(self._state, presented, time.time)
            access.require_scopes(*scopes)
        except (RequestRefusedError, UnavailableError) as failure:
            self._audit(refusal_for(failure, self._known(presented)), started)
            raise
        self._audit(access, started)
        return access

    def _known(self, token: bytes) -> Access | None:
        """What *token* says, where it was found good once; for the log."""
        remembered = self._state.tokens.get(sha256(token).digest())
        return None if remembered is None else remembered.access

    def _audit(self, decision: Access | Refusal, started: float) -> None:
        if is_audited(decision):
            duration = time.perf_counter() - started
            issuer_named = self._state.trust.known_settings
            write_audit(decision, None, None, duration, issuer_named)


def _as_bytes(token: str | bytes) -> bytes:
    if isinstance(token, bytes):
        return token
    try:
        return token.encode("ascii")
    except UnicodeEncodeError:
        raise InvalidRequestError(Reason.MALFORMED_CREDENTIAL, "not ASCII") from None
