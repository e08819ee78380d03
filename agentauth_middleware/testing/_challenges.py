"""Asserting that a request was refused, and what the refusal tells the client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

__all__ = ["assert_challenge"]

_BEARER = re.compile(r'(?:^|,\s*)Bearer((?:[\s,]+[\w-]+="[^"]*")+)', re.IGNORECASE)
_PARAMETER = re.compile(r'([\w-]+)="([^"]*)"')


class _Headers(Protocol):
    def get(self, name: str, /) -> Any: ...


class _Response(Protocol):
    """A response of httpx, of a ``TestClient`` or of Flask's test client."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> _Headers: ...


def assert_challenge(
    response: _Response,
    status: Literal[400, 401, 403],
    error: str | None = None,
    *,
    scope: str | Iterable[str] | None = None,
) -> Mapping[str, str]:
    """Assert that *response* refuses with *status* and a Bearer challenge.

    ::

        assert_challenge(client.get("/notes"), 401)
        assert_challenge(response, 403, "insufficient_scope", scope="notes.write")

    *error* is the challenge's error code; ``None`` asserts that there is none, as for
    a request without credentials. *scope* names the scopes it tells the client to ask
    for, in any order; ``None`` asserts nothing about them.

    Returns the parameters of the challenge, for what else matters: ``acr_values``,
    ``max_age``, ``resource_metadata``.

    Source: RFC 6750 §3, RFC 9728 §5.1
    """
    __tracebackhide__ = True
    header = response.headers.get("WWW-Authenticate")
    found = (
        f"\n  status:           {response.status_code}"
        f"\n  WWW-Authenticate: {header or '(none)'}"
    )
    if response.status_code != status:
        raise AssertionError(f"expected status {status}, got:{found}")
    challenge = _BEARER.search(header or "")
    if challenge is None:
        raise AssertionError(f"expected a Bearer challenge, got:{found}")
    parameters = dict[str, str](_PARAMETER.findall(challenge[1]))
    if parameters.get("error") != error:
        raise AssertionError(f"expected {_worded(error)}, got:{found}")
    if scope is not None and _words(parameters.get("scope", "")) != _words(scope):
        expected = " ".join(sorted(_words(scope)))
        raise AssertionError(f"expected scope {expected!r}, got:{found}")
    if "resource_metadata" not in parameters:
        raise AssertionError(f"expected resource_metadata, got:{found}")
    return parameters


def _worded(error: str | None) -> str:
    return "no error code" if error is None else f"error {error!r}"


def _words(scope: str | Iterable[str]) -> set[str]:
    return set(scope.split() if isinstance(scope, str) else scope)
