"""Which route a request falls under, by its pattern and by every spelling of it."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from urllib.parse import unquote

import pytest

from agentauth_middleware._core.policy.route_table import REFUSED, UNMATCHED, RouteTable
from agentauth_middleware._syntax.http import Request
from agentauth_middleware.errors import InvalidRequestError
from agentauth_middleware.settings.demands import Demands
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from agentauth_middleware.testing import FakeIssuer
from tests.support.deciding import PlainRequest

ISSUER = FakeIssuer().trust()

HEALTH = Route("/health", public=True)
GREETING = Route("/greeting", optional=True)
NOTES = Route("/notes", scopes=("notes",))
NOTE = Route("/notes/{id}", scopes=("note",))
ADMIN = Route("/admin", scopes=("admin",))
STATIC = Route("/static/*", public=True)
EVERYTHING = Route("/*", scopes=("everything",))


def table(
    *routes: Route,
    resource: str = "https://api.example.com",
    unmatched: str = "authenticated",
    application_root: str = "",
) -> RouteTable:
    server = ResourceServer(
        resource,
        issuers=[ISSUER],
        routes=routes,
        unmatched=unmatched,  # type: ignore[arg-type]
    )
    return RouteTable(server, application_root=application_root)


def request(
    path: str, *, method: str = "GET", mount: str = "", raw: bytes | None = None
) -> Request:
    """*raw* is by default the usual encoding of *path*."""
    return PlainRequest(method, path, mount=mount, raw=raw)


def on_the_wire(raw: str, *, mount: str = "") -> Request:
    """What an ASGI server makes of the target *raw*."""
    return PlainRequest("GET", unquote(raw), mount=mount, raw=raw.encode())


def ambiguous(routes: RouteTable, asked: Request) -> bool:
    """Whether nobody can say what *asked* falls under."""
    try:
        routes.select(asked)
    except InvalidRequestError as refused:
        return refused.reason == "ambiguous_path"
    return False


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        pytest.param("/", "/", id="root"),
        pytest.param("/", "", id="root without its slash"),
        pytest.param("/notes", "/notes", id="literal"),
        pytest.param("/a.b+c(d)", "/a.b+c(d)", id="no regular expression"),
        pytest.param("/notes/{id}", "/notes/7", id="segment"),
        pytest.param("/notes/{id}", "/notes/a b.c;d=e", id="any segment"),
        pytest.param("/notes/{id}", "/notes/é", id="segment beyond ASCII"),
        pytest.param("/notes/{id}/tags/{tag}", "/notes/7/tags/x", id="segments"),
        pytest.param("/{any}", "/notes", id="first segment"),
        pytest.param("/files/*", "/files/a", id="rest"),
        pytest.param("/files/*", "/files/a/b/c", id="rest of many segments"),
        pytest.param("/files/*", "/files/", id="empty rest"),
        pytest.param("/files/*", "/files", id="no rest at all"),
        pytest.param("/files/*", "/files/a\nb", id="rest over several lines"),
        pytest.param("/{any}/files/*", "/x/files/y", id="segment and rest"),
        pytest.param("/*", "/", id="everything, the root"),
        pytest.param("/*", "/a/b", id="everything"),
        pytest.param("/notes/", "/notes/", id="slash at the end"),
        pytest.param("/notes/", "/notes", id="slash at the end left out"),
        pytest.param("/notes", "/notes/", id="slash at the end added"),
        pytest.param("/straße", "/straße", id="beyond ASCII"),
    ],
)
def test_pattern_matches(pattern: str, path: str) -> None:
    route = Route(pattern, scopes=("x",))

    assert table(route).select(request(path)) is route


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        pytest.param("/", "/notes", id="root is not everything"),
        pytest.param("/notes", "/note", id="shorter"),
        pytest.param("/notes", "/notes2", id="longer"),
        pytest.param("/notes", "/x/notes", id="deeper"),
        pytest.param("/a.b", "/axb", id="no regular expression"),
        pytest.param("/notes/{id}", "/notes", id="segment missing"),
        pytest.param("/notes/{id}", "/notes/7/8", id="one segment only"),
        pytest.param("/files/*", "/filesystem", id="whole segments only"),
        pytest.param("/files/*", "/x/files/a", id="rest of another"),
    ],
)
def test_pattern_does_not_match(pattern: str, path: str) -> None:
    route = Route(pattern, scopes=("x",))

    assert table(route).select(request(path)) is UNMATCHED


def test_first_match_wins() -> None:
    first = Route("/notes/{id}", scopes=("first",))
    second = Route("/{kind}/7", scopes=("second",))

    assert table(first, second).select(request("/notes/7")) is first
    assert table(second, first).select(request("/notes/7")) is second


@pytest.mark.parametrize(
    ("methods", "method", "applies"),
    [
        pytest.param(None, "PROPFIND", True, id="every method"),
        pytest.param(("GET",), "GET", True, id="GET"),
        pytest.param(("GET",), "HEAD", True, id="GET includes HEAD"),
        pytest.param(("HEAD",), "HEAD", True, id="HEAD"),
        pytest.param(("HEAD",), "GET", False, id="HEAD does not include GET"),
        pytest.param(("GET",), "POST", False, id="another"),
        pytest.param(("POST",), "HEAD", False, id="POST does not include HEAD"),
        pytest.param(("GET", "POST"), "POST", True, id="one of several"),
        pytest.param(("POST",), "post", True, id="lower case"),
        pytest.param(("GET",), "head", True, id="lower case of HEAD"),
    ],
)
def test_methods_of_a_route(
    methods: tuple[str, ...] | None, method: str, applies: bool
) -> None:
    """WSGI frameworks take a method in lower case for the one they know."""
    route = Route("/notes", methods=methods, scopes=("x",))
    selected = table(route).select(request("/notes", method=method))

    assert selected is (route if applies else UNMATCHED)


def test_method_in_lower_case_is_refused_where_it_matters() -> None:
    routes = table(
        Route("/notes", methods=("POST",), scopes=("write",)),
        Route("/notes", scopes=("read",)),
    )

    assert ambiguous(routes, request("/notes", method="post"))
    assert not ambiguous(table(NOTES), request("/notes", method="get"))


@pytest.mark.parametrize("route", [HEALTH, GREETING], ids=["public", "optional"])
def test_open_route_is_selected(route: Route) -> None:
    assert table(HEALTH, GREETING, NOTES).select(request(route.pattern)) is route


def test_unmatched_path_demands_a_token() -> None:
    assert table(HEALTH).select(request("/other")) is UNMATCHED
    assert not UNMATCHED.public
    assert not UNMATCHED.optional


def test_unmatched_path_is_refused_if_told_so() -> None:
    """It is ``decide`` that refuses, once it is known to whom."""
    routes = table(HEALTH, NOTES, unmatched="refuse")

    assert routes.select(request("/other")) is REFUSED
    assert routes.select(request("/notes")) is NOTES
    assert routes.select(request("/health")) is HEALTH


SPELLINGS = [
    pytest.param("//admin", id="doubled slash"),
    pytest.param("///admin", id="tripled slash"),
    pytest.param("/admin/", id="slash at the end"),
    pytest.param("/admin//", id="slashes at the end"),
    pytest.param("/./admin", id="dot"),
    pytest.param("/admin/.", id="dot at the end"),
    pytest.param("/x/../admin", id="two dots"),
    pytest.param("/../admin", id="two dots above the root"),
    pytest.param("/admin/x/..", id="two dots at the end"),
    pytest.param("/x//../../admin", id="two dots after an empty segment"),
    pytest.param("/\\admin", id="backslash"),
    pytest.param("/x\\..\\admin", id="backslashes and dots"),
    pytest.param("/%61dmin", id="letter encoded twice"),
    pytest.param("/%2fadmin", id="slash encoded twice"),
    pytest.param("/ADMIN", id="upper case"),
    pytest.param("/x/../aDmIn/", id="mixed case and dots"),
    pytest.param("/x/%2e%2e/admin", id="dots encoded twice"),
    pytest.param("/%5cadmin", id="backslash encoded twice"),
    pytest.param("//x/..//%2e/admin%2f", id="several at once"),
]


@pytest.mark.parametrize("path", SPELLINGS)
def test_spelling_meets_the_demands_of_what_it_spells(path: str) -> None:
    """Beside no route at all, a route is the stricter of the two."""
    assert table(HEALTH, ADMIN).select(request(path)) is ADMIN


@pytest.mark.parametrize("path", SPELLINGS)
def test_spelling_of_two_routes_is_refused(path: str) -> None:
    assert ambiguous(table(ADMIN, EVERYTHING), request(path))


@pytest.mark.parametrize("path", SPELLINGS)
def test_spelling_of_an_open_route_is_refused(path: str) -> None:
    """Whoever routes it as it stands may demand a token."""
    assert ambiguous(table(Route("/admin", public=True)), request(path))
    assert ambiguous(table(Route("/admin", optional=True)), request(path))


@pytest.mark.parametrize("path", SPELLINGS)
def test_spelling_of_a_route_is_refused_where_unmatched_paths_are(path: str) -> None:
    assert ambiguous(table(ADMIN, unmatched="refuse"), request(path))


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        pytest.param("admin", b"admin", id="no slash in front"),
        pytest.param("\\admin", b"%5Cadmin", id="backslash in front"),
        pytest.param("*", b"*", id="the server itself"),
        pytest.param("http://host/admin", b"http://host/admin", id="absolute"),
        pytest.param("/admin", b"http://host/admin", id="absolute, read by the server"),
        pytest.param("host:443", b"host:443", id="authority"),
        pytest.param("/admin#x", b"/admin#x", id="fragment"),
        pytest.param("/admin", b"/admin#x", id="fragment, cut by the server"),
        pytest.param("/admin\ufffd", b"/admin%FF", id="no UTF-8, replaced"),
        pytest.param("/admin\udcff", b"", id="no UTF-8, kept"),
        pytest.param("/admin\ufffd", b"", id="no UTF-8, and no raw path"),
        pytest.param("/admin", b"/admin%C0%AF", id="no UTF-8, dropped"),
    ],
)
@pytest.mark.parametrize("routes", [(ADMIN,), (STATIC,), ()])
def test_target_that_is_no_path_is_refused(
    routes: tuple[Route, ...], path: str, raw: bytes
) -> None:
    asked = request(path, raw=raw)

    with pytest.raises(InvalidRequestError) as refused:
        table(*routes).select(asked)

    assert refused.value.reason == "malformed_target"


def test_replacement_character_that_was_sent_is_a_character() -> None:
    assert table(NOTE).select(on_the_wire("/notes/%EF%BF%BD")) is NOTE


def test_encoded_slash_stays_in_its_segment_for_some_routers() -> None:
    """``/static%2Fx/admin`` is two segments to them, and no file of ``/static/``."""
    below = Route("/{tenant}/admin", scopes=("admin",))

    assert ambiguous(table(STATIC, below), on_the_wire("/static%2Fx/admin"))
    assert ambiguous(table(STATIC), on_the_wire("/static%2Fx/admin"))
    assert ambiguous(table(STATIC), on_the_wire("/api/static%2Fx/admin", mount="/api"))


@pytest.mark.parametrize("raw", ["/files/s%65cret", "/files/%73ecret"])
def test_escape_that_nobody_needs_is_another_path_to_some_routers(raw: str) -> None:
    """Sanic and BlackSheep route the raw path."""
    secret = Route("/files/secret", scopes=("secret",))
    files = Route("/files/*", scopes=("files",))

    assert ambiguous(table(secret, files), on_the_wire(raw))
    assert table(files).select(on_the_wire(raw)) is files


def test_encoded_slash_in_an_ordinary_path_is_no_ambiguity() -> None:
    assert table(NOTE).select(on_the_wire("/notes/a%2Fb")) is NOTE
    assert table(STATIC).select(on_the_wire("/static/a%2Fb.css")) is STATIC
    assert table(NOTE).select(on_the_wire("/api/notes/a%2Fb", mount="/api")) is NOTE


def test_raw_path_that_is_not_the_path_is_not_believed() -> None:
    """Something in front has rewritten the path and left what it was made of."""
    routes = table(NOTE, HEALTH)

    assert routes.select(request("/health", raw=b"/v1%2Fhealth")) is HEALTH


def test_raw_path_counts_for_what_is_remembered() -> None:
    routes = table(STATIC)

    assert routes.select(on_the_wire("/static/x/admin")) is STATIC
    assert ambiguous(routes, on_the_wire("/static%2Fx/admin"))


def test_path_in_other_case_meets_what_routers_without_case_would_demand() -> None:
    me = Route("/users/me", scopes=("me",))
    user = Route("/users/{id}", scopes=("user",))

    assert ambiguous(table(me, user), request("/users/ME"))
    assert table(me, user).select(request("/users/ABC")) is user
    assert ambiguous(table(HEALTH), request("/Health"))


def test_mount_is_taken_off_wherever_it_first_occurs() -> None:
    """As Litestar does below a root path that a server has set."""
    users = Route("/admin/users", scopes=("admin",))
    health = Route("/health/*", public=True)
    path = "/health/api/admin/users"

    assert ambiguous(table(health, users), request(path, mount="/api"))
    assert not ambiguous(table(health, users), request(path))


@pytest.mark.parametrize("path", ["/admin/users", "/api/admin/users"])
def test_pattern_written_with_the_mount_guards_what_has_lost_it(path: str) -> None:
    users = Route("/api/admin/*", scopes=("admin",))

    assert table(users).select(request(path, mount="/api")) is users
    assert table(users, application_root="/api").select(request(path)) is users
    behind_proxy = table(users, resource="https://api.example.com/api")
    assert behind_proxy.select(request(path)) is users


def test_open_pattern_written_with_the_path_of_the_resource_opens_nothing() -> None:
    health = Route("/tools/health", public=True)
    routes = table(health, NOTES, resource="https://api.example.com/tools")

    assert routes.select(request("/health")) is UNMATCHED
    assert routes.select(request("/notes")) is NOTES


GUARDED_BY_METHOD = (
    Route("/notes", methods=("GET",), scopes=("read",), agent="required"),
    Route("/notes", methods=("POST",), any_scopes=("write", "all"), user="required"),
    Route("/notes", methods=("PURGE",), scopes=("purge",)),
)


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "QUERY", "X"])
def test_method_that_no_route_names_meets_the_demands_of_all(method: str) -> None:
    selected = table(*GUARDED_BY_METHOD).select(request("/notes", method=method))

    assert selected.demands == Demands(
        ("read", "purge"), (("write", "all"),), "required", "required"
    )
    assert not selected.public
    assert not selected.optional


def test_unusual_method_that_a_route_names_is_under_that_route() -> None:
    routes = table(*GUARDED_BY_METHOD)

    assert routes.select(request("/notes", method="PURGE")) is GUARDED_BY_METHOD[2]


def test_method_that_no_route_names_is_asked_about_if_any_route_is() -> None:
    asked = FakeIssuer().trust(
        introspection=Introspection("us", client_secret="s" * 32),
        opaque_prefixes=("o_",),
    )
    server = ResourceServer(
        "https://api.example.com",
        issuers=[asked],
        routes=[
            Route("/notes", methods=["GET"], scopes=["a"]),
            Route("/notes", methods=["POST"], scopes=["b"], introspect=True),
        ],
    )

    assert RouteTable(server).select(request("/notes", method="OPTIONS")).introspect


@pytest.mark.parametrize(
    "other",
    [Route("/*", public=True), Route("/notes", optional=True)],
    ids=["public", "optional"],
)
def test_method_that_no_route_names_is_open_only_if_all_are(other: Route) -> None:
    notes = Route("/notes", methods=("GET",), scopes=("notes",))

    assert table(notes, other).select(request("/notes", method="OPTIONS")) is notes
    assert table(other).select(request("/notes", method="OPTIONS")) is other


def test_demands_that_exclude_each_other_let_no_method_through() -> None:
    routes = table(
        Route("/notes", methods=("GET",), agent="required"),
        Route("/notes", methods=("POST",), agent="forbidden"),
    )

    assert routes.select(request("/notes", method="OPTIONS")) is REFUSED


def test_spelling_out_of_an_open_route_is_refused() -> None:
    assert ambiguous(table(STATIC, ADMIN), request("/static/../admin"))
    assert ambiguous(table(STATIC), request("/static/../anything"))


def test_spelling_that_resolves_dots_without_merging_slashes_is_tried() -> None:
    """By RFC 3986 §5.2.4 an empty segment is one that ``..`` removes."""
    deep = Route("/x/admin", scopes=("deep",))

    assert table(deep).select(request("/x//../admin")) is deep


def test_spelling_that_leaves_a_slash_at_the_end_is_tried() -> None:
    below = Route("/notes/*", scopes=("below",))

    assert ambiguous(table(NOTES, below), request("/x/../notes/."))
    assert ambiguous(table(NOTES, below), request("/x/../notes/7/.."))


def test_spelling_with_slashes_merged_only_in_front_is_tried() -> None:
    """As werkzeug does, even where it is told not to merge."""
    exact = Route("/files/a", scopes=("exact",))
    rest = Route("/files/*", scopes=("rest",))

    assert ambiguous(table(exact, rest), request("//files//a"))


def test_newline_at_the_end_is_refused() -> None:
    """Starlette's ``$`` stands before it: ``/admin%0A`` is ``/admin`` there."""
    assert ambiguous(table(ADMIN), request("/admin\n"))
    assert ambiguous(table(ADMIN), request("/admin%0A"))
    assert ambiguous(table(EVERYTHING), request("/mount/admin\n"))


def test_routes_that_demand_the_same_are_not_ambiguous() -> None:
    one = Route("/notes", methods=("GET",), scopes=("notes",))
    many = Route("/notes/*", scopes=("notes",))

    assert table(one, many).select(request("/notes/")) is many
    assert not ambiguous(table(HEALTH, STATIC), request("/static/../health"))


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        pytest.param("/api/notes", "/api", id="below"),
        pytest.param("/notes", "/api", id="prefix stripped by a proxy"),
        pytest.param("/notes", "", id="no mount"),
        pytest.param("/api/v1/notes", "/api/v1", id="mount of two segments"),
        pytest.param("/a b/notes", "/a b", id="mount with a space"),
        pytest.param("/api//notes", "/api/", id="mount with a slash at its end"),
        pytest.param("//notes", "/", id="mount that is none"),
        pytest.param("/apinotes", "/api", id="what follows has no slash in front"),
    ],
)
def test_pattern_is_matched_below_the_mount(path: str, mount: str) -> None:
    assert table(NOTES).select(request(path, mount=mount)) is NOTES


@pytest.mark.parametrize("path", ["/health", "/api/health"])
def test_open_route_below_the_mount_is_not_ambiguous(path: str) -> None:
    routes = table(HEALTH, EVERYTHING, resource="https://api.example.com/api")

    assert routes.select(request(path, mount="/api")) is HEALTH


def test_open_route_that_begins_like_the_mount_is_not_ambiguous() -> None:
    docs = Route("/api-docs", public=True)
    routes = table(docs, EVERYTHING, resource="https://api.example.com/api")

    assert routes.select(request("/api-docs", mount="/api")) is docs
    assert routes.select(request("/api/api-docs", mount="/api")) is docs
    assert routes.select(request("/api-docs")) is docs


def test_pattern_that_spells_out_the_mount_applies() -> None:
    """It need not, but whoever writes it means it."""
    admin = Route("/api/admin", scopes=("admin",))

    assert table(admin).select(request("/api/admin", mount="/api")) is admin
    assert table(admin).select(request("/api//admin", mount="/api")) is admin
    assert ambiguous(table(admin, EVERYTHING), request("/api/admin", mount="/api"))
    assert not ambiguous(
        table(admin, HEALTH, EVERYTHING), request("/api/health", mount="/api")
    )


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        pytest.param("/apinotes", None, id="slash left out, which Quart adds"),
        pytest.param("/x/api/notes", None, id="behind the mount, as in Litestar"),
        pytest.param("/x/../notes", None, id="dots above the mount"),
        pytest.param("/notes/a/b", b"/notes/a%2Fb", id="by segment, as in Sanic"),
    ],
)
def test_pattern_with_the_mount_applies_to_all_spellings_below_it(
    path: str, raw: bytes | None
) -> None:
    notes = Route("/api/notes", scopes=("notes",))
    note = Route("/api/notes/{id}", scopes=("notes",))
    selected = table(notes, note).select(request(path, mount="/api", raw=raw))

    assert selected in (notes, note)


def test_root_of_the_application_counts_as_the_mount() -> None:
    """``FastAPI(root_path=…)`` takes it off, whether the server knows it or not."""
    routes = table(HEALTH, NOTES, EVERYTHING, application_root="/api")

    assert routes.select(request("/api/notes")) is NOTES
    assert routes.select(request("/api/health")) is HEALTH
    assert routes.select(request("/health")) is HEALTH
    assert routes.select(request("/api/health", mount="/api")) is HEALTH
    assert routes.select(request("/health", mount="/api")) is HEALTH


def test_root_of_the_application_that_the_server_knows_otherwise() -> None:
    """Which of the two is taken off depends on the framework."""
    routes = table(HEALTH, NOTES, application_root="/api")

    assert routes.select(request("/srv/notes", mount="/srv")) is NOTES
    assert routes.select(request("/api/notes", mount="/srv")) is NOTES
    assert ambiguous(routes, request("/srv/health", mount="/srv"))


def test_path_of_the_resource_may_be_left_out_of_patterns() -> None:
    """Something between the middleware and the routes may take it off."""
    routes = table(NOTES, resource="https://api.example.com/api")

    assert routes.select(request("/api/notes")) is NOTES
    assert routes.select(request("//api//notes")) is NOTES
    assert ambiguous(
        table(NOTES, EVERYTHING, resource="https://api.example.com/api"),
        request("/api/notes"),
    )


def test_path_of_the_resource_is_compared_decoded() -> None:
    routes = table(NOTES, resource="https://api.example.com/my%20api")

    assert routes.select(request("/my api/notes")) is NOTES


@pytest.mark.parametrize("unmatched", ["authenticated", "refuse"])
def test_pattern_may_spell_out_the_path_of_the_resource(unmatched: str) -> None:
    """Then nothing takes it off, and ordinary requests are not ambiguous."""
    health = Route("/tools/health", public=True)
    tools = Route("/tools/*", scopes=("tools",))
    routes = table(
        health,
        tools,
        HEALTH,
        resource="https://api.example.com/tools",
        unmatched=unmatched,
    )

    assert routes.select(request("/tools/health")) is health
    assert routes.select(request("/tools")) is tools
    assert routes.select(request("/tools/x/y")) is tools
    assert routes.select(request("/health")) is HEALTH


@pytest.mark.parametrize(
    "path",
    [
        "/files/report.v1..txt",
        "/files/.hidden",
        "/files/...",
        "/files/a b/ü/日本",
        "/files/100%",
        "/files/50%25",
        "/files/a+b@example.com;v=1,2",
        "/files/https://example.com//x",
        "/files/",
        "/files",
        "/files/" + "a" * 16_000,
    ],
)
@pytest.mark.parametrize("route", [NOTES, Route("/files/*", public=True)])
def test_ordinary_path_is_not_ambiguous(path: str, route: Route) -> None:
    routes = table(HEALTH, route, EVERYTHING)
    expected = route if route.public else EVERYTHING

    assert routes.select(request(path)) is expected


def test_path_is_remembered_with_its_method_and_its_mount() -> None:
    write = Route("/notes", methods=("POST",), scopes=("write",))
    routes = table(write, NOTES, HEALTH)

    assert routes.select(request("/notes", method="POST")) is write
    assert routes.select(request("/notes")) is NOTES
    assert routes.select(request("/api/notes")) is UNMATCHED
    assert routes.select(request("/api/notes", mount="/api")) is NOTES


@pytest.mark.parametrize(
    ("method", "filling", "mount"),
    [
        pytest.param("GET", "", "", id="short paths"),
        pytest.param("GET", "é" * 480, "", id="paths as long as are remembered"),
        pytest.param("GET", "a" * 16_000, "", id="long paths"),
        pytest.param("A" * 16_000, "", "", id="long methods"),
        pytest.param("GET", "", "/" + "m" * 16_000, id="long mounts"),
    ],
)
def test_flood_of_distinct_paths_takes_no_more_memory(
    method: str, filling: str, mount: str
) -> None:
    routes = table(NOTE)

    def flood(numbers: range) -> int:
        for number in numbers:
            asked = request(
                f"/notes/{number}{filling}",
                method=f"{method}{number}",
                mount=f"{mount}{number}",
            )
            routes.select(asked)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = flood(range(10))
        after = flood(range(10, 2500))
        in_the_end = flood(range(2500, 5000))
    finally:
        tracemalloc.stop()

    assert after - before < 4_000_000
    assert in_the_end - before < 4_000_000


@pytest.mark.parametrize(
    "piece",
    [
        "/../",
        "/..",
        "/a/..",
        "/./",
        "/",
        "\\",
        "/\\..\\",
        "%25",
        "/%2e%2e",
        "/a//..\\%2e%2e/",
        "/api",
        "/api//..\\./%5c",
        "/é/./",
        "/a",
        "/\n",
    ],
)
@pytest.mark.parametrize("mount", ["", "/api"])
def test_pathological_path_gets_an_answer(piece: str, mount: str) -> None:
    """And in bounded time: left to itself, the number of spellings explodes."""
    many = [Route(f"/r{number}/{{id}}", scopes=("x",)) for number in range(50)]
    routes = table(HEALTH, *many, STATIC, resource="https://api.example.com/api")
    path = piece * (16 * 1024 // len(piece))

    with suppress(InvalidRequestError):
        assert routes.select(request(mount + path, mount=mount)).scopes in ((), ("x",))
