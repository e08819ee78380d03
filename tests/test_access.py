"""What a handler gets: it cannot be changed, and its guards refuse."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentauth_middleware.access import Access, Identity, Principal, current_access
from agentauth_middleware.errors import ActorRefusedError, InsufficientScopeError
from tests.support.tokens import ISSUER

USER, AGENT = Principal(ISSUER, "user-1"), Principal(ISSUER, "agent-1")
PAYLOAD = (
    b'{"amr":["pwd",1,"hwk"],"authorization_details":[{"type":"mail",'
    b'"actions":["read"]},"x"],"agent_platform":"p","agent_context_id":"c","x":{"y":[]}}'
)


def access(**members: Any) -> Access:
    return Access(ISSUER, **members)


# Immutable to all depths


@pytest.mark.parametrize("member", [f.name for f in dataclasses.fields(Access)])
def test_access_cannot_be_changed(member: str) -> None:
    granted: Any = access(user=USER, payload=PAYLOAD)

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(granted, member, None)


@pytest.mark.parametrize("member", [f.name for f in dataclasses.fields(Principal)])
def test_principal_cannot_be_changed(member: str) -> None:
    user: Any = Principal(ISSUER, "user-1")

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(user, member, None)


def test_nothing_can_be_added() -> None:
    granted: Any = access()
    user: Any = USER

    with pytest.raises((AttributeError, TypeError)):
        granted.is_admin = True
    with pytest.raises((AttributeError, TypeError)):
        user.is_admin = True


def test_claims_cannot_be_changed_at_any_depth() -> None:
    granted: Any = access(payload=PAYLOAD)

    with pytest.raises(TypeError):
        granted.claims["sub"] = "root"
    with pytest.raises(AttributeError):
        granted.claims["x"]["y"].append(1)
    with pytest.raises(TypeError):
        granted.claims["x"]["y"] = 1
    with pytest.raises(TypeError):
        granted.authorization_details[0]["type"] = "all"
    with pytest.raises(TypeError):
        granted.authorization_details[0]["actions"][0] = "write"


def test_collections_are_of_immutable_kinds() -> None:
    granted: Any = access(scopes=frozenset({"a"}), payload=PAYLOAD)

    with pytest.raises(AttributeError):
        granted.scopes.add("b")
    assert isinstance(granted.chain, tuple)
    assert isinstance(granted.audience, tuple)
    assert isinstance(granted.amr, tuple)


# What it reads from the claims


def test_claims_are_read_when_asked_for() -> None:
    granted = access(payload=PAYLOAD)

    assert granted.amr == ("pwd", "hwk")
    assert granted.authorization_details == ({"type": "mail", "actions": ("read",)},)
    assert granted.agent_platform == "p"
    assert granted.agent_context_id == "c"


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"amr":"pwd","authorization_details":{},"agent_platform":1,'
        b'"agent_context_id":[]}',
    ],
    ids=["absent", "of the wrong type"],
)
def test_claims_that_do_not_count_may_be_anything(payload: bytes) -> None:
    granted = access(payload=payload)

    assert granted.amr == ()
    assert granted.authorization_details == ()
    assert granted.agent_platform is None
    assert granted.agent_context_id is None


def test_access_without_a_payload_has_no_claims() -> None:
    assert access().claims == {}


def test_payload_is_not_shown() -> None:
    """It would end up in logs."""
    assert "hwk" not in repr(access(payload=PAYLOAD))


# Guards


def test_scopes_are_required_all_together() -> None:
    granted = access(scopes=frozenset({"mail.read", "mail.send"}))

    assert granted.has_scopes()
    assert granted.has_scopes("mail.read")
    assert granted.has_scopes("mail.send", "mail.read")
    assert not granted.has_scopes("mail.read", "mail.delete")
    assert not granted.has_scopes("mail")
    granted.require_scopes("mail.read", "mail.send")


def test_missing_scope_is_refused_with_all_that_are_needed() -> None:
    granted = access(scopes=frozenset({"mail.read"}))

    with pytest.raises(InsufficientScopeError) as refused:
        granted.require_scopes("mail.read", "mail.send")

    assert refused.value.scopes == ("mail.read", "mail.send")
    assert (refused.value.status, refused.value.error) == (403, "insufficient_scope")


EITHER = ("notes.write", "notes.read")


@pytest.mark.parametrize("scope", EITHER)
def test_one_of_several_scopes_is_enough(scope: str) -> None:
    access(scopes=frozenset({scope})).require_any_scope(*EITHER)


@pytest.mark.parametrize(
    ("ceiling", "named"),
    [
        pytest.param(None, "notes.write", id="the preferred one"),
        pytest.param({"notes.read"}, "notes.read", id="the one its agent may use"),
    ],
)
def test_none_of_several_scopes_is_refused_with_one_of_them(
    ceiling: set[str] | None, named: str
) -> None:
    limit = None if ceiling is None else frozenset(ceiling)
    granted = access(scopes=frozenset({"mail.read"}), scope_ceiling=limit)

    with pytest.raises(InsufficientScopeError) as refused:
        granted.require_any_scope(*EITHER)

    assert refused.value.scopes == (named,)


@pytest.mark.parametrize("guard", ["require_scopes", "require_any_scope"])
def test_scopes_that_the_agent_may_not_use_are_never_asked_for(guard: str) -> None:
    granted = access(scope_ceiling=frozenset({"mail.read"}))

    with pytest.raises(ActorRefusedError) as refused:
        getattr(granted, guard)(*EITHER)

    assert refused.value.reason == "scope_withheld"


@pytest.mark.parametrize(
    ("guard", "members", "reason"),
    [
        ("require_user", {}, "user_required"),
        ("require_user", {"agent": AGENT, "mode": "agent"}, "user_required"),
        ("require_agent", {}, "agent_required"),
        ("require_agent", {"user": USER, "mode": "user"}, "agent_required"),
        ("require_delegation", {}, "user_required"),
        ("require_delegation", {"user": USER}, "agent_required"),
        ("require_delegation", {"agent": AGENT}, "user_required"),
        ("forbid_agents", {"user": USER, "agent": AGENT}, "agent_forbidden"),
        ("forbid_agents", {"agent": AGENT, "mode": "agent"}, "agent_forbidden"),
        # An agent was there, and who acts now is not said.
        ("forbid_agents", {"user": USER, "chain": (AGENT,)}, "agent_forbidden"),
        ("forbid_agents", {"mode": "agent"}, "agent_forbidden"),
        ("forbid_agents", {"mode": "agent_unclaimed"}, "agent_forbidden"),
        ("forbid_agents", {"mode": "agent_user_account"}, "agent_forbidden"),
        ("require_user", {"mode": "agent_unclaimed"}, "user_required"),
        (
            "require_user",
            {"agent": AGENT, "mode": "agent_user_account"},
            "user_required",
        ),
    ],
)
def test_guard_refuses(guard: str, members: dict[str, Any], reason: str) -> None:
    with pytest.raises(ActorRefusedError) as refused:
        getattr(access(subject="s", **members), guard)()

    assert refused.value.reason == reason
    assert (refused.value.status, refused.value.error) == (403, "actor_unauthorized")


def test_guards_let_pass_and_tell_who() -> None:
    delegated = access(user=USER, agent=AGENT, mode="delegated")

    assert delegated.require_user() is USER
    assert delegated.require_agent() is AGENT
    assert delegated.require_delegation() == (USER, AGENT)
    access(user=USER, mode="user").forbid_agents()
    access().forbid_agents()


def test_earlier_actor_is_no_agent() -> None:
    with pytest.raises(ActorRefusedError):
        access(user=USER, chain=(AGENT,)).require_agent()


def test_subject_alone_is_no_user() -> None:
    with pytest.raises(ActorRefusedError):
        access(subject="user-1").require_user()


# Principals as keys


def test_principal_is_a_key_qualified_by_its_issuer() -> None:
    mine = {Principal(ISSUER, "1"): "mine"}

    assert mine[Principal(ISSUER, "1")] == "mine"
    assert Principal("https://idp.example.net", "1") not in mine


def test_what_a_principal_shows_is_no_part_of_the_key() -> None:
    """Whoever lists agents by their names must meet the one whose token says more."""
    named = Principal(ISSUER, "1", "ai_agent", "a@example.com", True, "A")

    assert named == Principal(ISSUER, "1")
    assert named in {Principal(ISSUER, "1")}


def test_principal_becomes_a_dictionary() -> None:
    """As frameworks make JSON of what a handler returns."""
    alice = Principal(ISSUER, "1", "user", "alice@example.com", True, "Alice")

    assert dataclasses.asdict(alice) == {
        "issuer": ISSUER,
        "subject": "1",
        "profile": "user",
        "email": "alice@example.com",
        "email_verified": True,
        "name": "Alice",
        "tenant": None,
        "extra": {},
    }
    assert dataclasses.asdict(access(user=alice))["user"]["subject"] == "1"


def test_tenant_is_part_of_the_key() -> None:
    """In two directories the same number is two people."""
    mine = Principal(ISSUER, "1", tenant="t-1")

    assert mine == Principal(ISSUER, "1", "user", tenant="t-1")
    assert hash(mine) == hash(Principal(ISSUER, "1", "user", tenant="t-1"))
    assert mine != Principal(ISSUER, "1", tenant="t-2")
    assert mine != Principal(ISSUER, "1")


# What an issuer tells beyond that


EXTRA = Principal(ISSUER, "1", extra={"blueprint": "bp-1"})


CHANGES: Mapping[str, Callable[[Any], object]] = {
    "update": lambda extra: extra.update(blueprint="bp-2"),
    "set": lambda extra: extra.__setitem__("blueprint", "bp-2"),
    "delete": lambda extra: extra.__delitem__("blueprint"),
    "or": lambda extra: extra.__ior__({"blueprint": "bp-2"}),
    "clear": lambda extra: extra.clear(),
    "pop": lambda extra: extra.pop("blueprint"),
    "popitem": lambda extra: extra.popitem(),
    "setdefault": lambda extra: extra.setdefault("session", "s-1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_extra_cannot_be_changed(change: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="cannot be changed"):
        change(EXTRA.extra)

    assert EXTRA.extra == {"blueprint": "bp-1"}


def test_extra_does_not_follow_what_it_was_made_of() -> None:
    told = {"session": "s-1"}
    agent = Principal(ISSUER, "1", extra=told)
    told["session"] = "s-2"

    assert agent.extra == {"session": "s-1"}


def test_extra_is_no_part_of_the_key() -> None:
    assert Principal(ISSUER, "1") == EXTRA
    assert EXTRA in {Principal(ISSUER, "1")}


COPIES: Mapping[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda principal: pickle.loads(pickle.dumps(principal)),  # noqa: S301
}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_principal_can_be_copied_and_sent(again: Callable[[Any], Any]) -> None:
    """To a queue of background jobs, say."""
    sent = again(EXTRA)

    assert (sent, sent.extra) == (EXTRA, EXTRA.extra)
    with pytest.raises(TypeError):
        sent.extra["blueprint"] = "bp-2"


def test_extra_becomes_json() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(EXTRA)))["extra"] == {
        "blueprint": "bp-1"
    }


@pytest.mark.parametrize("member", [f.name for f in dataclasses.fields(Identity)])
def test_identity_cannot_be_changed(member: str) -> None:
    found: Any = Identity("user", USER)

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(found, member, None)


def test_access_can_be_compared_and_copied() -> None:
    granted = access(user=USER, payload=PAYLOAD)

    assert copy.copy(granted) == granted
    assert granted == access(user=USER, payload=PAYLOAD)
    assert granted != access(user=AGENT, payload=PAYLOAD)


def test_there_is_no_current_access_outside_a_request() -> None:
    assert current_access() is None
