"""A route that no request can reach is refused, and only such a one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentauth_middleware._core.policy.route_table import RouteTable
from agentauth_middleware.errors import ConfigurationError, InvalidRequestError
from agentauth_middleware.settings.reachability import check_reachable
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from tests.support.deciding import PlainRequest
from tests.support.tokens import RESOURCE, issuer

ISSUERS = [issuer()]


def is_shadowed(earlier: Route, later: Route) -> bool:
    """Whether *later* is refused behind *earlier*."""
    try:
        check_reachable([earlier, later])
    except ConfigurationError:
        return True
    return False


def selected(routes: list[Route], method: str, path: str) -> Route | None:
    """The one of *routes* that such a request falls under, if that is clear."""
    server = ResourceServer(RESOURCE, issuers=ISSUERS, routes=routes)
    with suppress(InvalidRequestError):
        found = RouteTable(server).select(PlainRequest(method, path))
        return next((route for route in routes if route is found), None)
    return None


# By example


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param("/notes", "/notes", id="the same"),
        pytest.param("/", "/", id="root"),
        pytest.param("/*", "/", id="everything, root"),
        pytest.param("/*", "/*", id="everything, everything"),
        pytest.param("/*", "/notes", id="everything, literal"),
        pytest.param("/*", "/notes/{id}/*", id="everything, all forms"),
        pytest.param("/notes/*", "/notes", id="rest, without its slash"),
        pytest.param("/notes/*", "/notes/", id="rest, empty"),
        pytest.param("/notes/*", "/notes/7", id="rest, literal"),
        pytest.param("/notes/*", "/notes/{id}", id="rest, segment"),
        pytest.param("/notes/*", "/notes/{id}/tags/*", id="rest, narrower rest"),
        pytest.param("/{any}", "/notes", id="segment, literal"),
        pytest.param("/{any}", "/{other}", id="segment, segment of another name"),
        pytest.param("/{any}/tags", "/notes/tags", id="segment in front"),
        pytest.param("/{a}/{b}", "/notes/{id}", id="segments"),
        pytest.param("/{any}/*", "/notes/*", id="segment and rest"),
        pytest.param("/{any}/*", "/notes", id="segment and rest, without its slash"),
        pytest.param("/notes/", "/notes", id="final slash, without"),
        pytest.param("/notes/", "/notes/", id="final slash, with"),
        pytest.param("/{any}/", "/notes", id="segment with final slash"),
    ],
)
def test_route_behind_one_that_takes_all_its_paths_is_refused(
    earlier: str, later: str
) -> None:
    assert is_shadowed(Route(earlier), Route(later))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param("/notes", "/note", id="another literal"),
        pytest.param("/notes", "/notes2", id="beginning alike"),
        pytest.param("/notes", "/Notes", id="in upper case"),
        pytest.param("/notes", "/notes/", id="with a final slash"),
        pytest.param("/notes", "/notes/7", id="longer"),
        pytest.param("/notes", "/notes/*", id="with a rest"),
        pytest.param("/notes", "/{any}", id="literal, segment"),
        pytest.param("/notes", "/*", id="literal, everything"),
        pytest.param("/", "/notes", id="root, literal"),
        pytest.param("/", "/*", id="root, everything"),
        pytest.param("/", "/{any}", id="root, segment"),
        pytest.param("/notes/7", "/notes/{id}", id="one of many"),
        pytest.param("/notes/{id}", "/notes", id="segment, nothing"),
        pytest.param("/notes/{id}", "/notes/", id="segment, empty segment"),
        pytest.param("/notes/{id}", "/notes/*", id="segment, rest"),
        pytest.param("/notes/{id}", "/notes/{id}/", id="segment, with a slash"),
        pytest.param("/notes/{id}", "/mail/{id}", id="elsewhere"),
        pytest.param("/notes/{id}/*", "/notes/*", id="narrower rest, rest"),
        pytest.param("/notes/{id}/*", "/notes/", id="narrower rest, empty"),
        pytest.param("/notes/*", "/{any}/*", id="literal rest, segment rest"),
        pytest.param("/notes/*", "/notes2/x", id="rest, beginning alike"),
        pytest.param("/notes/", "/notes/*", id="final slash, rest"),
        pytest.param("/notes/", "/notes/{id}", id="final slash, segment"),
        pytest.param("/{any}/tags", "/notes/{id}", id="crosswise"),
    ],
)
def test_route_that_has_a_path_of_its_own_stays(earlier: str, later: str) -> None:
    assert not is_shadowed(Route(earlier), Route(later))


@pytest.mark.parametrize(
    ("earlier", "later", "shadowed"),
    [
        pytest.param(None, None, True, id="all, all"),
        pytest.param(None, ["GET"], True, id="all, one"),
        pytest.param(["GET"], None, False, id="one, all"),
        pytest.param(["GET"], ["GET"], True, id="the same"),
        pytest.param(["GET"], ["POST"], False, id="another"),
        pytest.param(["GET", "POST"], ["POST"], True, id="two, one"),
        pytest.param(["POST"], ["GET", "POST"], False, id="one, two"),
        pytest.param(["GET"], ["HEAD"], True, id="GET, HEAD"),
        pytest.param(["GET"], ["GET", "HEAD"], True, id="GET, GET and HEAD"),
        pytest.param(["HEAD"], ["GET"], False, id="HEAD, GET"),
        pytest.param(["POST"], ["HEAD"], False, id="POST, HEAD"),
    ],
)
def test_route_is_refused_where_its_methods_are_taken_too(
    earlier: list[str] | None, later: list[str] | None, shadowed: bool
) -> None:
    wide, narrow = Route("/*", methods=earlier), Route("/notes", methods=later)

    assert is_shadowed(wide, narrow) == shadowed


def test_what_the_routes_demand_makes_no_difference() -> None:
    assert is_shadowed(Route("/*", public=True), Route("/admin", agent="forbidden"))
    assert is_shadowed(Route("/notes", scopes=["a"]), Route("/notes", scopes=["a"]))


def test_shadow_falls_over_routes_in_between() -> None:
    routes = [Route("/api/*"), Route("/health", public=True), Route("/api/admin")]

    with pytest.raises(ConfigurationError, match="Route\\('/api/admin'\\)"):
        check_reachable(routes)
    check_reachable([routes[2], routes[1], routes[0]])
    check_reachable([])


def test_settings_with_such_a_route_name_both_and_the_fix() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ResourceServer(
            RESOURCE,
            issuers=ISSUERS,
            routes=[Route("/notes/*"), Route("/notes/{id}", agent="forbidden")],
        )

    assert str(refused.value) == (
        "Route('/notes/{id}'): can never match, because Route('/notes/*') before it "
        "takes all its requests; put it first, or remove it"
    )


# By trying: against what really is selected


def spelt(segments: list[str], end: str) -> str:
    return "".join(f"/{each}" for each in segments) + end or "/"


def route(segments: list[str], end: str, methods: list[str] | None) -> Route:
    return Route(spelt(segments, end), methods=methods)


METHODS = ["GET", "HEAD", "POST"]
ROUTES = st.builds(
    route,
    st.lists(st.sampled_from(["a", "b", "{x}", "{y}"]), max_size=3),
    st.sampled_from(["", "", "/", "/*"]),
    st.none() | st.lists(st.sampled_from(METHODS), min_size=1, unique=True),
)
REQUESTS = st.tuples(
    st.sampled_from([*METHODS, "PUT"]),
    st.builds(
        spelt,
        st.lists(st.sampled_from(["a", "b", "c", "A", "."]), max_size=4),
        st.sampled_from(["", "/", "//"]),
    ),
)


@given(ROUTES, ROUTES, REQUESTS)
@settings(deadline=None, max_examples=300)
def test_refused_route_would_never_have_been_selected(
    earlier: Route, later: Route, asked: tuple[str, str]
) -> None:
    """Whatever request falls under it alone falls under the one before it."""
    if is_shadowed(earlier, later):
        for method, path in (asked, *requests_of(later)):
            if selected([later], method, path) is later:
                assert selected([earlier], method, path) is earlier


@given(ROUTES, ROUTES)
@settings(deadline=None, max_examples=300)
def test_route_that_stays_is_selected_by_some_request(
    earlier: Route, later: Route
) -> None:
    if not is_shadowed(earlier, later):
        routes = [earlier, later]
        assert any(selected(routes, *asked) is later for asked in requests_of(later))


def requests_of(route: Route) -> Iterator[tuple[str, str]]:
    """A request of each kind that *route* takes, of words that no pattern has."""
    stem = route.pattern.replace("{x}", "new").replace("{y}", "newer")
    paths = [stem]
    if stem.endswith("*"):
        paths = [stem.removesuffix("*") + rest for rest in ("", "rest", "rest/of/it")]
    if stem[-1] in "/*":
        paths.append(stem.rstrip("/*"))
    for method in route.methods or ["GET", "PUT"]:
        yield from ((method, path) for path in paths)
