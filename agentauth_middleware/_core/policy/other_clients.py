"""An API with other clients: which credentials are an agent's, and which are not ours.

An API that has sessions, or keys of its own in ``Authorization: Bearer``, keeps them. A
credential is an agent's only if a configured rule claims it: a JWT that names a trusted
issuer, an opaque token with a configured prefix, or the scheme DPoP, which no other
client has. A claimed one is checked like any other and refused if it is bad; everything
else is left to the application.

Claims are made as the most lenient application might read a credential: with any white
space, in quotes, in another scheme, beside others, with a payload that is no good JSON.
Whatever is not spelt as the standards say is then refused, and no spelling brings an
agent past the middleware.

Reading as leniently as that costs more than reading what the standards say. So a
request with more ``Authorization`` than other clients send, or with more JWTs in it, is
refused: what is not read might be an agent's token.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, islice

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware._core.tokens.credential import (
    MAX_CREDENTIAL_BYTES,
    check_size,
    read_scheme,
)
from agentauth_middleware._core.tokens.jwt_access_token import MAX_CONTAINERS
from agentauth_middleware._syntax.http import Request
from agentauth_middleware.errors import InvalidTokenError

_DPOP = re.compile(rb"(?:^|,)\s*dpop(?:\s|,|$)", re.IGNORECASE)
_BEARER_TOKEN = re.compile(
    rb"(?:^[^\w.~+/-]*|\bbearer[^\w.~+/-]+)(?!bearer[^\w.~+/-])([\w.~+/-]+)",
    re.IGNORECASE,
)
"""What stands after the scheme, or first where no scheme does."""
_PAYLOAD = re.compile(rb"\.([\w+/=-]{16,})[\w+/=.-]*")
"""The second segment of a JWT; a shorter one has no room for an issuer."""
_MAX_ISSUERS = 16
"""How many ``iss`` are looked up for one request."""
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_ISSUER_ANYWHERE = re.compile(r'"iss"\s*:\s*"([^"\\]*)"')
_LENIENT = json.JSONDecoder(object_pairs_hook=tuple, strict=False)
"""Objects become tuples of pairs, so that a member that occurs twice is seen twice."""


def has_agent_credential(state: MiddlewareState, request: Request, now: float) -> bool:
    """Whether *request* is an agent's and needs a good token.

    Raises:
        InvalidRequestError: there is more of it than is read.
        TooManyRequestsError: as ``Trust.find``.
        UnavailableError: as ``Trust.find``.
    """
    check_size(request)
    lines = request.authorization
    if any(_is_claimed(state, line) for line in lines):
        return True
    named = chain.from_iterable(map(_issuers_named, lines))
    names = list(islice(named, _MAX_ISSUERS + 1))
    return len(names) > _MAX_ISSUERS or any(
        _is_trusted(state, name, now) for name in names
    )


def _is_claimed(state: MiddlewareState, line: bytes) -> bool:
    """Whether *line* is an agent's whatever issuer it names."""
    return (
        _is_remembered(state, line)
        or _DPOP.search(line) is not None
        or any(map(state.trust.has_prefix, _BEARER_TOKEN.findall(line)))
    )


def _is_remembered(state: MiddlewareState, line: bytes) -> bool:
    """Whether it is a token that was found good before, so that it need not be read."""
    if len(line) > MAX_CREDENTIAL_BYTES:
        return False
    scheme, token = read_scheme(line)
    return scheme == b"bearer" and (
        state.tokens.get(sha256(token).digest()) is not None
    )


def _is_trusted(state: MiddlewareState, name: str, now: float) -> bool:
    try:
        state.trust.find(name, now)
    except InvalidTokenError:
        return False
    return True


def _issuers_named(line: bytes) -> Iterator[str]:
    """Every ``iss`` of whatever may be a JWT in *line*; nothing of it is verified."""
    for segment in _PAYLOAD.findall(line):
        try:
            payload = binascii.a2b_base64(segment.translate(_TO_STANDARD) + b"==")
        except binascii.Error:
            continue
        text = payload.decode("utf-8", "replace").lstrip()
        if text.startswith("{"):
            yield from _issuers_of(text)


def _issuers_of(text: str) -> list[str]:
    if text.count("{") + text.count("[") > MAX_CONTAINERS:
        return _issuers_anywhere(text)
    try:
        members, _ = _LENIENT.raw_decode(text)
    except RecursionError:
        # The stack is nearly used up here; the application may have more room to read
        # it.
        return _issuers_anywhere(text)
    except ValueError:
        return []
    return [
        value for name, value in members if name == "iss" and isinstance(value, str)
    ]


def _issuers_anywhere(text: str) -> list[str]:
    return _ISSUER_ANYWHERE.findall(text.replace(r"\/", "/"))
