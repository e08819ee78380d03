"""A WSGI middleware in a process that forks, as servers do after they have loaded it.

Run with the issuer's URL and what the parent is to do first: "import", or "use" the
middleware. Tokens come one a line on standard input: the parent uses up the first (if
it is to use the middleware), then the child verifies the next, then the parent the one
after. Each says in a line what came of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import RESOURCE, environ, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def main(issuer: str, first: str) -> None:
    server = ResourceServer(RESOURCE, issuers=[Issuer(issuer)], insecure_loopback=True)
    middleware = AgentAuthMiddleware(application, server)
    if first == "use":
        verify_next("parent", middleware)
    child = os.fork()
    if child == 0:
        verify_next("child", middleware)
        # Through the interpreter's own exit, where what was inherited would show.
        raise SystemExit
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    verify_next("parent", middleware)
    raise SystemExit(status)


def verify_next(who: str, middleware: WSGIApplication) -> None:
    """Present the next token at *middleware*."""
    # Not through a buffer, which a fork would copy.
    token = b""
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        token += byte
    authorization = f"Bearer {token.decode()}"
    status = serve(middleware, environ(HTTP_AUTHORIZATION=authorization)).status
    sys.stdout.write(f"{who} {status}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
