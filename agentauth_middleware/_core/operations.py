"""Everything the core may ask a driver for.

A *procedure* is a generator. It asks with ``answer = yield from operation``; the
driver performs the operation, blocking or awaiting, and sends the answer back. When
it cannot be performed the driver throws ``UnavailableError`` in, and nothing else.

Always ``yield from``: a bare ``yield`` runs as well, but its answer is untyped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from agentauth_middleware.settings.client_authentication import ClientAuthentication

_JSON = re.compile(r"[a-z]+/(?:[!#$&^_.+\w-]+\+)?json", re.ASCII)
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Operation(Generic[Answer]):
    """Something only a driver can do."""

    __slots__ = ()

    def __iter__(self) -> Generator[Operation[Any], Any, Answer]:
        answer: Answer = yield self
        return answer


Procedure: TypeAlias = Generator[Operation[Any], Any, Result]
Clock: TypeAlias = Callable[[], float]
"""Gives epoch seconds. Handed in: a procedure has no clock of its own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for a ``Fetch``. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the media type is JSON: ``application/json``,
        ``.../jwk-set+json``."""
        return _JSON.fullmatch(self.media_type) is not None

    @property
    def is_page(self) -> bool:
        """Whether it is HTML: a login page, or the error page of a gateway."""
        return self.media_type in ("text/html", "application/xhtml+xml")

    @property
    def max_age(self) -> float | None:
        """Seconds for which its server lets it be used (RFC 9111 §5.2.2.1)."""
        stated = _MAX_AGE.search(self.headers.get("cache-control", ""))
        return float(stated[1]) if stated else None


@dataclass(frozen=True, slots=True)
class Fetch(Operation[Reply]):
    """GET a document, or POST a form. Redirects are not followed; any status is an
    answer.

    Fetches of one *flight* share one exchange and its outcome, success or failure, also
    if it has just ended: a thread that decided to ask before the answer came, and asks
    afterwards, must not cause another exchange. For a new exchange name a new flight.

    A ``file:`` URL, which only operators write, is read from the disk.
    """

    url: str
    flight: str
    timeout: float
    """Seconds for the whole exchange."""
    max_bytes: int
    """A longer body is a failure."""
    _: KW_ONLY
    issuer: str = ""
    """The issuer that it concerns: an exchange that hangs takes up this issuer's share
    of threads, and no other's."""
    accept: str = "application/json"
    """The media types that are asked for. Never ``*/*``: some servers take that for a
    browser's, and answer with a page."""
    etag: str | None = None
    """The entity tag of the document that is known; a 304 says that it has not
    changed."""
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Where there is one, it is posted. Not shown: it may hold a token."""
    authentication: ClientAuthentication | None = None
    """Put into the request as it is sent: an assertion is good for one."""
    public_only: bool = False
    """Whether the URL was learned from a document of another party. Then requests to
    private addresses are refused: the author of that document could otherwise reach our
    network (SSRF)."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """An entry of the log of revocations. Of several with one *key* the latest
    counts."""

    key: bytes
    """A hash of the target, 16 bytes: which tokens it refuses."""
    at: float
    """Epoch seconds: tokens issued up to this instant are refused."""
    forget_at: float
    """Epoch seconds at which every such token has expired."""
    record: bytes = b""
    """The same in readable form, JSON."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries in the order they were appended, and the position of the last."""

    position: int
    entries: tuple[tuple[bytes, float], ...]
    """The key and the instant of each ``CutOff``."""
    is_last: bool = True
    """Whether the log ended here; else there is more behind *position*."""
    epoch: str = ""
    """Names this log. When it changes, another log has taken the place of the one that
    was read before."""
    asked_at: float | None = field(default=None, compare=False)
    """When the read began, epoch seconds. Callers that share the read get this instant
    too."""


@dataclass(frozen=True, slots=True)
class ReadLog(Operation[LogPage]):
    """The records of the log of revocations behind position *after* (0: all).

    Reads that are under way for the same *after* are shared. ``asked_at`` of the page
    is then that of the first.
    """

    after: int
    asked_at: float = field(default=0.0, compare=False)
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class AppendLog(Operation[None]):
    """Append to the log what a process knows and the log may have lost."""

    entries: tuple[CutOff, ...]


@dataclass(frozen=True, slots=True)
class Start(Operation[None]):
    """Run a procedure in the background; answered at once.

    While one with the same *key* is running, or waits to run, this does nothing.
    """

    key: str
    make_procedure: Callable[[], Procedure[None]]
