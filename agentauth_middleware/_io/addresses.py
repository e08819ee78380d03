"""Keeping requests for URLs of other parties out of private networks (SSRF).

A document that we follow could name a URL that only we can reach: a service next to us,
or the one that hands out the machine's credentials. So the name is looked up here,
every address it has must be a public one, and the connection goes to an address that
was checked: a second look-up could answer otherwise.

A name that goes through a proxy is looked up there, and the proxy has to see to it.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from math import inf
from typing import TypeAlias

from agentauth_middleware._core.cache import BoundedMap

__all__ = [
    "AddressCounts",
    "NotPublicError",
    "check_host",
    "is_public",
    "public_addresses",
]

Address: TypeAlias = IPv4Address | IPv6Address

_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_INTERNAL = (
    IPv4Network("192.0.0.0/24"),  # Public but for a few, to older Pythons.
    IPv4Network("168.63.129.16"),  # Azure's, which answers its own machines.
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052 §2.1: ends in an IPv4 address, as what follows does."""


_COUNTS = 1024
_COUNTED_FOR = 60.0


class NotPublicError(Exception):
    """The URL leads into a private network, or might."""


def check_host(host: str) -> None:
    """Refuse a *host* that is a private address or a local name. Also in the spellings
    that resolvers take for an address: ``2130706433``, ``0x7f.1``. Does not look up a
    name.

    Raises:
        NotPublicError: it does, or is neither a name nor an address.
    """
    name = host.lower().rstrip(".")
    address = _literal(name)
    if address is not None:
        if not is_public(address):
            raise NotPublicError
    elif not _NAME.fullmatch(name) or name.rpartition(".")[2] == "localhost":
        raise NotPublicError


def _literal(host: str) -> Address | None:
    """The address that *host* is, in any spelling; ``None`` for a name."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_public(address: Address) -> bool:
    """Whether *address* is one of the Internet's, for a single machine.

    One that stands for an IPv4 address, however it is wrapped, is as that one is.
    """
    if isinstance(address, IPv4Address):
        is_internal = any(address in network for network in _INTERNAL)
        return address.is_global and not address.is_multicast and not is_internal
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address.sixtofour is not None:
        return is_public(address.sixtofour)
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_UNICAST and address.is_global


def look_up(host: str, port: int) -> list[str]:
    """The addresses of *host*, as the system finds them; may take its time."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def public_addresses(
    host: str, port: int, look_up: Callable[[str, int], Sequence[str]] = look_up
) -> list[str]:
    """The addresses of *host*, if all are public.

    Refused if one is private: a mixture is how an attacker gets a private one tried.

    Raises:
        NotPublicError: one is not.
        OSError: it has none, or the look-up failed.
    """
    found = list(dict.fromkeys(look_up(host, port)))
    if not all(is_public(ip_address(address)) for address in found):
        raise NotPublicError
    return found


class AddressCounts:
    """How many addresses names have, looked up again after a minute.

    Blocking sockets try the addresses of a name one after the other, each for as long
    as they may: where the first one does not answer, it would use up all the time.
    """

    def __init__(
        self,
        look_up: Callable[[str, int], Sequence[str]] = look_up,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._timer = timer
        self._counts: BoundedMap[tuple[str, int], tuple[float, int]] = BoundedMap(
            _COUNTS
        )

    def share(self, timeout: float, host: str, port: int) -> float:
        """How much of *timeout* each address of *host* may have to connect.

        If there are several, as much is left for the exchange itself.
        """
        count = self._count(host, port)
        return timeout if count <= 1 else timeout / (count + 1)

    def _count(self, host: str, port: int) -> int:
        now = self._timer()
        counted_at, count = self._counts.get((host, port)) or (-inf, 0)
        if now - counted_at < _COUNTED_FOR:
            return count
        try:
            count = len(set(self._look_up(host, port)))
        except (OSError, ValueError):
            return 1  # The client will fail in the same way and report it.
        self._counts.put((host, port), (now, count))
        return count
