"""Servers of the MCP SDK, behind the middleware and with the SDK's own auth
settings."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from starlette.testclient import TestClient

from agentauth_middleware import (
    Access,
    ConfigurationError,
    Introspection,
    Issuer,
    ResourceServer,
    Route,
    UnavailableError,
    current_access,
)
from agentauth_middleware.errors import ActorRefusedError, TooManyRequestsError
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer, trusting
from agentauth_middleware.verifier import Verifier
from tests.support.server_side import exchange, http_scope
from tests.support.server_side import request as exchanged
from tests.upstream import faults
from tests.upstream.server import INTROSPECTION, serving

pytest.importorskip("mcp", reason="see the extra mcp of pyproject.toml")

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, UnexpectedToolError

from agentauth_middleware.mcp import (
    AgentAccessToken,
    AgentAuthMiddleware,
    AgentAuthTokenVerifier,
    requires,
)

if TYPE_CHECKING:
    from httpx2 import Response
    from starlette.types import Receive, Scope, Send

HOST = "http://127.0.0.1:8000"
RESOURCE = f"{HOST}/mcp"
METADATA_URL = f"{HOST}/.well-known/oauth-protected-resource/mcp"
SCOPES = {"notes.read": "Read your notes", "notes.write": "Add to your notes"}
ISSUER = FakeIssuer()
SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust()],
    scopes=SCOPES,
    routes=[Route("/mcp", scopes=["notes.read"])],
    insecure_loopback=True,
)
OPEN = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust()],
    scopes=SCOPES,
    routes=[Route("/mcp", optional=True)],
    insecure_loopback=True,
)


def token(*scopes: str, **members: Any) -> str:
    return ISSUER.token(RESOURCE, scopes=scopes or ["notes.read"], **members)


# The tools of the server under test


async def who_am_i() -> dict[str, Any]:
    """What the SDK and what the middleware say of the caller."""
    known, access = get_access_token(), current_access()
    assert isinstance(known, AgentAccessToken)
    return {
        "token": known.token,
        "client_id": known.client_id,
        "subject": known.subject,
        "scopes": known.scopes,
        "same": known.access is access,
    }


@requires("notes.write")
async def add_note(text: str) -> str:
    return text


@requires("notes.write")
def add_note_in_a_thread(text: str) -> str:
    return text


@requires()
async def ask_agent() -> str:
    access = current_access()
    assert access is not None
    return access.require_agent().subject


@requires()
async def ask_agent_in_a_task() -> str:
    async def ask() -> None:
        access = current_access()
        assert access is not None
        access.require_agent()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
    return "done"


@requires()
async def crash_in_a_task() -> str:
    async def crash() -> None:
        raise KeyError("note")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crash)
    return "done"


DEMANDS: dict[str, dict[str, Any]] = {
    "any_scopes": {"any_scopes": ["notes.write"]},
    "user": {"user": "required"},
    "agent": {"agent": "forbidden"},
    "acr_values": {"acr_values": ["phr"]},
    "max_age": {"max_age": 300},
}
"""By the name of a tool that demands it, and of the keyword."""


def demanding(**demands: Any) -> Callable[[], str]:
    @requires(**demands)
    def demand() -> str:
        return "done"

    return demand


@requires("notes.write")
def drafts() -> str:
    return "a draft"


@requires()
async def out_of_order() -> str:
    raise UnavailableError("notes_unreachable", "the database's name", retry_after=7)


def notes_server(**settings: Any) -> MCPServer[Any]:
    server = MCPServer("Notes", **settings)
    for tool in (
        who_am_i,
        add_note,
        add_note_in_a_thread,
        ask_agent,
        ask_agent_in_a_task,
        crash_in_a_task,
        out_of_order,
    ):
        server.tool()(tool)
    for name, demands in DEMANDS.items():
        server.tool(name)(demanding(**demands))
    server.resource("notes://drafts")(drafts)
    server.prompt()(drafts)
    return server


# What clients send


@dataclass(frozen=True)
class Wire:
    """A client of one revision of the protocol; it has a session, or needs none."""

    client: TestClient
    session: Mapping[str, str] | None

    def another(self, bearer: str) -> Wire:
        """The same client for *bearer*, who has a session of their own."""
        if self.session is None:
            return self
        return Wire(self.client, initialize(self.client, bearer))

    def call(
        self, tool: str, bearer: str | None = None, /, **arguments: Any
    ) -> Response:
        """The answer to a call of *tool*."""
        params = {"name": tool, "arguments": arguments}
        return self.ask("tools/call", tool, params, bearer)

    def ask(
        self, method: str, name: str, params: Mapping[str, Any], bearer: str | None
    ) -> Response:
        """The answer to a request that *name* is the object of."""
        if self.session is not None:
            return post(self.client, method, params, bearer, self.session)
        meta: dict[str, Any] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        fields = {
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            "mcp-name": name,
        }
        return post(self.client, method, {**params, "_meta": meta}, bearer, fields)


def post(
    client: TestClient,
    method: str,
    params: Mapping[str, Any],
    bearer: str | None,
    fields: Mapping[str, str],
) -> Response:
    headers = {"accept": "application/json, text/event-stream", **fields}
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return client.post("/mcp", json=message, headers=headers)


def initialize(client: TestClient, bearer: str | None) -> dict[str, str]:
    """The header fields of a new session."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    answer = post(client, "initialize", params, bearer, {})
    assert answer.status_code == 200, answer.text
    return {
        "mcp-session-id": answer.headers["mcp-session-id"],
        "mcp-protocol-version": "2025-11-25",
    }


def result(answer: Response) -> Any:
    """The result in an answer, whether it is plain or a stream of events."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        return answer.json()["result"]
    events = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    return events[-1]["result"]


def said(answer: Response) -> str:
    """The text of a tool's result."""
    text: str = result(answer)["content"][0]["text"]
    return text


@contextmanager
def running(app: Any) -> Generator[TestClient, None, None]:
    with TestClient(app, HOST, raise_server_exceptions=False) as client:
        yield client


def middleware(server: ResourceServer = SERVER, *, as_json: bool = False) -> Any:
    app = notes_server().streamable_http_app(json_response=as_json)
    return AgentAuthMiddleware(app, server)


@pytest.fixture(
    params=["2025 stream", "2025 json", "2026 stream", "2026 json"],
)
def wire(request: pytest.FixtureRequest) -> Generator[Wire, None, None]:
    """Every way in which an MCP client and a server speak HTTP."""
    revision, kind = request.param.split(" ")
    with running(middleware(OPEN, as_json=kind == "json")) as client:
        session = initialize(client, token()) if revision == "2025" else None
        yield Wire(client, session)


# The middleware


def test_sdk_learns_from_the_middleware_who_is_calling(wire: Wire) -> None:
    """But not the token, which no tool may pass on."""
    told = result(wire.call("who_am_i", token("notes.write", "notes.read")))

    assert told["structuredContent"] == {
        "token": "",
        "client_id": "client-1",
        "subject": "user-1",
        "scopes": ["notes.read", "notes.write"],
        "same": True,
    }


@pytest.mark.parametrize("tool", ["add_note", "add_note_in_a_thread"])
def test_tool_is_called_with_the_scopes_that_it_requires(wire: Wire, tool: str) -> None:
    assert said(wire.call(tool, token("notes.write"), text="hello")) == "hello"


@pytest.mark.parametrize("tool", ["add_note", "add_note_in_a_thread"])
def test_missing_scope_of_a_tool_is_a_403_that_names_it(wire: Wire, tool: str) -> None:
    answer = wire.call(tool, token(), text="hello")
    challenge = answer.headers["www-authenticate"]

    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="notes.write"' in challenge
    assert f'resource_metadata="{METADATA_URL}"' in challenge
    assert answer.json()["scope"] == "notes.write"


@pytest.mark.parametrize(
    ("tool", "lacking", "meeting", "status", "error"),
    [
        ("any_scopes", {}, {"scopes": ["notes.write"]}, 403, "insufficient_scope"),
        ("user", {}, {"sub_profile": "user"}, 403, "actor_unauthorized"),
        ("agent", {"agent": "assistant-7"}, {}, 403, "actor_unauthorized"),
        ("acr_values", {}, {"acr": "phr"}, 401, "insufficient_user_authentication"),
        (
            "max_age",
            {},
            {"auth_time": int(time.time())},
            401,
            "insufficient_user_authentication",
        ),
    ],
    ids=DEMANDS,
)
def test_tool_demands_what_a_route_can(
    wire: Wire,
    tool: str,
    lacking: dict[str, Any],
    meeting: dict[str, Any],
    status: int,
    error: str,
) -> None:
    lacks, meets = (ISSUER.token(RESOURCE, **says) for says in (lacking, meeting))
    refused = wire.another(lacks).call(tool, lacks)
    told = wire.another(meets).call(tool, meets)

    assert (refused.status_code, refused.json()["error"]) == (status, error)
    assert said(told) == "done"


@pytest.mark.parametrize(
    ("method", "member", "name"),
    [
        ("resources/read", "uri", "notes://drafts"),
        ("prompts/get", "name", "drafts"),
    ],
)
def test_resources_and_prompts_require_scopes_like_tools(
    wire: Wire, method: str, member: str, name: str
) -> None:
    refused = wire.ask(method, name, {member: name}, token())
    told = wire.ask(method, name, {member: name}, token("notes.write"))

    assert refused.status_code == 403
    assert refused.json()["scope"] == "notes.write"
    assert "a draft" in json.dumps(result(told))


def test_refusal_is_no_crash_in_the_log(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.call("add_note", token(), text="hello")
    wire.ask("resources/read", "notes://drafts", {"uri": "notes://drafts"}, token())

    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_session_goes_on_after_a_refusal(wire: Wire) -> None:
    wire.call("add_note", token(), text="hello")

    assert said(wire.call("add_note", token("notes.write"), text="now")) == "now"


def test_what_a_tool_refuses_itself_is_answered_by_the_middleware(wire: Wire) -> None:
    refused = wire.call("ask_agent", token())

    assert refused.status_code == 403
    assert refused.json()["error"] == "actor_unauthorized"
    agents = token(agent="assistant-7")

    assert said(wire.another(agents).call("ask_agent", agents)) == "assistant-7"


def test_refusal_in_a_task_of_a_tool_is_answered_by_the_middleware(wire: Wire) -> None:
    refused = wire.call("ask_agent_in_a_task", token())
    crashed = wire.call("crash_in_a_task", token())

    assert refused.status_code == 403
    assert refused.json()["error"] == "actor_unauthorized"
    assert result(crashed)["isError"]


@pytest.mark.parametrize("kind", ["stream", "json"])
def test_session_of_one_agent_is_not_found_by_another(kind: str) -> None:
    """Of the same user, and with the same client: agents may share one."""
    with running(middleware(OPEN, as_json=kind == "json")) as client:
        session = initialize(client, token(agent="assistant-7"))
        mine, theirs, users = (
            post(client, "tools/list", {}, bearer, session).status_code
            for bearer in (
                token(agent="assistant-7"),
                token(agent="assistant-8"),
                token(),
            )
        )

    assert (mine, theirs, users) == (200, 404, 404)


def test_trouble_of_a_tool_is_a_503(wire: Wire) -> None:
    answer = wire.call("out_of_order", token())

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert "database" not in answer.text


@pytest.mark.anyio
async def test_refusal_after_the_first_words_is_told_to_the_model() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1 of 2", "more_body": True})
        with pytest.raises(ResourceError, match=r"needs: notes\.write") as refused:
            await add_note("hello")
        await send({"type": "http.response.body", "body": str(refused.value).encode()})

    headers = [("authorization", f"Bearer {token()}")]
    scope = http_scope("/mcp", headers, method="POST")
    talk = await exchanged(AgentAuthMiddleware(app, SERVER), scope)

    assert talk.status == 200
    assert talk.body.startswith(b"1 of 2the access token lacks")


def test_scopes_of_tools_are_named_as_clients_ask_for_them() -> None:
    server = replace(OPEN, client_scope_prefix="api://notes/")
    with running(middleware(server)) as client:
        answer = Wire(client, None).call("add_note", text="hello")

    assert 'scope="api://notes/notes.write"' in answer.headers["www-authenticate"]


@pytest.mark.anyio
async def test_model_is_told_scopes_as_clients_ask_for_them() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1 of 2", "more_body": True})
        with pytest.raises(ResourceError) as refused:
            await add_note("hello")
        await send({"type": "http.response.body", "body": str(refused.value).encode()})

    headers = [("authorization", f"Bearer {token()}")]
    scope = http_scope("/mcp", headers, method="POST")
    server = replace(SERVER, client_scope_prefix="api://notes/")
    talk = await exchanged(AgentAuthMiddleware(app, server), scope)

    assert talk.body.endswith(b"needs: api://notes/notes.write")


def test_sdk_cannot_tell_clients_other_names_of_scopes() -> None:
    server = replace(SERVER, client_scope_prefix="api://notes/")
    verifier = AgentAuthTokenVerifier(server)

    assert verifier.settings().required_scopes is None
    with pytest.raises(ConfigurationError, match="put the middleware in front"):
        verifier.settings(required_scopes=["notes.read"])


def test_request_without_access_is_asked_for_credentials_by_a_tool() -> None:
    with running(middleware(OPEN)) as client:
        answer = Wire(client, None).call("add_note", text="hello")

    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]
    assert 'scope="notes.write"' in answer.headers["www-authenticate"]


def test_session_is_not_found_by_others_than_who_opened_it() -> None:
    with running(middleware()) as client:
        wire = Wire(client, initialize(client, token(subject="ana")))
        statuses = {
            "ana": wire.call("who_am_i", token(subject="ana")).status_code,
            "ben": wire.call("who_am_i", token(subject="ben")).status_code,
            "another client": wire.call(
                "who_am_i", token(subject="ana", client_id="client-2")
            ).status_code,
        }

    assert statuses == {"ana": 200, "ben": 404, "another client": 404}


def test_session_of_another_issuers_user_is_not_found() -> None:
    other = FakeIssuer("https://other.example.com")
    server = ResourceServer(
        RESOURCE, issuers=[ISSUER.trust(), other.trust()], insecure_loopback=True
    )
    with running(middleware(server)) as client:
        wire = Wire(client, initialize(client, token()))

        assert wire.call("who_am_i", other.token(RESOURCE)).status_code == 404
        assert wire.call("who_am_i", token()).status_code == 200


def test_session_opened_without_access_is_not_somebodys() -> None:
    with running(middleware(OPEN)) as client:
        wire = Wire(client, initialize(client, None))

        assert wire.call("who_am_i", token()).status_code == 404


def test_middleware_may_be_added_to_the_application() -> None:
    app = notes_server().streamable_http_app()
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    with running(app) as client:
        wire = Wire(client, None)

        refused = wire.call("add_note", token(), text="hello")

        assert refused.status_code == 403
        assert refused.json()["scope"] == "notes.read notes.write"
        assert wire.call("add_note", text="hello").status_code == 401
        assert client.get("/.well-known/oauth-protected-resource/mcp").is_success


@pytest.mark.anyio
async def test_streams_that_clients_open_begin_at_once() -> None:
    """Only what a tool may refuse is held back; a GET waits for news."""
    more = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        events = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": events})
        await more.wait()
        await send({"type": "http.response.body", "body": b"news"})

    headers = [("authorization", f"Bearer {token()}")]
    async with exchange(
        AgentAuthMiddleware(app, SERVER), http_scope("/mcp", headers)
    ) as talk:
        start = await talk.next_sent()
        more.set()

    assert start["type"] == "http.response.start"
    assert talk.body == b"news"


def test_scopes_for_names_what_a_handler_will_demand() -> None:
    app = AgentAuthMiddleware(
        notes_server().streamable_http_app(),
        SERVER,
        scopes_for=lambda scope: ["notes.write"],
    )
    with running(app) as client:
        answer = Wire(client, None).call("add_note", text="hello")

    assert answer.status_code == 401
    assert 'scope="notes.read notes.write"' in answer.headers["www-authenticate"]


@pytest.mark.anyio
async def test_tool_without_a_middleware_is_not_called() -> None:
    with pytest.raises(UnexpectedToolError) as failed:
        await notes_server().call_tool("add_note", {"text": "hello"})

    assert isinstance(failed.value.__cause__, ConfigurationError)


def test_arguments_are_checked_as_by_every_middleware() -> None:
    app: Any = None

    with pytest.raises(ConfigurationError, match=r"^app: None is no application"):
        AgentAuthMiddleware(app, SERVER)
    with pytest.raises(ConfigurationError, match="requires"):
        requires("two words")


# The SDK's own auth settings


@pytest.mark.anyio
async def test_verifier_tells_the_sdk_what_the_token_says() -> None:
    presented = token(agent="assistant-7", roles=["a", "b"])
    known = await AgentAuthTokenVerifier(SERVER).verify_token(presented)

    assert known is not None
    access = known.access
    assert known.token == presented
    assert known.client_id == "client-1"
    assert known.scopes == ["notes.read"]
    assert known.subject == "user-1"
    assert known.resource == RESOURCE
    assert known.expires_at == access.expires_at
    assert known.claims == json.loads(access.payload)
    assert access.require_agent().subject == "assistant-7"
    assert "access" not in known.model_dump()


def test_access_token_is_not_shown() -> None:
    """It would end up in logs and in traces."""
    access = Access("https://as.example.com", "user-1", payload=b'{"sub": "user-1"}')
    known = AgentAccessToken.from_access(access, resource=RESOURCE, token="a-secret")

    assert known.token == "a-secret"
    assert "a-secret" not in f"{known!r} {known}"


def test_what_a_token_does_not_say_is_made_up_for_nobody() -> None:
    """But the issuer is known, and tells two users of the same name apart."""
    access = Access("https://as.example.com", "user-1", payload=b'{"sub": "user-1"}')
    known = AgentAccessToken.from_access(access, resource=RESOURCE, token="")

    assert known.client_id == ""
    assert known.expires_at is None
    assert known.claims == {"sub": "user-1", "iss": "https://as.example.com"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "presented",
    [
        pytest.param(token(expires_in=-61), id="expired"),
        pytest.param(FakeIssuer().token(RESOURCE, expires_in=9999), id="forged"),
        pytest.param(
            ISSUER.token("https://x.example.com", expires_in=9999), id="for another"
        ),
        pytest.param(token(cnf={"jkt": "x"}, expires_in=9999), id="bound to a key"),
        pytest.param(token(jti="revoked", expires_in=9999), id="revoked"),
        pytest.param("two words", id="no token68"),
        pytest.param("", id="empty"),
    ],
)
async def test_bad_token_is_none(presented: str) -> None:
    store = MemoryStore()
    revoke_blocking(store, ISSUER.issuer, token_id="revoked")

    assert (
        await AgentAuthTokenVerifier(SERVER, store=store).verify_token(presented)
        is None
    )


@pytest.mark.anyio
async def test_keys_out_of_reach_are_not_none() -> None:
    with FakeIssuer.serve() as issuer:
        issuer.replies["/jwks.json"] = (500, {}, b"")
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )

        with pytest.raises(UnavailableError):
            await AgentAuthTokenVerifier(server).verify_token(issuer.token(RESOURCE))


@pytest.mark.anyio
async def test_issuer_that_is_asked_too_much_is_not_none() -> None:
    """What it says about a token is a verdict; that it says nothing is none."""
    with serving() as upstream:
        asked = Introspection("api", client_secret="secret of ours")
        server = ResourceServer(
            RESOURCE,
            issuers=[upstream.trust(introspection=asked)],
            insecure_loopback=True,
        )
        upstream.active["good"] = {"active": True, "aud": RESOURCE, "sub": "user-1"}
        verifier = AgentAuthTokenVerifier(server)

        assert await verifier.verify_token("good") is not None
        assert await verifier.verify_token("inactive") is None

        upstream.faults[INTROSPECTION] = faults.answer("429 Slow")
        with pytest.raises(TooManyRequestsError, match="429"):
            await verifier.verify_token("new")


@pytest.mark.anyio
async def test_refusal_of_an_agent_is_not_none() -> None:
    """Its token is good, and it would only fetch another."""
    trusted = Issuer(ISSUER.issuer, jwks=ISSUER.jwks, agents=["assistant-7"])
    server = ResourceServer(RESOURCE, issuers=[trusted], insecure_loopback=True)
    verifier = AgentAuthTokenVerifier(server)

    assert await verifier.verify_token(token(agent="assistant-7")) is not None
    with pytest.raises(ActorRefusedError):
        await verifier.verify_token(token(agent="assistant-8"))


@pytest.mark.anyio
async def test_verifier_may_be_shared() -> None:
    shared = Verifier(SERVER)
    presented = token()
    known = await AgentAuthTokenVerifier(shared).verify_token(presented)

    assert known is not None
    assert known.access is shared.verify_blocking(presented)
    with pytest.raises(ConfigurationError, match="a store and an http_client of its"):
        AgentAuthTokenVerifier(shared, store=MemoryStore())


def test_settings_without_an_issuer_are_named() -> None:
    server = ResourceServer(
        RESOURCE,
        issuers=lambda name: None,
        authorization_servers=[],
        insecure_loopback=True,
    )

    with pytest.raises(ConfigurationError, match=r"authorization_servers: names no"):
        AgentAuthTokenVerifier(server).settings()


@contextmanager
def protected_by_the_sdk(
    server: ResourceServer = SERVER,
) -> Generator[Wire, None, None]:
    with running(protected(server).streamable_http_app()) as client:
        yield Wire(client, None)


def protected(server: ResourceServer = SERVER) -> MCPServer[Any]:
    verifier = AgentAuthTokenVerifier(server)
    settings = verifier.settings(required_scopes=["notes.read"])
    return notes_server(token_verifier=verifier, auth=settings)


def test_sdk_answers_in_its_own_way() -> None:
    with protected_by_the_sdk() as wire:
        without, bad = wire.call("ask_agent"), wire.call("ask_agent", "no-token")
        lacking = wire.call("ask_agent", token("notes.write"))
        metadata = wire.client.get("/.well-known/oauth-protected-resource/mcp").json()

    assert [answer.status_code for answer in (without, bad, lacking)] == [401, 401, 403]
    assert f'resource_metadata="{METADATA_URL}"' in without.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in lacking.headers["www-authenticate"]
    assert metadata["resource"] == RESOURCE
    assert metadata["authorization_servers"] == [ISSUER.issuer]
    assert metadata["scopes_supported"] == ["notes.read"]


def test_tool_finds_the_access_with_the_sdks_token() -> None:
    def agent() -> str:
        known = get_access_token()
        assert isinstance(known, AgentAccessToken)
        return known.access.require_agent().subject

    verifier = AgentAuthTokenVerifier(SERVER)
    mcp = MCPServer("Notes", token_verifier=verifier, auth=verifier.settings())
    mcp.tool()(agent)
    with running(mcp.streamable_http_app()) as client:
        answer = Wire(client, None).call("agent", token(agent="assistant-7"))

    assert said(answer) == "assistant-7"


def test_other_audience_of_the_settings_is_good_for_the_sdk_too() -> None:
    trusted = Issuer(ISSUER.issuer, jwks=ISSUER.jwks, audience="api://notes")
    server = ResourceServer(RESOURCE, issuers=[trusted], insecure_loopback=True)
    presented = ISSUER.token("api://notes", scopes=["notes.read"], agent="a")
    with protected_by_the_sdk(server) as wire:
        assert wire.call("who_am_i", presented).status_code == 200
        assert wire.call("who_am_i", token()).status_code == 401


def test_sdk_answers_500_and_no_verdict_to_our_trouble() -> None:
    with FakeIssuer.serve() as issuer:
        issuer.replies["/jwks.json"] = (500, {}, b"")
        server = ResourceServer(
            RESOURCE, issuers=[issuer.trust()], insecure_loopback=True
        )
        with protected_by_the_sdk(server) as wire:
            answer = wire.call("who_am_i", issuer.token(RESOURCE))

    assert answer.status_code == 500
    assert "www-authenticate" not in answer.headers


def test_application_with_the_sdks_settings_trusts_in_tests() -> None:
    app = protected().streamable_http_app()
    with running(app) as client, trusting(app) as agent_token:
        wire = Wire(client, None)
        good = agent_token(agent="assistant-7", scopes=["notes.read"])

        assert wire.call("who_am_i", good).status_code == 200
        assert wire.call("who_am_i", token()).status_code == 401


# The extra


def test_missing_extra_is_named() -> None:
    """In a process of its own: here parts of the SDK have been loaded."""
    program = "import sys; sys.modules['mcp'] = None; import agentauth_middleware.mcp"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install agentauth-middleware[mcp]" in run.stderr
