"""Both example applications, started as in production and driven over HTTP."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.examples.programs import Program, free_port, running
from tests.support.deadlines import try_within

COMMANDS = {
    "FastAPI on uvicorn": (
        "uvicorn --factory examples.fastapi_app.app:create_app --port {port}",
        "Uvicorn running on",
    ),
    "Flask on gunicorn": (
        "gunicorn --workers 2 --bind 127.0.0.1:{port}"
        " examples.flask_app.app:create_app()",
        "Listening at",
    ),
    "Flask on waitress": (
        "waitress-serve --listen 127.0.0.1:{port}"
        " --call examples.flask_app.app:create_app",
        "Serving on",
    ),
}

BOTH = ("notes.read", "notes.write")


@dataclass(frozen=True)
class Notes:
    """One of the applications, running."""

    url: str
    issuer: ServedIssuer
    program: Program
    store: Path
    client: httpx.Client

    def get(self, url: str, token: str | None = None) -> httpx.Response:
        return self.client.get(url, headers=bearer(token))

    def post(self, token: str, body: Any) -> httpx.Response:
        return self.client.post("/notes", headers=bearer(token), json=body)

    def token(self, *scopes: str, **members: Any) -> str:
        """One with which an agent acts for Alice, unless *members* say otherwise."""
        named: dict[str, Any] = {"subject": "alice", "agent": "assistant", **members}
        return self.issuer.token(self.url, scopes=scopes, **named)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=COMMANDS)
def notes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Notes, None, None]:
    command, started = COMMANDS[request.param]
    port, folder = free_port(), tmp_path_factory.mktemp("notes")
    url = f"http://127.0.0.1:{port}"
    store = folder / "agentauth.db"
    with FakeIssuer.serve() as issuer:
        environment = {
            "AGENTAUTH_ISSUER": issuer.issuer,
            "AGENTAUTH_RESOURCE": url,
            "AGENTAUTH_STORE": str(store),
            "NOTES_DATABASE": str(folder / "notes.db"),
        }
        with (
            running(command.format(port=port).split(), environment) as program,
            httpx.Client(base_url=url, timeout=30) as client,
        ):
            program.wait_for_line(started)
            yield Notes(url, issuer, program, store, client)


def texts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [note["text"] for note in response.json()["notes"]]


def test_health_is_public(notes: Notes) -> None:
    assert notes.get("/health").status_code == 200


def test_agent_is_led_to_the_authorization_server(notes: Notes) -> None:
    refused = notes.get("/notes")
    metadata = notes.get(refused.json()["resource_metadata"]).json()

    assert refused.status_code == 401
    assert refused.json()["resource_metadata"] in refused.headers["www-authenticate"]
    assert metadata["resource"] == notes.url
    assert metadata["authorization_servers"] == [notes.issuer.issuer]
    assert metadata["scopes_supported"] == list(BOTH)
    assert notes.get(refused.json()["auth_md"]).status_code == 200


def test_agent_adds_a_note_and_lists_it(notes: Notes) -> None:
    token = notes.token(*BOTH)
    made = notes.post(token, {"text": "Buy milk"})

    assert made.status_code == 201
    assert made.json()["text"] == "Buy milk"
    assert made.json() in notes.get("/notes", token).json()["notes"]


def test_answer_names_user_agent_and_scopes(notes: Notes) -> None:
    answer = notes.get("/notes", notes.token("notes.read")).json()

    assert answer["user"] == "Alice"
    assert answer["agent"] == "assistant"
    assert answer["scopes"] == ["notes.read"]


def test_agent_sees_the_notes_of_its_user_alone(notes: Notes) -> None:
    alice, bob = notes.token(*BOTH), notes.token(*BOTH, subject="bob")
    assert notes.post(alice, {"text": "of Alice"}).status_code == 201
    assert notes.post(bob, {"text": "of Bob"}).status_code == 201

    assert "of Alice" in texts(notes.get("/notes", alice))
    assert "of Bob" not in texts(notes.get("/notes", alice))
    assert "of Bob" in texts(notes.get("/notes", bob))
    assert "of Alice" not in texts(notes.get("/notes", bob))


def test_log_names_user_and_agent_of_a_new_note(notes: Notes) -> None:
    token = notes.token("notes.write", subject="bob", agent="planner\nforged line")
    note = notes.post(token, {"text": "Call Alice"}).json()
    line = notes.program.wait_for_line(f"note {note['id']}")

    assert line.endswith(r"created for Bob (user 2) by agent 'planner\nforged line'")


def test_agent_without_the_scope_is_refused(notes: Notes) -> None:
    reading = notes.get("/notes", notes.token("notes.write"))
    writing = notes.post(notes.token("notes.read"), {"text": "smuggled"})

    for response, scope in ((reading, "notes.read"), (writing, "notes.write")):
        assert response.status_code == 403
        assert response.json()["error"] == "insufficient_scope"
        assert response.json()["scope"] == scope
    assert "smuggled" not in texts(notes.get("/notes", notes.token("notes.read")))


UNKNOWN_USERS = [
    pytest.param({"subject": "carol"}, id="not linked"),
    pytest.param({"agent": None}, id="no user"),
    pytest.param({"agent": None, "subject": "client-1"}, id="the client itself"),
]


@pytest.mark.parametrize("members", UNKNOWN_USERS)
def test_token_for_no_known_user_is_refused(
    notes: Notes, members: dict[str, Any]
) -> None:
    token = notes.token(*BOTH, **members)

    for response in (notes.get("/notes", token), notes.post(token, {"text": "x"})):
        assert response.status_code == 403
        assert response.json()["error"] == "actor_unauthorized"


def test_user_without_an_agent_reads_but_does_not_write(notes: Notes) -> None:
    token = notes.token(*BOTH, agent=None, sub_profile="user")

    assert notes.get("/notes", token).status_code == 200
    assert notes.post(token, {"text": "x"}).status_code == 403


def test_same_name_at_another_issuer_is_nobody(notes: Notes) -> None:
    token = FakeIssuer("https://other.example.com").token(
        notes.url, subject="alice", agent="assistant", scopes=BOTH
    )
    response = notes.get("/notes", token)

    assert response.status_code == 401
    assert response.json()["error"] == "invalid_token"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="nested too deeply"),
        pytest.param(b'["text"]', id="an array"),
        pytest.param(b"{}", id="no text"),
        pytest.param(b'{"text": ""}', id="empty text"),
        pytest.param(b'{"text": 1}', id="a number"),
        pytest.param(b'{"text": NaN}', id="not a number"),
        pytest.param(b'{"text": "\\ud800"}', id="half a character"),
        pytest.param(b'{"text": "' + b"x" * 10_001 + b'"}', id="too long"),
    ],
)
def test_unusable_body_is_refused(notes: Notes, body: bytes) -> None:
    headers = {
        **bearer(notes.token("notes.write")),
        "Content-Type": "application/json",
    }
    response = notes.client.post("/notes", headers=headers, content=body)

    assert response.status_code in (400, 422)
    assert response.json()["detail"]


def test_longest_text_is_kept_as_it_is(notes: Notes) -> None:
    token = notes.token(*BOTH)
    text = "'; DROP TABLE notes; --" + "ü" * 9_977
    assert notes.post(token, {"text": text}).status_code == 201

    assert text in texts(notes.get("/notes", token))


def test_revoked_access_ends_within_a_second(notes: Notes) -> None:
    """In every worker, told through the file that all share."""
    revoked = notes.token("notes.read", subject="bob", agent="leaver")
    others = notes.token("notes.read", subject="bob", agent="stayer")
    assert notes.get("/notes", revoked).status_code == 200
    store, issuer = SQLiteStore(notes.store), notes.issuer.issuer
    revoke_blocking(store, issuer, subject="bob", agent="leaver")
    answers = try_within(
        1,
        lambda: [notes.get("/notes", revoked) for _ in range(10)],
        until=lambda late: all(answer.status_code == 401 for answer in late),
    )

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["error"] for answer in answers} == {"invalid_token"}
    assert notes.get("/notes", others).status_code == 200
