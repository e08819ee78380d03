"""Ordinary requests reach the handlers that they reach without the middleware."""

from __future__ import annotations

from zlib import crc32

import pytest

from tests.differential.applications import (
    DEPLOYMENTS,
    Deployment,
    litestar_websocket,
    quart_websocket,
    starlette_websocket,
)
from tests.differential.gateways import GATEWAYS
from tests.differential.guarding import (
    ALL_CELLS,
    BARE,
    SOME_CELLS,
    WITH_PREFIX,
    authorization,
    guard,
)
from tests.differential.sending import Sent, send_all, unprotected
from tests.differential.targets import HANDLERS, PREFIX, Target

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `root_path` parameter is deprecated"
)

IDS = (
    *("7", "0", "A7F3", "550E8400-E29B-41D4-A716-446655440000", "MiXeD", "_id-1.x~y"),
    *("a%20b", "a+b@example.com", "100%25", "50%25%20off", "v=1;w=2", "a%3Bb", "a%26b"),
    *(
        "%E6%97%A5%E6%9C%AC",
        "%D0%96",
        "%C3%BC",
        "stra%C3%9Fe",
        "%D7%A9",
        "%F0%9F%8C%B5",
    ),
    *("%C4%B0stanbul", "urn:isbn:0451450523", "2026-12-01T10:00:00Z", "a..b", "...x"),
    *("%7Ealice", "a'b(c)!*", "a%2Bb", "%61bc", "a%2C%20b", "$top", "a,b", "c%23"),
    *(
        "%22x%22",
        "a%3Fb",
        "apis",
        "notes",
        "Admin",
        "SGVsbG8gV29ybGQ%3D",
        "eyJhIjoxfQ==",
    ),
)
RESTS = (
    *("site.css", "js/app.min.js", "App/Main.JS", "img/logo@2x.png", "a%20b.css"),
    *(
        "%E5%9B%BE/%E7%89%87.png",
        "v1..2/x",
        ".well-known/x",
        "a%2Fb.txt",
        "A%2fB/C.txt",
    ),
    *("report%20(1).pdf", "deep/" * 30 + "x", "index.html", "%5Bid%5D.js", "[id].js"),
    *("%40scope/pkg.js", "sourcemap.js.map?v=3", "fonts/Inter-Regular.woff2"),
)
ORDINARY = (
    *(Target("GET", f"/notes/{identifier}") for identifier in IDS),
    *(
        Target("GET", f"/{place}/{rest}")
        for place in ("static", "files")
        for rest in RESTS
    ),
    *(Target(handler.method, handler.example) for handler in HANDLERS),
    *(
        Target("HEAD", handler.example)
        for handler in HANDLERS
        if handler.method == "GET"
    ),
    Target("GET", "/notes?next=/../admin/users&q=%2F..%2F%00%0a"),
    Target("GET", "/notes?url=https://example.com//x#"),
    Target("POST", "/graphql?operationName=Notes"),
    Target("GET", "/docs"),
    Target("GET", "/shelf"),
)
"""Below the prefix."""
WITHOUT_A_CATCH_ALL = (
    Target("GET", "/notes/"),
    Target("GET", "/notes/7/"),
    Target("GET", "/notes/a%2Fb"),
    Target("GET", "/notes/a%2fB%2Fc"),
)
"""Where a policy for all other paths might be meant as well, nobody can say."""


def check(name: str, server: str, *, start: int, step: int) -> None:
    """Those that the framework serves or redirects; with a token that may do all."""
    deployment = DEPLOYMENTS[name]
    gateway = GATEWAYS[deployment.kind][server]
    resource = WITH_PREFIX if deployment.wire != ("",) else BARE
    token = {"Authorization": authorization(resource, "a b c")}
    requests = [
        Sent(Target(one.method, prefix + one.target), token)
        for prefix in deployment.wire
        for one in (*ORDINARY, *WITHOUT_A_CATCH_ALL)[start::step]
    ]
    served = [
        outcome
        for outcome in send_all(deployment, gateway, requests, unprotected)
        if 200 <= outcome.status < 400
    ]
    if deployment.adds_slash:
        pytest.skip("each path has a slash too many there")
    if not served:
        pytest.skip("the framework itself finds none of its handlers there")
    unclear = {one.target for one in WITHOUT_A_CATCH_ALL}
    for catch_all in (False, True):
        expected = [
            outcome
            for outcome in served
            if not catch_all
            or outcome.sent.target.target.removeprefix(PREFIX) not in unclear
        ]
        protect = guard(
            deployment, deployment.patterns, catch_all=catch_all, resource=resource
        )
        sent = [outcome.sent for outcome in expected]

        assert send_all(deployment, gateway, sent, protect) == expected


@pytest.mark.parametrize(("name", "server"), SOME_CELLS)
def test_ordinary_request_is_left_alone(name: str, server: str) -> None:
    """One in sixteen, and others in each cell."""
    start = crc32(f"{name}, {server}".encode()) % 16
    check(name, server, start=start, step=16)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "server"), ALL_CELLS)
def test_each_ordinary_request_is_left_alone(name: str, server: str) -> None:
    check(name, server, start=0, step=1)


WEBSOCKETS = {
    "Starlette": starlette_websocket,
    "Litestar": litestar_websocket,
    "Quart": quart_websocket,
}


@pytest.mark.parametrize("mount", ["", PREFIX], ids=["no mount", "mount"])
@pytest.mark.parametrize("server", GATEWAYS["asgi"])
@pytest.mark.parametrize("framework", WEBSOCKETS)
def test_ordinary_websocket_is_left_alone(
    framework: str, server: str, mount: str
) -> None:
    deployment = Deployment("asgi", WEBSOCKETS[framework], mount=mount)
    for_all_prefixes = [
        Sent(
            Target("GET", f"{prefix}/live/{room}"),
            {"Authorization": authorization(BARE, "a")},
            is_websocket=True,
        )
        for prefix in {"", mount}
        for room in ("1", "ROOM%201", "%E6%97%A5%E6%9C%AC")
    ]
    gateway = GATEWAYS["asgi"][server]
    served = [
        outcome
        for outcome in send_all(deployment, gateway, for_all_prefixes, unprotected)
        if outcome.ran
    ]
    sent = [outcome.sent for outcome in served]
    protect = guard(deployment, "", catch_all=False, resource=BARE)

    assert served
    assert send_all(deployment, gateway, sent, protect) == served
