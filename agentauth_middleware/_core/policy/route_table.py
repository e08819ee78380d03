"""Which ``Route`` a request falls under, so that no spelling of a path walks around it.

Frameworks and servers do not agree on what a path is: some merge slashes, some resolve
dots, some decode twice, some drop the mount. A request is therefore looked up under
every spelling by which a framework might route it. Where the spellings meet different
demands nobody can say which of them the framework will take, and the request is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from urllib.parse import unquote

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._syntax.http import Request
from agentauth_middleware._syntax.urls import path_of
from agentauth_middleware.errors import InvalidRequestError
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route

_Rewrite: TypeAlias = Callable[[str], str]

UNMATCHED = Route("/*")
"""What a path demands that matches no route: a good token."""
REFUSED = Route("/*")
"""A path that matches no route where such paths are refused: not before the token is
verified, so that the answer is in the order of all others and the log can say whose."""

_MAX_REMEMBERED_LENGTH = 512
"""Of method, path and mount together, so that memory is bounded in bytes as well."""
_MAX_SPELT = 32 * 1024
"""Characters in all spellings of one path: what is long may not be intricate, too."""
_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """A route, ready to be compared with paths and with other routes."""

    route: Route
    methods: frozenset[str] | None
    matches: Callable[[str], object]
    demands: Route
    """Equal for two rules that demand the same."""

    def applies(self, method: str, path: str) -> bool:
        fits = self.methods is None or method in self.methods
        return fits and bool(self.matches(path))

    def spells_out(self, prefix: str) -> bool:
        """Whether the pattern was written for paths that begin with *prefix*."""
        return self.route.pattern.startswith(prefix.rstrip("/"))


class RouteTable:
    """The routes of one resource server, ready to be asked."""

    def __init__(self, server: ResourceServer, *, application_root: str = "") -> None:
        """*application_root* is the mount that the application assumes by itself."""
        self._rules = [_rule(route) for route in server.routes]
        self._refuses_rest = server.unmatched == "refuse"
        self._rest = _rule(REFUSED if self._refuses_rest else UNMATCHED)
        self._application_root = application_root
        self._resource_path = unquote(path_of(server.resource)).rstrip("/")
        self._remembered: BoundedMap[tuple[str, str, str], Route] = BoundedMap(2048)

    def select(self, request: Request) -> Route:
        """The route that *request* falls under.

        Raises:
            InvalidRequestError: its spellings meet different demands.
        """
        key = (request.method, request.path, request.mount)
        route = self._remembered.get(key)
        if route is None:
            route = self._reconcile(dict.fromkeys(self._find(request)))
            if sum(map(len, key)) <= _MAX_REMEMBERED_LENGTH:
                self._remembered.put(key, route)
        return route

    def _find(self, request: Request) -> Iterator[_Rule]:
        """The rule of *request*, then those of all its spellings."""
        path, mount = request.path, self._application_root or request.mount
        below = _below(mount, path)
        selected = self._first_match(request.method, below)
        yield selected
        starts = [below]
        if not selected.spells_out(mount):
            # To WSGI what follows it is a path, with a slash in front or without.
            starts.append(path.removeprefix(mount))
        if mount != request.mount != "":
            # The server names another one, and not every application overrules it.
            starts.append(_below(request.mount, path))
        rewrites = _REWRITES
        if not selected.spells_out(self._resource_path):
            # Something behind the door may take it off without our knowledge.
            rewrites = (*_REWRITES, self._without_resource_path)
        spellings = _spellings(starts, rewrites)
        with_mount = _spellings((path,), rewrites) if self._names(mount) else ()
        # Some frameworks take a method in lower case for the one they know.
        for method in {request.method, request.method.upper()}:
            yield from (self._first_match(method, spelling) for spelling in spellings)
            for spelling in with_mount:
                rule = self._first_match(method, spelling)
                if rule.spells_out(mount):
                    yield rule

    def _first_match(self, method: str, path: str) -> _Rule:
        for rule in self._rules:
            if rule.applies(method, path):
                return rule
        return self._rest

    def _without_resource_path(self, path: str) -> str:
        return path.removeprefix(self._resource_path)

    def _names(self, mount: str) -> bool:
        """Whether patterns mention *mount*, though they need not."""
        is_mounted = bool(mount.strip("/"))
        return is_mounted and any(rule.spells_out(mount) for rule in self._rules)

    def _reconcile(self, found: Collection[_Rule]) -> Route:
        chosen = next((rule for rule in found if rule is not self._rest), self._rest)
        if not all(self._agree(chosen, rule) for rule in found):
            raise InvalidRequestError("ambiguous_path")
        return chosen.route

    def _agree(self, chosen: _Rule, other: _Rule) -> bool:
        """One route beside no route is the stricter of the two; all else is unclear."""
        if other is self._rest and chosen is not self._rest:
            is_open = chosen.route.public or chosen.route.optional
            return not is_open and not self._refuses_rest
        return other.demands == chosen.demands


def _rule(route: Route) -> _Rule:
    methods = frozenset(route.methods) if route.methods is not None else None
    if methods is not None and "GET" in methods:
        methods |= {"HEAD"}
    demands = replace(route, pattern="/*", methods=None)
    return _Rule(route, methods, _compile(route.pattern), demands)


def _compile(pattern: str) -> Callable[[str], object]:
    """``{name}`` is one segment, a final ``*`` the rest, all else stands for itself.

    What ends in ``/`` or ``/*`` covers the path without that slash as well: routers
    that are lenient about slashes serve a collection under both.
    """
    head = pattern.removesuffix("*").removesuffix("/")
    end = {"*": "(?:/.*)?", "/": "/?"}.get(pattern[-1], "")
    parts = [re.escape(part) for part in _PLACEHOLDER.split(head)]
    return re.compile("[^/]+".join(parts) + end, re.DOTALL).fullmatch


def _below(mount: str, path: str) -> str:
    """*path* below *mount*; *path* itself where it does not stand below it."""
    rest = path.removeprefix(mount)
    if rest == path or rest[:1] not in ("", "/"):
        return path
    return rest or "/"


def _spellings(starts: Iterable[str], rewrites: Sequence[_Rewrite]) -> list[str]:
    """*starts*, decoded once more or not, and whatever can be made of them.

    Raises:
        InvalidRequestError: there are too many, or one that no two routers read alike.
    """
    waiting = [decoded for start in starts for decoded in (start, unquote(start))]
    seen: dict[str, None] = {}
    characters = 0
    while waiting:
        spelling = waiting.pop()
        if spelling in seen:
            continue
        if spelling.endswith("\n"):
            # The "$" of a router's pattern may stand before it.
            raise InvalidRequestError("ambiguous_path", "a newline at its end")
        if characters > _MAX_SPELT:
            raise InvalidRequestError("ambiguous_path", "too many spellings")
        seen[spelling] = None
        characters += len(spelling)
        waiting.extend(rewrite(spelling) for rewrite in rewrites)
    return list(seen)


def _one_leading_slash(path: str) -> str:
    return "/" + path.lstrip("/")


def _merged_slashes(path: str) -> str:
    if "//" not in path:
        return path
    return re.sub("/{2,}", "/", path)


def _resolved_dots(path: str) -> str:
    """Without ``.`` and ``..``; empty segments count (RFC 3986 §5.2.4)."""
    if "/." not in path:
        return path
    first, *segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join([first, *kept])


def _forward_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _without_final_slashes(path: str) -> str:
    return path.rstrip("/") or "/"


_REWRITES: tuple[_Rewrite, ...] = (
    _one_leading_slash,
    _merged_slashes,
    _resolved_dots,
    _forward_slashes,
    _without_final_slashes,
)
