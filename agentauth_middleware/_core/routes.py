"""Which ``Route`` a request falls under, so that no spelling of a path walks around it.

Frameworks and servers do not agree on what a path is: some merge slashes, some resolve
dots, some decode twice, some drop the mount. A request is therefore looked up under
every spelling by which a framework might route it. Where the spellings fall under
different routes nobody can say which one the framework will take, and the request is
refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.http import Request
from agentauth_middleware._core.urls import path_of
from agentauth_middleware.errors import ActorRefusedError, InvalidRequestError
from agentauth_middleware.resource_server import ResourceServer, Route

UNMATCHED = Route("/*")
"""What a path demands that matches no route: a good token."""

_REMEMBERED_PATH_LENGTH = 512
_MAX_SPELLINGS = 64
_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class _Pattern:
    route: Route
    matches: Callable[[str], object]

    def applies(self, method: str, path: str) -> bool:
        methods = self.route.methods
        return (methods is None or method in methods) and bool(self.matches(path))


class RouteTable:
    """The routes of one resource server, ready to be asked."""

    def __init__(self, server: ResourceServer, *, application_root: str = "") -> None:
        """*application_root* is a mount that the application assumes by itself."""
        self._patterns = [
            _Pattern(route, _compile(route.pattern)) for route in server.routes
        ]
        self._refuses_unmatched = server.unmatched == "refuse"
        self._own_prefixes = (path_of(server.resource), application_root)
        self._remembered: BoundedMap[tuple[str, str, str], Route] = BoundedMap(2048)

    def select(self, request: Request) -> Route:
        """The route that *request* falls under.

        Raises:
            InvalidRequestError: its spellings fall under different ones.
            ActorRefusedError: it falls under none, and such requests are refused.
        """
        key = (request.method, request.path, request.mount)
        route = self._remembered.get(key)
        if route is None:
            route = self._find(request)
            if len(request.path) <= _REMEMBERED_PATH_LENGTH:
                self._remembered.put(key, route)
        return route

    def _find(self, request: Request) -> Route:
        method = "GET" if request.method == "HEAD" else request.method
        below = _without_prefix(request.path, request.mount)
        selected = self._first_match(method, below)
        others = {
            self._first_match(method, spelling)
            for spelling in self._spellings(request.path, below)
        } - {selected}
        if not others:
            return self._or_unmatched(selected)
        return self._reconcile(selected, others)

    def _first_match(self, method: str, path: str) -> Route | None:
        for pattern in self._patterns:
            if pattern.applies(method, path):
                return pattern.route
        return None

    def _reconcile(self, selected: Route | None, others: set[Route | None]) -> Route:
        """One route beside no route is the stricter of the two; all else is unclear."""
        stricter = (others | {selected}) - {None}
        if len(stricter) == 1 and not self._refuses_unmatched:
            (route,) = stricter
            if route is not None and not route.public and not route.optional:
                return route
        raise InvalidRequestError("ambiguous_path")

    def _or_unmatched(self, route: Route | None) -> Route:
        if route is not None:
            return route
        if self._refuses_unmatched:
            raise ActorRefusedError("unmatched_path")
        return UNMATCHED

    def _spellings(self, path: str, below: str) -> Iterator[str]:
        """Every other path under which a framework might route *path*."""
        starts = {below, unquote(below)}
        for prefix in self._own_prefixes:
            starts.add(_without_prefix(below, prefix))
            starts.add(_without_prefix(unquote(below), prefix))
        seen: set[str] = set()
        waiting = list(starts)
        while waiting:
            spelling = waiting.pop()
            if spelling in seen:
                continue
            if len(seen) == _MAX_SPELLINGS:
                raise InvalidRequestError("ambiguous_path", "too many spellings")
            seen.add(spelling)
            waiting.extend(rewrite(spelling) for rewrite in _REWRITES)
        return iter(seen)


def _compile(pattern: str) -> Callable[[str], object]:
    """``{name}`` is one segment, a final ``*`` the rest, all else stands for itself."""
    head, star = (pattern[:-1], ".*") if pattern.endswith("*") else (pattern, "")
    parts = [re.escape(part) for part in _PLACEHOLDER.split(head)]
    return re.compile("[^/]+".join(parts) + star, re.DOTALL).fullmatch


def _without_prefix(path: str, prefix: str) -> str:
    """*path* below *prefix*; *path* itself where it does not stand below it."""
    prefix = prefix.rstrip("/")
    if not prefix or not path.startswith(prefix):
        return path
    rest = path[len(prefix) :]
    if rest and not rest.startswith("/"):
        return path
    return rest or "/"


def _merged_slashes(path: str) -> str:
    return re.sub("/{2,}", "/", path)


def _resolved_dots(path: str) -> str:
    if "/." not in path:
        return path
    resolved = posixpath.normpath(path)
    return resolved + "/" if path.endswith("/") and resolved != "/" else resolved


def _forward_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _dropped_slash(path: str) -> str:
    return path.removesuffix("/") or "/"


_REWRITES = (_merged_slashes, _resolved_dots, _forward_slashes, _dropped_slash)
