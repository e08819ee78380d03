"""What the demo's agent notices in the answers it gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from werkzeug import Request, Response

from agentauth_middleware.cli._demo.walk import ID_JAG, HopDiffersError, Visit, Walk

API, SERVER = "http://api.test", "http://as.test/agents"
METADATA = "http://api.test/metadata"
VISIT = Visit(
    "API", API, "http://provider.test", "user-17", "alice@example.com", "Alice"
)

GOOD: Mapping[str, Any] = {
    METADATA: {"resource": API, "authorization_servers": [SERVER]},
    "http://as.test/.well-known/oauth-authorization-server/agents": {
        "issuer": SERVER,
        "token_endpoint": f"{SERVER}/token",
        "agent_auth": {
            "identity_endpoint": f"{SERVER}/identity",
            "events_endpoint": f"{SERVER}/events",
            "identity_types_supported": ["identity_assertion"],
            "identity_assertion": {"assertion_types_supported": [ID_JAG]},
        },
    },
}
RESOURCE, ISSUER = GOOD


def names(documents: Mapping[str, Any], challenge: str) -> list[str]:
    """The hops of a walk among *documents*, till one differs."""

    @Request.application
    def site(request: Request) -> Response:
        if request.url == f"{API}/notes":
            return Response(status=401, headers={"WWW-Authenticate": challenge})
        if request.url not in documents:
            return Response(status=404)
        return Response(json.dumps(documents[request.url]))

    hops: list[str] = []
    with httpx.Client(transport=httpx.WSGITransport(site)) as client:
        walk = Walk(VISIT, client).hops()
        with pytest.raises(HopDiffersError) as differs:
            hops.extend(hop.name for hop in walk)
    return [*hops, str(differs.value).removeprefix("API, ")]


CHALLENGE = f'Bearer resource_metadata="{METADATA}"'


def test_agent_gets_from_the_challenge_to_the_provider() -> None:
    *hops, failure = names(GOOD, CHALLENGE)

    assert hops == [
        "call without a token",
        "protected resource metadata",
        "authorization server metadata",
        "agent_auth",
    ]
    assert failure == "hop 5 (ID-JAG): expected 200, got 404"


@pytest.mark.parametrize(
    ("challenge", "failure"),
    [
        pytest.param("Bearer", "no resource_metadata", id="no metadata"),
        pytest.param("Basic realm=x", "expected a challenge Bearer", id="Basic"),
        pytest.param('"', "WWW-Authenticate is not a challenge", id="no grammar"),
    ],
)
def test_agent_needs_a_challenge_that_leads_on(challenge: str, failure: str) -> None:
    (told,) = names(GOOD, challenge)

    assert told.startswith("hop 1 (call without a token): ")
    assert failure in told


@pytest.mark.parametrize(
    ("url", "members", "failure"),
    [
        pytest.param(
            RESOURCE,
            {"resource": "http://other.test", "authorization_servers": [SERVER]},
            "hop 2 (protected resource metadata): expected resource http://api.test, "
            "got http://other.test",
            id="another resource",
        ),
        pytest.param(
            RESOURCE,
            {"resource": API},
            "hop 2 (protected resource metadata): authorization_servers names no "
            "server",
            id="no server",
        ),
        pytest.param(
            RESOURCE,
            [],
            "hop 2 (protected resource metadata): the answer is not a JSON object",
            id="no object",
        ),
        pytest.param(
            ISSUER,
            {"issuer": "http://other.test"},
            f"hop 3 (authorization server metadata): expected issuer {SERVER}, "
            "got http://other.test",
            id="another issuer",
        ),
        pytest.param(
            ISSUER,
            {"issuer": SERVER},
            "hop 4 (agent_auth): agent_auth is missing or not an object",
            id="no agent_auth",
        ),
        pytest.param(
            ISSUER,
            {
                "issuer": SERVER,
                "agent_auth": {"identity_types_supported": ["anonymous"]},
            },
            "hop 4 (agent_auth): identity_types_supported lacks identity_assertion",
            id="only anonymous agents",
        ),
    ],
)
def test_agent_stops_at_a_document_that_differs(
    url: str, members: Any, failure: str
) -> None:
    *_, told = names({**GOOD, url: members}, CHALLENGE)

    assert told == failure
