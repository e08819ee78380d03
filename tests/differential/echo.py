"""Applications that answer with what the server has handed them, in a header."""

from __future__ import annotations

import json
import socket
import sys
from importlib import import_module
from typing import Any

_SCOPE = ("method", "path", "raw_path", "root_path", "query_string")
_ENVIRON = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"),
    *("RAW_URI", "REQUEST_URI"),
)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    handed = {
        key: value.decode("latin-1") if isinstance(value, bytes) else value
        for key, value in scope.items()
        if key in _SCOPE
    }
    headers = [(b"x-handed", json.dumps(handed).encode("ascii"))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    handed = {key: environ[key] for key in _ENVIRON if key in environ}
    start_response("200 OK", [("X-Handed", json.dumps(handed))])
    return []


if __name__ == "__main__":
    waitress: Any = import_module("waitress")
    listener = socket.socket(fileno=int(sys.argv[1]))
    mount = sys.argv[2] if len(sys.argv) > 2 else ""
    waitress.serve(wsgi, sockets=[listener], url_prefix=mount)
