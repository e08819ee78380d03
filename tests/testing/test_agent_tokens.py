"""Tokens for an application under test: whom they name, and which are refused."""

from __future__ import annotations

import logging
from typing import Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import AgentTokens, FakeIssuer, trusting
from tests.testing.notes_api import ISSUER, RESOURCE, starlette_app


@pytest.fixture
def app() -> Starlette:
    return starlette_app()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({}, "delegated: user-1 by agent-1", id="both"),
        pytest.param({"user": "ana"}, "delegated: ana by agent-1", id="named user"),
        pytest.param({"agent": None}, "user: user-1 by None", id="no agent"),
        pytest.param({"user": None}, "agent: None by agent-1", id="no user"),
        pytest.param(
            {"user": None, "agent": None}, "service: None by None", id="neither"
        ),
    ],
)
def test_token_names_whom_the_options_name(
    app: Starlette, agent_token: AgentTokens, options: dict[str, Any], told: str
) -> None:
    answer = TestClient(app).get("/", headers=bearer(agent_token(**options)))

    assert answer.text == f"{told} of {ISSUER} for ''"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "expired"),
        ("revoked", "revoked"),
        ("wrong_audience", "wrong_audience"),
        ("wrong_issuer", "unknown_issuer"),
        ("forged", "bad_signature"),
    ],
)
@pytest.mark.parametrize("is_warm", [False, True], ids=["first", "warm"])
def test_bad_token_is_refused_for_what_it_is_named_after(
    app: Starlette,
    agent_token: AgentTokens,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    reason: str,
    is_warm: bool,
) -> None:
    client = TestClient(app)
    if is_warm:  # then the middleware has just read the log of revocations
        assert client.get("/", headers=bearer(agent_token())).status_code == 200
    token = getattr(agent_token, kind)(user="ana", scopes=["notes.read"])
    with caplog.at_level(logging.INFO, "agentauth_middleware.audit"):
        answer = client.get("/", headers=bearer(token))
    [record] = caplog.records

    assert answer.status_code == 401
    assert record.__dict__["agentauth"]["reason"] == reason


def test_bad_token_says_the_same_as_a_good_one(agent_token: AgentTokens) -> None:
    def members(token: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        return {name: claims[name] for name in ("sub", "act", "scope", "acr")}

    options: Any = {"user": "ana", "scopes": ["notes.read"], "claims": {"acr": "high"}}
    good = members(agent_token(**options))

    assert good == {
        "sub": "ana",
        "act": {"sub": "agent-1"},
        "scope": "notes.read",
        "acr": "high",
    }
    assert members(agent_token.expired(**options)) == good
    assert members(agent_token.revoked(**options)) == good
    assert members(agent_token.wrong_audience(**options)) == good
    assert members(agent_token.wrong_issuer(**options)) == good
    assert members(agent_token.forged(**options)) == good


def test_unknown_option_is_an_error(agent_token: AgentTokens) -> None:
    misspelt: Any = {"scope": ["notes.read"]}

    with pytest.raises(TypeError, match=r"act_as .* no option 'scope'; .* scopes,"):
        agent_token(**misspelt)


def test_scopes_in_one_string_are_an_error(agent_token: AgentTokens) -> None:
    with pytest.raises(ConfigurationError, match="is one string"):
        agent_token(scopes="notes.read")


AGENTS = "https://agents.example.org"


def told_by(issuer: Issuer, **options: Any) -> str:
    """What an application with these settings is told of a token's callers."""
    app = starlette_app(ResourceServer(RESOURCE, issuers=[issuer]))
    with trusting(app) as agent_token:
        answer = TestClient(app).get("/", headers=bearer(agent_token(**options)))
    return answer.text.partition(" of ")[0] if answer.is_success else "refused"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({}, "delegated: user-1 by mailer", id="usual"),
        pytest.param(
            {"agent": (AGENTS, "mailer")}, "delegated: user-1 by mailer", id="listed"
        ),
        pytest.param({"agent": "mailer"}, "refused", id="another of that name"),
        pytest.param({"agent": (AGENTS, "other")}, "refused", id="not listed"),
    ],
)
@pytest.mark.parametrize("identity", ["rfc8693", "actor_profile", "authmd"])
def test_agent_of_another_namespace_is_named_by_a_pair(
    identity: Any, options: dict[str, Any], told: str
) -> None:
    issuer = Issuer(
        ISSUER,
        identity=identity,
        agents=[(AGENTS, "mailer")],
        actor_issuers=[AGENTS],
    )

    assert told_by(issuer, **options) == told


def test_usual_agent_on_its_own_is_the_issuers() -> None:
    issuer = Issuer(
        ISSUER, agents=[(AGENTS, "mailer"), "assistant"], actor_issuers=[AGENTS]
    )

    assert told_by(issuer, user=None) == "agent: None by assistant"
    with pytest.raises(ValueError, match="cannot act on its own in a token of"):
        told_by(issuer, user=None, agent=(AGENTS, "mailer"))


@pytest.mark.parametrize(
    ("identity", "alone"),
    [
        ("rfc8693", "agent"),
        ("actor_profile", "agent"),
        ("authmd", "agent_unclaimed"),
        ("entra", "agent"),
        ("workos_blueprint", "agent"),
        ("client_only", "agent"),
    ],
)
def test_callers_are_those_of_the_options_in_every_dialect(
    identity: Any, alone: str
) -> None:
    issuer = Issuer(ISSUER, identity=identity)

    assert told_by(issuer) == "delegated: user-1 by agent-1"
    assert told_by(issuer, agent=None) == "user: user-1 by None"
    assert told_by(issuer, user=None) == f"{alone}: None by agent-1"


def test_claims_replace_others(app: Starlette, agent_token: AgentTokens) -> None:
    client = TestClient(app)
    claims = {"iat": 1, "auth_time": 1, "jti": "token-1"}
    stale = client.get("/recent", headers=bearer(agent_token(claims=claims)))
    without = client.get("/", headers=bearer(agent_token(claims={"act": None})))

    assert "insufficient_user_authentication" in stale.headers["WWW-Authenticate"]
    assert without.text.startswith("user: user-1 by None")


def test_audience_and_issuer_are_those_of_the_settings() -> None:
    issuers = [Issuer(ISSUER), Issuer("https://other.example.com", audience="notes")]
    app = starlette_app(ResourceServer(RESOURCE, issuers=issuers))
    with trusting(app) as agent_token:
        token = agent_token(issuer="https://other.example.com")
        answer = TestClient(app).get("/", headers=bearer(token))
        with pytest.raises(LookupError, match="trusts no issuer 'https://third"):
            agent_token(issuer="https://third.example.com")

    assert " of https://other.example.com " in answer.text


def test_resource_is_named_where_there_are_several() -> None:
    store = MemoryStore()

    def mounted(name: str) -> Mount:
        server = ResourceServer(f"{RESOURCE}/{name}", issuers=[Issuer(ISSUER)])
        middleware = AgentAuthMiddleware(starlette_app(server), server, store=store)
        return Mount(f"/{name}", middleware)

    app = Starlette(routes=[mounted("notes"), mounted("mail")])
    client = TestClient(app)
    with trusting(app) as agent_token:
        token = agent_token(resource=f"{RESOURCE}/mail")
        revoked = agent_token.revoked(resource=f"{RESOURCE}/mail")
        with pytest.raises(LookupError, match="several resources"):
            agent_token()
        with pytest.raises(LookupError, match="no middleware protects"):
            agent_token(resource=RESOURCE)

        assert client.get("/mail/", headers=bearer(token)).status_code == 200
        assert client.get("/notes/", headers=bearer(token)).status_code == 401
        assert client.get("/mail/", headers=bearer(revoked)).status_code == 401


def test_issuer_of_a_factory_may_be_the_fake_one(
    agentauth_issuer: FakeIssuer,
) -> None:
    settings = ResourceServer(RESOURCE, issuers=[agentauth_issuer.trust()])
    client = TestClient(starlette_app(settings))
    token = agentauth_issuer.token(RESOURCE, agent="assistant")

    assert client.get("/", headers=bearer(token)).status_code == 200
