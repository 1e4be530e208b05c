"""The in-memory lock store beside its contract: its bound, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion_components.lock import in_memory as module
from pillion_components.lock.in_memory import InMemoryLock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[InMemoryLock]:
    async with InMemoryLock.open(Context(name="locks", home=home, app_id="tester")) as store:
        yield store


async def test_expired_locks_leave_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that nobody unlocks do not fill the memory."""
    monkeypatch.setattr(module, "_CROWD", 10)
    async with opened(tmp_path) as store:
        store._space._crowd = 10
        for number in range(1000):
            assert await store.lock(f"short-{number}", "a", 1e-9) is not None
        assert len(store._space._held) <= 10


async def test_expiry_must_be_a_time(tmp_path: Path) -> None:
    """Nothing and never are no expiries."""
    async with opened(tmp_path) as store:
        for expiry in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(Invalid):
                await store.lock("one", "a", expiry)


async def test_closed_store_is_unavailable(tmp_path: Path) -> None:
    """After closing, nobody gets a lock."""
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(Unavailable):
        await store.lock("one", "a", 1.0)
    with pytest.raises(Unavailable):
        await store.ping()
