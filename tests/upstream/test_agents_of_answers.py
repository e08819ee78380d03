"""Clients as agents where the issuer is asked about tokens, opaque ones and JWTs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest

from agentauth_middleware import Introspection, Route
from tests.upstream.asking import RESOURCE, opened, resource_server
from tests.upstream.server import Upstream

OPAQUE = "opaque-1"
OWN, AGENT = "notes-web", "assistant"
DEMANDS: Mapping[Literal["required", "forbidden"], Mapping[str, int]] = {
    "required": {OWN: 403, AGENT: 200},
    "forbidden": {OWN: 200, AGENT: 403},
}


def status_of(
    kind: str,
    upstream: Upstream,
    agent: Literal["required", "forbidden"],
    token: str,
    **asked: Any,
) -> int:
    introspection = Introspection("notes-api", client_secret="s", **asked)
    server = replace(
        resource_server(
            upstream, introspection=introspection, first_party_clients=[OWN]
        ),
        routes=[Route("/notes", agent=agent)],
    )
    with opened(kind, server) as middleware:
        return middleware.ask(token).status


@pytest.mark.parametrize("client", [OWN, AGENT])
@pytest.mark.parametrize("agent", DEMANDS)
def test_client_of_an_opaque_token_is_an_agent(
    agent: Literal["required", "forbidden"],
    client: str,
    kind: str,
    upstream: Upstream,
) -> None:
    upstream.active[OPAQUE] = {
        "active": True,
        "sub": "ana",
        "client_id": client,
        "aud": RESOURCE,
    }

    assert status_of(kind, upstream, agent, OPAQUE) == DEMANDS[agent][client]


@pytest.mark.parametrize("client", [OWN, AGENT])
@pytest.mark.parametrize("agent", DEMANDS)
def test_client_of_a_jwt_stays_the_agent_when_the_answer_names_none(
    agent: Literal["required", "forbidden"],
    client: str,
    kind: str,
    upstream: Upstream,
) -> None:
    token = upstream.signer.token(RESOURCE, subject="ana", client_id=client)
    upstream.active[token] = {"active": True}
    found = status_of(kind, upstream, agent, token, always=True)

    assert found == DEMANDS[agent][client]
