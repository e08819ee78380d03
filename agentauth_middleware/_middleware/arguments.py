"""Checks of a middleware's arguments: when it is built, not at the first request."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from agentauth_middleware._core.issuers.discovery import MAX_DOCUMENT_BYTES
from agentauth_middleware._core.issuers.keys import check_given_keys
from agentauth_middleware._io.files import is_file_url, read_file
from agentauth_middleware._syntax.members import parse_object
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import shown
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = [
    "check_arguments",
    "check_is_wsgi",
    "check_key_files",
    "check_remote_user",
    "check_resource_server",
    "check_store",
]


def check_arguments(
    app: object, resource_server: ResourceServer, store: object
) -> None:
    """Refuse arguments with which neither middleware can work.

    Raises:
        ConfigurationError: names the argument, its fault and the fix.
    """
    check_resource_server(
        resource_server, "AgentAuthMiddleware(app, ResourceServer(...))"
    )
    if not callable(app):
        raise ConfigurationError(
            f"app: {shown(app)} is no application; write AgentAuthMiddleware(app, "
            "resource_server)"
        )
    check_store(store)
    check_key_files(resource_server)


def check_is_wsgi(app: Any) -> None:
    """Refuse an application that would answer a WSGI server with a coroutine.

    Raises:
        ConfigurationError: *app* is one.
    """
    if any(map(iscoroutinefunction, (app, app.__call__))):
        raise ConfigurationError(
            f"app: {shown(app)} is an ASGI application; use AgentAuthMiddleware of "
            "agentauth_middleware.asgi"
        )


def check_resource_server(resource_server: object, call: str) -> None:
    """Refuse an object that is not a ``ResourceServer``, and show the right *call*.

    Raises:
        ConfigurationError: *resource_server* is no ``ResourceServer``.
    """
    if not isinstance(resource_server, ResourceServer):
        raise ConfigurationError(
            f"resource_server: {shown(resource_server)} is no ResourceServer; write "
            f"{call}"
        )


def check_store(store: object) -> None:
    """Refuse an object that is not a store, such as the class of one.

    Raises:
        ConfigurationError: *store* is neither one nor ``None``.
    """
    is_store = hasattr(store, "read_log") and not isinstance(store, type)
    if store is not None and not is_store:
        raise ConfigurationError(
            f"store: {shown(store)} is no store; write MemoryStore() or "
            'SQLiteStore("tokens.db")'
        )


def check_key_files(resource_server: ResourceServer) -> None:
    """Refuse a file without keys now, and not with every request until it is fixed.

    Raises:
        ConfigurationError: names the file, its fault and the fix.
    """
    for issuer in resource_server.listed_issuers:
        url = issuer.keys_url
        if url is not None and is_file_url(url):
            _check_key_file(issuer, url)


def _check_key_file(issuer: Issuer, url: str) -> None:
    key = "Issuer.jwks_file"
    try:
        body = read_file(url, MAX_DOCUMENT_BYTES)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(
                f"{key}: {issuer.jwks_file!r} is larger than the "
                f"{MAX_DOCUMENT_BYTES} bytes that are read; write nothing into it but "
                "the keys that are in use"
            )
        document = parse_object(body)
    except OSError as fault:
        raise ConfigurationError(
            f"{key}: {issuer.jwks_file!r} cannot be read "
            f"({type(fault).__name__}); check the path and who may read it"
        ) from fault
    except ValueError as fault:
        raise ConfigurationError(
            f"{key}: {issuer.jwks_file!r} is no JSON object ({fault}); write a JWK Set "
            "into it"
        ) from None
    check_given_keys(document, issuer, key)


def check_remote_user(remote_user: object) -> None:
    """Refuse the name of a claim where a function is wanted.

    Raises:
        ConfigurationError: names the argument, its fault and the fix.
    """
    if remote_user is not None and not callable(remote_user):
        raise ConfigurationError(
            f"remote_user: {remote_user!r} is no function; write "
            "lambda access: access.subject"
        )
