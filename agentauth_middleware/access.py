"""What a handler knows about a granted request: the user, the agent, the scopes.

An ``Access`` is what one token says and nothing else. It is immutable, and the same
object serves every request that presents the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn, TypeAlias

from agentauth_middleware._syntax.members import frozen_claims, is_array, is_object
from agentauth_middleware.errors import (
    ActorRefusedError,
    InsufficientScopeError,
    RequestRefusedError,
)
from agentauth_middleware.reasons import Reason

__all__ = [
    "Access",
    "Identity",
    "IdentityDialect",
    "Mode",
    "Principal",
    "current_access",
]

Mode: TypeAlias = Literal[
    "user",
    "delegated",
    "agent",
    "agent_unclaimed",
    "agent_user_account",
    "service",
    "unknown",
]
"""Who makes a request.

``"delegated"`` is an agent for a user; ``"agent"`` one of its own accord;
``"agent_unclaimed"`` one that no user has claimed yet; ``"agent_user_account"`` an
account made for an agent, that looks like a user's and is none. ``"unknown"``: the
token does not prove it.
"""
_AGENT_MODES = frozenset({"agent", "agent_unclaimed", "agent_user_account"})

IdentityDialect: TypeAlias = Literal[
    "rfc8693",
    "actor_profile",
    "auth0",
    "entra",
    "okta",
    "workos_blueprint",
    "authmd",
    "keycloak",
    "client_only",
]
"""How an issuer writes down who its tokens are for and who acts."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("a Principal cannot be changed")


class _Extra(dict[str, str]):
    """A dictionary that stays as it was made.

    No mapping proxy, because ``json``, ``copy`` and ``dataclasses.asdict`` have to
    take it.
    """

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[_Extra], tuple[dict[str, str]]]:
        return _Extra, (dict(self),)


_NO_EXTRA = _Extra()


@dataclass(frozen=True, slots=True)
class Principal:
    """A party that can act: a person, an agent, a service.

    The key is (*issuer*, *subject*, *tenant*), and only they are compared: two issuers
    with the same subject name two different people. All else is for display.
    """

    issuer: str
    subject: str
    profile: str | None = field(default=None, compare=False)
    """``sub_profile`` as the token has it, such as ``"user"`` or ``"ai_agent"``, or
    that word for what the token says in another way."""
    email: str | None = field(default=None, compare=False)
    email_verified: bool | None = field(default=None, compare=False)
    name: str | None = field(default=None, compare=False)
    tenant: str | None = None
    """Where the subject alone is no name: the directory at Entra, ``tid``."""
    extra: Mapping[str, str] = field(default_factory=lambda: _NO_EXTRA, compare=False)
    """Further claims, such as an agent's blueprint or session. For audit only: the
    caller may have chosen some of them."""

    def __post_init__(self) -> None:
        if type(self.extra) is not _Extra:
            object.__setattr__(self, "extra", _Extra(self.extra))

    def to_json(self) -> dict[str, Any]:
        """All members, as values that ``json.dumps`` takes."""
        return {**asdict(self), "extra": dict(self.extra)}


@dataclass(frozen=True, slots=True)
class Identity:
    """The part of an ``Access`` that says who; what an identity function returns."""

    mode: Mode
    user: Principal | None = None
    """The person whose authority is used. Only in the modes ``"user"`` and
    ``"delegated"``."""
    agent: Principal | None = None
    """The immediate actor."""
    chain: tuple[Principal, ...] = ()
    """Earlier actors, most recent first. For audit: they decide nothing."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who is calling, on whose behalf, and what they may do."""

    issuer: str
    """The authorization server that issued the token."""
    subject: str | None = None
    """Always what the token says; a person only if *user* says so too."""
    user: Principal | None = None
    """The person whose authority is used, where the token proves one."""
    agent: Principal | None = None
    """The immediate actor, where the token names one."""
    chain: tuple[Principal, ...] = ()
    """Earlier actors, most recent first. For audit: they decide nothing."""
    mode: Mode = "unknown"
    scopes: frozenset[str] = frozenset()
    """Those of the token, and what the settings say that they imply; for an agent, as
    far as it may use them."""
    client_id: str | None = None
    """The OAuth client. Neither a user nor an agent."""
    audience: tuple[str, ...] = ()
    token_id: str | None = None
    """``jti``."""
    issued_at: float | None = None
    """Epoch seconds."""
    expires_at: float | None = None
    """Epoch seconds."""
    auth_time: float | None = None
    """When the user last authenticated, epoch seconds."""
    acr: str | None = None
    """How strongly the user authenticated (RFC 9470)."""
    payload: bytes = field(default=b"{}", repr=False, compare=False)
    """The token's claims as they came, JSON. Never the token itself."""
    scope_ceiling: frozenset[str] | None = None
    """All scopes that its agent may use here (``Issuer.agent_scopes``), and what they
    imply; ``None`` for no limit."""
    leeway: int = field(default=60, repr=False, compare=False)
    """Seconds by which the issuer's clock may differ from ours."""

    @property
    def claims(self) -> Mapping[str, Any]:
        """All the token says, immutable to all depths; parsed when asked for."""
        return frozen_claims(self.payload)

    @property
    def amr(self) -> tuple[str, ...]:
        """How the user authenticated (RFC 8176); empty where the token says nothing."""
        methods = self.claims.get("amr")
        if not is_array(methods):
            return ()
        return tuple(method for method in methods if isinstance(method, str))

    @property
    def authorization_details(self) -> tuple[Mapping[str, Any], ...]:
        """Fine-grained permissions (RFC 9396 §9.1); not evaluated here."""
        details = self.claims.get("authorization_details")
        if not is_array(details):
            return ()
        return tuple(item for item in details if is_object(item))

    @property
    def agent_platform(self) -> str | None:
        """Where the agent says it runs. For audit, never for a decision."""
        return self._claimed_text("agent_platform")

    @property
    def agent_context_id(self) -> str | None:
        """The agent's own name for its conversation or task. For audit only."""
        return self._claimed_text("agent_context_id")

    def _claimed_text(self, name: str) -> str | None:
        value = self.claims.get(name)
        return value if isinstance(value, str) else None

    @property
    def is_by_agent(self) -> bool:
        """Whether an agent takes part: it acts, acted before, or is the subject."""
        return is_by_agent(self)

    def to_json(self) -> dict[str, Any]:
        """All members, as values that ``json.dumps`` takes: for a job that another
        process does for the same user. ``from_json`` reads them.

        The claims are among them, and so personal data; the token is not.
        """
        ceiling = self.scope_ceiling
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "user": self.user and self.user.to_json(),
            "agent": self.agent and self.agent.to_json(),
            "chain": [actor.to_json() for actor in self.chain],
            "scopes": sorted(self.scopes),
            "scope_ceiling": None if ceiling is None else sorted(ceiling),
            "audience": list(self.audience),
            "payload": self.payload.decode(),
        }

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Access:
        """The ``Access`` whose ``to_json`` gave *members*.

        Verifies nothing: read only what your own processes have written. A token that
        was revoked or has expired meanwhile is not noticed.

        Raises:
            KeyError, TypeError: *members* are not from ``to_json``.
        """
        user, agent = members["user"], members["agent"]
        ceiling = members["scope_ceiling"]
        return cls(
            **{name: members[name] for name in _PLAIN},
            user=user and Principal(**user),
            agent=agent and Principal(**agent),
            chain=tuple(Principal(**actor) for actor in members["chain"]),
            scopes=frozenset(members["scopes"]),
            scope_ceiling=None if ceiling is None else frozenset(ceiling),
            audience=tuple(members["audience"]),
            payload=members["payload"].encode(),
        )

    def has_scopes(self, *scopes: str) -> bool:
        """Whether the token carries all of *scopes*."""
        return self.scopes.issuperset(scopes)

    def require_scopes(self, *scopes: str) -> None:
        """Refuse the request unless the token carries all of *scopes*.

        Name all that the operation needs: the answer tells the client to ask for them.

        Raises:
            InsufficientScopeError: one is missing; answered 403.
            ActorRefusedError: its agent may not use one; answered 403.
        """
        if not self.scopes.issuperset(scopes):
            raise refusal_for_lack(self, scopes)

    def require_any_scope(self, preferred: str, *others: str) -> None:
        """Refuse the request unless the token carries one of these scopes.

        The answer tells the client to ask for the first that its agent may use.

        Raises:
            InsufficientScopeError: it carries none; answered 403.
            ActorRefusedError: its agent may use none; answered 403.
        """
        scopes = (preferred, *others)
        if self.scopes.isdisjoint(scopes):
            raise refusal_for_lack(self, (), scopes)

    def require_user(self) -> Principal:
        """The user this request acts for.

        Raises:
            ActorRefusedError: the token proves no user; answered 403.
        """
        if self.user is None:
            raise ActorRefusedError(Reason.USER_REQUIRED, f"mode is {self.mode}")
        return self.user

    def require_agent(self) -> Principal:
        """The agent that makes this request.

        Raises:
            ActorRefusedError: the token names no agent; answered 403.
        """
        if self.agent is None:
            raise ActorRefusedError(Reason.AGENT_REQUIRED, f"mode is {self.mode}")
        return self.agent

    def require_delegation(self) -> tuple[Principal, Principal]:
        """The user and the agent that acts for them.

        Raises:
            ActorRefusedError: one of the two is missing; answered 403.
        """
        return self.require_user(), self.require_agent()

    def forbid_agents(self) -> None:
        """Refuse the request if an agent makes it.

        Raises:
            ActorRefusedError: the token names an agent, now or earlier, or is one's
                own; answered 403.
        """
        if self.is_by_agent:
            raise ActorRefusedError(Reason.AGENT_FORBIDDEN, f"mode is {self.mode}")


_PLAIN = (
    *("issuer", "subject", "mode", "client_id", "token_id"),
    *("issued_at", "expires_at", "auth_time", "acr", "leeway"),
)
"""Members of an ``Access`` that are values of JSON already."""


def is_by_agent(who: Access | Identity) -> bool:
    """Whether an agent takes part in what *who* describes, now or earlier."""
    return who.agent is not None or who.mode in _AGENT_MODES or bool(who.chain)


def refusal_for_lack(
    access: Access, scopes: Iterable[str], *choices: Sequence[str]
) -> RequestRefusedError:
    """What to raise where *scopes*, and one of each of *choices*, are needed.

    A client is never told to ask for a scope that its agent may not use: no token would
    be any better.
    """

    def may_use(scope: str) -> bool:
        return access.scope_ceiling is None or scope in access.scope_ceiling

    needed = [*scopes]
    for choice in choices:
        needed += [scope for scope in choice if may_use(scope)][:1] or choice
    if all(map(may_use, needed)):
        return InsufficientScopeError(dict.fromkeys(needed))
    return ActorRefusedError(Reason.SCOPE_WITHHELD, "not for this agent")


CURRENT: ContextVar[Access | None] = ContextVar("agentauth_access")
"""Set by a middleware for each request, to ``None`` for one without ``Access``."""


def current_access() -> Access | None:
    """The ``Access`` of the request being handled, or ``None`` where there is none.

    Known in the handler and in everything it awaits, in tasks it starts and in
    framework-run threads. A thread that a handler starts by itself sees it only if
    started with ``contextvars.copy_context().run``.
    """
    return CURRENT.get(None)
