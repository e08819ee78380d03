"""A notes API that people use with a session and programs with keys of its own.

``bare`` is how it was, ``app`` is the same with a middleware for agents. The issuer of
the agents is named in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Security, WebSocket
from fastapi.security import APIKeyHeader
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentauth_middleware import Access, Issuer, ResourceServer, current_access
from agentauth_middleware import Route as Policy
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.starlette import requires
from tests.support.server_side import RESOURCE

OWN_ISSUER = "https://login.example.com"
OWN_SECRET = "a secret of thirty-two bytes at least"
KEYS: Mapping[str, str] = {"sk_live_0123456789": "nightly job"}

server = ResourceServer(
    RESOURCE,
    issuers=[Issuer(os.environ.get("ISSUER", "https://as.example.com"))],
    scopes={"notes.read": "Read your notes", "notes.write": "Write notes for you"},
    routes=[
        Policy("/public", public=True),
        Policy("/optional", optional=True),
        Policy("/me", scopes=["notes.read"]),
    ],
    unauthenticated="pass",
    unmatched="authenticated",
    insecure_loopback=True,
)


def caller(connection: HTTPConnection) -> dict[str, str | None] | None:
    """Who is calling, in whichever way."""
    access = current_access()
    if access is not None:
        return {"via": "agent", "name": access.subject}
    if "name" in connection.session:
        return {"via": "session", "name": connection.session["name"]}
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if key in KEYS:
        return {"via": "key", "name": KEYS[key]}
    try:
        claims = jwt.decode(key, OWN_SECRET, ["HS256"], issuer=OWN_ISSUER)
    except jwt.InvalidTokenError:
        return None
    return {"via": "own issuer", "name": claims["sub"]}


class NobodyError(Exception):
    """Nobody knows who is calling."""


def refuse(request: Request, error: Exception) -> PlainTextResponse:
    answer = PlainTextResponse("log in, or send a key", 401)
    answer.headers.append("WWW-Authenticate", 'Bearer realm="keys"')
    answer.headers.append("WWW-Authenticate", 'Basic realm="people", charset="UTF-8"')
    return answer


def somebody(connection: HTTPConnection) -> dict[str, str | None]:
    found = caller(connection)
    if found is None:
        raise NobodyError
    return found


Somebody = Annotated[dict[str, "str | None"], Depends(somebody)]


async def sees(request: Request) -> JSONResponse:
    """All that arrived."""
    lines = [f"{name}: {value}" for name, value in _text(request.scope["headers"])]
    members = ("method", "path", "query_string", "root_path", "http_version")
    scope = {name: str(request.scope[name]) for name in members}
    body = (await request.body()).decode("latin-1")
    return JSONResponse({"lines": lines, "scope": scope, "body": body})


def _text(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode("latin-1")) for name, value in headers]


class Echo:
    """Each piece back, as soon as it is here. Starlette's own stream would not do: it
    listens for a disconnect meanwhile."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = int(dict(scope["headers"]).get(b"x-status", b"200"))
        headers = [(b"content-type", b"text/plain")]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        is_last = False
        while not is_last:
            message = await receive()
            is_last = not message.get("more_body", False)
            await send({**message, "type": "http.response.body"})


def login(request: Request, name: str) -> str:
    request.session["name"] = name
    return f"hello {name}"


def me(found: Somebody) -> dict[str, str | None]:
    return found


def answers(status: int) -> None:
    raise HTTPException(status, headers={"X-Theirs": "yes"})


async def live(websocket: WebSocket) -> None:
    found = caller(websocket)
    if found is None:
        await websocket.send_denial_response(PlainTextResponse("who are you?", 401))
        return
    await websocket.accept()
    await websocket.send_json(found)
    await websocket.close()


def serve_notes(app: FastAPI) -> FastAPI:
    """*app* as it was before agents came."""
    app.add_middleware(SessionMiddleware, secret_key=OWN_SECRET)
    app.add_exception_handler(NobodyError, refuse)
    app.post("/login")(login)
    for path in ("/me", "/public", "/optional"):
        app.get(path)(me)
        app.head(path)(me)
    methods = ["GET", "POST", "OPTIONS"]
    app.add_route("/sees", sees, methods=methods)
    app.router.routes.append(Route("/echo", Echo()))
    app.get("/answers/{status}")(answers)
    app.websocket("/live")(live)
    return app


api_key = APIKeyHeader(name="X-Key", auto_error=False)
auth = AgentAuth(server)


def for_agents(
    access: Annotated[Access, Security(auth, scopes=["notes.write"])],
) -> str | None:
    return access.subject


@requires("notes.write")
def for_agents_alone() -> None: ...


def for_keys(key: Annotated[str | None, Security(api_key)]) -> None: ...


def with_middleware() -> FastAPI:
    app = serve_notes(FastAPI())
    app.get("/agents")(for_agents)
    app.get("/agents/alone")(for_agents_alone)
    app.get("/keys")(for_keys)
    inner = serve_notes(FastAPI())
    app.mount("/inner", inner)
    auth.install(app)
    return app


def without_middleware() -> FastAPI:
    app = serve_notes(FastAPI())
    app.mount("/inner", serve_notes(FastAPI()))
    return app


app = with_middleware()
bare = without_middleware()
