"""A function of the operator's own, and the setting that chooses a dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentauth_middleware import (
    Access,
    ConfigurationError,
    Identity,
    Issuer,
    Principal,
)
from agentauth_middleware._core.tokens.jose import parse_key_set, verify_signature
from agentauth_middleware._core.tokens.jwt_access_token import check_claims, read_token
from agentauth_middleware._core.tokens.token_claims import Terms
from agentauth_middleware.errors import InvalidTokenError
from tests.support.identities import AGENTS, DIALECTS, identity, written
from tests.support.tokens import ISSUER, NOW, RESOURCE, claims, jwks, key, sign

ANA, BOT = Principal(ISSUER, "ana"), Principal(ISSUER, "bot")
TOKEN: Mapping[str, Any] = {"sub": "s", "for": {"names": ["ana"]}}


def of_two(claims: Mapping[str, Any]) -> Identity:
    (name,) = claims["for"]["names"]
    return Identity("delegated", Principal(ISSUER, name), BOT)


def test_function_says_who_it_is() -> None:
    assert written(identity(TOKEN, of_two)) == "delegated: ana by bot"


def test_function_cannot_change_what_is_read_after_it() -> None:
    def change(claims: Any) -> Identity:
        with pytest.raises(TypeError):
            claims["scope"] = "admin"
        with pytest.raises(TypeError):
            claims["for"]["names"] = []
        with pytest.raises(AttributeError):
            claims["for"]["names"].append("root")
        return Identity("unknown")

    assert identity(TOKEN, change) == Identity("unknown")


JUNK: Mapping[str, tuple[object, str]] = {
    "nothing": (None, "NoneType, which is no Identity"),
    "a name": ("ana", "str, which is no Identity"),
    "a tuple": (("user", ANA, None, ()), "tuple, which is no Identity"),
    "no mode": (Identity("human"), "'human', which is none"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "user a name": (Identity("user", "ana"), "no Principal"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "agent a name": (Identity("agent", agent="bot"), "no Principal"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "chain a list": (Identity("agent", None, BOT, [BOT]), "no tuple"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "chain of names": (Identity("agent", None, BOT, ("b",)), "no tuple"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "chain nothing": (Identity("agent", None, BOT, None), "no tuple"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "user without one": (Identity("user"), "'user' without a user"),
    "delegated without a user": (Identity("delegated", agent=BOT), "without a user"),
    "delegated without an agent": (Identity("delegated", ANA), "without an agent"),
    "user with an agent": (Identity("user", ANA, BOT), "'user' with an agent"),
    "agent without one": (Identity("agent"), "'agent' without an agent"),
    "agent with a user": (Identity("agent", ANA, BOT), "'agent' with a user"),
    "service with a user": (Identity("service", ANA), "'service' with a user"),
    "unknown with a user": (Identity("unknown", ANA), "'unknown' with a user"),
    "account with a user": (
        Identity("agent_user_account", ANA, BOT),
        "'agent_user_account' with a user",
    ),
}


@pytest.mark.parametrize(("returned", "fault"), JUNK.values(), ids=JUNK)
def test_function_that_returns_junk_is_a_bug_and_no_verdict(
    returned: object, fault: str
) -> None:
    """Answered with a 401, agents would throw away good tokens."""

    def junk(_: Mapping[str, Any]) -> Any:
        return returned

    with pytest.raises(TypeError, match=f"Issuer.identity: .*junk.*{fault}"):
        identity(TOKEN, junk)


@pytest.mark.parametrize(
    "found",
    [
        Identity("user", ANA),
        Identity("delegated", ANA, BOT, (ANA, BOT)),
        Identity("agent", agent=BOT),
        Identity("agent_unclaimed", agent=BOT),
        Identity("agent_user_account", agent=BOT),
        Identity("agent_user_account"),
        Identity("service"),
        Identity("service", agent=BOT),
        Identity("unknown", agent=BOT),
    ],
    ids=written,
)
def test_function_may_return_what_a_dialect_may(found: Identity) -> None:
    assert identity(TOKEN, lambda _: found) is found


# In a check of a whole token


def check(token: Mapping[str, Any], issuer: Issuer) -> Access:
    unverified = read_token(sign(token))
    signer = parse_key_set(jwks(key())).candidates(unverified.jws.header)
    verify_signature(unverified.jws, signer)
    return check_claims(unverified, Terms(issuer, RESOURCE, 0), NOW)


def access(function: Callable[[Mapping[str, Any]], Identity]) -> Access:
    return check(claims(), Issuer(ISSUER, identity=function))


def raises(error: Exception) -> Callable[[Mapping[str, Any]], Identity]:
    def function(_: Mapping[str, Any]) -> Identity:
        raise error

    return function


def test_what_the_function_says_is_what_a_handler_sees() -> None:
    granted = access(lambda _: Identity("delegated", ANA, BOT, (ANA,)))

    assert (granted.mode, granted.user, granted.agent) == ("delegated", ANA, BOT)
    assert (granted.chain, granted.subject) == ((ANA,), "user-1")


def test_value_error_of_the_function_refuses_the_token() -> None:
    with pytest.raises(InvalidTokenError) as refused:
        access(raises(ValueError("no employee number")))

    assert (refused.value.reason, str(refused.value)) == (
        "malformed",
        "no employee number",
    )


def test_refusal_by_the_function_is_the_verdict() -> None:
    with pytest.raises(InvalidTokenError) as refused:
        access(raises(InvalidTokenError("left_the_company")))

    assert refused.value.reason == "left_the_company"


@pytest.mark.parametrize("error", [KeyError("for"), TypeError("x"), OSError()])
def test_bug_of_the_function_surfaces(error: Exception) -> None:
    with pytest.raises(type(error)):
        access(raises(error))


def test_dialect_of_the_settings_is_the_one_that_reads() -> None:
    token = claims(sub_profile="ai_agent", act={"sub": "ana", "sub_profile": "user"})
    found = check(token, Issuer(ISSUER, identity="workos_blueprint"))

    assert (found.user, found.agent) == (ANA, Principal(ISSUER, "user-1"))


def test_actor_issuers_of_the_settings_are_the_ones_that_count() -> None:
    token = claims(
        sub_profile="user",
        act={"iss": AGENTS, "sub": "bot", "sub_profile": "ai_agent"},
    )
    issuer = Issuer(ISSUER, identity="actor_profile", actor_issuers=[AGENTS])
    found = check(token, issuer)

    assert found.agent == Principal(AGENTS, "bot")


# Settings


@pytest.mark.parametrize("dialect", DIALECTS)
def test_setting_takes_each_dialect(dialect: Any) -> None:
    assert Issuer(ISSUER, identity=dialect).identity == dialect


async def awaited(_: Mapping[str, Any]) -> Identity:
    return Identity("unknown")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            {"identity": "rfc-8693"},
            "Issuer.identity: 'rfc-8693' is not one of rfc8693,",
        ),
        (
            {"identity": "RFC8693"},
            "client_only; choose one of them, or write a function",
        ),
        ({"identity": None}, "Issuer.identity: None is not one of"),
        ({"identity": ["rfc8693"]}, "is not one of"),
        pytest.param(
            {"identity": awaited},
            "has to be awaited; write a plain function",
            id="coroutine function",
        ),
        ({"actor_issuers": AGENTS}, "Issuer.actor_issuers: .* is no list"),
        ({"actor_issuers": [1]}, "Issuer.actor_issuers: 1 is no str"),
        ({"actor_issuers": [""]}, "Issuer.actor_issuers: has an empty string"),
    ],
    ids=repr,
)
def test_setting_that_cannot_be_is_refused(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Issuer(ISSUER, **setting)


def test_actor_issuers_are_kept_as_they_were() -> None:
    listed = [AGENTS]
    issuer = Issuer(ISSUER, actor_issuers=listed)
    listed.append("https://evil.example")

    assert issuer.actor_issuers == (AGENTS,)
