"""Every dialect's tokens, read in every dialect: understood, less understood, refused.

Never read the other way around. Which dialect an issuer writes is a setting, and
settings may be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agentauth_middleware.access import IdentityDialect, Principal
from agentauth_middleware.errors import InvalidTokenError
from tests.support.identities import DIALECTS, identity, verdict
from tests.support.identity_payloads import PAYLOADS

UNLIKE_RFC8693 = "entra workos_blueprint client_only"
VERDICTS: Mapping[str, Mapping[str, str]] = {
    "rfc8693": {
        "rfc8693 okta keycloak": "delegated: ana by agent-A",
        "actor_profile authmd": "401 malformed",
        "auth0": "unknown: by agent-A",
        "*": "401 contradictory_profiles",
    },
    "actor_profile": {
        UNLIKE_RFC8693: "401 contradictory_profiles",
        "*": "delegated: ana by tool-T after agent-A",
    },
    "auth0 delegated": {
        "actor_profile authmd": "401 malformed",
        UNLIKE_RFC8693: "401 contradictory_profiles",
        "*": "delegated: auth0|u9 by agt_4 after spa-1",
    },
    "auth0 alone": {
        "entra": "unknown:",
        "authmd": "agent_unclaimed: by agt_4",
        "client_only": "401 contradictory_profiles",
        "*": "agent: by agt_4",
    },
    "entra delegated": {
        "entra": "delegated: user-oid by agent-app",
        "*": "unknown:",
    },
    "entra alone": {
        "entra": "agent: by agent-app",
        "*": "unknown:",
    },
    "entra account": {
        "entra": "agent_user_account: by agent-app",
        "*": "unknown:",
    },
    "okta": {
        "okta": "delegated: 00u5 by wlp2 after wlp1",
        "rfc8693 auth0 keycloak": "delegated: 00u5 by wlp2",
        "actor_profile authmd": "401 malformed",
        "*": "401 contradictory_profiles",
    },
    "workos delegated": {
        "workos_blueprint": "delegated: user_1 by agent_instance_1",
        "*": "401 contradictory_profiles",
    },
    "workos alone": {
        "entra": "unknown:",
        "authmd": "agent_unclaimed: by agent_instance_1",
        "client_only": "401 contradictory_profiles",
        "*": "agent: by agent_instance_1",
    },
    "authmd unclaimed": {
        "authmd": "agent_unclaimed: by reg-1",
        "entra": "unknown:",
        "client_only": "401 contradictory_profiles",
        "*": "agent: by reg-1",
    },
    "authmd claimed": {
        UNLIKE_RFC8693: "401 contradictory_profiles",
        "*": "delegated: ana by reg-1",
    },
    "authmd through an agent": {
        UNLIKE_RFC8693: "401 contradictory_profiles",
        "*": "delegated: ana by reg-1 after agent-A",
    },
    "keycloak person": {
        "keycloak": "user: uuid-1",
        "*": "unknown:",
    },
    "keycloak service": {
        "keycloak": "service:",
        "*": "unknown:",
    },
    "client_only person": {
        "*": "unknown:",
    },
    "client_only client": {
        "entra": "unknown:",
        "*": "service:",
    },
}
"""For each payload: dialects, and what they make of it; ``*`` are all the others."""


def verdict_of(name: str, dialect: IdentityDialect) -> str:
    """What the table says."""
    lines = VERDICTS[name].items()
    return next(
        (found for dialects, found in lines if dialect in dialects.split()),
        VERDICTS[name]["*"],
    )


def test_every_payload_has_verdicts() -> None:
    assert VERDICTS.keys() == PAYLOADS.keys()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_has_its_verdict(name: str, dialect: IdentityDialect) -> None:
    payload = PAYLOADS[name]
    found = verdict(payload.claims, dialect, client_id=payload.client_id)

    assert found == verdict_of(name, dialect)


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_is_understood_in_its_own_dialect(name: str) -> None:
    """And says then who its people and programs are, as far as it knows any."""
    payload = PAYLOADS[name]
    found = identity(
        payload.claims, payload.dialect, client_id=payload.client_id, users=True
    )
    agents = {actor.subject for actor in (found.agent, *found.chain) if actor}

    assert found.user is None or found.user.subject in payload.users
    assert (found.user is not None) == bool(payload.users)
    assert agents <= payload.agents


def names(*principals: Principal | None) -> set[str]:
    return {principal.subject for principal in principals if principal is not None}


@pytest.mark.parametrize("users", [False, True], ids=["", "subjects are users"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_user_and_agent_are_never_swapped(
    name: str, dialect: IdentityDialect, users: bool
) -> None:
    payload = PAYLOADS[name]
    is_marked = "act" in payload.claims or "sub_profile" in payload.claims
    if users and not payload.users and not is_marked:
        return  # The operator says so of programs, and nothing marks them.
    try:
        found = identity(
            payload.claims, dialect, client_id=payload.client_id, users=users
        )
    except (InvalidTokenError, ValueError):
        return

    assert names(found.user).isdisjoint(payload.agents)
    assert names(found.agent, *found.chain).isdisjoint(payload.users)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_mode_says_who_is_there(name: str, dialect: IdentityDialect) -> None:
    """The two ways to ask cannot give different answers."""
    payload = PAYLOADS[name]
    if verdict_of(name, dialect).startswith("401"):
        return
    found = identity(payload.claims, dialect, client_id=payload.client_id)

    assert (found.user is not None) == (found.mode in ("user", "delegated"))
    if found.mode in ("delegated", "agent", "agent_unclaimed"):
        assert found.agent is not None
    if found.mode == "user":
        assert found.agent is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_agents_own_words_and_mail_addresses_name_nobody(
    name: str, dialect: IdentityDialect
) -> None:
    """Whatever else stands in a token, nobody is looked up by it."""
    payload = PAYLOADS[name]
    noise = {
        "agent_id": "root",
        "actor": {"sub": "root"},
        "user_id": "root",
        "x-agent": "root",
        "may_act": {"sub": "root"},
        "username": "root",
        "upn": "root",
        "email": "root@example.com",
        "agent_platform": "root",
        "agent_context_id": "root",
    }
    found = verdict({**payload.claims, **noise}, dialect, client_id=payload.client_id)

    assert found == verdict_of(name, dialect)


MALFORMED_ACTS: tuple[object, ...] = (None, [], "agent-1", ["agent-1"], {}, 1, True)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("act", MALFORMED_ACTS, ids=repr)
@pytest.mark.parametrize("profile", ["ai_agent", "user", "service", None])
def test_malformed_act_is_passed_over_in_no_dialect(
    dialect: IdentityDialect, act: object, profile: str | None
) -> None:
    """The token would be taken for the subject's own."""
    claims = {"sub": "s", "idtyp": "user", "tid": "t", "oid": "o", "act": act}
    if profile is not None:
        claims["sub_profile"] = profile

    assert verdict(claims, dialect, users=True).startswith("401")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_token_that_says_nothing_proves_nobody(dialect: IdentityDialect) -> None:
    """As an answer about an opaque token may come without subject and client."""
    assert verdict({}, dialect, client_id=None, users=True) == "unknown:"
    assert verdict({"sub": "s"}, dialect, client_id=None, users=True) == "unknown:"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("subject", [None, 1, "", ["s"], {}], ids=repr)
def test_malformed_subject_is_refused(
    dialect: IdentityDialect, subject: object
) -> None:
    assert verdict({"sub": subject}, dialect) == "401 malformed"
