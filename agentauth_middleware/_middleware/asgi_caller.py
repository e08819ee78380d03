"""Who is calling, in the words of Starlette: ``request.user`` and ``request.auth``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

from agentauth_middleware._core.decide import Anonymous
from agentauth_middleware._core.tokens.remembered import Remembered
from agentauth_middleware.access import Access

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["Caller", "anonymous", "identify"]


_SHARED = (
    "all requests with one token share this; keep what belongs to one request in "
    "request.state"
)


class Caller(BaseUser):
    """What Starlette's ``request.user`` is for a request with an ``Access``."""

    access: Access

    def __init__(self, access: Access) -> None:
        # Not by assignment, which is refused below.
        self.__dict__["access"] = access

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        """The user's name where the token has one, else the subject."""
        user = self.access.user
        return (user and user.name) or self.identity

    @property
    def identity(self) -> str:
        """The subject. Unique only together with ``access.issuer``."""
        return self.access.subject or ""


class _SharedCaller(Caller):
    """All requests with one token share it, so it cannot be changed."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"request.user.{name}: {_SHARED}")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(f"request.auth.scopes: {_SHARED}")


class _Scopes(list[str]):
    """A list, as Starlette's is, that stays as it was made."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


class _Credentials(AuthCredentials):
    """What Starlette's ``request.auth`` is for a request with an ``Access``.

    All requests with one token share it, so it cannot be changed.
    """

    def __init__(self, access: Access) -> None:
        # "authenticated" is what Starlette's guide asks for.
        scopes = _Scopes([*sorted(access.scopes), "authenticated"])
        self.__dict__["scopes"] = scopes

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"request.auth.{name}: {_SHARED}")


def identify(scope: Scope, remembered: Remembered) -> None:
    """Put the ``Access`` where Starlette's conventions and our own look for it."""
    if remembered.caller is None:
        access = remembered.access
        remembered.caller = _SharedCaller(access), _Credentials(access)
    scope["agentauth.access"] = remembered.access
    scope["user"], scope["auth"] = remembered.caller


def anonymous(scope: Scope, decision: Anonymous) -> None:
    """Take from *scope* the ``Access`` that it may have brought along."""
    scope.pop("agentauth.access", None)
    if isinstance(scope.get("user"), Caller):
        # It is from an outer middleware, for another resource.
        del scope["user"]
        scope.pop("auth", None)
    if decision.challenge is None:
        scope.setdefault("user", UnauthenticatedUser())
        scope.setdefault("auth", AuthCredentials())
