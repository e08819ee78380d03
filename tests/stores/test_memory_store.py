"""How much ``MemoryStore`` keeps, and what it does when that is not enough."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import pytest

from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore

NOW = 1_700_000_000.0


def test_full_store_refuses_instead_of_forgetting() -> None:
    store = MemoryStore(max_entries=3, clock=lambda: NOW)
    for number in range(3):
        store.add_once(f"proof {number}", expires_at=NOW + 60)
    with pytest.raises(UnavailableError) as refusal:
        store.add_once("one too many", expires_at=NOW + 60)

    assert refusal.value.reason == "store_full"
    assert not any(store.add_once(f"proof {n}", expires_at=NOW + 60) for n in range(3))


def test_full_store_still_replaces_a_value() -> None:
    store = MemoryStore(max_entries=1, clock=lambda: NOW)
    store.put("key", b"old", expires_at=NOW + 60)
    store.put("key", b"new", expires_at=NOW + 60)
    with pytest.raises(UnavailableError, match="max_entries"):
        store.put("another key", b"value", expires_at=NOW + 60)

    assert store.get("key") == b"new"


def test_expired_entries_make_room() -> None:
    now = NOW
    store = MemoryStore(max_entries=10, clock=lambda: now)
    answers: list[bool] = []
    for _ in range(5):
        for number in range(10):
            answers.append(store.add_once(f"proof {number}", expires_at=now + 60))
            store.put(f"key {number}", b"value", expires_at=now + 60)
        now += 61

    assert answers == [True] * 50


def test_expired_entry_makes_room_behind_values_that_were_replaced() -> None:
    now = NOW
    store = MemoryStore(max_entries=3, clock=lambda: now)
    for seconds in range(1, 9):
        store.put("replaced", b"value", expires_at=now + seconds)
    store.put("replaced", b"value", expires_at=now + 600)
    store.put("expired", b"value", expires_at=now + 60)
    store.put("alive", b"value", expires_at=now + 600)
    now += 61
    store.put("new", b"value", expires_at=now + 60)

    assert store.get("new") == b"value"
    assert store.get("replaced") == b"value"


@pytest.mark.parametrize("lifetime", [1, 10**9], ids=["short", "long"])
def test_memory_does_not_grow_with_the_number_of_calls(lifetime: int) -> None:
    """Keys that expire, and one key put again and again, leave nothing behind."""
    now = NOW
    store = MemoryStore(clock=lambda: now)
    store.put("key", b"value", expires_at=now + lifetime)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5_000):
            store.put("key", b"value", expires_at=now + lifetime)
            store.add_once(f"proof {now}", expires_at=now + 1)
            now += 1
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 50_000


def test_no_call_drops_all_that_expired() -> None:
    """One request would pay for the thousands before it."""
    now = NOW
    store = MemoryStore(clock=lambda: now)
    tracemalloc.start()
    try:
        for number in range(2_000):
            store.add_once(f"proof {number}", expires_at=now + 60)
        before, _ = tracemalloc.get_traced_memory()
        now += 61
        store.add_once("one more", expires_at=now + 60)
        freed = before - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert freed < 5_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_fork_waits_until_no_thread_is_at_work() -> None:
    """Otherwise the child would wait for a thread that it does not have."""
    program = """
import os, signal, sys, threading, time
from agentauth_middleware.stores import MemoryStore

at_work, forking = threading.Event(), threading.Event()

def clock():
    if threading.current_thread() is not threading.main_thread():
        at_work.set()
        forking.wait()
    return time.time()

store = MemoryStore(clock=clock)
os.register_at_fork(before=forking.set)  # comes before what the store registered
thread = threading.Thread(target=store.put, args=("key", b""), kwargs={"expires_at": 0})
thread.start()
at_work.wait()
sys.setswitchinterval(60)  # the thread runs only while this one waits for it
child = os.fork()
if child == 0:
    signal.alarm(5)
    os._exit(0 if store.add_once("proof", expires_at=time.time() + 60) else 1)
_, status = os.waitpid(child, 0)
thread.join()
sys.exit(status != 0)
"""
    # Python 3.12 and newer warn of any fork in a process with threads.
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], check=False, timeout=30
    )

    assert run.returncode == 0
