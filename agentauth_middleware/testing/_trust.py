"""Middlewares that trust a fake issuer, for as long as a test lasts.

Under the name of each issuer that the settings trust now stands the fake one, whose
tokens are plain ones: what the settings say about the form of tokens does not count,
and all else, such as policy, does. Nothing is fetched, nothing is remembered beyond the
test, and a token of the real issuer is refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import LogPage
from agentauth_middleware._core.revocations.cut_offs import RevocationView
from agentauth_middleware._core.revocations.log import READ_LOG_AFTER
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import Store
from agentauth_middleware.testing._issuer import FakeIssuer
from agentauth_middleware.testing._middlewares import (
    Middleware,
    exchanged,
    find_middlewares,
    state_of,
    store_of,
)
from agentauth_middleware.testing._run import check_runs_under_pytest
from agentauth_middleware.testing._tokens import AgentTokens

__all__ = ["trusting"]

_PLAIN = ("rfc8693", "actor_profile", "authmd")
"""Dialects of tokens with ``sub_profile`` and ``act``, which the fake issuer writes."""


@contextmanager
def trusting(
    app: object, issuer: FakeIssuer | None = None
) -> Generator[AgentTokens, None, None]:
    """Let the middlewares of *app* trust *issuer* in place of every issuer in their
    settings.

    ::

        with trusting(app) as agent_token:
            token = agent_token(user="ana", scopes=["notes.read"])

    *app* is an application, a middleware, a ``Verifier`` or a test client. Where a
    middleware cannot be found from there, give the middleware. What is revoked in a
    middleware's store counts from the next request, and what was revoked before does
    not count.

    Raises:
        LookupError: no middleware was found.
        RuntimeError: pytest does not run in this process.
    """
    check_runs_under_pytest()
    issuer = FakeIssuer() if issuer is None else issuer
    middlewares = find_middlewares(app)
    with ExitStack() as changes:
        for middleware in middlewares:
            state = _state_for_tests(middleware, issuer)
            changes.enter_context(exchanged(middleware, state))
        yield AgentTokens(
            issuer,
            [
                (state_of(middleware).server, store_of(middleware))
                for middleware in middlewares
            ],
        )


def _state_for_tests(middleware: Middleware, issuer: FakeIssuer) -> MiddlewareState:
    former = state_of(middleware)
    server = replace(
        former.server,
        issuers=[_impersonated(real, issuer) for real in _issuers(former.server)],
        # There is no server to ask.
        routes=[replace(route, introspect=False) for route in former.server.routes],
        max_log_age=former.server.max_log_age + READ_LOG_AFTER,  # see _EagerView
    )
    state = MiddlewareState(server, application_root=former.application_root)
    if isinstance(former.revocations, _EagerView):  # already in such a test
        state.revocations = former.revocations
    else:
        state.revocations = _EagerView()
        state.revocations.position = _end_of_log(store_of(middleware))
    return state


def _issuers(server: ResourceServer) -> list[Issuer]:
    """Those that are listed; of a function's, those that the metadata names.

    Raises:
        LookupError: the names of the issuers are unknown.
    """
    names = server.authorization_servers or ()
    found = server.listed_issuers or map(server.find_issuer, names)
    issuers = [issuer for issuer in found if issuer is not None]
    if not issuers:
        raise LookupError(
            "ResourceServer.issuers is a function, and authorization_servers names "
            "none of its issuers; give the application under test one"
        )
    return issuers


def _impersonated(real: Issuer, issuer: FakeIssuer) -> Issuer:
    """*real* by name, whose tokens are those of *issuer*.

    They say who is calling in the plain way, unless a function of the application's own
    has to read it. They need no claims that only a vendor writes.
    """
    reads_plain_tokens = real.identity in _PLAIN or callable(real.identity)
    return Issuer(
        real.issuer,
        jwks=issuer.jwks,
        algorithms=(issuer.algorithm,),
        audience=real.audience,
        subjects=real.subjects,
        identity=real.identity if reads_plain_tokens else "rfc8693",
        actor_issuers=real.actor_issuers,
        max_chain=real.max_chain,
        agents=real.agents,
        agent_scopes=real.agent_scopes,
        leeway=real.leeway,
    )


def _end_of_log(store: Store) -> int:
    """Where the revocations of this test will begin.

    Those of earlier tests are left out: a user who was revoked in one test and gets a
    new token within the same second would be refused in the next.
    """
    page = store.read_log(0)
    while not page.is_last:
        page = store.read_log(page.position)
    return page.position


class _EagerView(RevocationView):
    """Always just old enough to be read on: a test need not wait for what it revokes.

    With that added to ``max_log_age``, a store that fails is noticed as usual.
    """

    __slots__ = ()

    def apply(self, page: LogPage, asked_at: float) -> None:
        super().apply(page, asked_at)
        if page.is_last:
            self.read_at -= READ_LOG_AFTER
