"""The conveniences for FastAPI and for Flask."""

from __future__ import annotations

from asyncio import run
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, Security
from flask import Flask

from agentauth_middleware import Access, Principal, flask
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.stores import MemoryStore
from typing_tests.settings import PLAIN

auth = AgentAuth(PLAIN, store=MemoryStore())
api = FastAPI()
auth.install(api)

Writer = Annotated[Access, Security(auth, scopes=["notes.write"])]


def acting_for(caller: Annotated[Access, Security(auth)]) -> Principal:
    return caller.require_user()


@api.post("/notes")
def create_note(caller: Writer, user: Annotated[Principal, Depends(acting_for)]) -> str:
    assert_type(caller, Access)
    return user.subject


# Flask.

app = Flask(__name__)
flask.AgentAuth(PLAIN, remote_user=lambda access: access.subject).init_app(app)


@app.post("/notes")
@flask.requires("notes.write")
def add_note() -> str:
    assert_type(flask.access, Access)
    return flask.access.require_user().subject


@flask.requires("notes.read")
async def read_note(note_id: int, *, raw: bool = False) -> bytes:
    return b""


async def keeps_its_signature() -> None:
    assert_type(await read_note(7, raw=True), bytes)


class View:
    @flask.requires()
    def show(self, note_id: int) -> str:
        return str(note_id)


assert_type(View().show(7), str)

# What must not pass.

auth.install(app)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

flask.AgentAuth(PLAIN).init_app(api)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

run(read_note("7"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

flask.requires(["notes.write"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
