"""An API with sessions and keys of its own, under real servers, with and without
middleware.

Each request of another client is sent to both, byte for byte the same, and the answers
may differ in one line at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.middleware.apps import beside_fastapi
from tests.middleware.apps.beside_fastapi import OWN_ISSUER, OWN_SECRET
from tests.middleware.apps.starting import Running, running, uvicorn, waitress
from tests.support.challenges import parse_strictly
from tests.support.exchange import Answer, HTTPRequest
from tests.support.server_side import RESOURCE
from tests.support.servers import read_answer, written

METADATA = f'resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource"'
PLAIN = f"Bearer {METADATA}"
READ = f'Bearer scope="notes.read", {METADATA}'
KEY = "Bearer sk_live_0123456789"


@dataclass
class Pair:
    """The same application twice, and who issues tokens to agents."""

    guarded: Running
    bare: Running
    issuer: ServedIssuer

    def ask(self, request: HTTPRequest, body: bytes = b"") -> Answer:
        return ask(self.guarded, request, body)

    def ask_both(self, request: HTTPRequest, body: bytes = b"") -> list[Answer]:
        """The answers with a middleware and without."""
        return [ask(running, request, body) for running in (self.guarded, self.bare)]

    def bearer(self, **members: Any) -> tuple[str, str]:
        token = self.issuer.token(RESOURCE, agent="agent-1", **members)
        return ("Authorization", f"Bearer {token}")

    def forged(self) -> str:
        """Signed with a key of somebody else's, and under the name of the right one."""
        header = {"kid": self.issuer.key_id}
        return FakeIssuer(self.issuer.issuer).token(RESOURCE, header=header)


def ask(running: Running, request: HTTPRequest, body: bytes = b"") -> Answer:
    """The answer, without what differs from one moment to the next."""
    fields = [("Host", "api.example.com"), *request.fields]
    if body:
        fields.append(("Content-Length", str(len(body))))
    sent = HTTPRequest(request.method, request.target, tuple(fields))
    with running.connect_socket() as connection:
        connection.sendall(written(sent, body))
        answer = read_answer(connection, request.method)
    kept = tuple(
        (name, value.partition("=")[0] if name == "set-cookie" else value)
        for name, value in answer.fields
        if name != "date"
    )
    return Answer(answer.status, kept, answer.body)


SERVERS = {
    "FastAPI, uvicorn": ("beside_fastapi", uvicorn),
    "Flask, waitress": ("beside_flask", waitress),
}


@pytest.fixture(scope="module", params=SERVERS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Pair, None, None]:
    module, command = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("beside")
    with ExitStack() as stack:
        issuer = stack.enter_context(FakeIssuer.serve())
        guarded, bare = (
            stack.enter_context(
                running(
                    command(f"{module}:{name}"), folder / name, ISSUER=issuer.issuer
                )
            )
            for name in ("app", "bare")
        )
        yield Pair(guarded, bare, issuer)


def own_token(**members: Any) -> str:
    claims = {"iss": OWN_ISSUER, "sub": "partner", "exp": int(time.time()) + 300}
    return jwt.encode({**claims, **members}, OWN_SECRET, "HS256")


def log_in(pair: Pair) -> tuple[str, str]:
    """The cookie of a person who has logged in behind the middleware."""
    request = HTTPRequest("POST", "/login?name=carol", (("Host", "api.example.com"),))
    with pair.guarded.connect_socket() as connection:
        connection.sendall(written(request))
        answer = read_answer(connection, "POST")
    (cookie,) = answer.lines("set-cookie")
    return ("Cookie", cookie.partition(";")[0])


def test_each_kind_of_client_is_known_behind_the_middleware(pair: Pair) -> None:
    kinds = {
        "session": (log_in(pair), "carol"),
        "key": (("Authorization", KEY), "nightly job"),
        "own issuer": (("Authorization", f"Bearer {own_token()}"), "partner"),
        "agent": (pair.bearer(scopes=["notes.read"]), "user-1"),
    }
    for kind, (field, name) in kinds.items():
        answer = pair.ask(HTTPRequest("GET", "/me", (field,)))

        assert answer.status == 200, kind
        assert answer.json() == {"via": kind, "name": name}


CREDENTIALS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "key": (KEY,),
    "key, lower case": (KEY.replace("Bearer", "bearer"),),
    "unknown key": ("Bearer sk_live_9999",),
    "own JWT": (f"Bearer {own_token()}",),
    "expired JWT of its own": (f"Bearer {own_token(exp=1)}",),
    "Basic": ("Basic Y2Fyb2w6cGFzc3dvcmQ=",),
    "two lines": (KEY, "Basic Y2Fyb2w6cGFzc3dvcmQ="),
    "no credential": ("{}",),
}
PREFLIGHT = (
    ("Origin", "https://app.example.com"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "authorization"),
)


@pytest.mark.parametrize("lines", CREDENTIALS.values(), ids=CREDENTIALS)
def test_request_of_another_client_arrives_as_it_was_sent(
    pair: Pair, lines: tuple[str, ...]
) -> None:
    fields = tuple(("Authorization", line) for line in lines)
    target = "/sees?access_token=sk_live_0123456789&b=%20"
    cookie = ("Cookie", "session=abc; other=d")
    body = b"a=b&\xff"
    for request, sent in (
        (HTTPRequest("GET", target, (*fields, cookie)), b""),
        (HTTPRequest("POST", target, (cookie, *fields)), body),
        (HTTPRequest("OPTIONS", target, (*PREFLIGHT, *fields)), b""),
        (HTTPRequest("GET", f"/inner{target}", fields), b""),
    ):
        with_middleware, without = pair.ask_both(request, sent)

        assert with_middleware == without
        assert with_middleware.status == 200
        assert all(line in str(with_middleware.json()["lines"]) for line in lines)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", CREDENTIALS.values(), ids=CREDENTIALS)
def test_answer_to_another_client_gains_a_challenge_if_it_is_a_401(
    pair: Pair, lines: tuple[str, ...], method: str
) -> None:
    fields = tuple(("Authorization", line) for line in lines)
    for target, challenge in (
        ("/me", READ),
        ("/public", PLAIN),
        ("/optional", PLAIN),
        ("/inner/me", PLAIN),
    ):
        with_middleware, without = pair.ask_both(HTTPRequest(method, target, fields))

        assert with_middleware.status == without.status
        assert with_middleware.body == without.body
        if without.status == 200:
            assert with_middleware.fields == without.fields
            continue
        own = without.lines("www-authenticate")
        assert with_middleware.lines("www-authenticate") == [challenge, *own]
        assert others(with_middleware) == others(without)


def others(answer: Answer) -> list[tuple[str, str]]:
    return [field for field in answer.fields if field[0] != "www-authenticate"]


@pytest.mark.parametrize("status", [204, 302, 400, 403, 404, 407, 500, 503])
def test_other_answers_are_the_same_with_a_middleware(pair: Pair, status: int) -> None:
    request = HTTPRequest("GET", f"/answers/{status}", (("Authorization", KEY),))
    with_middleware, without = pair.ask_both(request)

    assert with_middleware.status == status
    assert with_middleware == without


def test_401_without_a_challenge_has_one_with_a_middleware(pair: Pair) -> None:
    with_middleware, without = pair.ask_both(HTTPRequest("GET", "/answers/401"))

    assert without.lines("www-authenticate") == []
    assert with_middleware.lines("www-authenticate") == [PLAIN]
    assert others(with_middleware) == others(without)
    assert with_middleware.body == without.body


@pytest.mark.parametrize("status", ["200", "401"])
def test_streams_are_the_same_with_a_middleware(pair: Pair, status: str) -> None:
    request = HTTPRequest("POST", "/echo", (("X-Status", status),))
    body = bytes(range(256)) * 400
    with_middleware, without = pair.ask_both(request, body)

    assert with_middleware.body == without.body == body
    assert others(with_middleware) == others(without)
    assert with_middleware.lines("transfer-encoding") == ["chunked"]


def test_file_is_the_same_with_a_middleware(pair: Pair) -> None:
    with_middleware, without = pair.ask_both(HTTPRequest("GET", "/file"))

    assert with_middleware == without


def test_answer_to_an_agent_gains_nothing(pair: Pair) -> None:
    request = HTTPRequest("GET", "/answers/401", (pair.bearer(),))

    assert pair.ask(request).lines("www-authenticate") == []


@pytest.mark.parametrize("target", ["/me", "/optional", "/inner/me", "/sees"])
def test_bad_agent_never_passes_for_another_client(pair: Pair, target: str) -> None:
    forged = pair.forged()
    session = log_in(pair)
    for lines, statuses in (
        ([f"Bearer {forged}"], {401, 429}),
        ([f"bearer  {forged}"], {401, 429}),
        ([f"Bearer\t{forged}"], {400}),
        ([f"Token {forged}"], {401, 429}),
        ([f"Bearer {pair.issuer.token(RESOURCE, expires_in=-600)}"], {401}),
        ([f"Bearer {pair.issuer.token('https://other.example')}"], {401}),
        ([KEY, f"Bearer {forged}"], {400}),
        ([f"Bearer {forged}", KEY], {400}),
        ([f"{KEY}, Bearer {forged}"], {400}),
        ([f"DPoP {forged}"], {401, 429}),
    ):
        fields = tuple(("Authorization", line) for line in lines)
        answer = pair.ask(HTTPRequest("GET", target, (session, *fields)))

        assert answer.status in statuses, lines
        if answer.status != 429:
            assert answer.json()["resource_metadata"]


def test_agent_under_an_unknown_key_is_no_other_client_either(pair: Pair) -> None:
    """A verdict the first time, and none while the keys may not be fetched again."""
    for status in (401, 429):
        field = pair.bearer(header={"kid": f"key-{status}"})
        answer = pair.ask(HTTPRequest("GET", "/optional", (field,)))

        assert answer.status == status


def test_guards_answer_other_clients_with_the_challenge_once(pair: Pair) -> None:
    for target, scope in (("/agents", "notes.write"), ("/agents/alone", None)):
        for fields in ((), (("Authorization", KEY),), (log_in(pair),)):
            answer = pair.ask(HTTPRequest("GET", target, fields))
            (line,) = answer.lines("www-authenticate")
            (challenge,) = parse_strictly(line)

            assert answer.status == 401
            if scope is not None:
                assert challenge.parameters["scope"] == scope


# Of ASGI alone


@pytest.fixture(scope="module")
def fastapi_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("beside")
    with FakeIssuer.serve() as issuer:
        command = uvicorn("beside_fastapi:app")
        with running(command, folder / "log", ISSUER=issuer.issuer) as guarded:
            yield Pair(guarded, guarded, issuer)


@pytest.mark.parametrize("status", ["200", "401"])
def test_streams_go_both_ways_at_once(fastapi_pair: Pair, status: str) -> None:
    """Each piece comes back before the next one is sent."""
    fields = (
        ("Host", "api.example.com"),
        ("X-Status", status),
        ("Transfer-Encoding", "chunked"),
    )
    with fastapi_pair.guarded.connect_socket() as connection:
        connection.sendall(written(HTTPRequest("POST", "/echo", fields)))
        received = b""
        for piece in (b"one", b"two", b"three"):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            while piece not in received:
                got = connection.recv(65536)
                assert got
                received += got
        connection.sendall(b"0\r\n\r\n")

    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.lower().count(b"www-authenticate: ") == (status == "401")


def test_websocket_knows_each_kind_of_client(fastapi_pair: Pair) -> None:
    url = f"ws://127.0.0.1:{fastapi_pair.guarded.port}/live"
    for field, kind in (
        (log_in(fastapi_pair), "session"),
        (("Authorization", KEY), "key"),
        (fastapi_pair.bearer(), "agent"),
    ):
        with connect(url, additional_headers=[field], proxy=None) as websocket:
            assert json.loads(websocket.recv())["via"] == kind


def test_websocket_denial_gains_a_challenge(fastapi_pair: Pair) -> None:
    url = f"ws://127.0.0.1:{fastapi_pair.guarded.port}/live"
    with pytest.raises(InvalidStatus) as denied:
        connect(url, proxy=None)
    response = denied.value.response

    assert response.status_code == 401
    assert response.headers.get_all("www-authenticate") == [PLAIN]
    assert response.body == b"who are you?"

    field = ("Authorization", f"Bearer {fastapi_pair.forged()}")
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers=[field], proxy=None)

    assert "invalid_token" in refused.value.response.headers["www-authenticate"]


def test_openapi_demands_a_token_only_where_a_handler_does() -> None:
    """Routes of the settings bind agents alone, so they say nothing to a reader who
    may be no agent."""
    document = TestClient(beside_fastapi.app).get("/openapi.json").json()
    bare = TestClient(beside_fastapi.bare).get("/openapi.json").json()
    paths = document["paths"]

    assert paths["/agents"]["get"]["security"] == [{"AgentAuth": ["notes.write"]}]
    assert "401" in paths["/agents"]["get"]["responses"]
    assert paths["/agents/alone"]["get"]["security"] == [{"AgentAuth": ["notes.write"]}]
    assert paths["/keys"]["get"]["security"] == [{"APIKeyHeader": []}]
    assert {path: paths[path] for path in bare["paths"]} == bare["paths"]
