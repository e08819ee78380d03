"""What the servers of ``test_servers`` load, each in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

from agentauth_middleware import asgi, wsgi
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import SQLiteStore
from tests.support.application import asgi_application, wsgi_application
from tests.support.scenarios import Issuers, resource_server

SETTINGS = "MIDDLEWARES_UNDER_TEST"
"""Name of the variable of the environment that tells a server what it needs."""


def settings(issuers: Issuers, store: str) -> str:
    """What a server has to know of *issuers*; *store* is the path of its store."""
    trusted = [
        {"issuer": issuers.main.issuer, "jwks": issuers.main.jwks},
        {"issuer": issuers.retired.issuer, "jwks": issuers.retired.jwks},
        {"issuer": issuers.unreachable.issuer, "timeout": 2},
    ]
    return json.dumps({"trusted": trusted, "store": store})


def _read_settings() -> tuple[ResourceServer, SQLiteStore]:
    told = json.loads(os.environ[SETTINGS])
    trusted = [Issuer(**members) for members in told["trusted"]]
    return resource_server(trusted), SQLiteStore(told["store"])


def asgi_middleware() -> Any:
    server, store = _read_settings()
    return asgi.AgentAuthMiddleware(asgi_application([]), server, store=store)


def wsgi_middleware() -> Any:
    server, store = _read_settings()
    return wsgi.AgentAuthMiddleware(wsgi_application([]), server, store=store)


def serve_with_waitress(listener: int) -> None:
    """Serve on the socket that *listener* is the file descriptor of."""
    import waitress  # type: ignore[import-untyped]

    waitress.serve(wsgi_middleware(), sockets=[socket.socket(fileno=listener)])


if __name__ == "__main__":
    serve_with_waitress(int(sys.argv[1]))
