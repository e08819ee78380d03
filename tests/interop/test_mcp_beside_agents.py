"""One MCP server, two kinds of authorization server beside each other.

MCP clients register themselves and send their user through a browser; agents of auth.md
bring the word of a provider. No server of ours does both, and none has to: a resource
trusts several issuers. MCP clients use the first that its metadata names.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio import to_thread

from agentauth_middleware.testing import FakeProvider
from tests.examples.programs import free_port, running
from tests.interop.authorization import AGENT, USER, Authorization
from tests.support.deadlines import try_within

pytest.importorskip("mcp", reason="see the group interop of pyproject.toml")

from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.interop.agent_server import PROVIDER, PROVIDERS_USER
from tests.interop.test_mcp_python import Storage, connected

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
APPS = {
    "mcp": "tests.interop.mcp_server:create_guarded_app",
    "agents": "tests.interop.agent_server:create_app",
}


@dataclass(frozen=True)
class Both:
    """An MCP server, and the embedded server for its agents."""

    url: str
    embedded: str
    provider: FakeProvider

    async def agents_token(self, client: httpx2.AsyncClient, metadata: Any) -> str:
        """What an agent gets for its provider's word, as ``auth.md`` tells it."""
        registered = await client.post(
            metadata["agent_auth"]["identity_endpoint"],
            json={
                "type": "identity_assertion",
                "assertion_type": ID_JAG,
                "assertion": self.provider.id_jag(
                    self.embedded, subject=PROVIDERS_USER
                ),
            },
        )
        granted = await client.post(
            metadata["token_endpoint"],
            data={
                "grant_type": JWT_BEARER,
                "assertion": registered.json()["identity_assertion"],
                "resource": self.url,
                "scope": "notes.read notes.write",
            },
        )
        assert granted.status_code == 200, granted.text
        token: str = granted.json()["access_token"]
        return token

    def disconnect(self) -> None:
        """The provider's user takes back what its agents may."""
        event = self.provider.revoked_event(self.embedded, subject=PROVIDERS_USER)
        answer = httpx2.post(
            f"{self.embedded}/agent/event/notify",
            content=event,
            headers={"content-type": "application/secevent+jwt"},
        )
        assert answer.is_success, answer.text

    def await_refusal(self, token: str) -> None:
        """Return when *token* is refused, which is promised within a second."""

        def status() -> int:
            fields = {"authorization": f"Bearer {token}"}
            return httpx2.get(self.url, headers=fields).status_code

        assert try_within(1, status, until=lambda status: status == 401) == 401


@pytest.fixture
def both(authorization: Authorization, tmp_path: Path) -> Generator[Both, None, None]:
    ports = {"mcp": free_port(), "agents": free_port()}
    url = f"http://127.0.0.1:{ports['mcp']}/mcp"
    embedded = f"http://127.0.0.1:{ports['agents']}"
    provider = FakeProvider(PROVIDER)
    environment = {
        "AGENTAUTH_RESOURCE": url,
        "AGENTAUTH_ISSUER": f"{authorization.issuer.issuer} {embedded}",
        "AGENTAUTH_EMBEDDED": embedded,
        "AGENTAUTH_PROVIDER_KEYS": json.dumps(provider.jwks),
        "AGENTAUTH_DATABASE": str(tmp_path / "agents.db"),
        "AGENTAUTH_STORE": str(tmp_path / "revocations.db"),
    }
    commands = {
        name: ["uvicorn", "--factory", app, "--port", str(ports[name])]
        for name, app in APPS.items()
    }
    with (
        running(commands["agents"], environment) as agents,
        running(commands["mcp"], environment) as mcp,
    ):
        agents.wait_for_line("Uvicorn running on")
        mcp.wait_for_line("Uvicorn running on")
        yield Both(url, embedded, provider)
    lines = [*agents.lines, *mcp.lines]
    assert not [line for line in lines if "Traceback" in line]


async def test_mcp_clients_and_agents_use_one_server_each_in_its_own_way(
    both: Both, authorization: Authorization
) -> None:
    async with connected(both.url, Storage()) as client:
        by_client = await client.call_tool("who_am_i", {})

        async with httpx2.AsyncClient() as agent:
            refused = await agent.post(both.url)
            resource = (await agent.get(named_in(refused))).json()
            found = await find_for_agents(agent, resource["authorization_servers"])
            token = await both.agents_token(agent, found)
        fields = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=fields) as bearing,
            Client(streamable_http_client(both.url, http_client=bearing)) as session,
        ):
            by_agent = await session.call_tool("who_am_i", {})
            added = await session.call_tool("add_note", {"text": "from an agent"})

        await to_thread.run_sync(both.disconnect)
        await to_thread.run_sync(both.await_refusal, token)
        afterwards = await client.call_tool("who_am_i", {})

    assert resource["authorization_servers"] == [
        authorization.issuer.issuer,
        both.embedded,
    ]
    assert by_client.structured_content == {"user": USER, "agent": AGENT}
    assert by_agent.structured_content is not None
    assert by_agent.structured_content["user"] == USER
    assert by_agent.structured_content["agent"] != AGENT
    assert not added.is_error
    # The user has disconnected the provider's agents, and no others.
    assert afterwards.structured_content == by_client.structured_content


def named_in(refused: httpx2.Response) -> str:
    """The metadata's URL in a challenge."""
    challenge = refused.headers["www-authenticate"]
    return str(challenge.partition('resource_metadata="')[2].partition('"')[0])


async def find_for_agents(agent: httpx2.AsyncClient, issuers: list[str]) -> Any:
    """The metadata of the first of *issuers* at which an agent can register."""
    for issuer in issuers:
        url = f"{issuer}/.well-known/oauth-authorization-server"
        metadata = (await agent.get(url)).json()
        if "agent_auth" in metadata:
            return metadata
    raise AssertionError(f"no server for agents among {issuers}")
