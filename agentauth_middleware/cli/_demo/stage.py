"""Where the demo plays: which servers there are, and who visits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentauth_middleware.cli._demo.servers import Server, free_ports
from agentauth_middleware.cli._demo.users import ALICE, BOB, User
from agentauth_middleware.cli._demo.walk import Visit

_APPLICATIONS = "agentauth_middleware.cli._demo.applications"
AUTHORIZATION_SERVER = f"{_APPLICATIONS}:authorization_server"


@dataclass(frozen=True)
class Stage:
    """Where everything stands."""

    folder: Path
    """For databases and logs; removed at the end."""
    examples: Path
    authorization_server: str
    provider: str
    fastapi: str
    flask: str

    @classmethod
    def set_up(cls, folder: Path, examples: Path) -> Stage:
        urls = [f"http://127.0.0.1:{port}" for port in free_ports(4)]
        return cls(folder, examples.resolve(), *urls)

    def servers(self, authorization_server: str) -> list[Server]:
        """All four; *authorization_server* is the factory of the first."""
        return [
            self._authorization_server(authorization_server),
            self._agent_provider(),
            self._fastapi_example(),
            self._flask_example(),
        ]

    def visits(self) -> list[Visit]:
        """One to each API, each for a user of its own, who are disconnected apart."""
        return [
            self._visit("FastAPI example", self.fastapi, ALICE),
            self._visit("Flask example", self.flask, BOB),
        ]

    @property
    def database(self) -> Path:
        """Of the authorization server."""
        return self.folder / "authorization_server.db"

    def _authorization_server(self, factory: str) -> Server:
        return Server(
            "authorization server",
            "registers agents for users, and issues tokens",
            self.authorization_server,
            _uvicorn(factory, self.authorization_server),
            {
                "AGENTAUTH_ISSUER": self.authorization_server,
                "AGENTAUTH_STORE": self._revocations,
                "DEMO_DATABASE": str(self.database),
                "DEMO_PROVIDER": self.provider,
                "DEMO_RESOURCES": f"{self.fastapi} {self.flask}",
                "DEMO_USERS": " ".join(
                    f"{user.id},{user.email},{user.account}" for user in (ALICE, BOB)
                ),
            },
        )

    def _agent_provider(self) -> Server:
        return Server(
            "agent provider",
            "where users sign in and their agents live; vouches for both",
            self.provider,
            _uvicorn(f"{_APPLICATIONS}:agent_provider", self.provider),
            {"DEMO_PROVIDER": self.provider},
        )

    def _fastapi_example(self) -> Server:
        return Server(
            "FastAPI example",
            "a small notes API behind the ASGI middleware, under uvicorn",
            self.fastapi,
            _uvicorn("fastapi_app.app:create_app", self.fastapi),
            self._example(self.fastapi, "fastapi"),
        )

    def _flask_example(self) -> Server:
        return Server(
            "Flask example",
            "the same API behind the WSGI middleware, under waitress",
            self.flask,
            _waitress("flask_app.app:create_app", self.flask),
            self._example(self.flask, "flask"),
        )

    def _example(self, url: str, name: str) -> dict[str, str]:
        return {
            "AGENTAUTH_ISSUER": self.authorization_server,
            "AGENTAUTH_RESOURCE": url,
            "AGENTAUTH_STORE": self._revocations,
            "NOTES_DATABASE": str(self.folder / f"notes_{name}.db"),
            "PYTHONPATH": str(self.examples),
        }

    @property
    def _revocations(self) -> str:
        """The log that the authorization server writes and both APIs read."""
        return str(self.folder / "revocations.db")

    def _visit(self, name: str, url: str, user: User) -> Visit:
        return Visit(name, url, self.provider, user.account, user.email, user.name)


def _uvicorn(factory: str, url: str) -> list[str]:
    port = url.rpartition(":")[2]
    return ["-m", "uvicorn", "--factory", factory, "--port", port]


def _waitress(factory: str, url: str) -> list[str]:
    address = url.removeprefix("http://")
    return ["-m", "waitress", "--listen", address, "--call", factory]
