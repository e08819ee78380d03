"""A notes API that people use, and now their agents too. See README.md."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from flask import Blueprint, Flask, abort, current_app, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.errors import ActorRefusedError
from agentauth_middleware.flask import AgentAuth, access, requires
from agentauth_middleware.stores import SQLiteStore

log = logging.getLogger("notes")
api = Blueprint("api", __name__)

SCHEMA = Path(__file__).with_name("schema.sql").read_text()
LINK_USERS = """
INSERT OR IGNORE INTO identities VALUES (:issuer, 'alice', 1), (:issuer, 'bob', 2)
"""
FIND_USER = """
SELECT users.id, users.name FROM users JOIN identities ON users.id = user_id
WHERE issuer = ? AND subject = ?
"""


def resource_server() -> ResourceServer:
    resource = os.environ.get("AGENTAUTH_RESOURCE", "http://127.0.0.1:8000")
    issuer = os.environ.get("AGENTAUTH_ISSUER", "http://127.0.0.1:9000")
    return ResourceServer(
        resource,
        name="Notes",
        issuers=[Issuer(issuer)],
        scopes={"notes.read": "Read your notes", "notes.write": "Add to your notes"},
        routes=[Route("/health", public=True)],
        insecure_loopback=resource.startswith("http://"),
    )


def create_app() -> Flask:
    logging.basicConfig(level=logging.INFO)
    server = resource_server()
    app = Flask(__name__)
    app.config["DATABASE"] = os.environ.get("NOTES_DATABASE", "notes.db")
    app.register_blueprint(api)
    app.teardown_appcontext(close_database)
    with app.app_context(), open_database() as database:
        database.executescript(SCHEMA)
        database.execute(LINK_USERS, {"issuer": server.listed_issuers[0].issuer})

    store = SQLiteStore(os.environ.get("AGENTAUTH_STORE", "agentauth.db"))
    AgentAuth(server, store=store).init_app(app)
    return app


def open_database() -> sqlite3.Connection:
    """The connection of this request; ``with`` makes it a transaction."""
    if "database" not in g:
        g.database = sqlite3.connect(cast(str, current_app.config["DATABASE"]))
    database: sqlite3.Connection = g.database
    return database


def close_database(_: BaseException | None) -> None:
    if "database" in g:
        g.pop("database").close()


def find_user(database: sqlite3.Connection) -> tuple[int, str]:
    """Id and name of the user that the request acts for."""
    user = access.require_user()
    found = database.execute(FIND_USER, (user.issuer, user.subject)).fetchone()
    if found is None:
        raise ActorRefusedError("user_not_linked")
    user_id, name = found
    return user_id, name


@api.get("/health")
def health() -> str:
    return "ok"


@api.get("/notes")
@requires("notes.read")
def list_notes() -> dict[str, Any]:
    database = open_database()
    user_id, name = find_user(database)
    rows = database.execute(
        "SELECT id, text FROM notes WHERE user_id = ? ORDER BY rowid", (user_id,)
    )
    return {
        "user": name,
        "agent": access.agent.subject if access.agent else None,
        "scopes": sorted(access.scopes),
        "notes": [{"id": id, "text": text} for id, text in rows],
    }


@api.post("/notes")
@requires("notes.write")
def create_note() -> tuple[dict[str, str], int]:
    agent = access.require_agent()
    note = {"id": uuid4().hex, "text": posted_text()}
    with open_database() as database:
        user_id, name = find_user(database)
        row = (note["id"], user_id, note["text"])
        database.execute("INSERT INTO notes VALUES (?, ?, ?)", row)
    who = f"{name} (user {user_id})"
    log.info("note %s created for %s by agent %r", note["id"], who, agent.subject)
    return note, 201


def posted_text() -> str:
    try:
        draft: Any = request.get_json()
    except RecursionError:
        abort(400, "the JSON is nested too deeply")
    match draft:
        case {"text": str(text)} if 1 <= len(text) <= 10_000 and is_unicode(text):
            return text
        case _:
            abort(422, 'write {"text": "..."} with 1 to 10000 characters')


def is_unicode(text: str) -> bool:
    """JSON can spell halves of characters, which SQLite does not store."""
    return text.encode(errors="ignore").decode() == text


@api.errorhandler(HTTPException)
def answer_in_json(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None:
        return cast(ResponseReturnValue, error.response)  # a refusal: it tells agents
    return {"detail": error.description}, error.code or 500
