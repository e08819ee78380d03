"""Test clients that act for a user: the header of their requests, set and put back."""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar, Unpack, runtime_checkable

from agentauth_middleware.testing._issuer import FakeIssuer
from agentauth_middleware.testing._middlewares import find_middlewares
from agentauth_middleware.testing._tokens import TokenOptions
from agentauth_middleware.testing._trust import trusting

__all__ = ["ActAs"]


@runtime_checkable
class _HTTPXClient(Protocol):
    """httpx's clients, Starlette's and FastAPI's ``TestClient``."""

    @property
    def headers(self) -> MutableMapping[str, str]: ...


@runtime_checkable
class _FlaskClient(Protocol):
    """Flask's test client."""

    @property
    def environ_base(self) -> MutableMapping[str, Any]: ...


_AnyClient: TypeAlias = _HTTPXClient | _FlaskClient
Client = TypeVar("Client", bound=_AnyClient)


class ActAs:
    """Lets a client act for a user, as long as a ``with`` block lasts.

    ::

        with act_as(client, user="ana", agent="assistant", scopes=["notes.read"]):
            assert client.get("/notes").status_code == 200
    """

    def __init__(self, issuer: FakeIssuer, app: Callable[[], object]) -> None:
        """*app* gives the application for a client that leads to none."""
        self._issuer = issuer
        self._app = app

    @contextmanager
    def __call__(
        self, client: Client, **options: Unpack[TokenOptions]
    ) -> Generator[Client, None, None]:
        """Send a good token with each request of *client*.

        *client* is Starlette's or FastAPI's ``TestClient``, a client of httpx's or
        Flask's test client. *options* are those of ``agent_token``.

        Raises:
            LookupError: no middleware was found.
        """
        with (
            trusting(self._tested_by(client), self._issuer) as agent_token,
            self.bearing(client, agent_token(**options)),
        ):
            yield client

    @contextmanager
    def bearing(self, client: Client, token: str) -> Generator[Client, None, None]:
        """Send *token* with each request of *client*, whatever it is worth."""
        headers, name = _authorization(client)
        former = headers.get(name)
        headers[name] = f"Bearer {token}"
        try:
            yield client
        finally:
            del headers[name]
            if former is not None:
                headers[name] = former

    def _tested_by(self, client: object) -> object:
        try:
            find_middlewares(client)
        except LookupError:
            return self._app()
        return client


def _authorization(client: _AnyClient) -> tuple[MutableMapping[str, Any], str]:
    """Where *client* keeps what it sends each time, and the header's name there."""
    if isinstance(client, _FlaskClient):
        return client.environ_base, "HTTP_AUTHORIZATION"
    return client.headers, "Authorization"
