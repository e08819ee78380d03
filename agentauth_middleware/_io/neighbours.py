"""Other processes on this host that were started for the same purpose by one parent.

Workers of a server have one parent. Each asks for a name that is made of the parent and
the purpose, an abstract Unix socket, which one process can hold and which ends with it.
So the second one knows that it is not alone, without any file and without asking the
server. Only Linux has such names, and no host knows of another's processes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys

__all__ = ["is_second_process"]

_held: dict[tuple[int, str], int] = {}
"""File descriptors of the names that a process holds, by its id: the children of a fork
inherit them, and hold none of their own."""


def is_second_process(purpose: str) -> bool:
    """Whether this process is the second of its parent's that asks for *purpose*.

    Of all that live at one time only one is told so, however many there are. Asking
    again in one process changes nothing.
    """
    if sys.platform != "linux":
        return False
    process = os.getpid()
    if (process, purpose) in _held:
        return False
    for place in (1, 2):
        name = f"{os.getuid()} {os.getppid()} {place} {purpose}"
        descriptor = _take(hashlib.sha256(name.encode()).hexdigest())
        if descriptor is not None:
            _held[process, purpose] = descriptor
            return place == 2
    return False


def _take(name: str) -> int | None:
    """Hold *name* from now on, by a file descriptor; ``None`` if another process does.

    Nothing listens there, so no process can connect. Where such names are forbidden the
    process counts as alone.
    """
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder.bind(f"\0agentauth-{name[:40]}")
    except OSError as failure:
        holder.close()
        return None if failure.errno == errno.EADDRINUSE else -1
    return holder.detach()
