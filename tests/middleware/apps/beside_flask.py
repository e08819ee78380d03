"""The notes API of ``beside_fastapi``, as a Flask application."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import jwt
from flask import Flask, Response, abort, request, send_file, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from agentauth_middleware import current_access
from agentauth_middleware.flask import AgentAuth, access, requires
from tests.middleware.apps.beside_fastapi import KEYS, OWN_ISSUER, OWN_SECRET, server


def caller() -> dict[str, str | None] | None:
    """Who is calling, in whichever way."""
    found = current_access()
    if found is not None:
        return {"via": "agent", "name": found.subject}
    if "name" in session:
        return {"via": "session", "name": session["name"]}
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if key in KEYS:
        return {"via": "key", "name": KEYS[key]}
    try:
        claims = jwt.decode(key, OWN_SECRET, ["HS256"], issuer=OWN_ISSUER)
    except jwt.InvalidTokenError:
        return None
    return {"via": "own issuer", "name": claims["sub"]}


def me() -> Any:
    found = caller()
    if found is not None:
        return found
    answer = Response("log in, or send a key", 401)
    answer.headers.add("WWW-Authenticate", 'Bearer realm="keys"')
    answer.headers.add("WWW-Authenticate", 'Basic realm="people", charset="UTF-8"')
    return answer


def sees() -> Any:
    """All that arrived."""
    lines = [
        f"{key}: {value}"
        for key, value in sorted(request.environ.items())
        if key.startswith(("HTTP_", "CONTENT_", "REMOTE_USER", "REQUEST_", "QUERY_"))
    ]
    paths = {key: request.environ[key] for key in ("SCRIPT_NAME", "PATH_INFO")}
    body = request.get_data().decode("latin-1")
    return {"lines": lines, "scope": paths, "body": body}


def echo() -> Response:
    """Each piece back, as soon as it is here."""

    stream = request.stream

    def pieces() -> Iterator[bytes]:
        while piece := stream.read(4096):
            yield piece

    status = int(request.headers.get("X-Status", "200"))
    return Response(pieces(), status, mimetype="text/plain")


def file() -> Response:
    return send_file(BytesIO(b"a file"), "text/plain")


def login() -> str:
    session["name"] = request.args["name"]
    return f"hello {request.args['name']}"


def answers(status: int) -> Any:
    if status == 401:
        abort(401)
    return Response(f"theirs: {status}", status, {"X-Theirs": "yes"})


def serve_notes(app: Flask) -> Flask:
    """*app* as it was before agents came."""
    app.secret_key = OWN_SECRET
    app.post("/login")(login)
    for path in ("/me", "/public", "/optional"):
        app.add_url_rule(path, view_func=me)
    methods = ["GET", "POST", "OPTIONS"]
    app.add_url_rule(
        "/sees", view_func=sees, methods=methods, provide_automatic_options=False
    )
    app.post("/echo")(echo)
    app.get("/file")(file)
    app.get("/answers/<int:status>")(answers)
    return app


@requires("notes.write")
def for_agents() -> str:
    return access.subject or ""


def for_agents_alone() -> str:
    """The proxy is a guard as well."""
    return access.subject or ""


def with_middleware() -> Any:
    app = serve_notes(Flask(__name__))
    app.get("/agents")(for_agents)
    app.get("/agents/alone")(for_agents_alone)
    inner = serve_notes(Flask(__name__))
    mounted = DispatcherMiddleware(app.wsgi_app, {"/inner": inner})
    app.wsgi_app = mounted  # type: ignore[method-assign]
    AgentAuth(server).init_app(app)
    return app


def without_middleware() -> Any:
    inner = serve_notes(Flask(__name__))
    return DispatcherMiddleware(serve_notes(Flask(__name__)), {"/inner": inner})


app = with_middleware()
bare = without_middleware()
