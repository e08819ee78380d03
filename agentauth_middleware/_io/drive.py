"""The two drivers: they take a procedure from operation to operation.

``perform`` turns an operation into its answer, which is sent in. Its
``UnavailableError`` is thrown in, and nothing else is: cancellation, interrupts and
bugs leave through the driver, which closes the procedure on the way.

``StopIteration`` is caught around ``step`` alone. Any wider, and one that escapes
from ``perform`` would end the procedure with ``None``: a refusal lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agentauth_middleware._core.operations import Operation, Procedure, Result
from agentauth_middleware.errors import UnavailableError

__all__ = ["drive", "drive_async"]


def drive(
    procedure: Procedure[Result], perform: Callable[[Operation[Any]], Any]
) -> Result:
    """Run *procedure* to its end; *perform* blocks."""
    step: Callable[[Any], Operation[Any]] = procedure.send
    value: Any = None
    try:
        while True:
            try:
                operation = step(value)
            except StopIteration as finished:
                result: Result = finished.value
                return result
            try:
                step, value = procedure.send, perform(operation)
            except UnavailableError as failure:
                step, value = procedure.throw, failure
    finally:
        procedure.close()
        value = None  # A failure refers to this frame: break the circle.


async def drive_async(
    procedure: Procedure[Result], perform: Callable[[Operation[Any]], Awaitable[Any]]
) -> Result:
    """Run *procedure* to its end; *perform* is awaited."""
    step: Callable[[Any], Operation[Any]] = procedure.send
    value: Any = None
    try:
        while True:
            try:
                operation = step(value)
            except StopIteration as finished:
                result: Result = finished.value
                return result
            try:
                step, value = procedure.send, await perform(operation)
            except UnavailableError as failure:
                step, value = procedure.throw, failure
    finally:
        procedure.close()
        value = None  # A failure refers to this frame: break the circle.
