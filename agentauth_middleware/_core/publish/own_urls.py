"""The URLs that the middleware answers itself: the metadata and ``auth.md``.

They are public, the same for every client, and known before the first request, so each
is rendered once. Which URL is ours follows from the settings, never from a ``Host``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from urllib.parse import unquote

from agentauth_middleware._core.publish.auth_md import auth_md
from agentauth_middleware._core.publish.resource_metadata import metadata
from agentauth_middleware._syntax.http import Request, Response
from agentauth_middleware._syntax.urls import RESOURCE_METADATA, path_of
from agentauth_middleware.settings.resource_server import ResourceServer

_MAX_CONDITION = 4096
"""Characters of ``If-None-Match``, which is about a hundred tags."""
_METHODS = "GET, HEAD, OPTIONS"
_READABLE_BY_ALL = (("access-control-allow-origin", "*"),)
_PREFLIGHT = Response(
    204,
    (
        *_READABLE_BY_ALL,
        ("access-control-allow-methods", _METHODS),
        (
            "access-control-allow-headers",
            "Accept, Authorization, Content-Type, MCP-Protocol-Version",
        ),
        ("access-control-max-age", "86400"),
    ),
    b"",
)
_EMPTY = (("content-type", "text/plain; charset=utf-8"), ("content-length", "0"))
_NOT_ALLOWED = Response(405, (*_READABLE_BY_ALL, ("allow", _METHODS), *_EMPTY), b"")
_NOT_FOUND = Response(404, (*_READABLE_BY_ALL, *_EMPTY), b"")


@dataclass(frozen=True, slots=True)
class _Document:
    etag: str
    fresh: Response
    unchanged: Response


class OwnUrls:
    """The documents of one resource server, by path."""

    def __init__(self, server: ResourceServer) -> None:
        described = _document(
            json.dumps(metadata(server), ensure_ascii=False).encode(),
            "application/json",
        )
        guide = _document(auth_md(server).encode(), "text/markdown; charset=utf-8")
        by_path = dict.fromkeys(_metadata_paths(server), described)
        by_path |= dict.fromkeys(_auth_md_paths(server), guide)
        self._documents = {unquote(path): found for path, found in by_path.items()}
        self._is_encoded = "%" in server.resource

    def answer(self, request: Request) -> Response | None:
        """The answer to *request* if its URL is ours."""
        document = self._documents.get(request.path)
        if document is None and request.mount:
            # Some servers put the mount in front of a path that never had it.
            document = self._documents.get(request.path.removeprefix(request.mount))
        if document is None:
            return None
        if not self._is_encoded and b"%" in request.raw_path:
            return _NOT_FOUND  # another spelling of a URL of ours is not ours
        return _answer(document, request)


def _metadata_paths(server: ResourceServer) -> set[str]:
    """Where agents look: inserted (RFC 9728 §3.1), with and without a final slash, at
    the root, and appended, as some do."""
    path = path_of(server.resource)
    inserted = RESOURCE_METADATA + path
    paths = {inserted, inserted.removesuffix("/"), inserted.removesuffix("/") + "/"}
    paths.add(path.removesuffix("/") + RESOURCE_METADATA)
    if server.metadata_at_root:
        paths |= {RESOURCE_METADATA, RESOURCE_METADATA + "/"}
    return paths


def _auth_md_paths(server: ResourceServer) -> set[str]:
    own = path_of(server.auth_md_url)
    return {own, "/auth.md"} if server.metadata_at_root else {own}


def _document(body: bytes, content_type: str) -> _Document:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    shared = (
        *_READABLE_BY_ALL,
        ("cache-control", "public, max-age=300"),
        ("etag", etag),
    )
    described = (
        ("content-type", content_type),
        ("content-length", str(len(body))),
    )
    return _Document(
        etag, Response(200, (*described, *shared), body), Response(304, shared, b"")
    )


def _answer(document: _Document, request: Request) -> Response:
    if request.method == "OPTIONS":
        return _PREFLIGHT
    if request.method not in ("GET", "HEAD"):
        return _NOT_ALLOWED
    if _names(request.header("if-none-match") or "", document.etag):
        return document.unchanged
    return document.fresh


def _names(condition: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` field names *etag* (RFC 9110 §13.1.2).

    An overlong field names none: to send the document costs less than to read it.
    """
    if len(condition) > _MAX_CONDITION:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in condition.split(","))
    return any(tag in (etag, "*") for tag in tags)
