"""Procedures that run beside the requests: one daemon thread per process.

Nothing depends on it. If no thread can be started, a procedure is not run and there is
no error: what it would have fetched ahead is fetched in line when it is overdue.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from agentauth_middleware._core.operations import Operation, Start
from agentauth_middleware._io.drive import drive
from agentauth_middleware._io.lifetimes import PerProcess
from agentauth_middleware.errors import UnavailableError

__all__ = ["Background", "start"]

logger = logging.getLogger("agentauth_middleware")

Perform: TypeAlias = Callable[[Operation[Any]], Any]


class Background:
    """A thread, and what it has to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Start, Perform]] = queue.SimpleQueue()
        # Middlewares choose their keys without knowing of each other: hence the
        # performer.
        self._pending: set[tuple[str, Perform]] = set()
        self._thread: threading.Thread | None = None

    def start(self, start: Start, perform: Perform) -> None:
        """Run the procedure of *start* with *perform*, which blocks.

        Does nothing while one with the same key and *perform* waits or runs.
        """
        with self._lock:
            if (start.key, perform) in self._pending or not self._has_thread():
                return
            self._pending.add((start.key, perform))
        self._jobs.put((start, perform))

    def _has_thread(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(
                target=self._work, name="agentauth-background", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # No more threads, or none at all here.
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while True:
            try:
                self._run(*self._jobs.get())
            except BaseException as fault:
                # A logging handler raises, so the log cannot report it. Python's hook
                # for threads does, and the thread goes on.
                told = (type(fault), fault, fault.__traceback__, self._thread)
                threading.excepthook(threading.ExceptHookArgs(told))

    def _run(self, start: Start, perform: Perform) -> None:
        try:
            drive(start.make_procedure(), perform)
        except UnavailableError as failure:
            # The procedure has noted it and tries again; the operator should know.
            logger.warning("%s: %s (%s)", start.key, failure, failure.reason)
        except BaseException:  # SystemExit as well: the thread serves every middleware.
            logger.exception("background procedure %s failed", start.key)
        finally:
            with self._lock:
                self._pending.discard((start.key, perform))


_backgrounds = PerProcess(Background)


def start(operation: Start, perform: Perform) -> None:
    """Run the procedure of *operation* in the background of this process."""
    _backgrounds.get().start(operation, perform)
