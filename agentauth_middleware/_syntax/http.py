"""A request as the core sees it, and an answer as it gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXPOSED = "WWW-Authenticate, Retry-After, DPoP-Nonce"
"""The headers of a refusal that pages of other origins have to read."""


class Request:
    """What a decision may depend on.

    Middlewares make one for each request, of a class of their own that looks up only
    when asked what few decisions ask for. It is not changed once it is made.
    """

    __slots__ = ("authorization", "method", "mount", "path", "query")

    method: str
    """As received; a websocket handshake is a ``GET``."""
    path: str
    """Percent-decoded once, with the mount in front where the server puts it there."""
    mount: str
    """``root_path`` or ``SCRIPT_NAME``; empty where the application is not mounted."""
    query: bytes
    authorization: Sequence[bytes]
    """The value of each ``Authorization`` field line."""

    @property
    def raw_path(self) -> bytes:
        """As it came over the wire, without the query; empty if the server does not
        tell."""
        raise NotImplementedError

    @property
    def client(self) -> str | None:
        """The address that the request came from, where the server tells."""
        raise NotImplementedError

    def header(self, name: str) -> str | None:
        """Any other header by its lower-case name, field lines joined by a comma."""
        raise NotImplementedError


class PlainRequest(Request):
    """A request of which only method and path are known."""

    __slots__ = ()

    def __init__(self, method: str, path: str, mount: str = "") -> None:
        self.method = method
        self.path = path
        self.mount = mount
        self.query = b""
        self.authorization = ()

    @property
    def raw_path(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
