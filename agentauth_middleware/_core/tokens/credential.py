"""The credential of a request, if it carries one (RFC 9110 §11.6.2, RFC 6750 §2).

Only the ``Authorization`` header authenticates. A token in the query or in the body
never does, and no other header is ever read as identity.

Clients choose how long a header and a query are, and some servers pass on many
megabytes. So lengths are compared before anything is searched, and what is longer than
anything that clients really send is refused unread.
"""

from __future__ import annotations

import re

from agentauth_middleware._syntax.http import Request
from agentauth_middleware.errors import InvalidRequestError
from agentauth_middleware.reasons import Reason

MAX_CREDENTIAL_BYTES = 16 * 1024
MAX_AUTHORIZATION_BYTES = 64 * 1024
"""All field lines together, of whatever scheme: Kerberos tickets have up to 48,000
bytes before they are encoded."""
MAX_QUERY_BYTES = 128 * 1024
"""The longest query that is searched for a second token. Servers that limit a request
line pass on half of that at most."""
_LINE_OVERHEAD = 32
"""What a field line counts beside its value (RFC 9113 §6.5.2)."""
_ACCESS_TOKEN = re.compile(
    b"(?:^|&)"
    + b"".join(b"(?:%c|(?i:%%%02x))" % (letter, letter) for letter in b"access_token")
    + b"(?:=|&|$)"
)
"""The parameter, any letter of it percent-encoded or not."""
_USUAL_SCHEMES = (b"Bearer ", b"bearer ")
_SCHEME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"


def find_token(request: Request, *, ignore_query: bool = False) -> bytes | None:
    """The bearer token presented, or ``None`` for a request without credentials.

    ``Bearer`` with nothing after it carries no credentials. The MCP SDK's client sends
    it before it has a token, and begins its OAuth flow only if the answer is a 401.

    Whether it has the form of a token is checked by ``check_form``, once per token
    and not once per request.

    Raises:
        InvalidRequestError: credentials twice, in two ways, or malformed.
    """
    lines = request.authorization
    if not lines:
        return None
    if len(lines) > 1:
        raise InvalidRequestError(Reason.DUPLICATE_AUTHORIZATION)
    if len(lines[0]) > MAX_CREDENTIAL_BYTES:
        _refuse_long_bearer(request)
        return None
    value = lines[0].strip(b" \t")
    if value.startswith(_USUAL_SCHEMES):
        token: bytes | None = value[7:].lstrip(b" ")
    else:
        token = _bearer_in_other_spelling(value)
    if token is None:
        return None
    if request.query and not ignore_query:
        _refuse_second_method(request.query)
    return token


def check_size(request: Request) -> None:
    """Refuse more ``Authorization`` than is ever read, of any scheme: it might hide a
    token.

    Raises:
        InvalidRequestError: there is too much of it.
    """
    lines = request.authorization
    if sum(map(len, lines)) + _LINE_OVERHEAD * len(lines) > MAX_AUTHORIZATION_BYTES:
        raise InvalidRequestError(Reason.CREDENTIAL_TOO_LONG)


def _refuse_long_bearer(request: Request) -> None:
    """Refuse a field line that is too long for a bearer token, unless it has another
    scheme."""
    check_size(request)
    if _bearer_in_other_spelling(request.authorization[0].strip(b" \t")) is not None:
        raise InvalidRequestError(Reason.CREDENTIAL_TOO_LONG)


def _bearer_in_other_spelling(value: bytes) -> bytes | None:
    if not value:
        return None
    scheme = _SCHEME.match(value)
    if scheme is None:
        raise InvalidRequestError(Reason.MALFORMED_CREDENTIAL, "no scheme")
    if scheme[0].lower() != b"bearer":
        return None
    rest = value[scheme.end() :]
    if not rest:  # clients that have no token yet send the scheme alone
        return None
    if not rest.startswith(b" "):
        raise InvalidRequestError(
            Reason.MALFORMED_CREDENTIAL, "no space after the scheme"
        )
    return rest.lstrip(b" ")


def read_scheme(line: bytes) -> tuple[bytes, bytes]:
    """The scheme of a field line, in lower case, and what follows it."""
    scheme, _, rest = line.strip(b" \t").partition(b" ")
    return scheme.lower(), rest.lstrip(b" ")


def check_form(token: bytes) -> None:
    """Refuse a credential that is not a token68. A comma shows two field lines that a
    proxy joined.

    Source: RFC 9110 §11.2
    """
    unpadded = token.rstrip(b"=")
    if not unpadded or unpadded.translate(None, _TOKEN68):
        found = "not a token68"
        if token.startswith(_USUAL_SCHEMES):
            found += ": it has Bearer before it; leave that out"
        raise InvalidRequestError(Reason.MALFORMED_CREDENTIAL, found)


def _refuse_second_method(query: bytes) -> None:
    """``access_token`` in the query beside the header (RFC 6750 §2).

    An overlong query is refused, because it is not searched and may contain one.
    """
    if len(query) > MAX_QUERY_BYTES:
        raise InvalidRequestError(Reason.QUERY_TOO_LONG)
    if _ACCESS_TOKEN.search(query):
        raise InvalidRequestError(Reason.TWO_METHODS)
