"""A notes API that people use, and now their agents too. See README.md."""

import logging
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from agentauth_middleware import Access, Issuer, ResourceServer, Route
from agentauth_middleware.errors import ActorRefusedError
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.stores import SQLiteStore

log = logging.getLogger("notes")

SCHEMA = Path(__file__).with_name("schema.sql").read_text()
LINK_USERS = """
INSERT OR IGNORE INTO identities VALUES (:issuer, 'alice', 1), (:issuer, 'bob', 2)
"""
FIND_USER = """
SELECT users.id, users.name FROM users JOIN identities ON users.id = user_id
WHERE issuer = ? AND subject = ?
"""


class Draft(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


class Note(Draft):
    id: str


class Notes(BaseModel):
    """The notes of a user, for an agent with these scopes."""

    user: str
    agent: str | None
    scopes: list[str]
    notes: list[Note]


def resource_server() -> ResourceServer:
    resource = os.environ.get("AGENTAUTH_RESOURCE", "http://127.0.0.1:8000")
    issuer = os.environ.get("AGENTAUTH_ISSUER", "http://127.0.0.1:9000")
    return ResourceServer(
        resource,
        name="Notes",
        issuers=[Issuer(issuer)],
        scopes={"notes.read": "Read your notes", "notes.write": "Add to your notes"},
        routes=[
            Route("/health", public=True),
            Route("/docs", public=True),
            Route("/openapi.json", public=True),
        ],
        insecure_loopback=resource.startswith("http://"),
    )


@contextmanager
def transaction(path: str) -> Generator[sqlite3.Connection, None, None]:
    with closing(sqlite3.connect(path)) as database, database:
        yield database


def find_user(database: sqlite3.Connection, access: Access) -> tuple[int, str]:
    """Id and name of the user that the request acts for."""
    user = access.require_user()
    found = database.execute(FIND_USER, (user.issuer, user.subject)).fetchone()
    if found is None:
        raise ActorRefusedError("user_not_linked")
    user_id, name = found
    return user_id, name


def create_app() -> FastAPI:
    logging.basicConfig(level=logging.INFO)
    server = resource_server()
    path = os.environ.get("NOTES_DATABASE", "notes.db")
    with transaction(path) as database:
        database.executescript(SCHEMA)
        database.execute(LINK_USERS, {"issuer": server.listed_issuers[0].issuer})

    app = FastAPI(title="Notes")
    store = SQLiteStore(os.environ.get("AGENTAUTH_STORE", "agentauth.db"))
    auth = AgentAuth(server, store=store)
    auth.install(app)

    @app.exception_handler(RequestValidationError)
    def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        """Not all that can be read as JSON can be sent back, as FastAPI would."""
        detail = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
        return JSONResponse({"detail": detail}, 422)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.get("/notes")
    def list_notes(
        access: Annotated[Access, Security(auth, scopes=["notes.read"])],
    ) -> Notes:
        with transaction(path) as database:
            user_id, name = find_user(database, access)
            rows = database.execute(
                "SELECT id, text FROM notes WHERE user_id = ? ORDER BY rowid",
                (user_id,),
            ).fetchall()
        return Notes(
            user=name,
            agent=access.agent.subject if access.agent else None,
            scopes=sorted(access.scopes),
            notes=[Note(id=id, text=text) for id, text in rows],
        )

    @app.post("/notes", status_code=201)
    def create_note(
        draft: Draft,
        access: Annotated[Access, Security(auth, scopes=["notes.write"])],
    ) -> Note:
        agent = access.require_agent()
        note = Note(id=uuid4().hex, text=draft.text)
        with transaction(path) as database:
            user_id, name = find_user(database, access)
            row = (note.id, user_id, note.text)
            database.execute("INSERT INTO notes VALUES (?, ?, ?)", row)
        who = f"{name} (user {user_id})"
        log.info("note %s created for %s by agent %r", note.id, who, agent.subject)
        return note

    return app
