"""How a framework may read the path of a request: all spellings of it.

Frameworks and servers do not agree on what a path is: some merge slashes, some resolve
dots, some decode twice, some drop the mount, some split the raw path into segments
before they decode it. Every reading that a deployed router uses is one spelling here.

A path that routers cannot agree on at all is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias
from urllib.parse import unquote, unquote_to_bytes

from agentauth_middleware._syntax.http import Request
from agentauth_middleware.errors import InvalidRequestError
from agentauth_middleware.reasons import Reason

Rewrite: TypeAlias = Callable[[str], str]

_MAX_SPELT = 32 * 1024
"""Characters in all spellings of one path: limits total work."""
_SLASH_IN_SEGMENT = "\ud800"
"""An encoded slash that stays inside its segment. No path that is UTF-8 has it."""
_UNNEEDED_ESCAPE = re.compile(
    "%(?=2[DEFdef]|3[0-9]|4[1-9A-Fa-f]|5[0-9AFaf]|6[1-9A-Fa-f]|7[0-9AEae])"
)
"""Before a slash, or a character that stands for itself (RFC 3986 §2.3)."""
_KEPT_ESCAPE = "\ud801"
"""The start of an escape that a router has not decoded."""


def check_method(method: str) -> None:
    """Refuse ``TRACE``: its answer would echo the credential.

    Raises:
        InvalidRequestError: it is ``TRACE``, in any case.

    Source: RFC 9110 §9.3.8
    """
    if len(method) == len("TRACE") and method.upper() == "TRACE":
        raise InvalidRequestError(Reason.TRACE_METHOD)


def check_target(request: Request) -> None:
    """Refuse a target that is not a path in UTF-8.

    Applications read ``http://host/admin`` and ``*`` as paths of their own making,
    and drop or replace bytes that are no UTF-8.

    Raises:
        InvalidRequestError: the target does not begin with ``/``, has a fragment, or is
            no UTF-8.

    Source: RFC 9112 §3.2, RFC 3986 §2.5
    """
    path, raw = request.path, request.raw_path
    if path[:1] not in ("", "/") or raw[:1] not in (b"", b"/"):
        raise InvalidRequestError(
            Reason.MALFORMED_TARGET, "does not begin with a slash"
        )
    if b"#" in raw:
        # No request has a fragment; some servers cut the path there, others do not.
        raise InvalidRequestError(Reason.MALFORMED_TARGET, "has a fragment")
    if not _is_utf_8(path, raw):
        raise InvalidRequestError(Reason.MALFORMED_TARGET, "no UTF-8")


def _is_utf_8(path: str, raw: bytes) -> bool:
    """Whether nothing of *raw* was replaced or dropped when *path* was made of it."""
    try:
        length = len(path.encode())
        if "\ufffd" not in path and length == len(raw) - 2 * raw.count(b"%"):
            return True  # one byte for each escape; decoding would tell the same
        unquote_to_bytes(raw).decode()
    except UnicodeError:
        return False
    return bool(raw) or "\ufffd" not in path


def raw_readings(request: Request, mount: str) -> tuple[str, ...]:
    """The path as read by routers that split before they decode, and by routers that
    leave needless escapes undecoded. Empty if that is the same path, if the server
    gives no raw path, or if its raw path is not the path that the application gets.
    """
    raw = request.raw_path
    if b"%" not in raw:
        return ()
    text = raw.decode("utf-8", "replace")
    kept = _UNNEEDED_ESCAPE.sub(_KEPT_ESCAPE, text)
    if kept == text:
        return ()
    whole = unquote(text)
    if whole not in (request.path, request.path.removeprefix(mount)):
        return ()
    segments = (unquote(segment) for segment in text.split("/"))
    by_segment = "/".join(one.replace("/", _SLASH_IN_SEGMENT) for one in segments)
    return by_segment, unquote(kept)


def below(mount: str, path: str) -> str:
    """*path* below *mount*; *path* itself if it is not below it."""
    rest = path.removeprefix(mount)
    if rest == path or rest[:1] not in ("", "/"):
        return path
    return rest or "/"


def behind_first(mount: str, path: str) -> str:
    """What follows *mount* wherever it first occurs: some routers split there.

    Empty where it does not occur, or where *path* begins with it.
    """
    if not mount.strip("/"):
        return ""
    before, _, rest = path.partition(mount)
    return rest if before else ""


def all_spellings(starts: Iterable[str], rewrites: Sequence[Rewrite]) -> list[str]:
    """*starts*, decoded once more or not, with all rewrites applied.

    Raises:
        InvalidRequestError: there are too many, or one that no two routers read alike.
    """
    waiting = [decoded for start in starts for decoded in (start, unquote(start))]
    seen: dict[str, None] = {}
    characters = 0
    while waiting:
        spelling = waiting.pop()
        if spelling in seen:
            continue
        if spelling.endswith("\n"):
            # The "$" of a router's pattern may stand before it.
            raise InvalidRequestError(Reason.AMBIGUOUS_PATH, "a newline at its end")
        if characters > _MAX_SPELT:
            raise InvalidRequestError(Reason.AMBIGUOUS_PATH, "too many spellings")
        seen[spelling] = None
        characters += len(spelling)
        waiting.extend(rewrite(spelling) for rewrite in rewrites)
    return list(seen)


def _one_leading_slash(path: str) -> str:
    return "/" + path.lstrip("/")


def _merged_slashes(path: str) -> str:
    if "//" not in path:
        return path
    return re.sub("/{2,}", "/", path)


def _resolved_dots(path: str) -> str:
    """Without ``.`` and ``..``; empty segments count (RFC 3986 §5.2.4)."""
    if "/." not in path:
        return path
    first, *segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join([first, *kept])


def _forward_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _without_final_slashes(path: str) -> str:
    return path.rstrip("/") or "/"


REWRITES: tuple[Rewrite, ...] = (
    _one_leading_slash,
    _merged_slashes,
    _resolved_dots,
    _forward_slashes,
    _without_final_slashes,
)
