"""Beside an API's other clients: which credentials are agents' and which are not ours.

An API that has sessions, or keys of its own in ``Authorization: Bearer``, keeps them.
A credential is an agent's only if a configured rule claims it: a JWT that names a
trusted issuer, an opaque token with a configured prefix, or the scheme DPoP, which no
other client has. A claimed one is checked like any other and refused if it is bad;
everything else is the application's affair.
"""

from __future__ import annotations

from agentauth_middleware._core.access_token import peek_issuer
from agentauth_middleware._core.credential import read_scheme
from agentauth_middleware._core.gate import Gate
from agentauth_middleware._core.http import Request
from agentauth_middleware.errors import AuthenticationRequiredError, InvalidTokenError


def has_agent_credential(gate: Gate, request: Request, now: float) -> bool:
    """Whether *request* is an agent's, who has to show a good token.

    Raises:
        AuthenticationRequiredError: its credential is of a scheme that only agents use
            and that is not accepted here.
        UnavailableError: the operator's function of issuers failed.
    """
    return any(_is_claimed(gate, line, now) for line in request.authorization)


def _is_claimed(gate: Gate, line: bytes, now: float) -> bool:
    scheme, rest = read_scheme(line)
    if scheme == b"dpop":
        raise AuthenticationRequiredError
    if scheme != b"bearer" or not rest:
        return False
    if gate.trust.has_prefix(rest):
        return True
    name = peek_issuer(rest)
    if name is None:
        return False
    try:
        gate.trust.find(name, now)
    except InvalidTokenError:
        return False
    return True
