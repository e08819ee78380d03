"""Resource identifiers, issuers, and the well-known URLs derived from them.

Identifiers are compared byte for byte. Whatever a URL class might silently rewrite
(a default port, an upper-case host, a dot segment) is therefore an error in settings.
The one equivalence is that an origin may end in ``/`` or not, because common URL
classes add the slash.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from agentauth_middleware.errors import ConfigurationError

RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ENCODED_UNRESERVED = re.compile(
    r"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])"
)
_URL_CHARACTERS = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # as RFC 6750 §3, error_uri


def check_url(url: str, key: str, *, insecure_loopback: bool) -> str:
    """*url*, if it is an absolute https URL that cannot be spelt another way.

    Raises:
        ConfigurationError: it is not; names *key*, the fault and the fix.
    """
    fault = _fault(url, insecure_loopback)
    if fault:
        raise ConfigurationError(f"{key}: {url!r} {fault}")
    return url


def check_origin(origin: str, key: str) -> str:
    """*origin*, if it is spelt as browsers spell the origin of a page.

    Raises:
        ConfigurationError: it is not; names *key*, the fault and the fix.

    Source: HTML Standard, section 7.1.1 (ASCII serialization of an origin)
    """
    fault = _origin_fault(origin)
    if fault:
        raise ConfigurationError(f"{key}: {origin!r} {fault}")
    return origin


def _origin_fault(origin: str) -> str | None:
    if "*" in origin:
        return 'is no origin; write each of them, or ["*"] alone for all'
    scheme, separator, rest = origin.partition("://")
    if not separator or not rest:
        return "is no origin; write https://host, as a page's location.origin has it"
    if not _URL_CHARACTERS.fullmatch(origin):
        return "is not printable ASCII; write the host in punycode (xn--...)"
    if re.search(r"[/?#]", rest):
        return "has a path; write only scheme, host and port, without a final slash"
    if "@" in rest:
        return "has user information; remove it"
    if origin != origin.lower():
        return "has upper-case letters; browsers write origins in lower case"
    try:
        port = urlsplit(origin).port
    except ValueError:
        return "is no origin; check host and port"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or "," in rest:
        return "is no origin; write https://host, each as an item of its own"
    if rest.endswith(":") or (port is not None and port == _DEFAULT_PORTS.get(scheme)):
        return "names the default port; remove it"
    return None


def _fault(url: object, insecure_loopback: bool) -> str | None:
    if not isinstance(url, str):
        return (
            "is no text; write https://host/path, or set the environment variable "
            "that it comes from"
        )
    if not url:
        return "is empty; write https://host/path"
    if not _URL_CHARACTERS.fullmatch(url):
        return "is not a URL in printable ASCII; percent-encode what is not"
    return _structural_fault(url) or _scheme_fault(url, insecure_loopback)


def _structural_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL; check host and port"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not an absolute URL; write https://host/path"
    if not url.startswith(f"{parts.scheme}://"):
        return "has a scheme in upper case; write it in lower case"
    if parts.username is not None or parts.password is not None:
        return "has user information; remove it"
    if "#" in url:
        return "has a fragment; remove it (RFC 9728 §1.2)"
    if parts.netloc != parts.netloc.lower():
        return "has upper-case letters in its host; write them in lower case"
    if port == _DEFAULT_PORTS[parts.scheme] or parts.netloc.endswith(":"):
        return "names the default port; remove it"
    segments = parts.path.split("/")
    if "." in segments or ".." in segments:
        return "has a dot segment; write the path it stands for"
    if _ENCODED_UNRESERVED.search(parts.path):
        return "percent-encodes a character that needs none; write it plainly"
    return None


def _scheme_fault(url: str, insecure_loopback: bool) -> str | None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not (
        insecure_loopback and parts.hostname in _LOOPBACK
    ):
        return (
            "is not https; use https, or insecure_loopback=True for a loopback host "
            "while developing"
        )
    return None


def is_acceptable_url(url: object, *, insecure_loopback: bool) -> bool:
    """Whether a document of an issuer may send us to *url*."""
    return isinstance(url, str) and _fault(url, insecure_loopback) is None


def is_loopback(url: str) -> bool:
    """Whether *url* names this machine by one of the names allowed for it."""
    return urlsplit(url).hostname in _LOOPBACK


def origin_of(url: str) -> str:
    """Scheme, host and port of *url*."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def path_of(url: str) -> str:
    """The path of *url*; empty for an origin, with or without its slash."""
    path = urlsplit(url).path
    return "" if path == "/" else path


def same_identifier(one: str, other: str) -> bool:
    """Whether two identifiers are equal; ``https://host`` equals ``https://host/``."""
    return one == other or (
        one.removesuffix("/") == other.removesuffix("/")
        and not path_of(one)
        and not urlsplit(one).query
    )


def other_by_slash(url: str) -> str:
    """*url* without the slash at its end, or with one: what is easily confused."""
    return url[:-1] if url.endswith("/") else f"{url}/"


def well_known_url(resource: str) -> str:
    """The URL where *resource* publishes its metadata.

    ``https://api.example.com/tools`` is described at
    ``https://api.example.com/.well-known/oauth-protected-resource/tools``.

    Source: RFC 9728 §3.1
    """
    query = urlsplit(resource).query
    suffix = f"?{query}" if query else ""
    return f"{origin_of(resource)}{RESOURCE_METADATA}{path_of(resource)}{suffix}"


def issuer_metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where *issuer* may publish its metadata, in the order to ask.

    Source: RFC 8414 §3.1 and §5, OpenID Connect Discovery 1.0 §4
    """
    origin, path = origin_of(issuer), path_of(issuer).removesuffix("/")
    urls = [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ]
    return tuple(dict.fromkeys(urls))
