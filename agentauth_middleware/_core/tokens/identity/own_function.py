"""A function of the operator's own, from claims to an ``Identity``.

A ``ValueError`` or a refusal that it raises is a verdict about the token. Any other
exception is a bug in the function, and so is an impossible return value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from agentauth_middleware._syntax.members import freeze, is_array
from agentauth_middleware.access import Identity, Mode, Principal

_MODES: frozenset[str] = frozenset(get_args(Mode))


def read_own(
    claims: Mapping[str, Any], function: Callable[[Mapping[str, Any]], object]
) -> Identity:
    """What *function* makes of *claims*, which it cannot change.

    Raises:
        TypeError: it returns what is no identity, or one that contradicts itself.
    """
    found = function(freeze(claims))
    if not isinstance(found, Identity):
        raise _bug(function, f"a {type(found).__name__}, which is no Identity")
    fault = _fault_of_members(found) or _fault_of_mode(found)
    if fault is not None:
        raise _bug(function, fault)
    return found


def _bug(function: object, fault: str) -> TypeError:
    return TypeError(f"Issuer.identity: {function!r} returned {fault}")


def _fault_of_members(found: Identity) -> str | None:
    if found.mode not in _MODES:
        return f"the mode {found.mode!r}, which is none"
    if not _are_principals(*filter(None, (found.user, found.agent))):
        return "a user or an agent that is no Principal"
    chain: object = found.chain
    if not is_array(chain) or not _are_principals(*chain) or type(chain) is not tuple:
        return "a chain that is no tuple of Principal"
    return None


def _are_principals(*members: object) -> bool:
    return all(isinstance(member, Principal) for member in members)


def _fault_of_mode(found: Identity) -> str | None:
    if (found.user is not None) != (found.mode in ("user", "delegated")):
        return f"the mode {found.mode!r} {'with' if found.user else 'without'} a user"
    if found.mode == "user" and found.agent is not None:
        return "the mode 'user' with an agent; it is 'delegated' then"
    if found.mode in ("delegated", "agent") and found.agent is None:
        return f"the mode {found.mode!r} without an agent"
    return None
