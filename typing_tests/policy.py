"""Policy as a user writes it: by path, by agent, and at the handler."""

from __future__ import annotations

from typing import assert_type

from starlette.requests import Request
from starlette.responses import Response

from agentauth_middleware import Access, Issuer, ResourceServer, Route
from agentauth_middleware.flask import requires as flask_requires
from agentauth_middleware.refusals import requires
from agentauth_middleware.starlette import requires as starlette_requires

HIERARCHY: dict[str, list[str]] = {"notes.write": ["notes.read"]}

SERVER = ResourceServer(
    "https://api.example.com",
    issuers=[
        Issuer(
            "https://as.example.com",
            agents=["assistant", ("https://agents.example.org", "mailer")],
            agent_scopes={
                "assistant": ["notes.read"],
                ("https://agents.example.org", "mailer"): (),
                "*": ["notes.write"],
            },
            max_chain=2,
        )
    ],
    implied_scopes=HIERARCHY,
    routes=[
        Route("/notes", any_scopes=["notes.write", "notes.read"]),
        Route("/notes/*", scopes=("notes.write",), any_scopes=("mail.send",)),
    ],
)


# Guards keep the signature of what they guard.


@requires("notes.read", any_scopes=["notes.write", "mail.send"], user="required")
def plain(note_id: int, *, raw: bool = False) -> bytes:
    return b""


assert_type(plain(7, raw=True), bytes)


@requires(agent="forbidden", acr_values=("phr", "phrh"), max_age=300)
@requires("notes.write")
async def stacked(request: Request) -> Response:
    return Response()


async def keeps_its_signature(request: Request) -> None:
    assert_type(await stacked(request), Response)


@starlette_requires(any_scopes=["notes.read"])
async def starlette(request: Request) -> Response:
    return Response()


class Notes:
    @flask_requires(agent="required", max_age=0)
    def show(self, note_id: int) -> str:
        return str(note_id)


assert_type(Notes().show(7), str)


def at_the_handler(access: Access) -> None:
    access.require_any_scope("notes.write", "notes.read")
    assert_type(access.scope_ceiling, frozenset[str] | None)
    assert_type(access.is_by_agent, bool)


# What must not pass.

requires(user="forbidden")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

requires(agent=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

requires(max_age="300")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

requires(scopes=["notes.read"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

plain("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

Route("/notes", any_scopes=[7])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

Issuer("https://as.example.com", agents=[("https://as.example.com",)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

Issuer("https://as.example.com", max_chain="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def err(access: Access) -> None:
    access.require_any_scope()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    access.require_any_scope(["notes.read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    access.scope_ceiling = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
