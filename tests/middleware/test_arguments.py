"""What a middleware is built from: a fault is found then, named, and told how to
fix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

from agentauth_middleware import asgi, fastapi, flask, wsgi
from agentauth_middleware._core.issuers.discovery import MAX_DOCUMENT_BYTES
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.refusals import RefusalAnswers
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.verifier import Verifier
from tests.support.server_side import SERVER

MIDDLEWARES = {"asgi": asgi.AgentAuthMiddleware, "wsgi": wsgi.AgentAuthMiddleware}


def application(*arguments: Any) -> Any:
    """One for both middlewares: it is never called."""


def build(
    protocol: str, app: Any = application, server: Any = SERVER, **settings: Any
) -> object:
    return MIDDLEWARES[protocol](app, server, **settings)


FAULTS: dict[str, tuple[Callable[[str], object], str, str]] = {
    # What is built, the argument that is named, and words of fault and fix.
    "swapped": (
        lambda protocol: build(protocol, SERVER, application),
        "resource_server",
        "write AgentAuthMiddleware(app, ResourceServer(...))",
    ),
    "settings of another kind": (
        lambda protocol: build(protocol, server=Issuer("https://as.example.com")),
        "resource_server",
        "resource_server: Issuer is no ResourceServer; write",
    ),
    "class of settings": (
        lambda protocol: build(protocol, server=ResourceServer),
        "resource_server",
        "is no ResourceServer; write",
    ),
    "app missing": (
        lambda protocol: build(protocol, None),
        "app",
        "None is no application; write AgentAuthMiddleware(app,",
    ),
    "store a path": (
        lambda protocol: build(protocol, store="x.db"),
        "store",
        "'x.db' is no store; write MemoryStore() or SQLiteStore(",
    ),
    "store a class": (
        lambda protocol: build(protocol, store=MemoryStore),
        "store",
        "is no store; write MemoryStore()",
    ),
    "client no client": (
        lambda protocol: build(protocol, http_client=object()),
        "http_client",
        "does not fit; this needs an httpx.",
    ),
    "client a class": (
        lambda protocol: build(
            protocol,
            http_client=httpx.AsyncClient if protocol == "asgi" else httpx.Client,
        ),
        "http_client",
        "does not fit; this needs an httpx.",
    ),
    "client of the other kind": (
        lambda protocol: build(
            protocol,
            http_client=httpx.Client() if protocol == "asgi" else httpx.AsyncClient(),
        ),
        "http_client",
        "does not fit; this needs an httpx.",
    ),
}


@pytest.mark.parametrize("protocol", MIDDLEWARES)
@pytest.mark.parametrize("fault", FAULTS)
def test_argument_of_the_wrong_kind_is_named_with_its_fix(
    protocol: str, fault: str
) -> None:
    construct, named, words = FAULTS[fault]

    with pytest.raises(ConfigurationError) as refused:
        construct(protocol)

    text = str(refused.value)
    assert text.startswith(f"{named}: ")
    assert words in text


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "cannot be read (FileNotFoundError); check the path"),
    "no JSON": (b"-----BEGIN", "is no JSON object"),
    "no set": (b"{}", "keys is not an array"),
    "no key that verifies": (b'{"keys": []}', "no key in it can verify"),
    "large": (
        b'{"keys": []}' + b" " * MAX_DOCUMENT_BYTES,
        f"is larger than the {MAX_DOCUMENT_BYTES} bytes that are read; write nothing",
    ),
    "as large as may be": (
        b'{"keys": []}'.ljust(MAX_DOCUMENT_BYTES),
        "no key in it can verify",
    ),
}


KEY_READERS: dict[str, Callable[[ResourceServer], object]] = {
    "asgi": partial(build, "asgi", application),
    "wsgi": partial(build, "wsgi", application),
    "verifier": Verifier,
}
"""Whatever verifies tokens with the keys of a file."""


@pytest.mark.parametrize("reader", KEY_READERS)
@pytest.mark.parametrize("fault", BAD_FILES)
def test_file_without_keys_is_refused_at_start(
    reader: str, fault: str, tmp_path: Path
) -> None:
    content, words = BAD_FILES[fault]
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_bytes(content)
    issuer = Issuer("https://as.example.com", jwks_file=file)

    with pytest.raises(ConfigurationError) as refused:
        KEY_READERS[reader](ResourceServer(SERVER.resource, issuers=[issuer]))

    text = str(refused.value)
    assert text.startswith("Issuer.jwks_file")
    assert words in text


CONSTRUCTORS: dict[str, tuple[Callable[..., object], str]] = {
    # What takes settings but no application, and how it is written.
    "fastapi": (fastapi.AgentAuth, "AgentAuth"),
    "flask": (flask.AgentAuth, "AgentAuth"),
    "verifier": (Verifier, "Verifier"),
    "refusals": (RefusalAnswers, "RefusalAnswers"),
}


@pytest.mark.parametrize("module", CONSTRUCTORS)
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        pytest.param(FastAPI(), "FastAPI", id="FastAPI application"),
        pytest.param(Flask("notes"), "Flask", id="Flask application"),
        pytest.param(None, "None", id="nothing"),
    ],
)
def test_what_takes_settings_refuses_what_are_none(
    module: str, given: object, shown: str
) -> None:
    """The fix is written as this very constructor is."""
    construct, name = CONSTRUCTORS[module]

    with pytest.raises(ConfigurationError) as refused:
        construct(given)

    assert str(refused.value) == (
        f"resource_server: {shown} is no ResourceServer; write "
        f"{name}(ResourceServer(...))"
    )


@pytest.mark.parametrize("module", ["fastapi", "flask", "verifier"])
@pytest.mark.parametrize("store", ["x.db", MemoryStore], ids=["path", "class"])
def test_what_takes_a_store_refuses_what_is_none(module: str, store: object) -> None:
    construct, _ = CONSTRUCTORS[module]

    with pytest.raises(ConfigurationError, match=r"^store: .* is no store; write Mem"):
        construct(SERVER, store=store)


async def asgi_application(*arguments: Any) -> None:
    """It is never called."""


@pytest.mark.parametrize(
    ("app", "shown"),
    [
        pytest.param(FastAPI(), "FastAPI", id="object"),
        pytest.param(asgi_application, "function", id="function"),
    ],
)
def test_wsgi_middleware_refuses_an_asgi_application(app: Any, shown: str) -> None:
    """It would be called with the wrong arguments, at the first request."""
    with pytest.raises(ConfigurationError) as refused:
        build("wsgi", app)

    assert str(refused.value) == (
        f"app: {shown} is an ASGI application; use AgentAuthMiddleware of "
        "agentauth_middleware.asgi"
    )


def test_remote_user_is_a_function_and_not_the_name_of_a_claim() -> None:
    with pytest.raises(ConfigurationError, match=r"^remote_user: 'sub' is no function"):
        build("wsgi", remote_user="sub")
