"""Log lines say what is needed to act: what was found, expected, and would help."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from agentauth_middleware import Issuer, ResourceServer, Route
from agentauth_middleware.testing import FakeIssuer
from tests.support.exchange import MIDDLEWARES, running_middleware

RESOURCE = "https://api.example.com"
SLASH = FakeIssuer("https://notes.eu.auth0.com/")
PLAIN = FakeIssuer("https://sso.example.com/realms/notes")
ROUTES = [
    Route("/notes", scopes=["notes.read"]),
    Route("/mine", user="required"),
    Route("/agents", agent="required"),
    Route("/admin", acr_values=["phr"], max_age=60),
    Route("/admin/health", public=True),
]


@dataclass(frozen=True)
class Case:
    line: str
    """What the record says behind the reason, or the beginning of that."""
    trust: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    claims: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    path: str = "/"
    issuer: FakeIssuer = PLAIN
    trusted: str | None = None
    """The issuer in the settings, where it is not that of the token."""
    server: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])


CASES = {
    "audience": Case(
        "wrong_audience (GET /, route /*): aud is ('account',); expected 'notes-api'",
        trust={"audience": "notes-api"},
        claims={"aud": "account"},
    ),
    "audience that was not set": Case(
        "wrong_audience (GET /, route /*): aud is ('notes-api',); expected "
        "'https://api.example.com', or Issuer(audience=...) if its tokens call this "
        "API by another name",
        claims={"aud": "notes-api"},
    ),
    "no audience": Case(
        "wrong_audience (GET /, route /*): aud is missing; expected 'notes-api'",
        trust={"audience": "notes-api"},
        claims={"aud": None},
    ),
    "issuer with a slash too many": Case(
        "unknown_issuer (GET /, route /*): iss is 'https://notes.eu.auth0.com/'; "
        "expected 'https://notes.eu.auth0.com', which differs by the slash at its end; "
        "write the Issuer as it stands in its metadata",
        issuer=SLASH,
        trusted="https://notes.eu.auth0.com",
    ),
    "issuer with a slash too few": Case(
        "unknown_issuer (GET /, route /*): iss is "
        "'https://sso.example.com/realms/notes'; expected "
        "'https://sso.example.com/realms/notes/', which differs by the slash",
        trusted="https://sso.example.com/realms/notes/",
    ),
    "another issuer": Case(
        "unknown_issuer (GET /, route /*): iss is "
        "'https://sso.example.com/realms/notes'; expected 'https://as.example.com'",
        trusted="https://as.example.com",
    ),
    "type": Case(
        "wrong_token_type (GET /, route /*): typ is 'jwt'; expected 'at+jwt'; "
        "Issuer(token_types=['at+jwt', 'JWT']) if its access tokens are so",
        claims={"header": {"typ": "JWT"}},
    ),
    "no type": Case(
        "wrong_token_type (GET /, route /*): typ is missing; expected 'at+jwt'; "
        "Issuer(token_types=['at+jwt', None]) if its access tokens are so",
        claims={"header": {"typ": ""}},
    ),
    "type of another kind": Case(
        "wrong_token_type (GET /, route /*): typ is 'logout+jwt', which is never an",
        claims={"header": {"typ": "logout+jwt"}},
    ),
    "algorithm": Case(
        "alg_not_allowed (GET /, route /*): alg is 'PS256'; expected 'RS256'; add it "
        "to Issuer.algorithms if this issuer signs so",
        issuer=FakeIssuer(PLAIN.issuer, algorithm="PS256"),
        trust={"algorithms": ["RS256"]},
    ),
    "client in another claim": Case(
        "malformed (GET /, route /*): names no client in 'client_id'; "
        "Issuer(client_id_claims=['azp']) if that is the client",
        claims={"client_id": None, "azp": "notes-app"},
    ),
    "no client": Case(
        "malformed (GET /, route /*): names no client in 'client_id'; "
        "Issuer(require_client_id=False) if its tokens never do",
        claims={"client_id": None},
    ),
    "another client": Case(
        "wrong_client (GET /, route /*): 'client-1'; expected 'notes-app' "
        "(Issuer.client_ids)",
        trust={"client_ids": ["notes-app"]},
    ),
    "unknown key": Case(
        "unknown_kid (GET /, route /*): kid is 'elsewhere', alg ES256; 0 fit; the "
        f"issuer publishes '{PLAIN.key_id}'",
        claims={"header": {"kid": "elsewhere"}},
    ),
    "no jti": Case(
        "malformed (GET /, route /*): jti is missing; Issuer(require_jti=False) if",
        claims={"jti": None},
    ),
    "too old": Case(
        "expired (GET /, route /*): issued ",
        trust={"max_token_age": 60},
        claims={"iat": 1_700_000_000},
    ),
    "expired": Case("expired (GET /, route /*): ", claims={"expires_in": -100}),
    "no person": Case(
        "user_required (GET /mine, route /mine): mode is unknown: the token marks no "
        'person; Issuer(subjects="users") if sub is always one',
        path="/mine",
    ),
    "no person, and the client in another claim": Case(
        "user_required (GET /mine, route /mine): mode is unknown: the token marks no "
        "person, and no client: Issuer(client_id_claims=['azp']) if that is the client",
        trust={"require_client_id": False, "subjects": "unknown"},
        claims={"client_id": None, "azp": "notes-app"},
        path="/mine",
    ),
    "service": Case(
        "user_required (GET /mine, route /mine): mode is service: the token marks no "
        "person",
        claims={"subject": "client-1"},
        path="/mine",
    ),
    "no agent": Case(
        "agent_required (GET /agents, route /agents): mode is user: the token names no "
        "agent (no act); Issuer.identity says how its tokens name one",
        trust={"subjects": "users"},
        path="/agents",
    ),
    "agent that is not listed": Case(
        "agent_not_allowed (GET /, route /*): the agent 'mailer' of "
        "https://sso.example.com/realms/notes; expected 'assistant' (Issuer.agents)",
        trust={"agents": ["assistant"]},
        claims={"agent": "mailer"},
    ),
    "scope": Case(
        "insufficient_scope (GET /notes, route /notes): needs notes.read; has "
        "mail.read mail.send",
        claims={"scopes": ["mail.send", "mail.read"]},
        path="/notes",
    ),
    "scopes in another claim": Case(
        "insufficient_scope (GET /notes, route /notes): needs notes.read; has none; "
        "Issuer(scope_claims=['scope', 'scp']) if 'scp' lists scopes",
        claims={"scp": ["notes.read"]},
        path="/notes",
    ),
    "scope that the agent may not use": Case(
        "scope_withheld (GET /notes, route /notes): the agent 'mailer' of "
        "https://sso.example.com/realms/notes may use mail.send at most; see "
        "Issuer.agent_scopes",
        trust={"agent_scopes": {"*": ["mail.send"]}},
        claims={"agent": "mailer", "scopes": ["notes.read"]},
        path="/notes",
    ),
    "sign-in": Case(
        "step_up_required (GET /admin, route /admin): acr is 'pwd'; expected 'phr'; "
        "auth_time is too old; expected 60 s ago at most",
        claims={"acr": "pwd", "auth_time": 1_700_000_000},
        path="/admin",
    ),
    "no route": Case(
        "unmatched_path (GET /nots, route /*): no Route allows this method on this "
        'path; add one, or ResourceServer(unmatched="authenticated")',
        path="/nots",
        server={"unmatched": "refuse"},
    ),
    "path of two routes": Case(
        "ambiguous_path (GET /admin/health/, route None): may be read as '/*' or "
        "'/admin/health'",
        path="/admin/health/",
    ),
}


@pytest.mark.parametrize("side", MIDDLEWARES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_refusal_is_explained(
    case: Case, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = Issuer(
        case.trusted or case.issuer.issuer, jwks=case.issuer.jwks, **case.trust
    )
    server = ResourceServer(RESOURCE, issuers=[trusted], routes=ROUTES, **case.server)
    claims: dict[str, Any] = {"aud": RESOURCE, **case.claims}
    token = case.issuer.token(RESOURCE, **claims)

    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        running_middleware(side, server, None).get(
            case.path, {"Authorization": f"Bearer {token}"}
        )

    (line,) = caplog.messages
    assert line.startswith(f"refused: {case.line}")
    assert "user-1" not in line


PRESENTED = {
    "opaque": (
        "Bearer 7Fjfp0ZBr1KtDRbnfVdmIw",
        "malformed (GET /, route /*): no JWT; Issuer(introspection=...) if its "
        "issuer's tokens are opaque",
    ),
    "encrypted": (
        "Bearer eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA",
        "encrypted_token (GET /, route /*): a JWE, which only its issuer can read; "
        "expected a signed JWT",
    ),
    "bare": (
        PLAIN.token(RESOURCE),
        "no_credentials (GET /, route /*): Authorization is of no scheme known here; "
        'expected "Bearer <token>"',
    ),
}


@pytest.mark.parametrize("side", MIDDLEWARES)
@pytest.mark.parametrize(("field", "line"), PRESENTED.values(), ids=PRESENTED)
def test_refusal_of_what_is_no_token_is_explained(
    field: str, line: str, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = ResourceServer(RESOURCE, issuers=[PLAIN.trust()])

    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        running_middleware(side, server, None).get("/", {"Authorization": field})

    assert caplog.messages == [f"refused: {line}"]


def test_long_lists_in_a_line_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    trusted = PLAIN.trust(audience=[f"api-{number}" for number in range(1000)])
    server = ResourceServer(RESOURCE, issuers=[trusted])
    token = PLAIN.token("x" * 5000)

    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        running_middleware("wsgi", server, None).get(
            "/", {"Authorization": f"Bearer {token}"}
        )

    (line,) = caplog.messages
    assert line.endswith(
        "expected 'api-0', 'api-1', 'api-2', 'api-3', 'api-4' or others"
    )
    assert len(line) < 400
