"""Settings: how an issuer is asked about its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from types import MappingProxyType
from typing import get_args

from agentauth_middleware._syntax.members import is_object
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.checks import (
    check_flag,
    check_range,
    check_secret,
    check_text,
    replace_setting,
)
from agentauth_middleware.settings.client_authentication import (
    AuthMethod,
    ClientAuthentication,
    load_private_key,
)

__all__ = ["Introspection"]

_OWN_PARAMETERS = frozenset(
    {
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "token",
        "token_type_hint",
    }
)


@dataclass(frozen=True)
class Introspection:
    """How an issuer is asked about its tokens (RFC 7662): with which credentials, and
    how often. Inactive tokens are refused. While it cannot be asked, tokens it has not
    called active within *remember_for* are answered 503.
    """

    client_id: str
    """Who we are at the authorization server."""
    _: KW_ONLY
    client_secret: str | None = field(default=None, repr=False)
    private_key: str | bytes | None = field(default=None, repr=False)
    """In PEM: RSA, P-256 or Ed25519. It signs a fresh assertion for each question."""
    key_id: str | None = None
    """By which the server knows the key."""
    auth_method: AuthMethod | None = None
    """By default ``client_secret_basic``, or ``private_key_jwt`` with a key."""
    assertion_audience: str | None = None
    """``aud`` of the assertions; by default the issuer. Some want the endpoint."""
    endpoint: str | None = None
    """Where to ask, instead of what the issuer's metadata says."""
    extra_parameters: Mapping[str, str] = field(
        default_factory=dict[str, str], repr=False
    )
    """What else this server wants to be sent."""
    signed: bool = False
    """Demand signed answers (RFC 9701)."""
    always: bool = False
    """Also ask about its JWTs on all paths, as often as *remember_for* says; a
    ``Route(introspect=True)`` asks each time."""
    require_audience: bool = True
    """Refuse answers without ``aud``. Switch it off for a server that calls a token
    active only if the caller is in its audience."""
    remember_for: int = 30
    """Seconds for which an answer counts: a token revoked at a server that does not
    tell us lives that long. Answers that a token is inactive count 10 at most."""
    timeout: float = 2.0
    """Seconds for the whole exchange, a second attempt included."""
    max_concurrent: int = 20
    """Exchanges at a time, per process."""
    inactive_per_minute: int = 60
    """Answers that a token is inactive, per address of a client and per process. An
    address with more gets a 429 for tokens that would have to be asked about."""
    _authentication: ClientAuthentication = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_text(
            self.client_id,
            "Introspection.client_id",
            "write the name under which the authorization server knows this resource "
            "server",
        )
        self._check_credential()
        method = self._checked_method()
        replace_setting(self, "auth_method", method)
        replace_setting(self, "_authentication", self._build_authentication(method))
        for flag in ("signed", "always", "require_audience"):
            check_flag(getattr(self, flag), f"Introspection.{flag}")
        check_range(self.remember_for, "Introspection.remember_for", 0, 3600)
        check_range(self.timeout, "Introspection.timeout", 0.001, 60)
        check_range(
            self.max_concurrent,
            "Introspection.max_concurrent",
            1,
            1000,
            whole=True,
            unit="exchanges",
        )
        check_range(
            self.inactive_per_minute,
            "Introspection.inactive_per_minute",
            1,
            1_000_000,
            whole=True,
            unit="answers",
        )
        replace_setting(self, "extra_parameters", self._checked_parameters())

    def _check_credential(self) -> None:
        if self.client_secret is None and self.private_key is None:
            raise ConfigurationError(
                "Introspection: neither client_secret nor private_key; give one of "
                "them, and see whether the environment variable that it comes from is "
                "set"
            )
        if self.client_secret is not None and self.private_key is not None:
            raise ConfigurationError(
                "Introspection: client_secret and private_key exclude each other; keep "
                "the one that the authorization server knows"
            )
        if self.client_secret is not None:
            check_secret(self.client_secret, "Introspection.client_secret")
        for name in ("key_id", "assertion_audience"):
            if (value := getattr(self, name)) is not None:
                check_text(value, f"Introspection.{name}", "write a name, or None")
                self._check_is_sent(name)

    def _check_is_sent(self, name: str) -> None:
        if self.private_key is None:
            raise ConfigurationError(
                f"Introspection.{name}: is sent in assertions alone; give private_key, "
                "or remove it"
            )

    def _checked_method(self) -> AuthMethod:
        """The authentication method: as set, or as the given credentials allow."""
        fitting: tuple[AuthMethod, ...] = ("private_key_jwt",)
        if self.private_key is None:
            fitting = ("client_secret_basic", "client_secret_post")
        method = fitting[0] if self.auth_method is None else self.auth_method
        if method not in get_args(AuthMethod):
            raise ConfigurationError(
                f"Introspection.auth_method: {method!r} is not one of "
                f"{', '.join(get_args(AuthMethod))}; write one of them, or leave it out"
            )
        if method not in fitting:
            wanted = "client_secret" if self.client_secret is None else "private_key"
            raise ConfigurationError(
                f"Introspection.auth_method: {method} needs {wanted}; give that instead"
            )
        return method

    def _checked_parameters(self) -> Mapping[str, str]:
        key = "Introspection.extra_parameters"
        if not is_object(self.extra_parameters):
            raise ConfigurationError(f'{key}: no mapping; write {{"name": "x"}}')
        for name, value in self.extra_parameters.items():
            check_text(name, key, 'write {"name": "x"}')
            if name in _OWN_PARAMETERS:
                raise ConfigurationError(f"{key}[{name!r}]: is sent anyway; remove it")
            check_secret(value, f"{key}[{name!r}]")  # for it may well be one
        return MappingProxyType(dict(self.extra_parameters))

    def _build_authentication(self, method: AuthMethod) -> ClientAuthentication:
        """The authentication, before the issuer is known."""
        private_key, algorithm = None, None
        if self.private_key is not None:
            try:
                private_key, algorithm = load_private_key(self.private_key)
            except ValueError as fault:
                key = "Introspection.private_key"
                raise ConfigurationError(f"{key}: {fault}") from None
        return ClientAuthentication(
            method,
            self.client_id,
            secret=self.client_secret,
            private_key=private_key,
            key_id=self.key_id,
            algorithm=algorithm,
            audience=self.assertion_audience,
        )

    def authentication(self, issuer: str) -> ClientAuthentication:
        """The authentication for *issuer*."""
        return replace(self._authentication, audience=self.assertion_audience or issuer)
