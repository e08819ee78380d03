"""What ``requires`` demands besides scopes, and what several demand together."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from flask import Blueprint, Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from agentauth_middleware import ConfigurationError, ResourceServer
from agentauth_middleware import Route as Policy
from agentauth_middleware.asgi import AgentAuthMiddleware
from agentauth_middleware.fastapi import AgentAuth
from agentauth_middleware.flask import AgentAuth as FlaskAgentAuth
from agentauth_middleware.starlette import answer_refusals, declared_scopes, requires
from tests.frameworks.notes_server import ISSUER, RESOURCE
from tests.support.challenges import parse_strictly

SERVER = ResourceServer(
    RESOURCE,
    issuers=[ISSUER.trust(agent_scopes={"reader": ["notes.read", "notes.list"]})],
    implied_scopes={"notes.write": ["notes.read"]},
    routes=[
        Policy("/optional", optional=True),
        Policy("/listing", scopes=["notes.list"]),
        Policy("/either", any_scopes=["notes.write", "notes.read"]),
    ],
)
Guard = Callable[[Callable[..., Any]], Callable[..., Any]]
Ask = Callable[[str, Mapping[str, str]], tuple[int, Mapping[str, str]]]
"""Status and headers of the answer to a GET."""


# The handler, as each framework has it


def starlette_async(guard: Guard) -> Ask:
    @guard
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    return starlette(handler)


def starlette_thread(guard: Guard) -> Ask:
    @guard
    def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    return starlette(handler)


def starlette(handler: Callable[..., Any], server: ResourceServer = SERVER) -> Ask:
    app = Starlette(routes=[Route(path, handler) for path in PATHS])
    app.add_middleware(
        AgentAuthMiddleware, resource_server=server, scopes_for=declared_scopes
    )
    answer_refusals(app, server)
    return asking(TestClient(app))


def fastapi_async(guard: Guard) -> Ask:
    @guard
    async def handler() -> str:
        return "done"

    return fastapi(handler)


def fastapi_thread(guard: Guard) -> Ask:
    @guard
    def handler() -> str:
        return "done"

    return fastapi(handler)


def fastapi(handler: Callable[..., Any]) -> Ask:
    app, router = FastAPI(), APIRouter()
    for path in PATHS:
        router.get(path)(handler)
    app.include_router(router)
    AgentAuth(SERVER).install(app)
    return asking(TestClient(app))


def flask_thread(guard: Guard) -> Ask:
    @guard
    def handler() -> str:
        return "done"

    return flask(handler)


def flask_async(guard: Guard) -> Ask:
    @guard
    async def handler() -> str:
        return "done"

    return flask(handler)


def flask(handler: Callable[..., Any], server: ResourceServer = SERVER) -> Ask:
    app, pages = Flask(__name__), Blueprint("pages", __name__)
    for path in PATHS:
        pages.get(path)(handler)
    app.register_blueprint(pages)
    FlaskAgentAuth(server).init_app(app)

    def ask(path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        response = app.test_client().get(path, headers=dict(headers))
        return response.status_code, lower(response.headers.items())

    return ask


def asking(client: TestClient) -> Ask:
    def ask(path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        response = client.get(path, headers=dict(headers))
        return response.status_code, lower(response.headers.items())

    return ask


def lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


PATHS = ("/optional", "/plain", "/listing", "/either")
HANDLERS = [
    starlette_async,
    starlette_thread,
    fastapi_async,
    fastapi_thread,
    flask_thread,
    flask_async,
]


@pytest.fixture(params=HANDLERS, ids=lambda make: make.__name__)
def handle(request: pytest.FixtureRequest) -> Callable[[Guard], Ask]:
    """A test that asks for it runs with every kind of handler."""
    make: Callable[[Guard], Ask] = request.param
    return make


# Tokens and answers


@dataclass(frozen=True)
class Bearer:
    """Who presents a token. It is minted when it is presented, and does not age."""

    scopes: tuple[str, ...]
    ago: int | None
    """When the user signed in, seconds before now."""
    members: Mapping[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        signed_in = None if self.ago is None else int(time.time()) - self.ago
        token = ISSUER.token(
            RESOURCE, scopes=self.scopes, auth_time=signed_in, **self.members
        )
        return {"Authorization": f"Bearer {token}"}


def bearer(*scopes: str, ago: int | None = None, **members: Any) -> Bearer:
    return Bearer(scopes, ago, members)


AGENT: dict[str, Any] = {"agent": "agent-1"}
READER: dict[str, Any] = {"agent": "reader"}
USER: dict[str, Any] = {"sub_profile": "user"}
SERVICE: dict[str, Any] = {"subject": "client-1"}


@dataclass(frozen=True)
class Answer:
    status: int = 200
    error: str | None = None
    told: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else stands in the challenge."""


DONE = Answer()
ACTOR = Answer(403, "actor_unauthorized")


def scope(scope: str) -> Answer:
    return Answer(403, "insufficient_scope", {"scope": scope})


def step_up(**told: str) -> Answer:
    return Answer(401, "insufficient_user_authentication", told)


def answer(ask: Ask, caller: Bearer | None, path: str = "/plain") -> Answer:
    return answered(*ask(path, {} if caller is None else caller.headers))


def answered(status: int, headers: Mapping[str, str]) -> Answer:
    line = headers.get("www-authenticate")
    if line is None:
        return Answer(status)
    (challenge,) = parse_strictly(line)
    told = dict(challenge.parameters)
    assert told.pop("resource_metadata") == SERVER.metadata_url
    told.pop("error_description", None)
    return Answer(status, told.pop("error", None), told)


# One guard

ANY = requires(any_scopes=["notes.write", "mail.send"])
BOTH = requires("notes.read", any_scopes=["mail.send", "mail.admin"])
STRONG = requires(acr_values=["phr", "phrh"])
FRESH = requires(max_age=300)
SAFE = requires("notes.write", acr_values=["phr"], max_age=300)
EVERYTHING = requires(
    "notes.write", user="required", agent="forbidden", acr_values=["phr"]
)

ONE_GUARD: dict[str, tuple[Guard, Bearer, Answer]] = {
    "any: the preferred": (ANY, bearer("notes.write"), DONE),
    "any: another": (ANY, bearer("mail.send"), DONE),
    "any: none": (ANY, bearer("notes.read"), scope("notes.write")),
    "any: the first that its agent may use": (
        requires(any_scopes=["mail.send", "notes.list"]),
        bearer("mail.send", **READER),
        scope("notes.list"),
    ),
    "any: its agent may use none": (ANY, bearer("mail.send", **READER), ACTOR),
    "all and any": (BOTH, bearer("notes.read", "mail.admin"), DONE),
    "all by what is implied": (BOTH, bearer("notes.write", "mail.send"), DONE),
    "all and not any": (BOTH, bearer("notes.read"), scope("notes.read mail.send")),
    "any and not all": (BOTH, bearer("mail.send"), scope("notes.read mail.send")),
    "withheld": (requires("notes.write"), bearer("notes.write", **READER), ACTOR),
    "user": (requires(user="required"), bearer(**USER), DONE),
    "user through an agent": (requires(user="required"), bearer(**AGENT), DONE),
    "no user": (requires(user="required"), bearer(**SERVICE), ACTOR),
    "agent": (requires(agent="required"), bearer(**AGENT), DONE),
    "no agent": (requires(agent="required"), bearer(**USER), ACTOR),
    "agent forbidden": (requires(agent="forbidden"), bearer(**AGENT), ACTOR),
    "agent forbidden, a user": (requires(agent="forbidden"), bearer(**USER), DONE),
    "strong": (STRONG, bearer(acr="phrh"), DONE),
    "weak": (STRONG, bearer(acr="pwd"), step_up(acr_values="phr phrh")),
    "strength not stated": (STRONG, bearer(), step_up(acr_values="phr phrh")),
    "fresh": (FRESH, bearer(ago=300), DONE),
    "stale": (FRESH, bearer(ago=500), step_up(max_age="300")),
    "age not stated": (FRESH, bearer(), step_up(max_age="300")),
    "step-up, and the scope next": (
        SAFE,
        bearer("notes.read"),
        step_up(scope="notes.write", acr_values="phr", max_age="300"),
    ),
    "step-up, and a scope that is withheld": (
        SAFE,
        bearer("notes.read", **READER),
        step_up(acr_values="phr", max_age="300"),
    ),
    "step-up before scope before actor": (
        EVERYTHING,
        bearer(**AGENT),
        step_up(scope="notes.write", acr_values="phr"),
    ),
    "scope before actor": (
        EVERYTHING,
        bearer(acr="phr", **AGENT),
        scope("notes.write"),
    ),
    "actor at last": (EVERYTHING, bearer("notes.write", acr="phr", **AGENT), ACTOR),
}


@pytest.mark.parametrize("case", ONE_GUARD)
def test_requires_demands_what_it_says(
    case: str, handle: Callable[[Guard], Ask]
) -> None:
    guard, caller, expected = ONE_GUARD[case]

    assert answer(handle(guard), caller) == expected


@pytest.mark.parametrize(
    ("leeway", "expected"),
    [(60, DONE), (0, step_up(max_age="300"))],
    ids=["some", "none"],
)
@pytest.mark.parametrize("build", [starlette, flask])
def test_age_is_counted_with_the_leeway_of_the_middleware(
    build: Callable[[Callable[..., Any], ResourceServer], Ask],
    leeway: int,
    expected: Answer,
) -> None:
    def handler(*request: Request) -> Any:
        return PlainTextResponse("done") if request else "done"

    ask = build(FRESH(handler), replace(SERVER, leeway=leeway))

    assert answer(ask, bearer(ago=330)) == expected


def test_requires_names_the_preferred_scope_where_there_are_no_credentials(
    handle: Callable[[Guard], Ask],
) -> None:
    """In the middleware, and at a handler that the middleware lets such requests
    reach."""
    ask = handle(BOTH)

    for path in ("/plain", "/optional"):
        told = {"scope": "notes.read mail.send"}
        assert answer(ask, None, path) == Answer(401, None, told)


@pytest.mark.parametrize(
    ("path", "guard", "caller", "expected"),
    [
        pytest.param(
            "/listing",
            requires("notes.write"),
            bearer("notes.list"),
            scope("notes.list notes.write"),
            id="scope",
        ),
        pytest.param(
            "/listing",
            SAFE,
            bearer("notes.list"),
            step_up(scope="notes.list notes.write", acr_values="phr", max_age="300"),
            id="step-up and scope",
        ),
        pytest.param(
            "/listing",
            FRESH,
            bearer("notes.list"),
            step_up(max_age="300"),
            id="step-up alone",
        ),
        pytest.param(
            "/either",
            requires("notes.list"),
            bearer("notes.read", **READER),
            scope("notes.read notes.list"),
            id="no scope of the route that its agent may not use",
        ),
    ],
)
def test_handlers_answer_names_what_the_route_demands_as_well(
    path: str,
    guard: Guard,
    caller: Bearer,
    expected: Answer,
    handle: Callable[[Guard], Ask],
) -> None:
    """A client may ask for no more than it is told, and would then lack that."""
    assert answer(handle(guard), caller, path) == expected


# Several guards


def stacked(*guards: Guard) -> Guard:
    """*guards*, the outermost first."""

    def guard(handler: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(guards):
            handler = each(handler)
        return handler

    return guard


READ_NOTES = requires("notes.read")
SEVERAL: dict[str, tuple[Guard, Bearer, Answer]] = {
    "all of both": (
        stacked(requires("a"), requires("b")),
        bearer("b"),
        scope("a b"),
    ),
    "any inside": (
        stacked(requires("a"), requires(any_scopes=["b", "c"])),
        bearer("c"),
        scope("a b"),
    ),
    "any inside, missing": (
        stacked(requires("a"), requires(any_scopes=["b", "c"])),
        bearer("a"),
        scope("a b"),
    ),
    "any outside, missing": (
        stacked(requires(any_scopes=["b", "c"]), requires("a")),
        bearer("a"),
        scope("a b"),
    ),
    "any of each": (
        stacked(requires(any_scopes=["a", "b"]), requires(any_scopes=["c", "d"])),
        bearer("b", "d"),
        DONE,
    ),
    "any of each, the inner missing": (
        stacked(requires(any_scopes=["a", "b"]), requires(any_scopes=["c", "d"])),
        bearer("a", "b"),
        scope("a c"),
    ),
    "any of three, the innermost missing": (
        stacked(*(requires(any_scopes=[name, f"{name}x"]) for name in "abc")),
        bearer("ax", "b"),
        scope("a b c"),
    ),
    "step-up inside comes before a scope outside": (
        stacked(READ_NOTES, FRESH),
        bearer(),
        step_up(scope="notes.read", max_age="300"),
    ),
    "scope inside comes before an actor outside": (
        stacked(requires(agent="forbidden"), READ_NOTES),
        bearer(**AGENT),
        scope("notes.read"),
    ),
    "actor outside": (
        stacked(requires(agent="forbidden"), READ_NOTES),
        bearer("notes.read", **AGENT),
        ACTOR,
    ),
    "actor inside": (
        stacked(READ_NOTES, requires(user="required")),
        bearer("notes.read", **SERVICE),
        ACTOR,
    ),
    "user and agent": (
        stacked(requires(user="required"), requires(agent="required")),
        bearer(**AGENT),
        DONE,
    ),
    "the shorter age": (
        stacked(requires(max_age=600), FRESH),
        bearer(ago=500),
        step_up(max_age="300"),
    ),
    "the shorter age outside": (
        stacked(FRESH, requires(max_age=600)),
        bearer(ago=500),
        step_up(max_age="300"),
    ),
    "strength and age": (
        stacked(STRONG, FRESH),
        bearer(acr="phr"),
        step_up(acr_values="phr phrh", max_age="300"),
    ),
    "strengths in both": (
        stacked(STRONG, requires(acr_values=["mfa", "phrh"])),
        bearer(acr="phr"),
        step_up(acr_values="phrh"),
    ),
    "strengths in both, met": (
        stacked(STRONG, requires(acr_values=["mfa", "phrh"])),
        bearer(acr="phrh"),
        DONE,
    ),
    "withheld inside": (
        stacked(READ_NOTES, requires("notes.write")),
        bearer(**READER),
        ACTOR,
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_guards_of_one_handler_add_up(
    case: str, handle: Callable[[Guard], Ask]
) -> None:
    """And are answered as one: in order, and naming all that the handler needs."""
    guard, caller, expected = SEVERAL[case]

    assert answer(handle(guard), caller) == expected


@contextmanager
def refused(*words: str) -> Generator[None, None, None]:
    with pytest.raises(ConfigurationError) as fault:
        yield
    text = str(fault.value)
    assert text.startswith("requires: ")
    assert all(word in text for word in words), text


def handler() -> None:
    """To be guarded."""


@pytest.mark.parametrize(
    "swap", [False, True], ids=["as written", "the other way round"]
)
def test_guards_that_nobody_can_meet_are_refused(swap: bool) -> None:
    demanding: list[tuple[Guard, Guard, tuple[str, ...]]] = [
        (
            requires(agent="required"),
            requires(agent="forbidden"),
            ("required and forbidden", "remove one"),
        ),
        (STRONG, requires(acr_values=["mfa"]), ("acr_values", "phr", "mfa", "in both")),
    ]
    for one, other, words in demanding:
        guards = (other, one) if swap else (one, other)
        with refused(*words):
            stacked(*guards)(handler)


@pytest.mark.parametrize(
    ("demands", "words"),
    [
        pytest.param(
            {"any_scopes": "notes.read"},
            ("any_scopes", "is one string; write a list"),
            id="one string",
        ),
        pytest.param(
            {"any_scopes": ["notes read"]}, ("any_scopes", "is not one word"), id="two"
        ),
        pytest.param({"acr_values": "phr"}, ("acr_values", "is one string"), id="acr"),
        pytest.param({"max_age": -1}, ("max_age",), id="age"),
        pytest.param({"max_age": 1.5}, ("max_age",), id="broken age"),
        pytest.param({"user": True}, ("user", 'is not "required"'), id="user"),
        pytest.param({"agent": "yes"}, ("agent", 'neither "required" nor'), id="agent"),
    ],
)
def test_demand_that_cannot_be_meant_is_refused(
    demands: dict[str, Any], words: tuple[str, ...]
) -> None:
    """In words of the decorator, which has no pattern."""
    with refused(*words):
        requires(**demands)


def test_websocket_is_denied_where_the_user_must_sign_in_again() -> None:
    @requires("notes.read", max_age=300)
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/live", live)])
    app.add_middleware(AgentAuthMiddleware, resource_server=SERVER)
    client = TestClient(app)
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/live", headers=bearer(ago=500).headers),
    ):
        pass

    assert denied.value.status_code == 401
    assert answered(401, denied.value.headers) == step_up(
        scope="notes.read", max_age="300"
    )
    with client.websocket_connect("/live", headers=bearer("notes.read", ago=5).headers):
        pass
