"""Handlers with their demands, and request targets meant to reach them unpermitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from agentauth_middleware.settings.route import Route

PREFIX = "/api"
"""Where an application is mounted, if it is."""


@dataclass(frozen=True)
class Handler:
    """A handler and what its ``Route`` demands."""

    path: str
    """``{name}`` for a segment, ``{name*}`` for the rest."""
    example: str
    scope: str | None = None
    """What it demands; an empty one for no more than a good token."""
    method: str = "GET"
    is_listed: bool = True
    """Whether a route speaks of it."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def route(self, prefix: str) -> Route:
        pattern = prefix + re.sub(r"\{\w+\*\}", "*", self.path)
        if self.scope is None:
            return Route(pattern, methods=[self.method], public=True)
        return Route(pattern, methods=[self.method], scopes=[self.scope])

    def template(self, segment: str, rest: str) -> str:
        """The path as a framework writes it: ``<%s>`` or the like for a name."""
        path = re.sub(r"\{(\w+)\*\}", lambda name: rest % name[1], self.path)
        return re.sub(r"\{(\w+)\}", lambda name: segment % name[1], path)


# The narrower paths come first: some frameworks take the first that fits.
HANDLERS = (
    Handler("/", "/"),
    Handler("/health", "/health"),
    Handler("/static/{rest*}", "/static/site.css"),
    Handler("/notes", "/notes", "a"),
    Handler("/notes", "/notes", "b", method="POST"),
    Handler("/notes/{id}", "/notes/7", "a"),
    Handler("/admin/users", "/admin/users", "b"),
    Handler("/files/secret", "/files/secret", "b"),
    Handler("/files/{rest*}", "/files/x", "a"),
    Handler("/shelf/", "/shelf/", "a"),
    Handler("/docs/", "/docs/"),
    Handler("/graphql", "/graphql", "a", method="POST"),
    Handler("/unlisted", "/unlisted", "", is_listed=False),
)

WEBSOCKET = "/live/{room}"
"""What a few applications have besides."""
OPEN_TO_ALL = {handler.name for handler in HANDLERS if handler.scope is None}


def routes(prefix: str, *, catch_all: bool) -> list[Route]:
    listed = [handler.route(prefix) for handler in HANDLERS if handler.is_listed]
    listed.append(Route(prefix + WEBSOCKET, scopes=["a"]))
    return [*listed, Route("/*", scopes=["c"])] if catch_all else listed


def demands(*, catch_all: bool) -> dict[str, str | None]:
    """The scope that each handler demands, by its name."""
    found = {handler.name: handler.scope for handler in HANDLERS}
    if catch_all:
        found["GET /unlisted"] = "c"
    return found


# How a target is spoilt

_Change: TypeAlias = Callable[[Random, str], str]

_SLASHES = (
    *("//", "///", "/./", "/x/../", "/x//../", "/%2e/", "/x/%2E%2e/"),
    *("/x/%252e%252e/", "/..%2f", "%2f", "%2F", "%252F", "\\", "%5c", "%255c"),
    *("/;a=b/", "/;/", "/..;/", "/%00/", "%ef%bc%8f", "%c0%af", "/%20/", "/%09/"),
)
_ENDS = (
    *("/", "//", "/.", "/..", "/x/..", "%2f", "%252f", "%5C", "%0a", "%250a", "%0d"),
    *(
        "%00",
        ";a=b",
        ";",
        ".",
        "%20",
        "%09",
        "%3fa=b",
        "%23",
        "%ff",
        "%c3",
        "?a=/",
        "#",
    ),
    *("/%2e", "/%2e%2e", "%0d%0a", "%85", "%e2%80%a8", ".json", "*", "/*"),
)
_FRONTS = (
    *(
        "",
        "//",
        "/.",
        "/..",
        "/%2e%2e",
        "\\",
        "%2f",
        "/%2f",
        "//evil.example.net",
        "/;a",
    ),
    *("http://api.example.com", "https://api.example.com:443", "HTTP://A", "*"),
    *("/static/..", "/static%2f..", "/static/%2e%2e", "/static/%252e%252e"),
    *("/static\\..", "/health/..", "/notes/7/../..", "/files/x/..", "/static%2Fx"),
    *("/static", "/health", "/files", "/notes", "/static/x", "/%00", "/x/..", "/%ff"),
    *(PREFIX, PREFIX * 2, "/" + PREFIX, PREFIX + "/..", PREFIX + "/static/.."),
    *("/health" + PREFIX, "/static" + PREFIX, "/notes/7" + PREFIX, PREFIX.upper()),
    *("/%61pi", "/api%2f", "/static/x" + PREFIX, PREFIX + "x", "/api;", "/api%2f.."),
)


def _encode_character(random: Random, target: str) -> str:
    index = random.randrange(len(target))
    code = random.choice(("%%%02x", "%%%02X", "%%25%02x", "%%2525%02x"))
    return target[:index] + code % ord(target[index]) + target[index + 1 :]


def _change_case(random: Random, target: str) -> str:
    index = random.randrange(len(target))
    changed = (target.upper(), target.title(), target.swapcase())
    one = target[:index] + target[index].swapcase() + target[index + 1 :]
    return random.choice((one, *changed))


def _change_slash(random: Random, target: str) -> str:
    slashes = [match.start() for match in re.finditer("/", target)]
    if not slashes:
        return "/" + target
    index = random.choice(slashes)
    return target[:index] + random.choice(_SLASHES) + target[index + 1 :]


def _add_end(random: Random, target: str) -> str:
    return target + random.choice(_ENDS)


def _add_front(random: Random, target: str) -> str:
    return random.choice(_FRONTS) + target


def _drop_slash(random: Random, target: str) -> str:
    return target.removeprefix("/") or "*"


def _insert_byte(random: Random, target: str) -> str:
    index = random.randrange(len(target) + 1)
    return target[:index] + f"%{random.randrange(256):02x}" + target[index:]


_CHANGES: tuple[_Change, ...] = (
    *(_encode_character, _change_case, _change_slash, _add_end, _add_front),
    *(_change_slash, _add_end, _add_front, _drop_slash, _insert_byte),
)
_STARTS = ("", "", PREFIX, PREFIX, PREFIX * 2)
_METHODS = ("GET",) * 6 + ("HEAD", "get", "OPTIONS", "TRACE", "PROPFIND")


@dataclass(frozen=True)
class Target:
    method: str
    target: str


def plain_targets() -> Iterator[Target]:
    """Each handler's own path, mounted in every way."""
    for handler in HANDLERS:
        for start in dict.fromkeys(_STARTS):
            yield Target(handler.method, start + handler.example)


_KNOWN = (
    *("{s}{p}%ff", "{s}/%ff{q}", "{s}{p}#", "{s}{P}", "{S}{P}", "{s}/{p}", "{s}{p}%0a"),
    *("http://api.example.com{s}{p}", "HTTP://A{s}{p}", "{q}", "{s}/static/..{p}"),
    *("{s}/static%2Fx{p}", "{s}/static%2F..{p}", "{s}/x%2F..{p}", "{s}\\{q}"),
    *("/health{s}{p}", "/static/x{s}{p}", "/static/x/api{p}", "/notes/7/api{p}"),
)


def known_targets() -> Iterator[Target]:
    """What once led around a ``Route`` in one of the frameworks."""
    for handler in HANDLERS:
        if handler.path not in ("/notes/{id}", "/admin/users"):
            continue
        path = handler.example
        for start in ("", PREFIX):
            for known in _KNOWN:
                target = known.format(
                    s=start, S=start.upper(), p=path, P=path.upper(), q=path[1:]
                )
                yield Target(handler.method, target)
        yield Target("OPTIONS", path)
        yield Target("GET", f"/notes/..%2f{path[1:]}")


def hostile_targets(seed: int) -> Iterator[Target]:
    """Without end; the same for the same *seed*."""
    random = Random(seed)  # noqa: S311
    while True:
        handler = random.choice(HANDLERS)
        target = random.choice(_STARTS) + handler.example
        for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
            target = random.choice(_CHANGES)(random, target)
        method = handler.method
        yield Target(random.choice((*_METHODS, method, method)), target or "/")
