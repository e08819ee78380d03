"""Reading a file that the operator has named, as keys are."""

from __future__ import annotations

import os
import stat
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["is_file_url", "read_file"]


def is_file_url(url: str) -> bool:
    return url[:5].lower() == "file:"


def read_file(url: str, max_bytes: int) -> bytes:
    """What the file at *url* holds, up to one byte more than *max_bytes*.

    Raises:
        OSError: it cannot be read, or is none: a pipe or a device might have no end.
        ValueError: the URL is not one of a file here.
    """
    with open(_path(url), "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("no regular file")
        return file.read(max_bytes + 1)


def _open(path: str, flags: int) -> int:
    # Without waiting: opening a pipe without a writer would never return.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError("a file of another machine")
    return url2pathname(parts.path)
