"""An API that has other clients beside agents, and what all of them may send.

``unauthenticated="pass"``: whoever is no agent reaches the application as if there were
no middleware.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from agentauth_middleware import (
    Access,
    Introspection,
    Issuer,
    ResourceServer,
    Route,
    asgi,
    current_access,
    wsgi,
)
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeIssuer
from tests.support.exchange import (
    Answer,
    HTTPRequest,
    ask_asgi,
    ask_wsgi,
    environ_of,
    scope_of,
)
from tests.support.server_side import RESOURCE

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

AGENTS = FakeIssuer("https://as.example.com")
FORGER = FakeIssuer("https://as.example.com")
OWN = FakeIssuer("https://login.example.com")
"""The API's own issuer, of which the middleware knows nothing."""
STORE = MemoryStore()
revoke_blocking(STORE, AGENTS.issuer, token_id="revoked")

_silent = socket.socket()
# Bound and never listening, so that nobody else gets the port.
_silent.bind(("127.0.0.1", 0))
UNREACHABLE = FakeIssuer(f"http://127.0.0.1:{_silent.getsockname()[1]}")
ASKED = Issuer(
    "https://opaque.example.com",
    jwks=AGENTS.jwks,
    introspection=Introspection(
        "api", client_secret="s3cret-of-the-api", endpoint=f"{UNREACHABLE.issuer}/ask"
    ),
    opaque_prefixes=["oat_"],
)
SERVER = ResourceServer(
    RESOURCE,
    issuers=[AGENTS.trust(), Issuer(UNREACHABLE.issuer, timeout=2), ASKED],
    scopes={"notes.read": "Read your notes", "notes.write": "Write notes for you"},
    routes=[
        Route("/public", public=True),
        Route("/optional", optional=True),
        Route("/notes", scopes=["notes.read"]),
        Route("/notes/mine", user="required", scopes=["notes.read"]),
    ],
    unmatched="refuse",
    unauthenticated="pass",
    insecure_loopback=True,
)
CHALLENGING = replace(SERVER, unauthenticated="challenge")


def segment(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(payload: str | bytes, header: str = '{"alg":"ES256","typ":"at+jwt"}') -> str:
    """A JWT that nobody has signed."""
    return f"{segment(header)}.{segment(payload)}.{segment(b'signature')}"


def good(**members: Any) -> str:
    return AGENTS.token(RESOURCE, subject="user-1", agent="agent-1", **members)


LONG_KEY = "sk_" + "a" * 20_000
OTHERS: dict[str, tuple[str, ...]] = {
    # Lines of ``Authorization``.
    "nothing": (),
    "opaque key": ("Bearer sk_live_0123456789",),
    "opaque key, lower case": ("bearer sk_live_0123456789",),
    "opaque key, upper case": ("BEARER sk_live_0123456789",),
    "opaque key with dots": ("Bearer sk.0123456789abcdefghij.0123456789abcdefghij.4",),
    "very long key": (f"Bearer {LONG_KEY}",),
    "key with spaces around": ("Bearer   sk_live_0123456789  ",),
    "key after a tab": ("Bearer\tsk_live_0123456789",),
    "key that is no token68": ("Bearer {sk: läve}",),
    "key without a scheme": ("sk_live_0123456789",),
    "scheme without a key": ("Bearer",),
    "empty line": ("",),
    "Basic": ("Basic dXNlcjpwYXNzd29yZA==",),
    "Basic, and Bearer as password": ("Basic " + segment("Bearer:oat_1"),),
    "Token": ("Token sk_live_0123456789",),
    "Token that begins like an agent's": ("Token oat_0123456789",),
    "Digest": ('Digest username="a", realm="api, all", nonce="b", uri="/", qop=auth',),
    "AWS": ("AWS4-HMAC-SHA256 Credential=AK/20260101/eu/s3, Signature=fe5f80f77d5fa",),
    "Negotiate": ("Negotiate " + "YIIJvwYGKwYBBQUC" * 500,),
    "two lines": ("Bearer sk_live_0123456789", "Basic dXNlcjpwYXNzd29yZA=="),
    "JWT of its own issuer": ("Bearer " + OWN.token("https://own.example.com"),),
    "JWT of its own issuer for us": ("Bearer " + OWN.token(RESOURCE),),
    "JWT that an agent of ours acts with": (
        "Bearer " + OWN.token(RESOURCE, act={"iss": AGENTS.issuer, "sub": "agent-1"}),
    ),
    "JWT without issuer": ("Bearer " + jwt('{"sub":"user-1","kind":"key"}'),),
    "JWT with a number as issuer": ("Bearer " + jwt('{"iss":12345,"sub":"user-1"}'),),
    "JWT with issuers in a list": (
        "Bearer " + jwt(json.dumps({"iss": [AGENTS.issuer]})),
    ),
    "JWT whose payload is a list": (
        "Bearer " + jwt(json.dumps(["iss", AGENTS.issuer])),
    ),
    "JWT whose payload is cut": ("Bearer " + jwt('{"iss":"https://as.example.com"'),),
    "JWT nested too deeply": ("Bearer " + jwt('{"a":' + "[" * 500),),
    "issuer with a final slash": (
        "Bearer " + FakeIssuer(AGENTS.issuer + "/").token(RESOURCE),
    ),
    "issuer in upper case": (
        "Bearer " + FakeIssuer("https://AS.example.com").token(RESOURCE),
    ),
    "issuer that begins like ours": (
        "Bearer " + FakeIssuer(AGENTS.issuer + ".evil.example").token(RESOURCE),
    ),
    "encrypted": ("Bearer " + ".".join(["eyJhbGciOiJkaXIifQ", *["a" * 40] * 4]),),
    "prefix in other case": ("Bearer OAT_0123456789",),
    "prefix in the middle": ("Bearer my-oat_0123456789",),
    "prefix cut short": ("Bearer oat",),
}


def misspelt(token: str, **replaced: str) -> str:
    """*token* with segments replaced."""
    header, payload, signature = token.split(".")
    parts = {"header": header, "payload": payload, "signature": signature} | replaced
    return "{header}.{payload}.{signature}".format(**parts)


def payload_of(**members: Any) -> str:
    now = int(time.time())
    claims = {"iss": AGENTS.issuer, "sub": "user-1", "aud": RESOURCE, "exp": now + 300}
    return json.dumps({**claims, "iat": now, "client_id": "client-1", **members})


TOKEN = good()
_TWICE = f'{{"iss":"{AGENTS.issuer}","iss":"{OWN.issuer}","sub":"user-1"}}'
_TWICE_TURNED = f'{{"iss":"{OWN.issuer}","iss":"{AGENTS.issuer}","sub":"user-1"}}'
_IN_THE_PAST = int(time.time()) - 7200

_ODD = "?>~" * 5
"""Its base64 has letters that base64url writes otherwise, wherever it stands."""

BAD: dict[str, tuple[tuple[str, ...], set[int]]] = {
    # Lines of ``Authorization`` and the statuses, which may be several: what servers
    # of WSGI join, and what is wrong in two ways.
    # A good form, and a bad token.
    "expired": (("Bearer " + good(iat=_IN_THE_PAST, expires_in=-3600),), {401}),
    "forged": (("Bearer " + FORGER.token(RESOURCE),), {401}),
    "forged, lower case": ((f"bearer {FORGER.token(RESOURCE)}",), {401}),
    "forged, upper case": ((f"BEARER {FORGER.token(RESOURCE)}",), {401}),
    "forged, spaces": ((f"  Bearer    {FORGER.token(RESOURCE)}  ",), {401}),
    "revoked": (("Bearer " + good(jti="revoked"),), {401}),
    "for another audience": (
        ("Bearer " + AGENTS.token("https://other.example.com"),),
        {401},
    ),
    "bound": (("Bearer " + good(cnf={"jkt": "a" * 43}),), {401}),
    "of another kind": (("Bearer " + good(header={"typ": "JWT"}),), {401}),
    "under an unknown key": (("Bearer " + good(header={"kid": "nobody"}),), {401}),
    "without a user": (("Bearer " + good(sub=None),), {401}),
    "keys out of reach": (("Bearer " + UNREACHABLE.token(RESOURCE),), {503}),
    "introspection out of reach": (("Bearer oat_0123456789",), {503}),
    # A form that is none.
    "algorithm none": (
        ("Bearer " + jwt(payload_of(), '{"alg":"none","typ":"at+jwt"}'),),
        {401},
    ),
    "header no JSON": (("Bearer " + misspelt(TOKEN, header="e30e30"),), {401}),
    "header no base64": (("Bearer " + misspelt(TOKEN, header="+"),), {401}),
    "header no token68": (("Bearer " + misspelt(TOKEN, header="{}"),), {400}),
    "header missing": (("Bearer " + misspelt(TOKEN, header=""),), {401}),
    "signature no base64": (("Bearer " + misspelt(TOKEN, signature="+"),), {401}),
    "signature no token68": (("Bearer " + misspelt(TOKEN, signature="{}"),), {400}),
    "signature missing": (("Bearer " + misspelt(TOKEN, signature=""),), {401}),
    "signature padded": ((f"Bearer {TOKEN}==",), {401}),
    "one segment more": ((f"Bearer {TOKEN}.e30",), {401}),
    "one segment less": ((f"Bearer {TOKEN.rpartition('.')[0]}",), {401}),
    "payload padded": (
        ("Bearer " + misspelt(TOKEN, payload=TOKEN.split(".")[1] + "=="),),
        {400, 401},
    ),
    "payload in plain base64": (
        (
            "Bearer "
            + misspelt(
                TOKEN,
                payload=base64.b64encode(payload_of(name=_ODD).encode()).decode(),
            ),
        ),
        {400, 401},
    ),
    "payload in all of base64url": (("Bearer " + jwt(payload_of(name=_ODD)),), {401}),
    "payload not all UTF-8": (
        ("Bearer " + jwt(payload_of(x="X").encode().replace(b"X", b"\xff")),),
        {401},
    ),
    "payload not all JSON": (
        ("Bearer " + jwt(payload_of().replace("300", "NaN") + " and more"),),
        {401},
    ),
    "payload with a break in a string": (
        ("Bearer " + jwt(payload_of(x="X").replace("X", chr(10))),),
        {401},
    ),
    "payload after white space": (("Bearer " + jwt(" \n" + payload_of()),), {401}),
    "issuer twice": (("Bearer " + jwt(_TWICE),), {401}),
    "issuer twice, turned": (("Bearer " + jwt(_TWICE_TURNED),), {401}),
    "issuer with escapes": (
        ("Bearer " + jwt(payload_of().replace("/", chr(92) + "/")),),
        {401},
    ),
    "name of issuer with escapes": (
        ("Bearer " + jwt(payload_of().replace("iss", chr(92) + "u0069ss")),),
        {401},
    ),
    "very long": (("Bearer " + jwt(payload_of(x="a" * 20_000)),), {400}),
    "very long, signed": (("Bearer " + good(x="a" * 20_000),), {400}),
    "opaque and very long": (("Bearer oat_" + "a" * 20_000,), {400}),
    "intricate": (("Bearer " + jwt(payload_of(x=[[]] * 600)),), {401}),
    "intricate, with escapes": (
        ("Bearer " + jwt(payload_of(x=[[]] * 600).replace("/", chr(92) + "/")),),
        {401},
    ),
    # What a lenient application takes for a Bearer token.
    "after a tab": ((f"Bearer\t{TOKEN}",), {400}),
    "after a no-break space": ((f"Bearer\xa0{TOKEN}",), {400}),
    "after a form feed": ((f"Bearer\f{TOKEN}",), {400}),
    "after a space and a tab": ((f"Bearer \t{TOKEN}",), {400}),
    "after a colon": ((f"Bearer: {TOKEN}",), {400}),
    "after an equals sign": ((f"Bearer={TOKEN}",), {400}),
    "after the scheme twice": ((f"Bearer Bearer {TOKEN}",), {400}),
    "in quotes": ((f'Bearer "{TOKEN}"',), {400}),
    "as a parameter": ((f"Bearer token={TOKEN}",), {400}),
    "without a scheme": ((TOKEN,), {401}),
    "in another scheme": ((f"Token {TOKEN}",), {401}),
    "in the scheme JWT": ((f"JWT {TOKEN}",), {401}),
    "opaque, after a tab": (("Bearer\toat_0123456789",), {400}),
    "opaque, in quotes": (('Bearer "oat_0123456789"',), {400}),
    "opaque, no token68": (("Bearer oat_{}",), {400}),
    "opaque, without a scheme": (("oat_0123456789",), {401}),
    "DPoP": ((f"DPoP {TOKEN}",), {401}),
    "DPoP with a token of nobody's": (("dpop sk_live_0123456789",), {401}),
    "DPoP alone": (("DPoP",), {401}),
    "DPoP after a tab": (("DPoP\tsk_live_0123456789",), {401}),
    # One of several.
    "twice": ((f"Bearer {TOKEN}", f"Bearer {TOKEN}"), {400}),
    "first, then a key": ((f"Bearer {TOKEN}", "Bearer sk_live_0123456789"), {400}),
    "last, after a key": (("Bearer sk_live_0123456789", f"Bearer {TOKEN}"), {400}),
    "opaque, after a key": (("Bearer sk_live_01234", "Bearer oat_01234"), {400}),
    "last, after Basic": (("Basic dTpw", f"Bearer {TOKEN}"), {400, 401}),
    "DPoP, after a key": (("Bearer sk_live_0123456789", "DPoP x"), {400}),
    "joined, first": ((f"Bearer {TOKEN}, Bearer sk_live_0123456789",), {400}),
    "joined, last": ((f"Bearer sk_live_0123456789, Bearer {TOKEN}",), {400}),
    "joined, no space": ((f"Bearer sk_live_0123456789,Bearer {TOKEN}",), {400}),
    "joined, opaque": (("Bearer sk_live_0123456789, Bearer oat_0123456789",), {400}),
    "joined, after a JWT": (
        (f"Bearer {OWN.token(RESOURCE)}, Bearer {TOKEN}",),
        {400},
    ),
    "joined, after Basic": ((f"Basic dTpw, Bearer {TOKEN}",), {401}),
    "joined, DPoP": (("Bearer sk_live_0123456789, DPoP x",), {400}),
}


# Middlewares, and what passes them

Answered = tuple[int, Sequence[tuple[str, str]], bytes]
"""Status, field lines and body of what the application answers."""
TAKEN: Answered = (200, (("content-type", "text/plain"),), b"theirs")


@dataclass(frozen=True)
class Seen:
    """A request as it reached the application."""

    given: dict[str, Any]
    """The scope or the environ."""
    access: Access | None
    """What ``current_access`` gave."""


@dataclass(frozen=True)
class Passage:
    """A middleware of one kind, and all that went through it."""

    kind: str
    middleware: Any
    seen: list[Seen]

    def ask(self, request: HTTPRequest) -> Answer:
        if self.kind == "wsgi":
            return ask_wsgi(self.middleware, request)
        return ask_asgi(self.middleware, self.kind.removeprefix("asgi-"), request)

    def get(self, target: str, *lines: str) -> Answer:
        """The answer to a request with these ``Authorization`` *lines*."""
        fields = tuple(("Authorization", line) for line in lines)
        return self.ask(HTTPRequest("GET", target, fields))

    def given(self, request: HTTPRequest) -> dict[str, Any]:
        """What the server hands to the middleware."""
        return environ_of(request) if self.kind == "wsgi" else scope_of(request)


class OpenPassage(Protocol):
    def __call__(
        self,
        server: ResourceServer = SERVER,
        answered: Answered = TAKEN,
        **options: Any,
    ) -> Passage: ...


def open_passage(
    kind: str,
    server: ResourceServer = SERVER,
    answered: Answered = TAKEN,
    **options: Any,
) -> Passage:
    """A middleware of *kind*, one of ``MIDDLEWARES``, that has remembered nothing
    yet."""
    seen: list[Seen] = []
    options = {"store": STORE, **options}
    middleware: Any
    if kind == "wsgi":
        blocking = wsgi_application(seen, answered)
        middleware = wsgi.AgentAuthMiddleware(blocking, server, **options)
    else:
        awaiting = asgi_application(seen, answered)
        middleware = asgi.AgentAuthMiddleware(awaiting, server, **options)
    return Passage(kind, middleware, seen)


def asgi_application(seen: list[Seen], answered: Answered = TAKEN) -> ASGIApp:
    """The application, writing down in *seen* what reaches it."""
    status, fields, body = answered

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(Seen(dict(scope), current_access()))
        headers = [(name.lower().encode(), value.encode()) for name, value in fields]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    return application


def wsgi_application(seen: list[Seen], answered: Answered = TAKEN) -> WSGIApplication:
    """The application, writing down in *seen* what reaches it."""
    status, fields, body = answered

    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        seen.append(Seen(dict(environ), current_access()))
        start_response(f"{status} Theirs", list(fields))
        return [body]

    return application
