"""Both clients as one plain function each, so that they can be tested alike."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import anyio
import pytest

from agentauth_middleware._core.operations import Fetch, Reply
from agentauth_middleware._io.clients import AsyncHTTPClient, BlockingHTTPClient
from agentauth_middleware.errors import UnavailableError

Get: TypeAlias = Callable[[Fetch], Reply]

KINDS = ("blocking", "asyncio", "trio")


@contextmanager
def client_of(kind: str, **arguments: Any) -> Generator[Get, None, None]:
    """One client's ``carry_out``; an async one has a new loop for each call."""
    if kind == "blocking":
        blocking = BlockingHTTPClient(**arguments)
        yield blocking.carry_out
        blocking.close()
    else:
        client = AsyncHTTPClient(**arguments)
        yield lambda fetch: anyio.run(client.carry_out, fetch, backend=kind)


def fetch(
    url: str, *, timeout: float = 5.0, max_bytes: int = 1000, **others: Any
) -> Fetch:
    return Fetch(url, url, timeout=timeout, max_bytes=max_bytes, **others)


def failure_of(get: Get, fetch: Fetch) -> UnavailableError:
    with pytest.raises(UnavailableError) as failure:
        get(fetch)
    return failure.value


def everything_told(failure: BaseException) -> str:
    """All that a log would show of *failure*, and of those behind it."""
    told: list[str] = []
    error: BaseException | None = failure
    while error is not None:
        told += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(told)
