"""What an application is handed for a request line, as each server makes it of that.

Written after what the servers do; ``test_gateways.py`` compares them with the servers.
``None`` stands for a request line that the server refuses by itself.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import httptools

Gateway: TypeAlias = Callable[[str, str, str, Mapping[str, str]], dict[str, Any] | None]
"""From method, target, mount and header fields to a scope or an environ."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_GUNICORN_METHOD = re.compile(r"[A-Z0-9$\-_.]{3,20}")


def uvicorn_h11(
    method: str, target: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any] | None:
    """``uvicorn --http h11 --root-path``."""
    if not _VISIBLE.fullmatch(target):
        return None
    raw_path, _, query = target.partition("?")
    return _scope(method, raw_path, query, mount, mount, fields)


def uvicorn_httptools(
    method: str, target: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any] | None:
    """``uvicorn --http httptools --root-path``; the parser knows methods by name."""
    if not _VISIBLE.fullmatch(target) or not method.isupper():
        return None
    try:
        url = httptools.parse_url(target.encode("ascii"))
    except httptools.HttpParserInvalidURLError:
        return None
    path: Any = url.path  # ``None`` for a host without a path
    if path is None or not (target[0] in "/*" or "://" in target):
        return None
    query = (url.query or b"").decode("ascii")
    return _scope(method, path.decode("ascii"), query, mount, mount, fields)


def hypercorn(
    method: str, target: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any] | None:
    """``hypercorn --root-path``, which says the mount and leaves the path alone."""
    if not _VISIBLE.fullmatch(target):
        return None
    raw_path, _, query = target.partition("?")
    return _scope(method.upper(), raw_path, query, mount, "", fields)


def _scope(
    method: str,
    raw_path: str,
    query: str,
    mount: str,
    prepended: str,
    fields: Mapping[str, str],
) -> dict[str, Any]:
    headers = [(name.lower().encode(), text.encode()) for name, text in fields.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": prepended + unquote(raw_path),
        "raw_path": (prepended + raw_path).encode("ascii"),
        "root_path": mount,
        "query_string": query.encode("ascii"),
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
        "state": {},
    }


def gunicorn(
    method: str, target: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any] | None:
    """``SCRIPT_NAME=… gunicorn``."""
    is_absolute = "://" in target
    if not _VISIBLE.fullmatch(target) or not _GUNICORN_METHOD.fullmatch(method):
        return None
    if not (target.startswith("/") or is_absolute or (method, target) == _ASTERISK):
        return None
    try:
        # What begins with two slashes is a path all the same.
        parts = urlsplit("." + target if target.startswith("//") else target)
    except ValueError:
        return None
    path = parts.path[1:] if target.startswith("//") else parts.path
    if not path.startswith(mount):
        return None
    path_info = unquote_to_bytes(path.removeprefix(mount)).decode("latin-1")
    uri = {"RAW_URI": target}
    return _environ(method, path_info, parts.query, mount, fields) | uri


_ASTERISK = ("OPTIONS", "*")


def waitress(
    method: str, target: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any] | None:
    """``waitress-serve --url-prefix``."""
    if not _VISIBLE.fullmatch(target) or not method.isupper():
        return None
    try:
        is_path = target.startswith("//")
        parts = urlsplit("." + target if is_path else target)
    except ValueError:
        return None
    raw_path = parts.path[1:] if is_path else parts.path
    path = unquote_to_bytes(raw_path).decode("latin-1")
    if path.startswith("/"):
        path = "/" + path.lstrip("/")
    if mount and (path == mount or path.startswith(mount + "/")):
        path = path.removeprefix(mount)
    uri = {"REQUEST_URI": target}
    return _environ(method, path, parts.query, mount, fields) | uri


def _environ(
    method: str, path: str, query: str, mount: str, fields: Mapping[str, str]
) -> dict[str, Any]:
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": text for name, text in fields.items()
    }
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": mount,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    } | headers


GATEWAYS: dict[str, dict[str, Gateway]] = {
    "asgi": {
        "uvicorn-h11": uvicorn_h11,
        "uvicorn-httptools": uvicorn_httptools,
        "hypercorn": hypercorn,
    },
    "wsgi": {"gunicorn": gunicorn, "waitress": waitress},
}
