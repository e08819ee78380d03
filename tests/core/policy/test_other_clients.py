"""Which credentials are agents', beside those of an API's other clients.

What each kind of client may send, and what becomes of it, is tested in the middlewares.
Here are the corners in which one rule alone decides.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.policy.other_clients import has_agent_credential
from agentauth_middleware.access import Access
from agentauth_middleware.errors import InvalidRequestError
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from tests.support.deciding import decide_at_once, request, state_for
from tests.support.tokens import ISSUER, NOW, RESOURCE, base64url, issuer, server, token

PREFIXED = Issuer(
    "https://opaque.example.com",
    introspection=Introspection(
        "api", client_secret="x" * 16, endpoint="https://opaque.example.com/ask"
    ),
    opaque_prefixes=["oat_"],
)


@pytest.fixture
def state() -> MiddlewareState:
    settings: dict[str, Any] = {"unauthenticated": "pass", "unmatched": "authenticated"}
    return state_for(server(issuer(), PREFIXED, **settings))


def is_agents(state: MiddlewareState, line: bytes) -> bool:
    return has_agent_credential(state, request(authorization=[line]), NOW)


def jwt(payload: bytes) -> bytes:
    """A JWT that nobody has signed."""
    return b".".join(map(base64url, [b'{"alg":"ES256"}', payload, b"signature"]))


def nested(depth: int) -> bytes:
    """A payload that names the issuer, and then becomes intricate."""
    lists = b"[" * depth + b"]" * depth
    return b'{"iss":"%b","x":%b}' % (ISSUER.encode(), lists)


@pytest.mark.parametrize("line", [b"DPoPlar key", b"dpop-key abc", b"X dpop", b"adpop"])
def test_scheme_that_only_looks_like_dpop_is_anybodys(
    state: MiddlewareState, line: bytes
) -> None:
    assert not is_agents(state, line)


def test_payload_that_is_no_base64_hides_none_behind_it(state: MiddlewareState) -> None:
    broken = b"a." + b"b" * 17 + b".c"

    assert is_agents(state, b"Bearer " + broken + b", Bearer " + token())


@pytest.mark.parametrize("depth", [1, 100, 600, 20_000])
def test_intricate_payload_does_not_hide_its_issuer(
    state: MiddlewareState, depth: int
) -> None:
    """Somebody might read it, however deep it is."""
    assert is_agents(state, b"Bearer " + jwt(nested(depth)))


@pytest.mark.parametrize("container", [b"[]", b"{}"], ids=repr)
def test_intricate_payload_is_not_read(
    state: MiddlewareState, container: bytes
) -> None:
    """It costs too much; so that it is no JSON does not show."""
    issuer_last = b'],"iss":"%b"}' % ISSUER.encode()

    assert is_agents(state, b"Bearer " + jwt(b'{"x":[' + container * 600 + issuer_last))
    assert not is_agents(
        state, b"Bearer " + jwt(b'{"x":[' + container * 6 + issuer_last)
    )


def test_largest_ticket_of_another_scheme_passes(state: MiddlewareState) -> None:
    ticket = base64url(bytes(48_000))

    assert not is_agents(state, b"Negotiate " + ticket)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Key " + b"x" * (64 * 1024 - 35)],
        [b"Key " + b"x" * 32_000, b"Key " + b"x" * 33_500],
        [b""] * 2049,
    ],
    ids=["one line", "two lines", "empty lines"],
)
def test_more_of_it_than_is_read_is_refused(
    state: MiddlewareState, lines: list[bytes]
) -> None:
    """It might hide an agent's token."""
    with pytest.raises(InvalidRequestError, match="credential_too_long"):
        has_agent_credential(state, request(authorization=lines), NOW)


def test_as_much_as_is_read_is_not_refused(state: MiddlewareState) -> None:
    for line in (b"Key " + b"x" * (64 * 1024 - 36), b"Key ."):
        assert not is_agents(state, line)
    assert not has_agent_credential(state, request(authorization=[b""] * 2048), NOW)


@pytest.mark.parametrize(("issuers", "is_agent"), [(16, False), (17, True)])
def test_more_issuers_than_are_looked_up_are_an_agents(
    issuers: int, is_agent: bool
) -> None:
    """A function of the operator's is not asked a thousand times for one request."""
    asked: list[str] = []
    settings = ResourceServer(
        RESOURCE,
        issuers=asked.append,
        authorization_servers=[],
        unauthenticated="pass",
    )
    named = [jwt(b'{"iss":"https://%d.example.com"}' % n) for n in range(issuers)]

    assert is_agents(state_for(settings), b" ".join(named)) is is_agent
    assert len(asked) <= 16


def test_payload_that_is_a_list_names_nobody(state: MiddlewareState) -> None:
    pairs = b'[["iss","%b"]]' % ISSUER.encode()

    assert not is_agents(state, b"Bearer " + jwt(pairs))


def test_intricate_payload_does_not_hide_its_issuer_deep_in_the_stack(
    state: MiddlewareState,
) -> None:
    """Where Python cannot read it, though it would elsewhere."""

    def deep(frames: int) -> bool:
        if frames:
            return deep(frames - 1)
        return is_agents(state, b"Bearer " + jwt(nested(500)))

    assert deep(600)


def test_opaque_token_in_use_is_another_clients_in_another_scheme(
    state: MiddlewareState,
) -> None:
    """As it is before anybody used it: what is remembered claims nothing more."""
    signed, opaque = token(), b"oat_0123456789"
    assert isinstance(decide_at_once(state, request(signed)), Access)
    found = state.tokens.get(sha256(signed).digest())
    assert found is not None
    digest = sha256(opaque).digest()
    state.tokens.put(digest, found.access, found.trusted, None, bound=False)

    assert is_agents(state, b"Bearer " + opaque)
    assert not is_agents(state, b"Token " + opaque)
