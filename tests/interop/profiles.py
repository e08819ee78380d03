"""Three clients of our own, each with the rules of a family of deployed ones.

They differ in how they read a challenge, where they look for metadata, and what they
compare with what. All of them take the same steps, those of ``Client``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.challenges import find_by_expression, find_in_bearer, parse_strictly
from tests.support.exchange import Answer, HTTPRequest

RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
SERVER_METADATA = "/.well-known/oauth-authorization-server"
OPENID_METADATA = "/.well-known/openid-configuration"


class GaveUpError(Exception):
    """A client does not go on; the text says at which step."""


@dataclass
class Network:
    """Who answers at which URL."""

    origin: str
    api: Callable[[HTTPRequest], Answer]
    """The host at *origin*."""
    documents: Mapping[str, Mapping[str, Any]]
    """Everything else there is, by URL."""
    gone: set[str] = field(default_factory=set[str])
    """URLs at which nothing is found, whoever would answer."""

    def ask(
        self, url: str, fields: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        if url in self.gone:
            return Answer(404, (), b"")
        target = url.removeprefix(self.origin)
        if target != url and target.startswith("/"):
            lines = tuple((fields or {}).items())
            return self.api(HTTPRequest(method, target, lines))
        if url in self.documents:
            body = json.dumps(self.documents[url]).encode()
            return Answer(200, (("content-type", "application/json"),), body)
        return Answer(404, (), b"")


@dataclass(frozen=True)
class Profile:
    """The rules of one family."""

    find: Callable[[Sequence[str], str], str | None]
    """A parameter of the challenges in these field lines."""
    metadata_urls: Callable[[str | None, str], list[str]]
    """Where to look, from what the challenge names and what the user typed."""
    accepts_resource: Callable[[str, str], bool]
    """Whether the URL that the user typed may belong to this resource."""
    server_urls: Callable[[str], list[str]]
    accepts_issuer: Callable[[str, str], bool]
    """Whether server metadata with this issuer is that of the one advertised."""
    asked_resource: Callable[[str], str]
    """What it sends as ``resource``, and gets as the audience of its token."""
    needs_content_type: bool = False


@dataclass(frozen=True)
class Found:
    """What discovery ends with."""

    resource: str
    issuer: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class Client:
    """One that knows nothing but the URL that its user typed."""

    profile: Profile
    network: Network
    url: str

    def call(self, path: str, token: str | None = None, method: str = "GET") -> Answer:
        fields = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.network.ask(self.url.rstrip("/") + path, fields, method)

    def find(self, name: str, answer: Answer) -> str | None:
        return self.profile.find(answer.lines("www-authenticate"), name)

    def scopes_of(self, answer: Answer) -> frozenset[str]:
        return frozenset((self.find("scope", answer) or "").split())

    def discover(self, refused: Answer) -> Found:
        """From a 401 to the authorization server.

        Raises:
            GaveUpError: there is no way that follows this client's rules.
        """
        named = self.find("resource_metadata", refused)
        described = self._first(
            self.profile.metadata_urls(named, self.url), "resource metadata"
        )
        resource: str = described["resource"]
        if not self.profile.accepts_resource(self.url, resource):
            raise GaveUpError(f"resource: {resource} is not that of {self.url}")
        advertised: str = described["authorization_servers"][0]
        server = self._first(self.profile.server_urls(advertised), "server metadata")
        if not self.profile.accepts_issuer(server["issuer"], advertised):
            raise GaveUpError(f"issuer: {server['issuer']} is not {advertised}")
        scopes = self.scopes_of(refused) or frozenset(described["scopes_supported"])
        return Found(self.profile.asked_resource(resource), server["issuer"], scopes)

    def _first(self, urls: Iterable[str], what: str) -> Mapping[str, Any]:
        for url in urls:
            answer = self.network.ask(url, {"MCP-Protocol-Version": "2026-07-28"})
            is_json = answer.field("content-type") == "application/json"
            if answer.status == 200 and (
                is_json or not self.profile.needs_content_type
            ):
                document: Mapping[str, Any] = answer.json()
                return document
        raise GaveUpError(f"{what}: not found")


def _path(url: str) -> str:
    return urlsplit(url).path


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _normal(url: str) -> str:
    """*url* as common URL classes write it."""
    return url if _path(url) else f"{url}/"


def _is_below(url: str, resource: str) -> bool:
    """Same origin, and the path segments of *resource* begin those of *url*."""
    below = _path(url).rstrip("/") + "/"
    return _origin(url) == _origin(resource) and below.startswith(
        _path(resource).rstrip("/") + "/"
    )


def _mcp_server_urls(issuer: str) -> list[str]:
    path, origin = _path(issuer).rstrip("/"), _origin(issuer)
    inserted = [origin + SERVER_METADATA + path, origin + OPENID_METADATA + path]
    return [*inserted, origin + path + OPENID_METADATA] if path else inserted


def _exactly(one: str, other: str) -> bool:
    return one == other


# Like the MCP Python SDK.


def _all_places(named: str | None, url: str) -> list[str]:
    path, origin = _path(url), _origin(url)
    places = [named] if named else []
    if path not in ("", "/"):
        places.append(origin + RESOURCE_METADATA + path)
    return [*places, origin + RESOURCE_METADATA]


PYTHON_LIKE = Profile(
    find=find_by_expression,
    metadata_urls=_all_places,
    accepts_resource=_is_below,
    server_urls=_mcp_server_urls,
    accepts_issuer=_exactly,
    asked_resource=lambda resource: resource,
)


# Like the MCP TypeScript SDK.


def _named_or_guessed(named: str | None, url: str) -> list[str]:
    if named:
        return [named]
    guessed = _origin(url) + RESOURCE_METADATA + _path(url).removesuffix("/")
    return [guessed, _origin(url) + RESOURCE_METADATA]


def _is_below_and_no_shorter(url: str, resource: str) -> bool:
    shorter = len(_path(_normal(url))) < len(_path(_normal(resource)))
    return not shorter and _is_below(url, resource)


TYPESCRIPT_LIKE = Profile(
    find=find_in_bearer,
    metadata_urls=_named_or_guessed,
    accepts_resource=_is_below_and_no_shorter,
    server_urls=_mcp_server_urls,
    accepts_issuer=lambda issuer, advertised: (
        issuer in (advertised, advertised.removesuffix("/"))
    ),
    # It sent the URL as its URL class writes it, and versions that do are deployed.
    asked_resource=_normal,
)


# Like oauth4webapi.


def _find_by_grammar(lines: Sequence[str], name: str) -> str | None:
    challenges = [challenge for line in lines for challenge in parse_strictly(line)]
    (bearer,) = (found for found in challenges if found.scheme.lower() == "bearer")
    return bearer.parameters.get(name)


def _named_or_inserted(named: str | None, url: str) -> list[str]:
    return [named or _origin(url) + RESOURCE_METADATA + _path(url).rstrip("/")]


def _equal_when_normal(one: str, other: str) -> bool:
    return _normal(one) == _normal(other)


STRICT = Profile(
    find=_find_by_grammar,
    metadata_urls=_named_or_inserted,
    accepts_resource=_equal_when_normal,
    server_urls=lambda issuer: _mcp_server_urls(issuer)[:1],
    accepts_issuer=_equal_when_normal,
    asked_resource=lambda resource: resource,
    needs_content_type=True,
)

PROFILES = {
    "Python-like": PYTHON_LIKE,
    "TypeScript-like": TYPESCRIPT_LIKE,
    "strict": STRICT,
}
