"""The conveniences for FastAPI, for Flask, and for frameworks without any."""

from __future__ import annotations

from asyncio import run
from typing import Annotated, assert_type

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    Request,
    Security,
    WebSocket,
)
from fastapi.security import SecurityScopes
from flask import Blueprint, Flask, Response
from werkzeug.exceptions import HTTPException

from agentauth_middleware import Access, ActorRefusedError, Principal, flask
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.refusals import RefusalAnswers, requires
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


@api.put("/notes")
def change_note(
    caller: Annotated[Access | None, Security(auth.optional, scopes=["notes.write"])],
) -> str:
    return "a person" if caller is None else caller.require_agent().subject


async def calls_optional(request: Request, scopes: SecurityScopes) -> None:
    assert_type(await auth.optional(request, scopes), Access | None)


def writer(
    caller: Annotated[Access, Security(acting_for, scopes=["notes.read"])],
) -> Access:
    caller.require_scopes("notes.write")
    return caller


router = APIRouter(dependencies=[Security(auth, scopes=["notes.read"])])


@router.post("/later")
async def later(
    tasks: BackgroundTasks, caller: Annotated[Access, Depends(writer)]
) -> None:
    tasks.add_task(caller.require_agent)


@router.websocket("/live")
async def live(websocket: WebSocket, caller: Writer) -> None:
    await websocket.accept()
    await websocket.send_text(caller.require_agent().subject)


@router.get("/guarded")
@requires("notes.read", optional=True)
async def guarded() -> str:
    return "guarded"


def stand_in() -> Access:
    return Access("https://as.example.com", "ana", scopes=frozenset({"notes.write"}))


api.include_router(router)
api.dependency_overrides[auth] = stand_in

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

pages = Blueprint("pages", __name__)


@pages.before_request
@flask.requires("notes.read")
def guard() -> None: ...


@app.errorhandler(403)
def forbidden(error: HTTPException) -> tuple[str, int]:
    return f"Sorry: {error.description}", 403


# Any other framework.

answers = RefusalAnswers(PLAIN)


def on_error(error: Exception, method: str, path: str) -> Response | None:
    refusal = RefusalAnswers.refusal_in(error)
    if refusal is None:
        return None
    answer = answers.answer(refusal, method=method, path=path)
    assert_type(answer.status, int)
    return Response(answer.body, answer.status, list(answer.headers))


# What must not pass.

answers.answer(ValueError(), method="GET", path="/")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

answers.answer(ActorRefusedError("not_today"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

auth.install(app)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

flask.AgentAuth(PLAIN).init_app(api)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

run(read_note("7"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

flask.requires("notes.write", optional="agents")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

flask.requires(["notes.write"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
