"""What every test runs under: one event loop, no blocking calls in it, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import blockbuster.blockbuster
import pytest
from blockbuster import BlockBuster, BlockingError
from hypothesis import HealthCheck, settings

LOOP = os.environ.get("PILLION_LOOP", "uvloop")
"""``uvloop``, or ``asyncio`` for the standard library's event loop."""

# How long one example takes is the machine's business; and the fixtures that the examples of one
# function share (a server, an event loop) are meant to be shared.
COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
settings.register_profile("fast", max_examples=40, **COMMON)
settings.register_profile("deep", max_examples=2000, **COMMON)
settings.load_profile(os.environ.get("PILLION_HYPOTHESIS", "fast"))


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    """The event loop of asynchronous tests."""
    return "asyncio", {"use_uvloop": LOOP != "asyncio"}


# Nothing blocks the loop.

SQLITE_READS = {
    # Reads of the embedded registry take microseconds; a hop to a thread takes hundreds.
    "pillion_components/_sqlite.py": {"read"},
}

DATA = frozenset({"os.read", "os.write", "os.sendfile"})
"""The calls of ``os`` that wait for data; the others look at local paths, in microseconds."""

_blocked: list[str] = []


class _RecordedBlocking(BlockingError):
    """Remembers itself, in case the code under test swallows it."""

    def __init__(self, func: str) -> None:
        super().__init__(func)
        _blocked.append(func)


@pytest.fixture(scope="session", autouse=True)
def _blocking_calls_raise() -> Iterator[None]:
    """Make a blocking call of our code inside a running loop raise."""
    guard = BlockBuster(["pillion", "pillion_components", "pillion_sdk"])
    for name, function in list(guard.functions.items()):
        if name.startswith("os.") and name not in DATA:
            del guard.functions[name]
        elif name.startswith("sqlite3."):
            for file, functions in SQLITE_READS.items():
                function.can_block_in(file, functions)
        elif name.startswith("io.") and name.endswith(".write"):
            function.can_block_in("logging/__init__.py", "emit")  # a line of the log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockbuster.blockbuster, "BlockingError", _RecordedBlocking)
        guard.activate()
        yield
        guard.deactivate()


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """Fail a test in which our code called something that blocks the loop."""
    _blocked.clear()
    yield
    assert not _blocked, f"blocked the event loop: {_blocked}"


# Nothing is left behind.


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> None:
    """Fail an asynchronous test that leaves a task running or a socket open."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_awaits_its_tasks")


@pytest.fixture
async def _awaits_its_tasks() -> AsyncIterator[None]:
    # Sockets are counted, not told apart: uvloop makes those it wakes itself with anew.
    tasks, sockets = _tasks(), len(_sockets())
    yield
    deadline = time.monotonic() + 5.0
    while (left := _tasks() - tasks) or len(_sockets()) > sockets:
        assert time.monotonic() < deadline, f"tasks {left} or sockets {_sockets()} left behind"
        await asyncio.sleep(0.002)


def _tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks of this loop but for those in which the test runner makes its steps."""
    return {task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())}


def _sockets() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            link = str(descriptor.readlink())
            if link.startswith("socket:"):
                found.add(link)
    return found
