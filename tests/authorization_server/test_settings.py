"""Settings that cannot work are refused when the server is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeProvider
from tests.authorization_server.embedded import (
    ISSUER,
    PROVIDER,
    RESOURCE,
    resource_server,
    trusted,
)

PROVIDER_KEYS = FakeProvider(PROVIDER)


def build(folder: Path, issuer: str = ISSUER, **settings: Any) -> AuthorizationServer:
    given: dict[str, Any] = {
        "resources": [resource_server()],
        "providers": [trusted(PROVIDER_KEYS)],
        "database": folder / "server.db",
        "store": MemoryStore(),
        **settings,
    }
    return AuthorizationServer(issuer, **given)


def trusting(**settings: Any) -> ResourceServer:
    """A resource that knows us by *settings*."""
    return ResourceServer(RESOURCE, issuers=[Issuer(ISSUER, **settings)])


def test_audience_may_be_the_resource_among_others(tmp_path: Path) -> None:
    build(tmp_path, resources=[trusting(audience=["notes", RESOURCE])])


def test_server_with_good_settings_is_built_without_touching_the_disk(
    tmp_path: Path,
) -> None:
    build(tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make_settings", "says"),
    [
        pytest.param(lambda: {"resources": ()}, "resources: empty", id="no resource"),
        pytest.param(
            lambda: {"resources": [resource_server("https://other.example")]},
            "does not trust",
            id="resource that trusts another",
        ),
        pytest.param(
            lambda: {"resources": [resource_server(f"{ISSUER}/")]},
            "to the letter",
            id="resource that spells us otherwise",
        ),
        pytest.param(
            lambda: {"issuer": "http://as.example.com"}, "not https", id="http issuer"
        ),
        pytest.param(
            lambda: {"issuer": "http://localhost:8000"},
            "insecure_loopback=True",
            id="loopback issuer",
        ),
        pytest.param(
            lambda: {"issuer": f"{ISSUER}#x"}, "fragment", id="issuer with fragment"
        ),
        pytest.param(lambda: {"providers": ()}, "providers: empty", id="no provider"),
        pytest.param(
            lambda: {"providers": [trusted(PROVIDER_KEYS), trusted(PROVIDER_KEYS)]},
            "the same issuer twice",
            id="provider twice",
        ),
        pytest.param(
            lambda: {"providers": [trusted(FakeProvider(ISSUER))]},
            "cannot vouch for itself",
            id="ourselves as provider",
        ),
        pytest.param(
            lambda: {"providers": [trusted(FakeProvider("http://agents.example"))]},
            "AgentProvider.issuer",
            id="http provider",
        ),
        pytest.param(
            lambda: {
                "providers": [
                    trusted(
                        PROVIDER_KEYS, jwks=None, jwks_uri="http://agents.example/k"
                    )
                ]
            },
            "AgentProvider.jwks_uri",
            id="http keys",
        ),
        pytest.param(
            lambda: {"providers": [trusted(PROVIDER_KEYS, jwks={"keys": [{}]})]},
            "no key in it can verify",
            id="keys that are none",
        ),
        *(
            pytest.param(
                lambda name=name, value=value: {name: value}, name, id=f"{name} {value}"
            )
            for name in ("max_auth_age", "access_token_lifetime", "assertion_lifetime")
            for value in (0, -1, 10**9, "3600", True, None, 1.5)
        ),
        pytest.param(lambda: {"store": None}, "None is no store", id="no store"),
        pytest.param(lambda: {"store": "s.db"}, "is no store", id="store is text"),
        pytest.param(
            lambda: {"resources": [resource_server(), resource_server()]},
            "the same resource twice",
            id="resource twice",
        ),
        pytest.param(
            lambda: {"resources": resource_server()}, "write a list", id="no list"
        ),
        pytest.param(
            lambda: {"providers": [PROVIDER]}, "AgentProvider", id="provider is text"
        ),
        pytest.param(lambda: {"providers": PROVIDER}, "a list", id="providers is text"),
        pytest.param(
            lambda: {"resources": [trusting(audience="notes")]},
            "leave out Issuer.audience",
            id="another audience",
        ),
        pytest.param(
            lambda: {"resources": [trusting(algorithms=("RS256",))]},
            "ES256",
            id="another algorithm",
        ),
        pytest.param(
            lambda: {
                "resources": [
                    replace(resource_server(), client_scope_prefix="api://notes/")
                ]
            },
            "client_scope_prefix",
            id="other names of scopes",
        ),
        pytest.param(
            lambda: {"database": "/no/such/folder/server.db"}, "no folder", id="folder"
        ),
    ],
)
def test_server_that_cannot_work_is_refused(
    tmp_path: Path, make_settings: Callable[[], dict[str, Any]], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build(tmp_path, **make_settings())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"name": " "}, "AgentProvider.name", id="no name"),
        pytest.param({"client_ids": "app"}, "write a tuple", id="client_ids is text"),
        pytest.param({"algorithms": ("none",)}, "'none'", id="alg none"),
        pytest.param({"algorithms": ("HS256",)}, "'HS256'", id="alg HS256"),
        pytest.param({"jwks_uri": f"{PROVIDER}/k"}, "exclude", id="keys twice"),
        pytest.param({"timeout": 0}, "timeout", id="no time"),
    ],
)
def test_provider_that_cannot_work_is_refused(
    settings: dict[str, Any], says: str
) -> None:
    members: dict[str, Any] = {
        "name": "Example agents",
        "jwks": PROVIDER_KEYS.jwks,
        **settings,
    }

    with pytest.raises(ConfigurationError, match=says):
        AgentProvider(PROVIDER, **members)


def test_provider_names_itself_as_client_unless_told_otherwise() -> None:
    assert tuple(trusted(PROVIDER_KEYS).client_ids) == (PROVIDER,)
    assert tuple(trusted(PROVIDER_KEYS, client_ids=["a"]).client_ids) == ("a",)


def test_loopback_urls_are_for_development(tmp_path: Path) -> None:
    issuer = "http://127.0.0.1:8000"
    provider = FakeProvider("http://127.0.0.1:9000")
    server = build(
        tmp_path,
        issuer,
        resources=[resource_server(issuer)],
        providers=[trusted(provider)],
        insecure_loopback=True,
    )

    assert server.service.issuer == issuer
