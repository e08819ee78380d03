"""Which scopes count, which agents may act, and what a refusal then asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from agentauth_middleware._core.decide import Anonymous, verify_token
from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.operations import Fetch
from agentauth_middleware._core.policy.caller import (
    check_policy,
    refusal_of_agent,
)
from agentauth_middleware._core.policy.scope_rules import ScopeRules
from agentauth_middleware._core.publish.challenge import (
    Refusal,
    name_scopes,
    refusal_for,
)
from agentauth_middleware.access import Access, Identity, Principal, refusal_for_lack
from agentauth_middleware.errors import (
    ActorRefusedError,
    ConfigurationError,
    InsufficientScopeError,
    RequestRefusedError,
    StepUpRequiredError,
)
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from tests.support.deciding import (
    decide_at_once,
    deciding,
    push_out,
    request,
    state_for,
)
from tests.support.stepping import Clock, Stepper, json_reply, play
from tests.support.tokens import ISSUER, NOW, claims, issuer, jwks, key, server, token

ELSEWHERE = "https://agents.example.org"
AGENT = Principal(ISSUER, "agent-1")
STRANGER = Principal(ELSEWHERE, "agent-1")
USER = Principal(ISSUER, "user-1")
CHAIN = {
    "notes.admin": ["notes.write"],
    "notes.write": ["notes.read"],
    "notes.read": ["notes.list"],
}


def access(
    *scopes: str, agent: Principal | None = None, ceiling: str | None = None
) -> Access:
    """*ceiling* is written as a token would write it."""
    return Access(
        ISSUER,
        agent=agent,
        scopes=frozenset(scopes),
        scope_ceiling=None if ceiling is None else frozenset(ceiling.split()),
    )


def refused(decision: object) -> tuple[int, str, tuple[str, ...]]:
    """Status, reason, and the scopes that the client is told to ask for."""
    assert isinstance(decision, Refusal), decision
    return decision.status, decision.reason, decision.scopes


def raised(check: Callable[[], object]) -> RequestRefusedError | None:
    try:
        check()
    except RequestRefusedError as failure:
        return failure
    return None


def check(demands: dict[str, Any], given: Access) -> None:
    """*demands* are those of a route."""
    check_policy(Route("/*", **demands).demands, given, NOW)


# Which scopes imply which


def scopes_of(
    given: Access, implied: Mapping[str, list[str]], **trust: Any
) -> frozenset[str]:
    return applied(given, implied, **trust).scopes


def applied(given: Access, implied: Mapping[str, list[str]], **trust: Any) -> Access:
    rules = ScopeRules(server(implied_scopes=implied))
    return rules.apply(given, issuer(**trust))


@pytest.mark.parametrize(
    ("implied", "carried", "counts"),
    [
        pytest.param({}, "notes.write", "notes.write", id="nothing declared"),
        pytest.param({"a": ["b"]}, "a", "a b", id="one"),
        pytest.param({"a": ["b", "c"]}, "a", "a b c", id="several"),
        pytest.param({"a": ["b"], "x": ["y"]}, "a x", "a b x y", id="of several"),
        pytest.param({"a": ["b"]}, "b", "b", id="not the other way round"),
        pytest.param({"a": ["b"]}, "c", "c", id="of another scope"),
        pytest.param({"a": ["b"]}, "", "", id="of no scope"),
        pytest.param({"a": []}, "a", "a", id="nothing"),
        pytest.param({"a": ["a"]}, "a", "a", id="itself"),
        pytest.param({"a": ["b"], "b": ["a"]}, "a", "a b", id="each other"),
        pytest.param({"a": ["b"], "b": ["c"], "c": ["a"]}, "b", "a b c", id="in turn"),
        pytest.param(
            CHAIN,
            "notes.admin",
            "notes.admin notes.write notes.read notes.list",
            id="indirectly",
        ),
        pytest.param(CHAIN, "notes.read", "notes.read notes.list", id="from within"),
    ],
)
def test_scope_gives_what_it_implies(
    implied: dict[str, list[str]], carried: str, counts: str
) -> None:
    given = access(*carried.split())

    assert scopes_of(given, implied) == set(counts.split())


def test_access_stays_the_same_where_there_are_no_rules() -> None:
    """Tokens are many; what is the same for all of them is kept once."""
    rules = ScopeRules(server(issuer()))
    given = access("notes.read", agent=AGENT)

    assert rules.apply(given, issuer()) is given


def test_tokens_that_say_the_same_share_what_it_implies() -> None:
    rules = ScopeRules(server(implied_scopes=CHAIN))
    one, other = (rules.apply(access("notes.admin"), issuer()) for _ in range(2))

    assert one.scopes is other.scopes


# How far an agent reaches


@pytest.mark.parametrize(
    ("agent", "counts"),
    [
        pytest.param(AGENT, "a", id="named"),
        pytest.param(STRANGER, "b", id="the same name elsewhere"),
        pytest.param(Principal(ISSUER, "agent-2"), "c", id="any other"),
        pytest.param(Principal(ELSEWHERE, "agent-2"), "c", id="any other, elsewhere"),
        pytest.param(None, "a b c d", id="no agent"),
    ],
)
def test_agent_reaches_as_far_as_its_own_ceiling(
    agent: Principal | None, counts: str
) -> None:
    trust: dict[str, Any] = {
        "agent_scopes": {"agent-1": ["a"], (ELSEWHERE, "agent-1"): ["b"], "*": ["c"]},
        "actor_issuers": [ELSEWHERE],
    }
    given = access("a", "b", "c", "d", agent=agent)

    assert scopes_of(given, {}, **trust) == set(counts.split())


def test_agent_without_a_ceiling_has_no_limit() -> None:
    given = access("a", "b", agent=Principal(ISSUER, "agent-2"))
    limited = applied(given, {}, agent_scopes={"agent-1": ["a"]})

    assert limited is given
    assert limited.scope_ceiling is None


def test_ceiling_gives_nothing_that_the_token_does_not_carry() -> None:
    assert scopes_of(access("a", agent=AGENT), {}, agent_scopes={"*": ["a", "b"]}) == {
        "a"
    }


def test_empty_ceiling_leaves_an_agent_no_scope() -> None:
    limited = applied(access("a", agent=AGENT), {}, agent_scopes={"agent-1": []})

    assert limited.scopes == frozenset()
    assert isinstance(refusal_for_lack(limited, ["a"]), ActorRefusedError)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(replace(access("a", "b"), mode="agent"), id="of its own accord"),
        pytest.param(
            replace(access("a", "b"), mode="agent_unclaimed"), id="not claimed"
        ),
        pytest.param(
            replace(access("a", "b"), mode="agent_user_account"), id="with an account"
        ),
        pytest.param(replace(access("a", "b"), chain=(AGENT,)), id="that acted before"),
    ],
)
def test_agent_without_a_name_is_one_of_all_others(given: Access) -> None:
    """Or it would reach further than those who say who they are."""
    assert scopes_of(given, {}, agent_scopes={"*": ["a"]}) == {"a"}
    assert scopes_of(given, {}, agent_scopes={"agent-1": ["a"]}) == {"a", "b"}


@pytest.mark.parametrize("mode", ["user", "service", "unknown"])
def test_ceiling_is_for_agents_alone(mode: Any) -> None:
    given = replace(access("a", "b"), mode=mode)

    assert scopes_of(given, {}, agent_scopes={"*": []}) == {"a", "b"}


@pytest.mark.parametrize(
    ("carried", "ceiling", "counts"),
    [
        pytest.param(
            "notes.write", "notes.read", "notes.read notes.list", id="of the token"
        ),
        pytest.param(
            "notes.read",
            "notes.write",
            "notes.read notes.list",
            id="of the ceiling",
        ),
        pytest.param(
            "notes.admin",
            "notes.write",
            "notes.write notes.read notes.list",
            id="of both",
        ),
        pytest.param("notes.write", "mail.send", "", id="of neither"),
    ],
)
def test_ceiling_knows_what_is_implied(carried: str, ceiling: str, counts: str) -> None:
    """Who may write at most may read; whose token can write and who may only read,
    reads."""
    given = access(*carried.split(), agent=AGENT)
    trust: dict[str, Any] = {"agent_scopes": {"agent-1": ceiling.split()}}

    assert scopes_of(given, CHAIN, **trust) == set(counts.split())


# Which agents may act


@pytest.mark.parametrize(
    ("agents", "agent", "may_act"),
    [
        pytest.param(None, AGENT, True, id="no list"),
        pytest.param(["agent-1"], AGENT, True, id="listed"),
        pytest.param(["agent-1"], STRANGER, False, id="the same name elsewhere"),
        pytest.param([(ELSEWHERE, "agent-1")], STRANGER, True, id="listed elsewhere"),
        pytest.param([(ELSEWHERE, "agent-1")], AGENT, False, id="listed not here"),
        pytest.param(["agent-2"], AGENT, False, id="not listed"),
        pytest.param(["agent"], AGENT, False, id="beginning alike"),
        pytest.param(["AGENT-1"], AGENT, False, id="in upper case"),
        pytest.param([], AGENT, False, id="empty list"),
    ],
)
def test_only_listed_agents_may_act(
    agents: Any, agent: Principal, may_act: bool
) -> None:
    trusted = Issuer(ISSUER, agents=agents, actor_issuers=[ELSEWHERE])
    refusal = refusal_of_agent(access(agent=agent), trusted)

    assert refusal == (None if may_act else "agent_not_allowed")


@pytest.mark.parametrize(
    ("given", "may_act"),
    [
        pytest.param(replace(access(), user=USER, mode="user"), True, id="a user"),
        pytest.param(replace(access(), mode="service"), True, id="a service"),
        pytest.param(access(), True, id="nobody knows who"),
        pytest.param(replace(access(), mode="agent"), False, id="a nameless agent"),
        pytest.param(
            replace(access(), user=USER, chain=(AGENT,)), False, id="an earlier agent"
        ),
    ],
)
def test_list_of_agents_is_about_agents(given: Access, may_act: bool) -> None:
    """An agent that has no name is on no list, and nor is one that only passed the
    request on."""
    refusal = refusal_of_agent(given, Issuer(ISSUER, agents=["agent-1"]))

    assert (refusal is None) == may_act


# What a client is told to ask for


@pytest.mark.parametrize(
    ("demands", "scopes"),
    [
        pytest.param({"scopes": ["a", "b"]}, ("a", "b"), id="all"),
        pytest.param({"any_scopes": ["a", "b"]}, ("a",), id="the preferred one"),
        pytest.param(
            {"scopes": ["a"], "any_scopes": ["b", "c"]}, ("a", "b"), id="all and one"
        ),
        pytest.param(
            {"scopes": ["a"], "any_scopes": ["a", "b"]}, ("a",), id="named once"
        ),
    ],
)
def test_missing_scopes_are_named(
    demands: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    failure = raised(lambda: check(demands, access()))

    assert isinstance(failure, InsufficientScopeError)
    assert failure.scopes == scopes


@pytest.mark.parametrize(
    ("carried", "may"),
    [("a b", True), ("a c", True), ("a b c", True), ("b c", False), ("a", False)],
)
def test_all_scopes_and_any_scopes_are_demands_of_their_own(
    carried: str, may: bool
) -> None:
    demands = {"scopes": ["a"], "any_scopes": ["b", "c"]}
    given = access(*carried.split())

    assert (raised(lambda: check(demands, given)) is None) == may


@pytest.mark.parametrize(
    ("demands", "scopes"),
    [
        pytest.param({"scopes": ["a"]}, ("a",), id="one it may use"),
        pytest.param({"scopes": ["a", "x"]}, None, id="one of two it may not use"),
        pytest.param({"any_scopes": ["x", "a", "b"]}, ("a",), id="the first it may"),
        pytest.param({"any_scopes": ["x", "y"]}, None, id="none of several"),
        pytest.param(
            {"scopes": ["x"], "any_scopes": ["a", "x"]}, None, id="all before any"
        ),
    ],
)
@pytest.mark.parametrize("carried", [(), ("c",)], ids=["no scopes", "others"])
def test_no_client_is_told_to_ask_for_what_its_agent_may_not_use(
    demands: dict[str, Any], scopes: tuple[str, ...] | None, carried: tuple[str, ...]
) -> None:
    """A person would be asked for permission, in vain."""
    given = access(*carried, ceiling="a b c")
    failure = raised(lambda: check(demands, given))

    if scopes is None:
        assert isinstance(failure, ActorRefusedError)
        assert failure.reason == "scope_withheld"
    else:
        assert isinstance(failure, InsufficientScopeError)
        assert failure.scopes == scopes


@pytest.mark.parametrize(
    ("carried", "ceiling", "scopes"),
    [
        pytest.param(("a", "b"), None, (), id="nothing is missing"),
        pytest.param((), None, ("a", "b"), id="all are missing"),
        pytest.param((), "a b", ("a", "b"), id="all may be had"),
        pytest.param((), "a", (), id="one may not be had"),
    ],
)
def test_step_up_names_scopes_that_will_be_missing_next(
    carried: tuple[str, ...], ceiling: str | None, scopes: tuple[str, ...]
) -> None:
    demands = {
        "scopes": ["a"],
        "any_scopes": ["b"],
        "acr_values": ["phr"],
        "max_age": 9,
    }
    given = access(*carried, ceiling=ceiling)
    failure = raised(lambda: check(demands, given))

    assert isinstance(failure, StepUpRequiredError)
    assert (failure.acr_values, failure.max_age) == (("phr",), 9)
    assert failure.scopes == scopes


ORDER: list[tuple[dict[str, Any], type[RequestRefusedError], str]] = [
    ({"acr_values": ["phr"]}, StepUpRequiredError, "step_up_required"),
    ({"scopes": ["x"]}, InsufficientScopeError, "insufficient_scope"),
    ({"user": "required"}, ActorRefusedError, "user_required"),
    ({"agent": "required"}, ActorRefusedError, "agent_required"),
]
"""Demands that a token of nobody does not meet, in the order in which they count."""


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_earlier_demand_decides(first: int) -> None:
    demands: dict[str, Any] = {}
    for unmet, _, _ in ORDER[first:]:
        demands |= unmet
    failure = raised(lambda: check(demands, access()))

    _, kind, reason = ORDER[first]
    assert failure is not None
    assert type(failure) is kind
    assert failure.reason == reason


# By the whole decision


def policy(*routes: Route, implied: Any = None, **trust: Any) -> MiddlewareState:
    """A state whose only issuer is trusted so far."""
    return state_for(
        server(issuer(**trust), routes=routes, implied_scopes=implied or {})
    )


def by_agent(scope: str = "", name: str = "agent-1", /, **changes: Any) -> bytes:
    return token(scope=scope, act={"sub": name}, **changes)


def test_token_gives_what_its_scopes_imply() -> None:
    state = policy(Route("/notes", scopes=["notes.read"]), implied=CHAIN)
    granted = decide_at_once(state, request(token(scope="notes.admin")))

    assert granted.scopes == {"notes.list", *CHAIN}
    assert granted.claims["scope"] == "notes.admin"


def test_hierarchy_asks_for_the_narrow_scope() -> None:
    state = policy(Route("/notes", scopes=["notes.read"]), implied=CHAIN)

    assert refused(decide_at_once(state, request(token(scope="mail.send")))) == (
        403,
        "insufficient_scope",
        ("notes.read",),
    )


def test_withheld_scope_is_refused_as_the_agents_and_not_the_tokens_fault() -> None:
    state = policy(
        Route("/notes", scopes=["notes.write"]), agent_scopes={"*": ["notes.read"]}
    )

    for scope in ("notes.write", "notes.read", ""):
        assert refused(decide_at_once(state, request(by_agent(scope)))) == (
            403,
            "scope_withheld",
            (),
        )


def test_agent_that_is_not_listed_is_refused_on_every_route() -> None:
    state = policy(
        Route("/open", optional=True),
        Route("/public", public=True),
        agents=["agent-1"],
    )
    other = by_agent("", "agent-2")

    for path in ("/notes", "/open"):
        assert refused(decide_at_once(state, request(other, path=path))) == (
            403,
            "agent_not_allowed",
            (),
        )
    assert decide_at_once(state, request(other, path="/public")) == Anonymous()
    assert isinstance(decide_at_once(state, request(by_agent())), Access)
    assert isinstance(decide_at_once(state, request(token())), Access)


def test_agent_that_is_not_listed_is_told_last() -> None:
    """What a better token would fix comes first, as for any other actor."""
    state = policy(
        Route("/strong", acr_values=["phr"]),
        Route("/notes", scopes=["notes.read"]),
        agents=[],
    )
    asked = [request(by_agent(), path=path) for path in ("/strong", "/notes", "/")]

    assert [refused(decide_at_once(state, each))[1] for each in asked] == [
        "step_up_required",
        "insufficient_scope",
        "agent_not_allowed",
    ]


def test_policy_of_one_issuer_is_not_that_of_another() -> None:
    strict = issuer(agents=[], agent_scopes={"*": []})
    lenient = issuer(name=ELSEWHERE)
    state = state_for(server(strict, lenient))
    theirs = token(iss=ELSEWHERE, scope="a", act={"sub": "agent-1"})

    assert refused(decide_at_once(state, request(by_agent("a"))))[0] == 403
    assert decide_at_once(state, request(theirs)).scopes == {"a"}


@pytest.mark.parametrize(
    ("trust", "age", "may"),
    [
        pytest.param({}, 360, True, id="that of the resource server"),
        pytest.param({}, 361, False, id="and no more"),
        pytest.param({"leeway": 0}, 300, True, id="none"),
        pytest.param({"leeway": 0}, 301, False, id="none, and too old"),
        pytest.param({"leeway": 120}, 420, True, id="more"),
        pytest.param({"leeway": 120}, 421, False, id="more, and too old"),
    ],
)
def test_age_of_a_sign_in_is_told_by_the_clock_of_its_issuer(
    trust: dict[str, Any], age: int, may: bool
) -> None:
    state = policy(Route("/notes", max_age=300), **trust)
    decision = decide_at_once(state, request(token(auth_time=NOW - age)))

    assert isinstance(decision, Access if may else Refusal)


def nameless(claims: Mapping[str, Any]) -> Identity:
    return Identity("agent_unclaimed")


def test_agent_that_a_function_gives_no_name_meets_list_and_ceiling() -> None:
    listed = policy(identity=nameless, agents=["agent-1"])
    limited = policy(identity=nameless, agent_scopes={"*": ["a"]})

    assert refused(decide_at_once(listed, request(token())))[1] == "agent_not_allowed"
    assert decide_at_once(limited, request(token(scope="a b"))).scopes == {"a"}


@pytest.mark.parametrize("trust", [{"agents": ["agent-1"]}, {}], ids=["listed", "all"])
def test_recalled_token_keeps_its_policy(trust: dict[str, Any]) -> None:
    """What is kept of most tokens is their claims alone."""
    state = policy(
        Route("/write", scopes=["notes.write"]),
        implied=CHAIN,
        agent_scopes={"agent-1": ["notes.read"]},
        **trust,
    )
    presented, other = by_agent("notes.admin"), by_agent("", "agent-2")
    first = decide_at_once(state, request(presented))
    decide_at_once(state, request(other))
    push_out(state, presented)
    again = decide_at_once(state, request(presented))

    assert again == first
    assert again.scopes == {"notes.read", "notes.list"}
    assert again.scope_ceiling == first.scope_ceiling
    assert refused(decide_at_once(state, request(presented, path="/write")))[1:] == (
        "scope_withheld",
        (),
    )
    answer = decide_at_once(state, request(other))
    assert isinstance(answer, Refusal if trust else Access)


@pytest.mark.parametrize("trust", [{}, {"max_chain": 1}, {"max_chain": 3}], ids=repr)
def test_chain_may_be_as_long_as_its_issuer_is_trusted(trust: dict[str, int]) -> None:
    longest = trust.get("max_chain", 5)
    state = policy(**trust)
    granted = decide_at_once(state, request(token(act=chain_of(longest))))

    assert len(granted.chain) == longest - 1
    assert refused(
        decide_at_once(state, request(token(act=chain_of(longest + 1))))
    ) == (
        401,
        "malformed",
        (),
    )


def chain_of(length: int) -> dict[str, Any]:
    act: dict[str, Any] = {"sub": f"agent-{length}"}
    for number in range(length - 1, 0, -1):
        act = {"sub": f"agent-{number}", "act": act}
    return act


def test_only_the_immediate_actor_is_looked_up() -> None:
    """Earlier ones are history: the issuer alone vouches for them."""
    listed = policy(agents=["agent-1"])
    limited = policy(agent_scopes={"agent-2": []})
    passed_on = request(token(scope="a", act=chain_of(2)))
    behind = request(token(act={"sub": "agent-2", "act": {"sub": "agent-1"}}))

    assert isinstance(decide_at_once(listed, passed_on), Access)
    assert decide_at_once(limited, passed_on).scopes == {"a"}
    assert refused(decide_at_once(listed, behind))[1] == "agent_not_allowed"


def test_token_of_other_transports_meets_the_same_policy() -> None:
    state = policy(
        implied=CHAIN, agents=["agent-1"], agent_scopes={"*": ["notes.read"]}
    )
    clock = Clock()
    granted: Access = play(verify_token(state, by_agent("notes.admin"), clock), [])

    assert granted.scopes == {"notes.read", "notes.list"}
    with pytest.raises(ActorRefusedError, match="agent_not_allowed"):
        play(verify_token(state, by_agent("", "agent-2"), clock), [])


# Beside what the issuer answers


def asked(*routes: Route, implied: Any = None, **trust: Any) -> MiddlewareState:
    """A state whose issuer is asked about each of its tokens."""
    introspection = Introspection(
        "rs-1", client_secret="s", endpoint=f"{ISSUER}/introspect", always=True
    )
    return policy(*routes, implied=implied, introspection=introspection, **trust)


def ask(state: MiddlewareState, presented: bytes, **answer: Any) -> Any:
    """The decision, with *answer* about the token."""
    step = Stepper(deciding(state, request(presented, client="192.0.2.1"), Clock()))
    assert isinstance(step.asks, Fetch)
    step.answer(json_reply({"active": True, **answer}))
    return step.result


def test_answer_narrows_what_is_implied_and_what_a_ceiling_leaves() -> None:
    """A scope taken from a token takes along what it alone would imply."""
    state = asked(implied=CHAIN, agent_scopes={"*": ["notes.write"]})
    presented = by_agent("notes.admin notes.read mail.send")
    granted = ask(state, presented, scope="notes.read mail.send")

    assert granted.scopes == {"notes.read", "notes.list"}


def test_answer_gives_no_scope_back_that_its_agent_may_not_use() -> None:
    state = asked(
        Route("/notes", scopes=["notes.write"]), agent_scopes={"*": ["notes.read"]}
    )
    scope = "notes.read notes.write"

    assert refused(ask(state, by_agent(scope), scope=scope)) == (
        403,
        "scope_withheld",
        (),
    )


def test_opaque_token_meets_the_same_policy() -> None:
    state = asked(implied=CHAIN, agent_scopes={"*": ["notes.read"]}, agents=["agent-1"])
    said = claims(scope="notes.admin", act={"sub": "agent-1"})
    granted = ask(state, b"at_1", **said)

    assert granted.scopes == {"notes.read", "notes.list"}
    said = claims(act={"sub": "agent-2"})
    assert refused(ask(state, b"at_2", **said))[1] == "agent_not_allowed"


# Settings


def named(**settings: Any) -> ResourceServer:
    described = {"notes.read": "Read your notes", "notes.write": "Write notes"}
    return ResourceServer(
        "https://api.example.com",
        issuers=[Issuer(ISSUER, **settings.pop("trust", {}))],
        scopes=described,
        **settings,
    )


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    # Settings, the key that is named, and words of fault and fix.
    "implied by nobody": (
        {"implied_scopes": {"notes.admin": ["notes.read"]}},
        "ResourceServer.implied_scopes",
        "'notes.admin' is not among ResourceServer.scopes; declare it there",
    ),
    "implied unknown": (
        {"implied_scopes": {"notes.write": ["notes.raed"]}},
        "ResourceServer.implied_scopes",
        "'notes.raed' is not among ResourceServer.scopes; declare it there",
    ),
    "implied one string": (
        {"implied_scopes": {"notes.write": "notes.read"}},
        "ResourceServer.implied_scopes['notes.write']",
        "is one string; write a list",
    ),
    "implied no mapping": (
        {"implied_scopes": ["notes.write"]},
        "ResourceServer.implied_scopes",
        "no mapping; write {",
    ),
    "any_scopes unknown": (
        {"routes": [Route("/notes", any_scopes=["notes.read", "notes.admin"])]},
        "Route('/notes').any_scopes",
        "'notes.admin' is not among ResourceServer.scopes; declare it there",
    ),
    "ceiling unknown": (
        {"trust": {"agent_scopes": {"*": ["notes.admin"]}}},
        "Issuer.agent_scopes['*']",
        "'notes.admin' is not among ResourceServer.scopes; declare it there",
    ),
    "ceiling no mapping": (
        {"trust": {"agent_scopes": ["notes.read"]}},
        "Issuer.agent_scopes",
        "no mapping; write {",
    ),
    "ceiling one string": (
        {"trust": {"agent_scopes": {"agent-1": "notes.read"}}},
        "Issuer.agent_scopes['agent-1']",
        "is one string; write a list",
    ),
    "ceiling of nobody": (
        {"trust": {"agent_scopes": {"": ["notes.read"]}}},
        "Issuer.agent_scopes",
        "'' names no agent; write its subject, or (issuer, subject)",
    ),
    "ceiling of who never acts": (
        {"trust": {"agents": ["agent-1"], "agent_scopes": {"agent-2": []}}},
        "Issuer.agent_scopes['agent-2']",
        "is not among Issuer.agents, so it never acts; add it there",
    ),
    "agents nobody": (
        {"trust": {"agents": [""]}},
        "Issuer.agents",
        "'' names no agent; write its subject, or (issuer, subject)",
    ),
    "agents of three parts": (
        {"trust": {"agents": [(ISSUER, "agent-1", "x")]}},
        "Issuer.agents",
        "names no agent; write its subject, or (issuer, subject)",
    ),
    "agents of elsewhere": (
        {"trust": {"agents": ["agent-1", (ELSEWHERE, "mailer")]}},
        "Issuer.agents",
        f"('{ELSEWHERE}', 'mailer') is of a namespace in which this issuer may name "
        f"no agents; add '{ELSEWHERE}' to Issuer.actor_issuers",
    ),
    "ceiling of elsewhere": (
        {"trust": {"agent_scopes": {(ELSEWHERE, "mailer"): ["notes.read"]}}},
        "Issuer.agent_scopes",
        f"no agents; add '{ELSEWHERE}' to Issuer.actor_issuers",
    ),
    "actor_issuers without its scheme": (
        {"trust": {"actor_issuers": ["agents.example.org"]}},
        "Issuer.actor_issuers",
        "'agents.example.org' is not an absolute URL; write https://host/path",
    ),
    "actor_issuers http": (
        {"trust": {"actor_issuers": ["http://agents.example.org"]}},
        "Issuer.actor_issuers",
        "is not https; use https",
    ),
    "max_chain nobody": (
        {"trust": {"max_chain": 0}},
        "Issuer.max_chain",
        "1",
    ),
    "max_chain long": (
        {"trust": {"max_chain": 21}},
        "Issuer.max_chain",
        "20",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_settings_that_cannot_be_meant_are_refused(fault: str) -> None:
    settings, setting, words = FAULTS[fault]
    with pytest.raises(ConfigurationError) as refused:
        named(**settings)

    assert str(refused.value).startswith(setting + ": ")
    assert words in str(refused.value)


@pytest.mark.parametrize("max_chain", [1, 20])
def test_chain_has_bounds(max_chain: int) -> None:
    assert Issuer(ISSUER, max_chain=max_chain).max_chain == max_chain


def test_policy_settings_cannot_be_changed_afterwards() -> None:
    agents: list[Any] = ["agent-1"]
    ceilings: dict[Any, list[str]] = {"*": ["notes.read"]}
    implied = {"notes.write": ["notes.read"]}
    settings = named(
        trust={"agents": agents, "agent_scopes": ceilings}, implied_scopes=implied
    )
    trusted = settings.listed_issuers[0]
    agents.append("agent-2")
    ceilings["*"].append("notes.write")
    implied["notes.read"] = ["notes.write"]

    assert trusted.agents == ((ISSUER, "agent-1"),)
    assert dict(trusted.agent_scopes) == {"*": ("notes.read",)}
    assert dict(settings.implied_scopes) == {"notes.write": ("notes.read",)}


def test_policy_settings_survive_a_copy() -> None:
    """Whoever changes one setting with ``replace`` keeps the others."""
    trusted = issuer(agents=["agent-1"], agent_scopes={"agent-1": ["a"], "*": []})
    copy = replace(trusted, max_chain=2, jwks=jwks(key()))

    assert copy.agents == trusted.agents
    assert copy.agent_scopes == trusted.agent_scopes


def test_challenge_never_names_a_scope_above_the_ceiling() -> None:
    """Whatever else wants to be named: no token would be any better."""
    access = Access(ISSUER, scope_ceiling=frozenset({"a"}))
    refusal = refusal_for(InsufficientScopeError(["a"]), access)

    assert name_scopes(refusal, ["b", "a"]).scopes == ("a",)
