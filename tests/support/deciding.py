"""Requests and states for tests that ask ``decide``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias
from urllib.parse import quote

from agentauth_middleware._core.decide import Anonymous, decide
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Clock as ReadClock
from agentauth_middleware._core.operations import LogPage, Procedure
from agentauth_middleware._core.publish.challenge import Refusal
from agentauth_middleware._core.tokens.remembered import Remembered
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware.access import Access
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.support.stepping import Clock, play
from tests.support.tokens import server

Decided: TypeAlias = Access | Anonymous | Refusal | Response


class PlainRequest(Request):
    """A request of plain values."""

    __slots__ = ("_client", "_named", "_raw")

    def __init__(
        self,
        method: str,
        path: str,
        *,
        mount: str = "",
        query: bytes = b"",
        lines: Sequence[bytes] = (),
        named: Mapping[str, str] | None = None,
        client: str | None = None,
        raw: bytes | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.mount = mount
        self.query = query
        self.authorization = lines
        self._named = dict(named or {})
        self._client = client
        raw = quote(path).encode() if raw is None else raw
        self._raw = raw.partition(b"?")[0]

    @property
    def raw_path(self) -> bytes:
        return self._raw

    @property
    def client(self) -> str | None:
        return self._client

    def header(self, name: str) -> str | None:
        return self._named.get(name)


def request(
    token: bytes | None = None,
    *,
    method: str = "GET",
    path: str = "/notes",
    query: bytes = b"",
    authorization: Sequence[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    client: str | None = None,
) -> Request:
    """A request with *token* as its bearer token, or with these field lines."""
    if authorization is None:
        authorization = () if token is None else (b"Bearer " + token,)
    return PlainRequest(
        method, path, query=query, lines=authorization, named=headers, client=client
    )


def state_for(
    settings: ResourceServer | None = None, clock: Clock | None = None
) -> MiddlewareState:
    """A state that has just read the log of revocations and found it empty."""
    state = MiddlewareState(settings or server())
    state.revocations.apply(LogPage(0, ()), clock() if clock else Clock()())
    return state


def deciding(
    state: MiddlewareState, asked: Request, clock: ReadClock
) -> Procedure[Decided]:
    """The decision as a procedure also where it needs no operation: what becomes of
    the request, without its route."""
    decision = decide(state, asked, clock)
    if not isinstance(decision, tuple):
        decision = yield from decision
    outcome, _ = decision
    return outcome.access if isinstance(outcome, Remembered) else outcome


def decide_at_once(
    state: MiddlewareState, asked: Request, clock: Clock | None = None
) -> Any:
    """The decision, which must need no operation."""
    return play(deciding(state, asked, clock or Clock()), [])


def push_out(state: MiddlewareState, presented: bytes) -> None:
    """Let others take the place of a token that was ready; its claims stay known."""
    remembered = state.tokens.get(sha256(presented).digest())
    assert remembered is not None
    for number in range(5000):
        state.tokens.put(
            b"%d" % number,
            remembered.access,
            remembered.trusted,
            remembered.generation,
            bound=remembered.is_bound,
            recallable=False,
        )
    assert state.tokens.get(sha256(presented).digest()) is None
    assert state.tokens.was_verified(sha256(presented).digest())
