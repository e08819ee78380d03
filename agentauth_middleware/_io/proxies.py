"""Which proxy the environment names for a URL, and which hosts go past it.

Read as curl and most programs read the variables, and not left to the HTTP client:
httpx cannot be made at all where ``NO_PROXY`` lists a network of IPv6.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple, TypeAlias
from urllib.request import getproxies, proxy_bypass

__all__ = ["NamedProxy", "find_proxy", "named_proxies"]

Address: TypeAlias = IPv4Address | IPv6Address

_SCHEMES = ("http", "https", "all")


class NamedProxy(NamedTuple):
    """A proxy, and where it is named."""

    variable: str
    url: str


def named_proxies() -> Iterator[NamedProxy]:
    """All that may be used."""
    proxies = getproxies()
    for scheme in _SCHEMES:
        if proxies.get(scheme):
            yield NamedProxy(_variable(scheme), _as_url(proxies[scheme]))


def _variable(scheme: str) -> str:
    """What names the proxy for *scheme*; the lower case comes first."""
    lower = f"{scheme}_proxy"
    found = (name for name in (lower, lower.upper()) if os.environ.get(name))
    return next(found, f"the system's proxy for {scheme}")


def find_proxy(scheme: str, netloc: str) -> str | None:
    """The proxy that the environment names for URLs of this scheme and host.

    Not checked: whether the proxy itself is public. It is the operator's.
    """
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(netloc) or _is_excluded(netloc, proxies.get("no")):
        return None
    return _as_url(proxy)


def _as_url(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excluded(netloc: str, exclusions: str | None) -> bool:
    """Whether ``NO_PROXY`` excludes a host in a way that ``urllib`` does not know: by
    address, by network or with a wildcard in front."""
    host = _host_of(netloc)
    address = _address_of(host)
    entries = map(str.strip, (exclusions or "").lower().split(","))
    return any(
        _is_network_of(entry, address) or _ends_as(entry, host) for entry in entries
    )


def _host_of(netloc: str) -> str:
    host, _, port = netloc.lower().rpartition(":")
    return host if host and port.isdecimal() else netloc.lower()


def _address_of(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_network_of(entry: str, address: Address | None) -> bool:
    if address is None:
        return False
    try:
        return address in ip_network(entry.replace("[", "").replace("]", ""), False)
    except ValueError:
        return False


def _ends_as(entry: str, host: str) -> bool:
    return entry.startswith("*.") and host.endswith(entry[1:])
