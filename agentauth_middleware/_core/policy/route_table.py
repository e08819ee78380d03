"""Which ``Route`` a request falls under, so that no spelling of a path walks around it.

A request is looked up under every spelling by which a framework might route it. Where
the spellings meet different demands it is unclear which of them the framework will
take, and the request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, reduce
from urllib.parse import unquote

from agentauth_middleware._core.cache import BoundedMap
from agentauth_middleware._core.policy.spellings import (
    REWRITES,
    Rewrite,
    all_spellings,
    behind_first,
    below,
    check_target,
    raw_readings,
)
from agentauth_middleware._syntax.http import Request
from agentauth_middleware._syntax.listing import one_of
from agentauth_middleware._syntax.urls import RESOURCE_METADATA, path_of
from agentauth_middleware.errors import ConfigurationError, InvalidRequestError
from agentauth_middleware.reasons import Reason
from agentauth_middleware.settings.demands import Demands, both
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route

UNMATCHED = Route("/*")
"""What a path demands that matches no route: a good token."""
REFUSED = Route("/*")
"""A path that matches no route, where such paths are refused: after the token is
verified, so that refusals keep their order and the log names the caller."""

_NEIGHBOURS = Route(f"{RESOURCE_METADATA}/*", methods=("GET", "OPTIONS"), public=True)
"""The metadata of other resources on the host, which the application may publish. Our
own is answered before, and the routes of the settings come first."""

_USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_MAX_REMEMBERED_LENGTH = 1024
"""Of method, paths and mount together, so that memory is bounded in bytes as well."""
_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """A route, ready to be compared with paths and with other routes."""

    route: Route
    methods: frozenset[str] | None
    pattern: re.Pattern[str]
    folded: re.Pattern[str]
    """The same for folded paths: some routers do not tell upper from lower case."""
    demands: Route
    """Equal for two rules that demand the same."""

    @property
    def is_open(self) -> bool:
        """Whether a request without credentials meets its demands."""
        return self.route.public or self.route.optional

    def allows(self, method: str) -> bool:
        return self.methods is None or method in self.methods

    def names(self, method: str) -> bool:
        return self.methods is not None and method in self.methods

    def spells_out(self, prefix: str) -> bool:
        """Whether the pattern begins with *prefix*."""
        return self.route.pattern.startswith(prefix.rstrip("/"))


@dataclass(frozen=True)
class _AllRoutes(Route):
    """All routes of a path as one, for methods that none of them names."""

    _: KW_ONLY
    total: Demands = field(default_factory=Demands)

    @cached_property
    def demands(self) -> Demands:
        return self.total


class RouteTable:
    """The routes of one resource server, ready to be asked."""

    def __init__(self, server: ResourceServer, *, application_root: str = "") -> None:
        """*application_root* is the mount that the application assumes by itself."""
        self._rules = [_rule(route) for route in server.routes]
        self._refuses_rest = server.refuses_unmatched
        self._rest = _rule(REFUSED if self._refuses_rest else UNMATCHED)
        self._neighbours = _rule(_NEIGHBOURS)
        self._application_root = application_root
        self._resource_path = unquote(path_of(server.resource)).rstrip("/")
        self._remembered: BoundedMap[tuple[str, str, str, bytes], Route] = BoundedMap(
            2048
        )

    def select(self, request: Request) -> Route:
        """The route that *request* falls under.

        Raises:
            InvalidRequestError: its target is no path, or its spellings meet different
                demands.
        """
        key = (request.method, request.path, request.mount, request.raw_path)
        route = self._remembered.get(key)
        if route is None:
            check_target(request)
            route = self._reconcile(dict.fromkeys(self._find(request)))
            if sum(map(len, key)) <= _MAX_REMEMBERED_LENGTH:
                self._remembered.put(key, route)
        return route

    def _find(self, request: Request) -> Iterator[_Rule]:
        """The rule of *request*, then those of all its spellings."""
        mount = self._application_root or request.mount
        selected = self._match(request.method, below(mount, request.path))
        yield selected
        rewrites = REWRITES
        if not selected.spells_out(self._resource_path):
            # Something behind the middleware may take it off without our knowledge.
            rewrites = (*REWRITES, self._without_resource_path)
        starts = self._starts(request, mount, selected)
        spellings = all_spellings(starts, rewrites)
        # Some frameworks take a method in lower case for the one they know.
        methods = {request.method, request.method.upper()}
        for method in methods:
            for spelling in spellings:
                yield self._match(method, spelling)
                yield self._match_folded(method, spelling)
        for prefix in {mount, request.mount}:
            yield from self._match_prefixed(prefix, spellings, methods)
        yield from self._match_within(mount, request.path, rewrites, methods)
        if selected is self._rest and not self._refuses_rest:
            # A proxy may have taken it off without telling the server.
            prefixed = self._match_prefixed(self._resource_path, spellings, methods)
            yield from (rule for rule in prefixed if not rule.is_open)

    def _starts(self, request: Request, mount: str, selected: _Rule) -> list[str]:
        """The readings of *request*'s path from which its spellings are made."""
        path = request.path
        starts = [below(mount, path)]
        raw = raw_readings(request, request.mount)
        starts += [below(mount, reading) for reading in raw]
        if not selected.spells_out(mount):
            # To WSGI what follows it is a path, with a slash in front or without.
            starts.append(path.removeprefix(mount))
        behind = behind_first(mount, path)
        if behind.startswith("/"):
            starts.append(behind)
        if mount != request.mount != "":
            # The server names another one, and not every application overrules it.
            starts.append(below(request.mount, path))
        return starts

    def _match_within(
        self,
        mount: str,
        path: str,
        rewrites: Sequence[Rewrite],
        methods: Collection[str],
    ) -> Iterator[_Rule]:
        """The rules of what follows *mount* inside of a segment of *path*.

        Those for all paths do not count: an ordinary ``/notes/apis`` below ``/api``
        would be unclear otherwise.
        """
        behind = behind_first(mount, path)
        if not behind or behind.startswith("/"):
            return
        spellings = all_spellings((behind,), rewrites)
        for method in methods:
            for spelling in spellings:
                for match in (self._match, self._match_folded):
                    rule = match(method, spelling)
                    if rule is not self._rest and rule.route.pattern != "/*":
                        yield rule
        yield from self._match_prefixed(mount, spellings, methods)

    def _match_prefixed(
        self, prefix: str, spellings: Sequence[str], methods: Collection[str]
    ) -> Iterator[_Rule]:
        """The rules whose patterns mention *prefix*, though they need not."""
        prefix = prefix.rstrip("/")
        if not prefix or not any(rule.spells_out(prefix) for rule in self._rules):
            return
        for spelling in spellings:
            if not spelling.startswith("/"):
                continue  # there is a spelling with the slash as well
            for method in methods:
                for match in (self._match, self._match_folded):
                    rule = match(method, prefix + spelling)
                    if rule.spells_out(prefix):
                        yield rule

    def _match(self, method: str, path: str) -> _Rule:
        """What *path* demands of *method*."""
        rules = [rule for rule in self._rules if rule.pattern.fullmatch(path)]
        return self._choose(method, rules) or self._unmatched(method, path)

    def _match_folded(self, method: str, path: str) -> _Rule:
        """The same, as routers see it that ignore case."""
        folded = path.casefold()
        rules = [rule for rule in self._rules if rule.folded.fullmatch(folded)]
        return self._choose(method, rules) or self._unmatched(method, folded)

    def _choose(self, method: str, rules: Sequence[_Rule]) -> _Rule | None:
        """The first of *rules*; for a method that none of them names, all as one."""
        is_named = method in _USUAL_METHODS or any(r.names(method) for r in rules)
        if rules and not is_named:
            return _all_of(rules)
        return next((rule for rule in rules if rule.allows(method)), None)

    def _unmatched(self, method: str, path: str) -> _Rule:
        """What is demanded where no route of the settings matches."""
        neighbours = self._neighbours
        if neighbours.allows(method) and neighbours.pattern.fullmatch(path):
            return neighbours
        return self._rest

    def _without_resource_path(self, path: str) -> str:
        return path.removeprefix(self._resource_path)

    def _reconcile(self, found: Collection[_Rule]) -> Route:
        chosen = next((rule for rule in found if rule is not self._rest), self._rest)
        if not all(self._agree(chosen, rule) for rule in found):
            patterns = dict.fromkeys(rule.route.pattern for rule in found)
            raise InvalidRequestError(
                Reason.AMBIGUOUS_PATH, f"may be read as {one_of(patterns)}"
            )
        return chosen.route

    def _agree(self, chosen: _Rule, other: _Rule) -> bool:
        """One route beside no route is the stricter of the two; all else is unclear."""
        if other is self._rest and chosen is not self._rest:
            return not chosen.is_open and not self._refuses_rest
        return other.demands == chosen.demands


def _rule(route: Route) -> _Rule:
    methods = frozenset(route.methods) if route.methods is not None else None
    if methods is not None and "GET" in methods:
        methods |= {"HEAD"}
    demands = replace(route, pattern="/*", methods=None)
    return _Rule(
        route,
        methods,
        _compile(route.pattern),
        _compile(route.pattern.casefold()),
        demands,
    )


def _all_of(rules: Sequence[_Rule]) -> _Rule:
    """One rule that demands what all *rules* demand together.

    An application may run the handler of any of them for a method that none names.
    """
    guarded = [rule for rule in rules if not rule.is_open]
    if not guarded:
        return next((rule for rule in rules if not rule.route.public), rules[0])
    if len(guarded) == 1:
        return guarded[0]
    try:
        total = reduce(both, (rule.route.demands for rule in guarded))
    except ConfigurationError:
        return _rule(REFUSED)  # no token can meet all of them
    introspect = any(rule.route.introspect for rule in guarded)
    pattern = guarded[0].route.pattern
    return _rule(_AllRoutes(pattern, introspect=introspect, total=total))


def _compile(pattern: str) -> re.Pattern[str]:
    """``{name}`` is one segment, a final ``*`` the rest, all else stands for itself.

    What ends in ``/`` or ``/*`` covers the path without that slash as well: routers
    that are lenient about slashes serve a collection under both.
    """
    head = pattern.removesuffix("*").removesuffix("/")
    end = {"*": "(?:/.*)?", "/": "/?"}.get(pattern[-1], "")
    parts = [re.escape(part) for part in _PLACEHOLDER.split(head)]
    return re.compile("[^/]+".join(parts) + end, re.DOTALL)
