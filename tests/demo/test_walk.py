"""What the demo's agent asks for, and what it notices in the answers it gets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import pytest

from agentauth_middleware.cli._demo.walk import (
    ID_JAG,
    JWT_BEARER,
    Hop,
    HopDiffersError,
    Visit,
    Walk,
)

API, SERVER, PROVIDER = "http://api.test", "http://as.test/agents", "http://agents.test"
VISIT = Visit("API", API, PROVIDER, "user-17", "alice@example.com", "Alice")
CHALLENGE = f'Bearer resource_metadata="{API}/metadata"'
RESOURCE = {"resource": API, "authorization_servers": [SERVER]}
BLOCK = {
    "identity_endpoint": f"{SERVER}/identity",
    "events_endpoint": f"{SERVER}/events",
    "identity_types_supported": ["identity_assertion"],
    "identity_assertion": {"assertion_types_supported": [ID_JAG]},
}
METADATA = {"issuer": SERVER, "token_endpoint": f"{SERVER}/token", "agent_auth": BLOCK}


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    return f"e30.{payload.rstrip('=')}.c2ln"


TOKEN = jwt({"sub": "alice", "act": {"sub": "agent_1"}})
GRANT = {"access_token": TOKEN, "token_type": "Bearer", "scope": "notes.read"}
NOTES = {"user": "Alice", "agent": "agent_1", "scopes": ["notes.read"]}


class Answer(NamedTuple):
    status: int
    body: Any = None
    challenge: str = ""


class Request(NamedTuple):
    """What one was made of, as far as it matters to who is asked."""

    line: str
    token: str
    content: str


ANSWERS: Mapping[int, Answer] = {
    1: Answer(401, challenge=CHALLENGE),
    2: Answer(200, RESOURCE),
    3: Answer(200, METADATA),
    5: Answer(200, {"assertion": "id-jag-1"}),
    6: Answer(200, {"registration_id": "agent_1", "identity_assertion": "mine"}),
    7: Answer(200, GRANT),
    8: Answer(200, NOTES),
    9: Answer(403, challenge='Bearer error="insufficient_scope", scope="notes.write"'),
    10: Answer(200, {"status": 202}),
    11: Answer(401, challenge=f'{CHALLENGE}, error="invalid_token"'),
    12: Answer(401, challenge=CHALLENGE),
    13: Answer(200, RESOURCE),
    14: Answer(200, METADATA),
    16: Answer(200, {"assertion": "id-jag-2"}),
    17: Answer(401, challenge='AgentAuth error="interaction_required"'),
}
"""To each hop of a walk on which nothing goes wrong; two hops ask nobody."""


def rendered(answer: Answer) -> httpx.Response:
    fields = {"www-authenticate": answer.challenge} if answer.challenge else {}
    return httpx.Response(answer.status, json=answer.body, headers=fields)


class Journey:
    """A walk among servers that give *changed* answers to these hops."""

    def __init__(self, changed: Mapping[int, Answer | list[Answer]]) -> None:
        self.requests: list[Request] = []
        self.hops: list[Hop] = []
        self.failure = ""
        self._answers: dict[int, Answer | list[Answer]] = {**ANSWERS, **changed}
        with httpx.Client(transport=httpx.MockTransport(self._answer)) as client:
            self._walk = Walk(VISIT, client)
            try:
                for hop in self._walk.hops():
                    self.hops.append(hop)
            except HopDiffersError as differs:
                self.failure = str(differs)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(
            Request(
                f"{request.method} {request.url}",
                request.headers.get("authorization", ""),
                request.content.decode(),
            )
        )
        answer = self._answers[self._walk.number]
        return rendered(answer.pop(0) if isinstance(answer, list) else answer)


def test_agent_asks_for_what_the_answers_lead_to() -> None:
    journey = Journey({})
    discovery = [
        f"GET {API}/notes",
        f"GET {API}/metadata",
        "GET http://as.test/.well-known/oauth-authorization-server/agents",
        f"POST {PROVIDER}/assertions",
        f"POST {SERVER}/identity",
    ]

    assert journey.failure == ""
    assert [request.line for request in journey.requests] == [
        *discovery,
        f"POST {SERVER}/token",
        f"GET {API}/notes",
        f"POST {API}/notes",
        f"POST {PROVIDER}/disconnect",
        f"GET {API}/notes",
        *discovery,
    ]


def test_agent_shows_its_token_to_the_api_alone() -> None:
    journey = Journey({})
    shown = [request.line for request in journey.requests if request.token]

    assert shown == [f"GET {API}/notes", f"POST {API}/notes", f"GET {API}/notes"]
    assert {request.token for request in journey.requests} == {"", f"Bearer {TOKEN}"}


def test_agent_presents_each_id_jag_once() -> None:
    journey = Journey({})
    presented = [
        json.loads(request.content)["assertion"]
        for request in journey.requests
        if request.line == f"POST {SERVER}/identity"
    ]

    assert presented == ["id-jag-1", "id-jag-2"]


def test_agent_asks_for_one_scope_at_one_api() -> None:
    journey = Journey({})
    (form,) = [
        httpx.QueryParams(request.content)
        for request in journey.requests
        if request.line == f"POST {SERVER}/token"
    ]

    assert dict(form) == {
        "grant_type": JWT_BEARER,
        "assertion": "mine",
        "scope": "notes.read",
        "resource": API,
    }


def test_agent_goes_only_as_far_as_a_token() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if walk.number != 7:
            return rendered(ANSWERS[walk.number])
        asked.append(httpx.QueryParams(request.content.decode())["scope"])
        return httpx.Response(200, json={**GRANT, "scope": asked[0]})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        walk = Walk(VISIT, client)
        hops = walk.hops_to_token("notes.read", "notes.write")
        for _ in range(7):
            next(hops)
        with pytest.raises(StopIteration) as finished:
            next(hops)
    place, token = finished.value.value

    assert token == TOKEN
    assert asked == ["notes.read notes.write"]
    assert VISIT.disconnection(place) == {
        "audience": SERVER,
        "subject": "user-17",
        "events_endpoint": f"{SERVER}/events",
    }


def test_hops_that_are_made_again_refer_to_the_first() -> None:
    again = Journey({}).hops[11:16]

    assert [hop.why for hop in again] == [
        "As in hop 1. The agent has dropped the refused token and starts over.",
        "As in hop 2.",
        "As in hop 3.",
        "As in hop 4.",
        "As in hop 5. A new one, since each is good once.",
    ]


def test_agent_calls_until_it_is_refused() -> None:
    """Within the promised second, the API may not have heard of it yet."""
    good = Answer(200, NOTES)
    journey = Journey({11: [good, good, ANSWERS[11]]})
    calls = [request for request in journey.requests if request.token]

    assert journey.failure == ""
    assert len(calls) == 5


NOT_AN_OBJECT = "the answer is not a JSON object"
FAULTS: dict[str, tuple[int, Answer, str]] = {
    "let in without a token": (
        1,
        Answer(200, NOTES),
        "hop 1 (call without a token): expected 401, got 200",
    ),
    "challenge without metadata": (
        1,
        Answer(401, challenge="Bearer"),
        "hop 1 (call without a token): the challenge has no resource_metadata",
    ),
    "another scheme": (
        1,
        Answer(401, challenge="Basic realm=x"),
        "hop 1 (call without a token): expected a challenge Bearer, got none",
    ),
    "no challenge": (
        1,
        Answer(401, challenge='"'),
        "hop 1 (call without a token): WWW-Authenticate is not a challenge: '\"'",
    ),
    "another resource": (
        2,
        Answer(200, {**RESOURCE, "resource": "http://other.test"}),
        "hop 2 (protected resource metadata): expected resource http://api.test, "
        "got http://other.test",
    ),
    "no authorization server": (
        2,
        Answer(200, {"resource": API}),
        "hop 2 (protected resource metadata): authorization_servers names no server",
    ),
    "metadata that are no object": (
        2,
        Answer(200, []),
        f"hop 2 (protected resource metadata): {NOT_AN_OBJECT}",
    ),
    "an authorization server without a URL": (
        2,
        Answer(200, {**RESOURCE, "authorization_servers": ["http://["]}),
        "hop 3 (authorization server metadata): http://[ is not a URL",
    ),
    "an authorization server on no port": (
        2,
        Answer(200, {**RESOURCE, "authorization_servers": ["http://as.test:x"]}),
        "hop 3 (authorization server metadata): no answer to GET http://as.test:x"
        "/.well-known/oauth-authorization-server (InvalidURL)",
    ),
    "no server metadata": (
        3,
        Answer(404),
        "hop 3 (authorization server metadata): expected 200, got 404",
    ),
    "another issuer": (
        3,
        Answer(200, {**METADATA, "issuer": "http://other.test"}),
        f"hop 3 (authorization server metadata): expected issuer {SERVER}, "
        "got http://other.test",
    ),
    "no agent_auth": (
        3,
        Answer(200, {"issuer": SERVER}),
        "hop 4 (agent_auth): agent_auth is missing or not an object",
    ),
    "only anonymous agents": (
        3,
        Answer(
            200,
            {
                **METADATA,
                "agent_auth": {**BLOCK, "identity_types_supported": ["anonymous"]},
            },
        ),
        "hop 4 (agent_auth): identity_types_supported lacks identity_assertion",
    ),
    "other assertions": (
        3,
        Answer(200, {**METADATA, "agent_auth": {**BLOCK, "identity_assertion": {}}}),
        f"hop 4 (agent_auth): assertion_types_supported lacks {ID_JAG}",
    ),
    "no ID-JAG": (
        5,
        Answer(200, {}),
        "hop 5 (ID-JAG): assertion is missing or not a string",
    ),
    "refused registration": (
        6,
        Answer(400, {"error": "invalid_request", "error_description": "no"}),
        "hop 6 (identity assertion): expected 200, got 400 invalid_request: no",
    ),
    "refusal that is no object": (
        6,
        Answer(400, ["no"]),
        "hop 6 (identity assertion): expected 200, got 400",
    ),
    "no identity assertion": (
        6,
        Answer(200, {"registration_id": "agent_1"}),
        "hop 6 (identity assertion): identity_assertion is missing or not a string",
    ),
    "no access token": (
        7,
        Answer(200, {"token_type": "Bearer"}),
        "hop 7 (access token): access_token is missing or not a string",
    ),
    "another type of token": (
        7,
        Answer(200, {**GRANT, "token_type": "DPoP"}),
        "hop 7 (access token): token_type is not Bearer",
    ),
    "more scopes than asked for": (
        7,
        Answer(200, {**GRANT, "scope": "notes.read notes.write"}),
        "hop 7 (access token): expected scope notes.read, got notes.read notes.write",
    ),
    "token that fits into no header": (
        7,
        Answer(200, {**GRANT, "access_token": "\N{SNOWMAN}"}),
        f"hop 8 (call with the token): no answer to GET {API}/notes "
        "(UnicodeEncodeError)",
    ),
    "token without an agent": (
        7,
        Answer(200, {**GRANT, "access_token": jwt({"sub": "alice"})}),
        "hop 8 (call with the token): act is missing or not an object",
    ),
    "token whose act is no object": (
        7,
        Answer(200, {**GRANT, "access_token": jwt({"act": "agent_1"})}),
        "hop 8 (call with the token): act is missing or not an object",
    ),
    "token whose agent has no name": (
        7,
        Answer(200, {**GRANT, "access_token": jwt({"act": {}})}),
        "hop 8 (call with the token): sub is missing or not a string",
    ),
    "token whose claims are no object": (
        7,
        Answer(200, {**GRANT, "access_token": jwt([])}),
        "hop 8 (call with the token): act is missing or not an object",
    ),
    "refused token": (
        8,
        Answer(401, {"error": "invalid_token"}, CHALLENGE),
        "hop 8 (call with the token): expected 200, got 401 invalid_token",
    ),
    "wrong user": (
        8,
        Answer(200, {**NOTES, "user": "Bob"}),
        "hop 8 (call with the token): expected user Alice, got Bob",
    ),
    "wrong agent": (
        8,
        Answer(200, {**NOTES, "agent": "agent_2"}),
        "hop 8 (call with the token): expected agent agent_1, got agent_2",
    ),
    "no agent": (
        8,
        Answer(200, {**NOTES, "agent": None}),
        "hop 8 (call with the token): agent is missing or not a string",
    ),
    "wrong scopes": (
        8,
        Answer(200, {**NOTES, "scopes": ["notes.read", "notes.write"]}),
        "hop 8 (call with the token): expected scopes ['notes.read'], "
        "got ['notes.read', 'notes.write']",
    ),
    "written without the scope": (
        9,
        Answer(201, {"text": "Buy milk"}),
        "hop 9 (call that lacks a scope): expected 403, got 201",
    ),
    "403 for another reason": (
        9,
        Answer(403, challenge='Bearer error="invalid_token", scope="notes.write"'),
        "hop 9 (call that lacks a scope): expected insufficient_scope notes.write, "
        "got ['invalid_token', 'notes.write']",
    ),
    "403 that names another scope": (
        9,
        Answer(403, challenge='Bearer error="insufficient_scope", scope="admin"'),
        "hop 9 (call that lacks a scope): expected insufficient_scope notes.write, "
        "got ['insufficient_scope', 'admin']",
    ),
    "403 without a challenge": (
        9,
        Answer(403),
        "hop 9 (call that lacks a scope): expected a challenge Bearer, got none",
    ),
    "event that the server refuses": (
        10,
        Answer(200, {"status": 400}),
        "hop 10 (disconnect): expected that the event is answered 202, got 400",
    ),
    "provider that does not disconnect": (
        10,
        Answer(503),
        "hop 10 (disconnect): expected 200, got 503",
    ),
    "forbidden instead of unknown": (
        11,
        Answer(403, {"error": "insufficient_scope"}),
        "hop 11 (same token after the disconnect): expected 401 within 1 s, "
        "got 403 insufficient_scope",
    ),
    "refused for another reason": (
        11,
        Answer(401, challenge=f'{CHALLENGE}, error="invalid_request"'),
        "hop 11 (same token after the disconnect): expected invalid_token, "
        "got invalid_request",
    ),
    "good for longer than promised": (
        11,
        Answer(200, NOTES),
        "hop 11 (same token after the disconnect): expected 401 within 1 s, got 200",
    ),
    "let in again": (
        17,
        Answer(200, {"identity_assertion": "mine"}),
        "hop 17 (interaction_required): expected 401, got 200",
    ),
    "turned away for another reason": (
        17,
        Answer(401, {"error": "login_required"}, 'AgentAuth error="login_required"'),
        "hop 17 (interaction_required): expected interaction_required, "
        "got 401 login_required",
    ),
}


@pytest.mark.parametrize(("hop", "answer", "failure"), FAULTS.values(), ids=FAULTS)
def test_agent_stops_at_an_answer_that_differs(
    hop: int, answer: Answer, failure: str
) -> None:
    journey = Journey({hop: answer})

    assert journey.failure == f"API, {failure}"


@pytest.mark.parametrize("hop", ANSWERS)
def test_agent_stops_where_nothing_that_it_knows_comes_back(hop: int) -> None:
    journey = Journey({hop: Answer(500)})

    assert journey.failure.startswith(f"API, hop {hop} (")
    assert len(journey.hops) == hop - 1


def test_agent_stops_at_an_answer_that_is_no_json() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url == f"{API}/notes":
            return httpx.Response(401, headers={"www-authenticate": CHALLENGE})
        return httpx.Response(200, text="<p>Welcome</p>")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        walk = Walk(VISIT, client)
        with pytest.raises(HopDiffersError, match=NOT_AN_OBJECT):
            list(walk.hops())
