"""A stream behind the WSGI middleware, held back until another request comes.

The environment names the issuer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agentauth_middleware import Issuer, ResourceServer, Route, current_access
from agentauth_middleware.wsgi import AgentAuthMiddleware
from tests.support.server_side import RESOURCE

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

released = threading.Event()


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/release":
        released.set()
        return [b"released"]
    return pieces()


def pieces() -> Iterator[bytes]:
    yield b"first " + subject()
    assert released.wait(30)
    yield b"last " + subject()


def subject() -> bytes:
    access = current_access()
    return b"nobody" if access is None else str(access.subject).encode()


app = AgentAuthMiddleware(
    application,
    ResourceServer(
        RESOURCE,
        issuers=[Issuer(os.environ["ISSUER"])],
        routes=[Route("/release", public=True)],
        insecure_loopback=True,
    ),
)
