"""The application under uvicorn, alone or behind a middleware: a process to put load
on."""

from __future__ import annotations

import json
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import uvicorn

__all__ = ["SETTINGS"]

SETTINGS, _STORE = "served.json", "agentauth.sqlite"
"""In the folder that the program is given: the keys of each issuer, and the store."""
_DEPENDENCIES = ("starlette.applications", "jwt", "cryptography")
"""Of the middleware; all that the bare application's process has imported of it."""


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 and two bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"ok"})


_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"2")]


def _protected(folder: Path) -> Any:
    """The application behind a middleware, with what *folder* says."""
    from agentauth_middleware import Issuer, asgi
    from agentauth_middleware.stores import SQLiteStore
    from benchmarks.scene import resource_server

    settings = json.loads((folder / SETTINGS).read_text())
    server = resource_server(
        [Issuer(name, jwks=jwks) for name, jwks in settings["issuers"].items()],
        max_remembered_tokens=settings["max_remembered_tokens"],
    )
    return asgi.AgentAuthMiddleware(
        _application, server, store=SQLiteStore(folder / _STORE)
    )


def _serve(app: Any) -> None:
    """Print a free port and serve *app* there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            log_level="warning",
            access_log=False,
        )
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    _, kind, folder = sys.argv
    for name in _DEPENDENCIES:
        import_module(name)
    _serve(_protected(Path(folder)) if kind == "middleware" else _application)
