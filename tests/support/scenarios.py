"""The table of refusals: what a request meets, row by row, whatever the middleware.

The rows are numbered as requests meet them; where a request deserves several, the
first one decides.

==== ====================================================== ===========
 0   public path, a URL of our own                          goes on
 1   two credentials, or one in the query as well           400
 2   no credentials, or of a scheme nobody knows here       401, no error
 3   a malformed credential                                 400
 5   a token that is not good                               401
 6   keys or the log of revocations out of reach            503
 7   a revoked token                                        401
 8   a token bound to a key, sent as Bearer                 401
 12  a malformed chain of actors                            401
 13  the user must authenticate again                       401
 14  a scope is missing                                     403
 15  not for this user or this agent                        403
 16  too many requests                                      429
 17  the application's own answer                           as it is
==== ====================================================== ===========

Rows 4 and 9 to 11 are about proofs of possession.

Sources: RFC 6750 §3, RFC 9110 §11, RFC 9470 §3, RFC 9728 §5.1
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentauth_middleware.errors import (
    ActorRefusedError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    RequestRefusedError,
    StepUpRequiredError,
)
from agentauth_middleware.revocation import revoke_blocking
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from agentauth_middleware.stores import Store
from agentauth_middleware.testing import FakeIssuer
from tests.support.application import ANSWERED
from tests.support.challenges import Challenge, parse_strictly
from tests.support.exchange import Answer, HTTPRequest

RESOURCE = "https://api.example.com"
METADATA_URL = "https://api.example.com/.well-known/oauth-protected-resource"
AUTH_MD_URL = "https://api.example.com/auth.md"

IssuerName = Literal["main", "retired", "unreachable", "stranger", "forger"]


class Issuers:
    """Everybody who issues tokens here, wanted or not."""

    def __init__(self, unreachable: str) -> None:
        """*unreachable* is a URL at which nobody answers."""
        self.main = FakeIssuer("https://as.example.com")
        self.retired = FakeIssuer("https://old.example.com")
        """All of its tokens are revoked."""
        self.unreachable = FakeIssuer(unreachable)
        self.stranger = FakeIssuer("https://stranger.example.net")
        self.forger = FakeIssuer("https://as.example.com")
        """Says that it is ``main``."""

    @property
    def trusted(self) -> tuple[Issuer, ...]:
        # The keys of the last have to be fetched.
        unreachable = Issuer(self.unreachable.issuer, timeout=2)
        return self.main.trust(), self.retired.trust(), unreachable


def resource_server(trusted: Sequence[Issuer], **settings: Any) -> ResourceServer:
    """The API of the table. *settings* are added or replace others."""
    server = ResourceServer(
        RESOURCE,
        issuers=trusted,
        name="Notes",
        scopes={
            "notes.read": "Read your notes",
            "notes.write": "Write notes for you",
            "vault.open": "Open your vault",
        },
        routes=ROUTES,
        insecure_loopback=True,
    )
    return replace(server, **settings)


ROUTES = (
    Route("/health", public=True),
    Route("/greeting", optional=True),
    Route("/notes", methods=("GET",), scopes=("notes.read",)),
    Route("/notes", methods=("POST",), scopes=("notes.read", "notes.write")),
    Route("/strong", acr_values=("phr", "phrh")),
    Route("/fresh", max_age=300),
    Route("/users", user="required"),
    Route("/agents", agent="required"),
    Route("/people", agent="forbidden"),
    Route(
        "/vault",
        scopes=("vault.open",),
        acr_values=("phrh",),
        max_age=60,
        user="required",
        agent="forbidden",
    ),
    Route("/raises/too-many", agent="forbidden"),
)


def revoke_some(store: Store, issuers: Issuers) -> None:
    """Revoke in every way there is; what remains good is in the table as well."""
    main = issuers.main.issuer
    revoke_blocking(store, main, token_id="revoked-token")
    revoke_blocking(store, main, subject="revoked-user")
    revoke_blocking(store, main, subject="user-1", agent="revoked-agent")
    revoke_blocking(store, issuers.retired.issuer)


@dataclass(frozen=True)
class Token:
    """What a scenario's token says, unlike a plain good one."""

    issuer: IssuerName = "main"
    subject: str = "user-1"
    agent: str | None = None
    scopes: tuple[str, ...] = ()
    issued: int = -100
    """Seconds from now; a revocation made in the meantime covers it."""
    expires: int = 3600
    audience: str | tuple[str, ...] = RESOURCE
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    header: Mapping[str, Any] = field(default_factory=dict[str, Any])
    signed_in: int | None = None
    """When the user authenticated, in seconds from now."""
    garbled: bool = False

    def mint(self, issuers: Issuers) -> str:
        now = int(time.time())
        issuer: FakeIssuer = getattr(issuers, self.issuer)
        claims: dict[str, Any] = {
            "iat": now + self.issued,
            "auth_time": None if self.signed_in is None else now + self.signed_in,
            **self.claims,
        }
        token = issuer.token(
            self.audience,
            subject=self.subject,
            agent=self.agent,
            scopes=self.scopes,
            expires_in=self.expires,
            header=self.header,
            **claims,
        )
        return token[:-9] + "AAAAAAAAA" if self.garbled else token


GOOD = Token()


@dataclass(frozen=True)
class Expected:
    """What has to come back, and what the log and the application are to see."""

    status: int
    reason: str
    """In the audit record."""
    reason_on_wsgi: str | None = None
    """Where servers have joined the field lines before the middleware sees them."""
    challenge: Mapping[str, str] | None = None
    body: Mapping[str, Any] | bytes = field(default_factory=dict[str, Any])
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    reaches: bool = False
    """Whether the application is called."""

    def check(self, answer: Answer) -> None:
        """That *answer* is what has to come back."""
        assert answer.status == self.status, answer
        if isinstance(self.body, bytes):
            assert answer.body == self.body
        else:
            assert answer.json() == self.body
        for name, value in self.fields.items():
            assert answer.field(name) == value
        if self.is_ours:
            assert challenges_of(answer) == self._challenges()

    def reason_at(self, kind: str) -> str:
        """The reason in the audit record of a middleware of this kind."""
        return (kind == "wsgi" and self.reason_on_wsgi) or self.reason

    @property
    def is_ours(self) -> bool:
        """Whether the answer is a refusal of the middleware's."""
        return self.status >= 400 and not isinstance(self.body, bytes)

    def _challenges(self) -> list[Challenge]:
        return [] if self.challenge is None else [Challenge("Bearer", self.challenge)]


def challenges_of(answer: Answer) -> list[Challenge]:
    """All challenges of *answer*, which has to follow the grammar."""
    return [
        challenge
        for line in answer.lines("www-authenticate")
        for challenge in parse_strictly(line)
    ]


REFUSAL_FIELDS = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "access-control-expose-headers": "WWW-Authenticate, Retry-After, DPoP-Nonce",
}
_WHERE_TO_LOOK = {"resource_metadata": METADATA_URL, "auth_md": AUTH_MD_URL}


def _challenged(
    status: int,
    reason: str,
    members: dict[str, Any],
    *,
    reaches: bool = False,
    reason_on_wsgi: str | None = None,
) -> Expected:
    """A refusal whose challenge and body say the same."""
    parameters = {name: str(value) for name, value in members.items()}
    return Expected(
        status,
        reason,
        reason_on_wsgi,
        {**parameters, "resource_metadata": METADATA_URL},
        {**members, **_WHERE_TO_LOOK},
        REFUSAL_FIELDS,
        reaches,
    )


def _error(kind: type[RequestRefusedError], **members: Any) -> dict[str, Any]:
    return {"error": kind.error, "error_description": kind.description, **members}


def no_credentials(scope: str | None = None, *, reaches: bool = False) -> Expected:
    members = {} if scope is None else {"scope": scope}
    expected = _challenged(401, "no_credentials", members, reaches=reaches)
    # The scopes are for the client; the body is for whoever reads.
    body = {"detail": "authentication required", **_WHERE_TO_LOOK}
    return replace(expected, body=body)


def invalid_request(
    reason: str, *, reason_on_wsgi: str | None = None, reaches: bool = False
) -> Expected:
    return _challenged(
        400,
        reason,
        _error(InvalidRequestError),
        reaches=reaches,
        reason_on_wsgi=reason_on_wsgi,
    )


def invalid_token(reason: str, *, reaches: bool = False) -> Expected:
    return _challenged(401, reason, _error(InvalidTokenError), reaches=reaches)


def step_up(*, reaches: bool = False, **parameters: Any) -> Expected:
    members = _error(StepUpRequiredError, **parameters)
    return _challenged(401, "step_up_required", members, reaches=reaches)


def insufficient_scope(scope: str, *, reaches: bool = False) -> Expected:
    members = _error(InsufficientScopeError, scope=scope)
    return _challenged(403, "insufficient_scope", members, reaches=reaches)


def actor_unauthorized(reason: str, *, reaches: bool = False) -> Expected:
    return _challenged(403, reason, _error(ActorRefusedError), reaches=reaches)


UNAVAILABLE = "the token could not be checked right now; keep it and try again later"


def unavailable(
    reason: str, *, retry_after: str = "5", reaches: bool = False
) -> Expected:
    return Expected(
        503,
        reason,
        body={"error": "temporarily_unavailable", "error_description": UNAVAILABLE},
        fields={**REFUSAL_FIELDS, "retry-after": retry_after},
        reaches=reaches,
    )


def too_many(reason: str, retry_after: str) -> Expected:
    return Expected(
        429,
        reason,
        body={
            "error": "temporarily_unavailable",
            "error_description": "too many requests; keep the token and try again "
            "later",
        },
        fields={**REFUSAL_FIELDS, "retry-after": retry_after},
        reaches=True,
    )


def passed(
    reason: str = "no_access_needed", *, authorization: bool = False
) -> Expected:
    """On to the application, without ``Access``."""
    body = {"access": None, "authorization": authorization}
    return Expected(200, reason, body=body, reaches=True)


def granted(
    mode: str = "unknown",
    *,
    subject: str = "user-1",
    user: str | None = None,
    agent: str | None = None,
    scopes: tuple[str, ...] = (),
) -> Expected:
    """On to the application, with this ``Access``."""
    access = {
        "mode": mode,
        "subject": subject,
        "user": user,
        "agent": agent,
        "scopes": list(scopes),
    }
    body = {"access": access, "authorization": True}
    return Expected(200, mode, body=body, reaches=True)


def answered(path: str) -> Expected:
    """The application's own answer, as it is."""
    status, fields, body = ANSWERED[path]
    return Expected(status, "unknown", body=body, fields=dict(fields), reaches=True)


@dataclass(frozen=True)
class Scenario:
    """A request and what becomes of it."""

    name: str
    expected: Expected
    token: Token = GOOD
    authorization: tuple[str, ...] = ("Bearer {token}",)
    """The value of each field line."""
    method: str = "GET"
    target: str = "/"
    fields: tuple[tuple[str, str], ...] = ()
    """Other field lines."""

    def request(self, issuers: Issuers) -> HTTPRequest:
        token = self.token.mint(issuers)
        lines = (line.replace("{token}", token) for line in self.authorization)
        return HTTPRequest(
            self.method,
            self.target.replace("{token}", token),
            (
                ("Host", "api.example.com"),
                *self.fields,
                *(("Authorization", line) for line in lines),
            ),
        )


_PREFLIGHT = (
    ("Origin", "https://app.example.org"),
    ("Access-Control-Request-Method", "POST"),
)
_NOTHING: tuple[str, ...] = ()
_TWICE = ("Bearer {token}", "Bearer {token}")
_LONG = "a" * 16 * 1024
_DUPLICATE = invalid_request(
    "duplicate_authorization", reason_on_wsgi="malformed_credential"
)
_MALFORMED = invalid_request("malformed_credential")
_BOUND = {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}
_BAD_CHAIN = {"act": {"sub": 7}}
_OUT_OF_REACH = unavailable("upstream_unreachable")

_ROW_0 = (
    Scenario(
        "preflight",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="OPTIONS",
        target="/notes",
        fields=_PREFLIGHT,
    ),
    Scenario(
        "preflight that says it has no body",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="OPTIONS",
        target="/notes",
        fields=(*_PREFLIGHT, ("Content-Length", "0")),
    ),
    Scenario(
        "preflight on a public path",
        passed(),
        authorization=_NOTHING,
        method="OPTIONS",
        target="/health",
        fields=_PREFLIGHT,
    ),
    Scenario(
        "no preflight: OPTIONS without Origin",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="OPTIONS",
        target="/notes",
        fields=_PREFLIGHT[1:],
    ),
    Scenario(
        "no preflight: OPTIONS that asks for no method",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="OPTIONS",
        target="/notes",
        fields=_PREFLIGHT[:1],
    ),
    Scenario(
        "no preflight: another method",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="POST",
        target="/notes",
        fields=(*_PREFLIGHT, ("Content-Length", "0")),
    ),
    Scenario("public path", passed(), authorization=_NOTHING, target="/health"),
    Scenario("TRACE", invalid_request("trace_method"), method="TRACE"),
    Scenario(
        "TRACE on a public path",
        invalid_request("trace_method"),
        authorization=_NOTHING,
        method="TRACE",
        target="/health",
    ),
    Scenario(
        "public path with a good token, which gives no Access",
        passed(authorization=True),
        target="/health",
    ),
    Scenario("optional path", passed(), authorization=_NOTHING, target="/greeting"),
    Scenario("optional path with a good token", granted(), target="/greeting"),
)

_ROW_1 = (
    Scenario("two field lines", _DUPLICATE, authorization=_TWICE),
    Scenario(
        "two field lines of different schemes",
        _DUPLICATE,
        authorization=("Bearer {token}", "Basic dTpw"),
    ),
    Scenario(
        "two lines that a proxy joined",
        _MALFORMED,
        authorization=("Bearer {token},Bearer {token}",),
    ),
    Scenario(
        "two lines that a proxy joined with a space",
        _MALFORMED,
        authorization=("Bearer {token}, Bearer {token}",),
    ),
    Scenario(
        "in the query as well",
        invalid_request("two_methods"),
        target="/?access_token={token}",
    ),
    Scenario(
        "in the query as well, though empty",
        invalid_request("two_methods"),
        target="/?page=2&access_token=",
    ),
    Scenario(
        "in the query as well, its name encoded",
        invalid_request("two_methods"),
        target="/?%61ccess%5Ftoken=x",
    ),
    Scenario("not in the query: only part of its name", granted(), target="/?token=x"),
    Scenario(
        "not in the query: only part of a value", granted(), target="/?q=access_token=x"
    ),
)

_ROW_2 = (
    Scenario("no credentials", no_credentials(), authorization=_NOTHING),
    Scenario(
        "no credentials where a scope is needed",
        no_credentials("notes.read"),
        authorization=_NOTHING,
        target="/notes",
    ),
    Scenario(
        "no credentials where two scopes are needed",
        no_credentials("notes.read notes.write"),
        authorization=_NOTHING,
        method="POST",
        target="/notes",
    ),
    Scenario("no credentials: empty field", no_credentials(), authorization=("",)),
    Scenario("no credentials: only spaces", no_credentials(), authorization=("  ",)),
    Scenario("no credentials: Basic", no_credentials(), authorization=("Basic dTpw",)),
    Scenario(
        "no credentials: Digest",
        no_credentials(),
        authorization=('Digest username="u", realm="r", nonce="n", response="r"',),
    ),
    Scenario(
        "no credentials: Token", no_credentials(), authorization=("Token {token}",)
    ),
    Scenario("no credentials: DPoP", no_credentials(), authorization=("DPoP {token}",)),
    Scenario(
        "no credentials: a scheme that begins like Bearer",
        no_credentials(),
        authorization=("BearerX {token}",),
    ),
    Scenario(
        "no credentials: Bearer alone", no_credentials(), authorization=("Bearer",)
    ),
    Scenario(
        "no credentials: Bearer and spaces",
        no_credentials(),
        authorization=("bearer  ",),
    ),
    Scenario(
        "no credentials: Bearer and a tab",
        no_credentials(),
        authorization=("Bearer\t",),
    ),
    Scenario(
        "no credentials: Bearer alone, beside a token in the query",
        no_credentials(),
        authorization=("Bearer ",),
        target="/?access_token={token}",
    ),
    Scenario("no credentials: a bare word", no_credentials(), authorization=("x",)),
    Scenario(
        "no credentials: the bare token", no_credentials(), authorization=("{token}",)
    ),
    Scenario(
        "no credentials: only in the query",
        no_credentials(),
        authorization=_NOTHING,
        target="/?access_token={token}",
    ),
    Scenario(
        "no credentials: in the query, beside Basic",
        no_credentials(),
        authorization=("Basic dTpw",),
        target="/?access_token={token}",
    ),
    Scenario(
        "no credentials: in a cookie",
        no_credentials(),
        authorization=_NOTHING,
        fields=(("Cookie", "access_token={token}"),),
    ),
    Scenario(
        "no credentials: names in other fields",
        no_credentials(),
        authorization=_NOTHING,
        fields=(
            ("X-Forwarded-User", "user-1"),
            ("Remote-User", "user-1"),
            ("X-Agentauth-Access", "user-1"),
            ("Proxy-Authorization", "Bearer {token}"),
        ),
    ),
)

_MALFORMATIONS = tuple(
    Scenario(f"malformed: {name}", _MALFORMED, authorization=(value,))
    for name, value in {
        "tab for a space": "Bearer\t{token}",
        "tab after a space": "Bearer \t{token}",
        "two words": "Bearer {token} x",
        "tab in the token": "Bearer {token}\tx",
        "padding before the token": "Bearer ={token}",
        "padding inside the token": "Bearer a=b",
        "only padding": "Bearer ==",
        "quoted": 'Bearer "{token}"',
        "parameter": "Bearer token={token}",
        "parameters": "Bearer a=b, c=d",
        "comma at the end": "Bearer {token},",
        "comma for a space": "Bearer,{token}",
        "colon": "Bearer: {token}",
        "percent-encoded": "Bearer %41{token}",
        "not ASCII": "Bearer {token}\xe9",
        "UTF-8": "Bearer {token}\xc3\xa9",
        "byte order mark": "\xef\xbb\xbfBearer {token}",
        "non-breaking space": "Bearer\xa0{token}",
        "NUL in the token": "Bearer {token}\x00",
        "NUL after the scheme": "Bearer\x00{token}",
        "DEL": "Bearer {token}\x7f",
        "control character": "Bearer {token}\x01",
        "carriage return": "Bearer {token}\rX-Y: z",
        "line feed": "Bearer {token}\nX-Y: z",
    }.items()
)

_ROW_3 = (
    *_MALFORMATIONS,
    Scenario(
        "malformed: longer than 16 KiB",
        invalid_request("credential_too_long"),
        authorization=(f"Bearer {_LONG}",),
    ),
    Scenario(
        "malformed on an optional path",
        _MALFORMED,
        authorization=("Bearer =",),
        target="/greeting",
    ),
)

_SPELLINGS = tuple(
    Scenario(f"well formed: {name}", granted(), authorization=(value,))
    for name, value in {
        "as usual": "Bearer {token}",
        "lower case": "bearer {token}",
        "upper case": "BEARER {token}",
        "mixed case": "bEaReR {token}",
        "several spaces": "Bearer   {token}",
        "several spaces, upper case": "BEARER   {token}",
        "white space around": " \tBearer {token}\t ",
    }.items()
)

_ROW_5 = (
    Scenario(
        "well formed: just under 16 KiB",
        invalid_token("malformed"),
        authorization=(f"Bearer {_LONG[7:]}",),
    ),
    Scenario(
        "opaque", invalid_token("malformed"), authorization=("Bearer opaque-token",)
    ),
    Scenario(
        "with padding", invalid_token("malformed"), authorization=("Bearer {token}=",)
    ),
    Scenario(
        "encrypted",
        invalid_token("encrypted_token"),
        authorization=("Bearer a.b.c.d.e",),
    ),
    Scenario(
        "wrong typ", invalid_token("wrong_token_type"), Token(header={"typ": "JWT"})
    ),
    Scenario(
        "security event",
        invalid_token("wrong_token_type"),
        Token(claims={"events": {}}),
    ),
    Scenario("unknown issuer", invalid_token("unknown_issuer"), Token("stranger")),
    Scenario(
        "forged by a key nobody knows", invalid_token("unknown_kid"), Token("forger")
    ),
    Scenario("bad signature", invalid_token("bad_signature"), Token(garbled=True)),
    Scenario(
        "wrong audience",
        invalid_token("wrong_audience"),
        Token(audience="https://api.example.com.evil.example"),
    ),
    Scenario(
        "audience of another resource of this host",
        invalid_token("wrong_audience"),
        Token(audience=(f"{RESOURCE}/v2", "https://other.example.com")),
    ),
    Scenario("expired", invalid_token("expired"), Token(issued=-4000, expires=-61)),
    Scenario("just not expired", granted(), Token(issued=-4000, expires=-50)),
    Scenario(
        "not yet valid: nbf",
        invalid_token("not_yet_valid"),
        Token(claims={"nbf": int(time.time()) + 100_000}),
    ),
    Scenario("not yet valid: iat", invalid_token("not_yet_valid"), Token(issued=1000)),
    Scenario(
        "bad token on an optional path",
        invalid_token("unknown_issuer"),
        Token("stranger"),
        target="/greeting",
    ),
    Scenario(
        "audience with a slash, as URL classes write it",
        granted(),
        Token(audience=RESOURCE + "/"),
    ),
)

_ROW_6 = (
    Scenario("keys out of reach", _OUT_OF_REACH, Token("unreachable")),
    Scenario(
        "keys out of reach on an optional path",
        _OUT_OF_REACH,
        Token("unreachable"),
        target="/greeting",
    ),
)

_ROW_7 = (
    Scenario(
        "revoked token",
        invalid_token("revoked"),
        Token(claims={"jti": "revoked-token"}),
    ),
    Scenario("revoked user", invalid_token("revoked"), Token(subject="revoked-user")),
    Scenario(
        "revoked user through an agent",
        invalid_token("revoked"),
        Token(subject="revoked-user", agent="agent-1"),
    ),
    Scenario(
        "revoked agent of this user",
        invalid_token("revoked"),
        Token(agent="revoked-agent"),
    ),
    Scenario("revoked issuer", invalid_token("revoked"), Token("retired")),
    Scenario(
        "revoked on an optional path",
        invalid_token("revoked"),
        Token(subject="revoked-user"),
        target="/greeting",
    ),
    Scenario(
        "not revoked: the same agent for another user",
        granted("delegated", subject="user-2", user="user-2", agent="revoked-agent"),
        Token(subject="user-2", agent="revoked-agent"),
    ),
    Scenario(
        "not revoked: another agent of this user",
        granted("delegated", user="user-1", agent="agent-1"),
        Token(agent="agent-1"),
    ),
    Scenario("not revoked: this user without an agent", granted()),
    Scenario(
        "not revoked: issued since",
        granted(subject="revoked-user"),
        Token(subject="revoked-user", issued=30),
    ),
)

_ROW_8 = (
    Scenario(
        "bound to a key", invalid_token("sender_constrained"), Token(claims=_BOUND)
    ),
    Scenario(
        "bound to a certificate",
        invalid_token("sender_constrained"),
        Token(
            claims={"cnf": {"x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}}
        ),
    ),
    Scenario(
        "bound in a way nobody knows",
        invalid_token("sender_constrained"),
        Token(claims={"cnf": {}}),
    ),
)

_ROW_12 = tuple(
    Scenario(
        f"chain of actors: {name}",
        invalid_token("malformed"),
        Token(claims={"act": act}),
    )
    for name, act in {
        "text": "agent-1",
        "without sub": {},
        "sub is a number": {"sub": 7},
        "sub is empty": {"sub": ""},
        "array": [{"sub": "agent-1"}],
        "malformed inside": {"sub": "agent-1", "act": {"sub": ""}},
        "too deep": {
            "sub": "1",
            "act": {
                "sub": "2",
                "act": {
                    "sub": "3",
                    "act": {"sub": "4", "act": {"sub": "5", "act": {"sub": "6"}}},
                },
            },
        },
    }.items()
)

_ROW_13 = (
    Scenario("acr is missing", step_up(acr_values="phr phrh"), target="/strong"),
    Scenario(
        "acr is too weak",
        step_up(acr_values="phr phrh"),
        Token(claims={"acr": "pwd"}),
        target="/strong",
    ),
    Scenario(
        "acr suffices", granted(), Token(claims={"acr": "phrh"}), target="/strong"
    ),
    Scenario("auth_time is missing", step_up(max_age=300), target="/fresh"),
    Scenario(
        "authenticated too long ago",
        step_up(max_age=300),
        Token(signed_in=-370),
        target="/fresh",
    ),
    Scenario(
        "authenticated just recently enough",
        granted(),
        Token(signed_in=-350),
        target="/fresh",
    ),
)

_ROW_14 = (
    Scenario("no scope", insufficient_scope("notes.read"), target="/notes"),
    Scenario(
        "another scope",
        insufficient_scope("notes.read"),
        Token(scopes=("notes.write",)),
        target="/notes",
    ),
    Scenario(
        "one of two scopes",
        insufficient_scope("notes.read notes.write"),
        Token(scopes=("notes.read",)),
        method="POST",
        target="/notes",
    ),
    Scenario(
        "a scope that begins alike",
        insufficient_scope("notes.read"),
        Token(scopes=("notes.read.all",)),
        target="/notes",
    ),
    Scenario(
        "both scopes and another",
        granted(scopes=("mail.read", "notes.read", "notes.write")),
        Token(scopes=("notes.write", "mail.read", "notes.read")),
        method="POST",
        target="/notes",
    ),
)

_ROW_15 = (
    Scenario("no user", actor_unauthorized("user_required"), target="/users"),
    Scenario("no agent", actor_unauthorized("agent_required"), target="/agents"),
    Scenario(
        "an agent where none is allowed",
        actor_unauthorized("agent_forbidden"),
        Token(agent="agent-1"),
        target="/people",
    ),
    Scenario(
        "a user with an agent",
        granted("delegated", user="user-1", agent="agent-1"),
        Token(agent="agent-1"),
        target="/agents",
    ),
)

_RAISED = (
    Scenario(
        "raised: 400",
        invalid_request("odd_request", reaches=True),
        target="/raises/request",
    ),
    Scenario(
        "raised: 401 without credentials",
        no_credentials("notes.read", reaches=True),
        target="/raises/credentials",
    ),
    Scenario(
        "raised: 401", invalid_token("disliked", reaches=True), target="/raises/token"
    ),
    Scenario(
        "raised: step-up",
        step_up(acr_values="phr", max_age=60, reaches=True),
        target="/raises/step-up",
    ),
    Scenario(
        "raised: scope",
        insufficient_scope("notes.read notes.write", reaches=True),
        target="/raises/scope",
    ),
    Scenario(
        "raised: actor",
        actor_unauthorized("not_their_note", reaches=True),
        target="/raises/actor",
    ),
    Scenario(
        "raised: 503",
        unavailable("mail_down", retry_after="7", reaches=True),
        target="/raises/unavailable",
    ),
)

_ROW_16 = (
    Scenario("raised: 429", too_many("slow_down", "30"), target="/raises/too-many"),
)

_ROW_17 = tuple(
    Scenario(
        f"the application's own {path.rpartition('/')[2]}", answered(path), target=path
    )
    for path in ANSWERED
)

SINGLE_FAULTS = (
    *_ROW_0,
    *_ROW_1,
    *_ROW_2,
    *_ROW_3,
    *_SPELLINGS,
    *_ROW_5,
    *_ROW_6,
    *_ROW_7,
    *_ROW_8,
    *_ROW_12,
    *_ROW_13,
    *_ROW_14,
    *_ROW_15,
    *_RAISED,
    *_ROW_16,
    *_ROW_17,
)
"""Each deserves one row."""

_VAULT_STEP_UP = step_up(scope="vault.open", acr_values="phrh", max_age=60)

TWO_FAULTS = (
    Scenario(
        "0 before 1: public path with two credentials",
        passed(authorization=True),
        authorization=_TWICE,
        target="/health?access_token=x",
    ),
    Scenario(
        "0 before 3: public path with a malformed credential",
        passed(authorization=True),
        authorization=("Bearer",),
        target="/health",
    ),
    Scenario(
        "0 before 5: public path with a bad token",
        passed(authorization=True),
        Token("stranger"),
        target="/health",
    ),
    Scenario(
        "1 before 3: in the query as well as malformed",
        invalid_request("two_methods"),
        authorization=("Bearer a b",),
        target="/?access_token=x",
    ),
    Scenario(
        "1 before 5: two bad tokens",
        _DUPLICATE,
        Token("stranger"),
        authorization=_TWICE,
    ),
    Scenario(
        "1 before 6: two tokens whose keys are out of reach",
        _DUPLICATE,
        Token("unreachable"),
        authorization=_TWICE,
    ),
    Scenario(
        "2 before 3: Basic, malformed",
        no_credentials(),
        authorization=("Basic a b",),
    ),
    Scenario(
        "2 before 3: Negotiate with a ticket over 16 KiB",
        no_credentials(),
        authorization=(f"Negotiate {_LONG}",),
    ),
    Scenario(
        "2 before 13 to 15: no credentials where everything is demanded",
        no_credentials("vault.open"),
        authorization=_NOTHING,
        target="/vault",
    ),
    Scenario(
        "3 before 5: malformed and no token",
        _MALFORMED,
        authorization=("Bearer opaque token",),
    ),
    Scenario(
        "3 before 6: malformed, and its keys are out of reach",
        _MALFORMED,
        Token("unreachable"),
        authorization=("Bearer {token} x",),
    ),
    Scenario(
        "5 before 6: wrong typ, and its keys are out of reach",
        invalid_token("wrong_token_type"),
        Token("unreachable", header={"typ": "JWT"}),
    ),
    Scenario(
        "5 before 7: expired and revoked",
        invalid_token("expired"),
        Token(subject="revoked-user", issued=-4000, expires=-61),
    ),
    Scenario(
        "5 before 8: expired and bound",
        invalid_token("expired"),
        Token(issued=-4000, expires=-61, claims=_BOUND),
    ),
    Scenario(
        "5 before 14: expired and without scope",
        invalid_token("expired"),
        Token(issued=-4000, expires=-61),
        target="/notes",
    ),
    Scenario(
        "6 before 7: keys out of reach, and revoked",
        _OUT_OF_REACH,
        Token("unreachable", subject="revoked-user"),
    ),
    Scenario(
        "6 before 14: keys out of reach, and without scope",
        _OUT_OF_REACH,
        Token("unreachable"),
        target="/notes",
    ),
    Scenario(
        "7 before 8: revoked and bound",
        invalid_token("revoked"),
        Token(subject="revoked-user", claims=_BOUND),
    ),
    Scenario(
        "7 before 13: revoked, and too weak",
        invalid_token("revoked"),
        Token(subject="revoked-user"),
        target="/vault",
    ),
    Scenario(
        "8 before 13: bound, and too weak",
        invalid_token("sender_constrained"),
        Token(claims=_BOUND),
        target="/vault",
    ),
    Scenario(
        "12 before 13: malformed chain, and too weak",
        invalid_token("malformed"),
        Token(claims=_BAD_CHAIN),
        target="/vault",
    ),
    Scenario(
        "13 before 14: too weak and without scope, told at once",
        _VAULT_STEP_UP,
        Token(agent="agent-1"),
        target="/vault",
    ),
    Scenario(
        "13 before 15: too weak, and through an agent",
        step_up(acr_values="phrh", max_age=60),
        Token(agent="agent-1", scopes=("vault.open",)),
        target="/vault",
    ),
    Scenario(
        "14 before 15: without scope, and through an agent",
        insufficient_scope("vault.open"),
        Token(agent="agent-1", claims={"acr": "phrh"}, signed_in=-5),
        target="/vault",
    ),
    Scenario(
        "15 before 16: an agent where the handler would say 429",
        actor_unauthorized("agent_forbidden"),
        Token(agent="agent-1"),
        target="/raises/too-many",
    ),
    Scenario(
        "15 before 17: no user where the application has nothing",
        actor_unauthorized("user_required"),
        target="/users",
    ),
)
"""Each deserves two rows, and gets the earlier."""

SCENARIOS = (*SINGLE_FAULTS, *TWO_FAULTS)
REFUSED = tuple(scenario for scenario in SCENARIOS if scenario.expected.is_ours)
