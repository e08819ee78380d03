"""Reading on from connections that a server is about to close.

One daemon thread for each, so that no thread of the server waits. It works on a
duplicate of the server's socket: as long as the duplicate is open, closing the
server's own resets nothing.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["linger"]

_PIECE = 65536
_LOOK_EVERY = 0.05
"""Seconds between two looks at whether the server has closed its side."""


def linger(
    connection: socket.socket,
    *,
    max_bytes: int,
    seconds: float,
    done: Callable[[], None],
) -> None:
    """Drop what still comes in over *connection*, then close it in order.

    Until the client closes its side, *max_bytes* have come or *seconds* have passed.
    *done* is called at the end, in another thread. The server keeps *connection* and
    must close it.
    """
    try:
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    except OSError:  # closed already, or no more descriptors
        done()
        return

    def read_on() -> None:
        try:
            with duplicate, suppress(OSError):  # the client has gone
                _read_on(duplicate, connection, max_bytes, time.monotonic() + seconds)
        finally:
            done()

    try:
        threading.Thread(target=read_on, name="agentauth-linger", daemon=True).start()
    except RuntimeError:  # no more threads
        duplicate.close()
        done()


def _read_on(
    duplicate: socket.socket,
    connection: socket.socket,
    max_bytes: int,
    deadline: float,
) -> None:
    left, is_half_closed = max_bytes, False
    with selectors.DefaultSelector() as selector:
        selector.register(duplicate, selectors.EVENT_READ)
        while left > 0 and time.monotonic() < deadline:
            if not is_half_closed and connection.fileno() < 0:
                # Clients that read to the end of the connection see it now. Not
                # before: the server may not have sent everything yet.
                duplicate.shutdown(socket.SHUT_WR)
                is_half_closed = True
            if not selector.select(_LOOK_EVERY):
                continue
            # A timeout of the socket would hold for the server's as well.
            with suppress(BlockingIOError):  # the server was quicker
                piece = duplicate.recv(_PIECE, socket.MSG_DONTWAIT)
                if not piece:
                    return
                left -= len(piece)
