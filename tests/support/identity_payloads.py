"""What the issuers of each dialect write, as their documentation shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agentauth_middleware.access import IdentityDialect
from tests.support.identities import AGENTS
from tests.support.tokens import ISSUER


class Payload(NamedTuple):
    """The claims that matter, and who is behind them in truth."""

    dialect: IdentityDialect
    claims: Mapping[str, Any]
    client_id: str | None
    users: frozenset[str]
    """Names of people: never anybody's agent."""
    agents: frozenset[str]
    """Names of programs: never a user, in no dialect."""


def _payload(
    dialect: IdentityDialect,
    claims: Mapping[str, Any],
    *,
    client_id: str | None = "client-1",
    users: tuple[str, ...] = (),
    agents: tuple[str, ...] = (),
) -> Payload:
    return Payload(dialect, claims, client_id, frozenset(users), frozenset(agents))


PAYLOADS: Mapping[str, Payload] = {
    "rfc8693": _payload(
        "rfc8693",
        {"sub": "ana", "act": {"sub": "agent-A"}},
        users=("ana",),
        agents=("agent-A",),
    ),
    "actor_profile": _payload(
        "actor_profile",
        {
            "sub": "ana",
            "sub_profile": "user",
            "act": {
                "iss": ISSUER,
                "sub": "tool-T",
                "sub_profile": "service",
                "act": {"iss": AGENTS, "sub": "agent-A", "sub_profile": "ai_agent"},
            },
        },
        users=("ana",),
        agents=("tool-T", "agent-A"),
    ),
    "auth0 delegated": _payload(
        "auth0",
        {
            "sub": "auth0|u9",
            "sub_profile": "user",
            "client_profile": "service ai_agent",
            "act": {
                "sub": "agt_4",
                "sub_profile": "ai_agent",
                "client_id": "m2m-1",
                "act": {
                    "sub": "spa-1",
                    "sub_profile": "browser_app",
                    "client_id": "spa-1",
                },
            },
        },
        client_id="m2m-1",
        users=("auth0|u9",),
        agents=("agt_4", "spa-1"),
    ),
    "auth0 alone": _payload(
        "auth0",
        {
            "sub": "agt_4",
            "sub_profile": "ai_agent",
            "client_profile": "service ai_agent",
        },
        client_id="m2m-1",
        agents=("agt_4",),
    ),
    "entra delegated": _payload(
        "entra",
        {
            "sub": "pairwise",
            "tid": "T",
            "idtyp": "user",
            "oid": "user-oid",
            "azp": "agent-app",
            "scp": "Orders.Read",
            "xms_act_fct": "3 11",
            "xms_sub_fct": "2",
            "xms_par_app_azp": "bp-1",
        },
        client_id="agent-app",
        users=("user-oid", "pairwise"),
        agents=("agent-app", "bp-1"),
    ),
    "entra alone": _payload(
        "entra",
        {
            "sub": "agent-oid",
            "tid": "T",
            "idtyp": "app",
            "oid": "agent-oid",
            "azp": "agent-app",
            "roles": ["Orders.Read.All"],
            "xms_act_fct": "9 11 3",
            "xms_sub_fct": "11 3 9",
            "xms_par_app_azp": "bp-1",
        },
        client_id="agent-app",
        agents=("agent-oid", "agent-app", "bp-1"),
    ),
    "entra account": _payload(
        "entra",
        {
            "sub": "pairwise",
            "tid": "T",
            "idtyp": "user",
            "oid": "agent-user-oid",
            "azp": "agent-app",
            "scp": "Orders.Read",
            "xms_act_fct": "11",
            "xms_sub_fct": "13",
        },
        client_id="agent-app",
        agents=("agent-user-oid", "pairwise", "agent-app"),
    ),
    "okta": _payload(
        "okta",
        {
            "sub": "00u5",
            "sub_profile": "user",
            "act": {"sub": "wlp2", "sub_profile": "ai_agent"},
            "delegated_through": [{"sub": "wlp1", "sub_profile": "ai_agent"}],
            "origin": {"sub": "0oa9", "sub_profile": "service"},
        },
        users=("00u5",),
        agents=("wlp2", "wlp1", "0oa9"),
    ),
    "workos delegated": _payload(
        "workos_blueprint",
        {
            "sub": "agent_instance_1",
            "sub_profile": "ai_agent",
            "sid": "agent_session_1",
            "org_id": "org_1",
            "permissions": ["crm:read"],
            "intent": {"text": "weekly report"},
            "auth_time": 1790000000,
            "act": {"sub": "user_1", "sub_profile": "user"},
        },
        users=("user_1",),
        agents=("agent_instance_1",),
    ),
    "workos alone": _payload(
        "workos_blueprint",
        {"sub": "agent_instance_1", "sub_profile": "ai_agent"},
        agents=("agent_instance_1",),
    ),
    "authmd unclaimed": _payload(
        "authmd",
        {
            "sub": "reg-1",
            "sub_profile": "ai_agent",
            "registration_type": "anonymous",
        },
        agents=("reg-1",),
    ),
    "authmd claimed": _payload(
        "authmd",
        {
            "sub": "ana",
            "sub_profile": "user",
            "act": {"iss": ISSUER, "sub": "reg-1", "sub_profile": "ai_agent"},
            "agent_platform": "platform",
            "agent_context_id": "conversation",
        },
        users=("ana",),
        agents=("reg-1",),
    ),
    "authmd through an agent": _payload(
        "authmd",
        {
            "sub": "ana",
            "sub_profile": "user",
            "act": {
                "iss": ISSUER,
                "sub": "reg-1",
                "sub_profile": "ai_agent",
                "act": {"iss": AGENTS, "sub": "agent-A", "sub_profile": "ai_agent"},
            },
        },
        users=("ana",),
        agents=("reg-1", "agent-A"),
    ),
    "keycloak person": _payload(
        "keycloak",
        {"sub": "uuid-1", "azp": "client-1", "preferred_username": "ana"},
        users=("uuid-1",),
        agents=("client-1",),
    ),
    "keycloak service": _payload(
        "keycloak",
        {
            "sub": "uuid-2",
            "azp": "client-1",
            "preferred_username": "service-account-client-1",
        },
        agents=("uuid-2", "client-1"),
    ),
    "client_only person": _payload("client_only", {"sub": "ana"}, users=("ana",)),
    "client_only client": _payload(
        "client_only", {"sub": "client-1"}, agents=("client-1",)
    ),
}
