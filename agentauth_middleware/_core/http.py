"""A request as the core sees it, and an answer as it gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Request(NamedTuple):
    """What a decision may depend on. Doors build one for each request."""

    method: str
    """As received; a websocket handshake is a ``GET``."""
    path: str
    """Percent-decoded once, with the mount in front where the server puts it there."""
    mount: str
    """``root_path`` or ``SCRIPT_NAME``; empty where the application is not mounted."""
    raw_path: bytes
    """As it came over the wire, perhaps with the query; empty if the server does not
    tell."""
    query: bytes
    authorization: Sequence[bytes]
    """The value of each ``Authorization`` field line."""
    header: Callable[[str], str | None]
    """Any other header by its lower-case name, field lines joined by a comma."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
