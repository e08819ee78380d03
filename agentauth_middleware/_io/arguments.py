"""What a door is built from: checked as it is built, not at the first request."""

from __future__ import annotations

from agentauth_middleware._core.claims import parse_object
from agentauth_middleware._core.discovery import MAX_DOCUMENT_BYTES
from agentauth_middleware._core.keys import check_given_keys
from agentauth_middleware._core.setting_checks import shown
from agentauth_middleware._io.files import is_file_url, read_file
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.issuer import Issuer
from agentauth_middleware.resource_server import ResourceServer

__all__ = ["check_arguments", "check_remote_user"]


def check_arguments(app: object, resource_server: object, store: object) -> None:
    """Refuse what neither door can work with.

    Raises:
        ConfigurationError: names the argument, its fault and the mend.
    """
    if not isinstance(resource_server, ResourceServer):
        raise ConfigurationError(
            f"resource_server: {shown(resource_server)} is no ResourceServer; write "
            "AgentAuthMiddleware(app, ResourceServer(...))"
        )
    if not callable(app):
        raise ConfigurationError(
            f"app: {shown(app)} is no application; write AgentAuthMiddleware(app, "
            "resource_server)"
        )
    if store is not None and not _is_store(store):
        raise ConfigurationError(
            f"store: {shown(store)} is no store; write MemoryStore() or "
            'SQLiteStore("tokens.db")'
        )
    for issuer in resource_server.listed_issuers:
        url = issuer.keys_url
        if url is not None and is_file_url(url):
            _check_key_file(issuer, url)


def _check_key_file(issuer: Issuer, url: str) -> None:
    """Refuse a file without keys now, and not with every request until it is mended."""
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


def _is_store(store: object) -> bool:
    """Whether *store* has what doors ask of it; a class of stores is none."""
    return hasattr(store, "read_log") and not isinstance(store, type)


def check_remote_user(remote_user: object) -> None:
    """Refuse the name of a claim where a function is wanted.

    Raises:
        ConfigurationError: names the argument, its fault and the mend.
    """
    if remote_user is not None and not callable(remote_user):
        raise ConfigurationError(
            f"remote_user: {remote_user!r} is no function; write "
            "lambda access: access.subject"
        )
