"""The middleware in an OpenAPI document: the scopes and refusals of each operation.

The framework knows what its handlers demand; the ``Route`` of the settings adds to it.

Source: OpenAPI 3.1 §4.8.10, §4.8.17, §4.8.30
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentauth_middleware._core.policy.route_table import UNMATCHED, RouteTable
from agentauth_middleware._syntax.http import PlainRequest, Request
from agentauth_middleware.errors import RequestRefusedError
from agentauth_middleware.settings.route import Route

_METHODS = ("delete", "get", "head", "options", "patch", "post", "put", "trace")

_REFUSAL = "AgentAuthRefusal"
_TEXT = {"type": "string"}
_URL = {"type": "string", "format": "uri"}
_BODY = {
    "title": _REFUSAL,
    "description": "Why a request was refused, and where to go from here.",
    "type": "object",
    "properties": {
        "error": {**_TEXT, "description": "An OAuth error code."},
        "error_description": _TEXT,
        "detail": {**_TEXT, "description": "Stands where there is no error code."},
        "scope": {**_TEXT, "description": "All scopes that the operation needs."},
        "acr_values": _TEXT,
        "max_age": {"type": "integer"},
        "resource_metadata": _URL,
        "auth_md": _URL,
    },
}
_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "A challenge that leads to the authorization server.",
        "schema": _TEXT,
    }
}
_RETRY = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
}
_RESPONSES: dict[str, tuple[str, dict[str, Any]]] = {
    "401": ("The token is missing or not good enough.", _CHALLENGE),
    "403": ("The token lacks a scope, or policy refuses who sent it.", _CHALLENGE),
    "503": ("The token could not be checked right now; keep it.", _RETRY),
}


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guards of an operation demand."""

    scopes: tuple[str, ...]
    optional: bool
    """Whether requests without a token meet their demands."""


def describe_middleware(
    document: dict[str, Any],
    routes: RouteTable,
    *,
    scheme: str,
    definition: dict[str, Any],
    declared: Mapping[tuple[str, str], Guarded | None],
    scope_prefix: str = "",
    others_pass: bool = False,
    mount: str = "",
) -> None:
    """Complete *document*, in place.

    *scheme* is the name of the middleware's security scheme, which the document may
    require already, and *definition* what it stands for. *declared* is what the guards
    of handlers demand, by path and method. Clients ask for scopes with *scope_prefix*
    in front. Where *others_pass*, other clients need a token for those operations
    alone. *mount* stands in front of the paths.
    """
    is_needed = False
    for path, method, operation in _operations(document):
        # Stands for all of the operation: its path has placeholders.
        asked = PlainRequest(method.upper(), mount + path, mount)
        route = _select(routes, asked)
        guarded = declared.get((path, method.upper()))
        if _describe(operation, route, guarded, scheme, scope_prefix, others_pass):
            is_needed = True
    if is_needed:
        components = document.setdefault("components", {})
        components.setdefault("securitySchemes", {}).setdefault(scheme, definition)
        components.setdefault("schemas", {}).setdefault(_REFUSAL, _BODY)


def _operations(
    document: dict[str, Any],
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _select(routes: RouteTable, request: Request) -> Route:
    try:
        return routes.select(request)
    except RequestRefusedError:  # which one depends on the request
        return UNMATCHED


def _describe(
    operation: dict[str, Any],
    route: Route,
    guarded: Guarded | None,
    scheme: str,
    scope_prefix: str,
    others_pass: bool,
) -> bool:
    """Complete *operation*. Returns whether the middleware protects it.

    Frameworks list each dependency on the scheme as if it were an alternative.
    """
    security: list[dict[str, Any]] = operation.get("security", [])
    others = [requirement for requirement in security if scheme not in requirement]
    passes_others = route.public or others_pass
    if guarded is None and len(others) == len(security):
        if passes_others:
            return False
        is_optional = route.optional
    else:
        # Another scheme of the operation says what comes instead of a token.
        allows_none = guarded is not None and guarded.optional and not others
        is_optional = allows_none and (passes_others or route.optional)
    if is_optional:
        others.append({})
    scopes = () if guarded is None else guarded.scopes
    needed = dict.fromkeys([*route.named_scopes, *scopes])
    operation["security"] = [
        *others,
        {scheme: [scope_prefix + scope for scope in needed]},
    ]
    responses = operation.setdefault("responses", {})
    for status, (description, headers) in _RESPONSES.items():
        response = responses.setdefault(status, {"description": description})
        if "$ref" not in response:
            _complete(response, headers)
    return True


def _complete(response: dict[str, Any], headers: dict[str, Any]) -> None:
    """What the application has declared itself stays."""
    response["headers"] = {**headers, **response.get("headers", {})}
    content = {"schema": {"$ref": f"#/components/schemas/{_REFUSAL}"}}
    response.setdefault("content", {"application/json": content})
