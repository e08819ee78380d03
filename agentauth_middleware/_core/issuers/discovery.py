"""An issuer's metadata: where its keys are, and its introspection endpoint.

The document is looked for at three well-known URLs. Its ``issuer`` must be identical to
the issuer's identifier: otherwise one server could answer for another (RFC 8414 §3.3).
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from agentauth_middleware._core.operations import Clock, Fetch, Procedure, Reply
from agentauth_middleware._syntax.listing import quoted
from agentauth_middleware._syntax.members import Claims, parse_document
from agentauth_middleware._syntax.urls import (
    is_acceptable_url,
    is_loopback,
    issuer_metadata_urls,
    origin_of,
    other_by_slash,
)
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.reasons import Reason

MAX_DOCUMENT_BYTES = 512 * 1024
LONGEST_TIMEOUT = 60.0
"""Seconds; what the settings allow for one exchange."""
_DAY = 86_400.0
_STATIC_TYPES = ("", "text/plain", "application/octet-stream", "binary/octet-stream")
"""What static hosts call files without ``.json`` in their name: nginx, Apache, GitHub
Pages, S3. ``""`` is no media type at all (RFC 9110 §8.3)."""
_BEFORE_AN_OBJECT = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
"""Byte order marks, white space, and the zero bytes of UTF-16."""


class IssuerMetadata(NamedTuple):
    """The members that count here; ``None`` for what is missing or no usable URL."""

    jwks_uri: str | None
    introspection_endpoint: str | None


class Discovery:
    """The metadata of one issuer, as one middleware knows it."""

    def __init__(self, issuer: str, *, insecure_loopback: bool = False) -> None:
        """*insecure_loopback* lets the metadata name http URLs as well."""
        self.issuer = issuer
        self.insecure_loopback = insecure_loopback
        self._found: IssuerMetadata | None = None
        self._found_at = -inf

    def known(self, now: float) -> IssuerMetadata | None:
        """What was found less than a day ago."""
        return self._found if 0 <= now - self._found_at < _DAY else None

    def note(self, found: IssuerMetadata, now: float) -> None:
        """Remember what was *found* at *now*."""
        self._found, self._found_at = found, now

    def forget(self) -> None:
        """Fetch the metadata again next time: the URLs in it did not work."""
        self._found_at = -inf

    def is_foreign(self, url: str) -> bool:
        """Whether *url* was learned from the issuer's metadata and has another origin.
        A URL of the issuer's own origin counts as written by the operator, and may be
        in a private network.
        """
        if self.insecure_loopback and is_loopback(url):
            return False
        return origin_of(url) != origin_of(self.issuer)


def discover(
    state: Discovery, mark: str, clock: Clock, deadline: float
) -> Procedure[IssuerMetadata]:
    """The issuer's metadata. Callers that name the same *mark* share the exchanges.

    Raises:
        UnavailableError: there is none that can be used.

    Source: RFC 8414 §3, OpenID Connect Discovery 1.0 §4
    """
    known = state.known(clock())
    if known is not None:
        return known
    passed_over: list[str] = []
    for url in issuer_metadata_urls(state.issuer):
        flight = f"{state.issuer}: {url}#{mark}"
        reply = yield from fetch_document(
            url, flight, clock, deadline, issuer=state.issuer
        )
        if 300 <= reply.status < 500 or (reply.status == 200 and _is_other(reply)):
            # Nothing is published here, or an HTML page is.
            kind = f", {_kind_of(reply)}" if reply.status == 200 else ""
            passed_over.append(f"{url} ({reply.status}{kind})")
            continue
        found = read_issuer_metadata(
            reply, url, state.issuer, insecure_loopback=state.insecure_loopback
        )
        state.note(found, clock())
        return found
    told = f"{state.issuer} publishes no metadata: {', '.join(passed_over)}"
    raise UnavailableError(
        Reason.METADATA_NOT_FOUND, f"{told}; name its keys with Issuer(jwks_uri=...)"
    )


def fetch_document(
    url: str,
    flight: str,
    clock: Clock,
    deadline: float,
    *,
    issuer: str,
    accept: str = "application/json",
    etag: str | None = None,
    public_only: bool = False,
) -> Procedure[Reply]:
    """The reply of *url*, within the time that is left.

    Raises:
        UnavailableError: it did not answer, or no time is left.
    """
    reply = yield from Fetch(
        url,
        flight,
        time_left(url, clock, deadline),
        MAX_DOCUMENT_BYTES,
        issuer=issuer,
        accept=accept,
        etag=etag,
        public_only=public_only,
    )
    return reply


def time_left(url: str, clock: Clock, deadline: float) -> float:
    """Seconds until *deadline*, and never more than any timeout may be: an exchange
    must not go on for hours because the clock was set back meanwhile.

    Raises:
        UnavailableError: none.
    """
    remaining = deadline - clock()
    if remaining <= 0:
        raise UnavailableError(Reason.UPSTREAM_TIMEOUT, f"no time left for {url}")
    return min(remaining, LONGEST_TIMEOUT)


def read_issuer_metadata(
    reply: Reply, url: str, issuer: str, *, insecure_loopback: bool
) -> IssuerMetadata:
    """The members of the metadata of *issuer*.

    Raises:
        UnavailableError: the document cannot be used.
    """
    metadata = read_document(reply, url, Reason.METADATA_UNUSABLE)
    if metadata.get("issuer") != issuer:
        found = f"{url} describes {quoted(metadata.get('issuer'))}"
        told = f"{found}; expected {issuer!r}"
        if metadata.get("issuer") == (other := other_by_slash(issuer)):
            told = f"{told}, which differs by the slash at its end; write {other!r}"
        raise UnavailableError(Reason.METADATA_UNUSABLE, told)

    def usable(name: str) -> str | None:
        value = metadata.get(name)
        acceptable = is_acceptable_url(value, insecure_loopback=insecure_loopback)
        return str(value) if acceptable else None

    return IssuerMetadata(usable("jwks_uri"), usable("introspection_endpoint"))


def read_document(reply: Reply, url: str, reason: str) -> Claims:
    """The JSON object that a server publishes, in *reply*.

    A static host knows no media type for many files. Then the content decides; but a
    page for people is never a document, whatever is in it.

    Raises:
        UnavailableError: it is none; with *reason*.
    """
    if reply.status != 200:
        raise UnavailableError(reason, f"{url} answered {reply.status}")
    if not _is_json(reply):
        raise UnavailableError(reason, f"{url} is {_kind_of(reply)}; expected JSON")
    try:
        return parse_document(reply.body)
    except ValueError as fault:
        raise UnavailableError(reason, f"{url}: {fault}") from None


def _is_json(reply: Reply) -> bool:
    """Whether *reply* calls itself JSON, or nothing else and looks like it."""
    if reply.media_type not in _STATIC_TYPES:
        return reply.is_json
    return reply.body.lstrip(_BEFORE_AN_OBJECT).startswith(b"{")


def _is_other(reply: Reply) -> bool:
    """Whether *reply* is no metadata but what a server answers on any path.

    Some servers send JSON as text, to requests for any path too, such as
    ``{"status": "ok"}``.
    """
    if reply.is_json:
        return False
    return not _is_json(reply) or b'"issuer"' not in reply.body.replace(b"\0", b"")


def _kind_of(reply: Reply) -> str:
    """What *reply* is instead of JSON, for a log."""
    if reply.is_page:
        return f"a page for people ({reply.media_type})"
    return f"of type {quoted(reply.media_type)}" if reply.media_type else "of no type"
