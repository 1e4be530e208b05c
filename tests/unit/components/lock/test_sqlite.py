"""The embedded lock store beside its contract: clocks, boots, lost files."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.lock import Unlocked
from pillion_components.lock import sqlite as module
from pillion_components.lock.sqlite import SqliteLock

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@asynccontextmanager
async def opened(home: Path, **settings: str) -> AsyncIterator[SqliteLock]:
    context = Context(name="locks", home=home, app_id="tester", settings=settings)
    async with SqliteLock.open(context) as store:
        yield store


async def taken(store: SqliteLock, resource: str, owner: str = "a", expiry: float = 60.0) -> int:
    token = await store.lock(resource, owner, expiry)
    assert token is not None
    return token


async def test_wall_clock_moves_no_lock_and_no_token_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting the clock a year back or forth ends no lock early, and tokens still grow."""
    async with opened(home) as store:
        tokens = [await taken(store, "one")]
        real = time.time
        for shift in (3e7, -3e7):
            monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
            assert await store.lock("one", "b", 60.0) is None
            await store.unlock("one", "a")
            tokens.append(await taken(store, "one"))
        assert tokens == sorted(set(tokens))


async def test_lock_of_an_earlier_boot_has_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reboot ended the holder, and its monotonic times mean nothing any more."""
    async with opened(home) as store:
        token = await taken(store, "one", expiry=1e6)
        monkeypatch.setattr(module, "boot_id", lambda: "another boot")
        assert await store.renew("one", "a", 1.0) is False
        assert await store.unlock("one", "a") is Unlocked.DOES_NOT_EXIST
        assert await taken(store, "one", "b") > token
    async with opened(home):
        with closing(sqlite3.connect(home / "lock.db")) as connection:
            assert connection.execute("SELECT owner FROM lock").fetchall() == [("b",)]


async def test_tokens_grow_when_the_file_was_lost(home: Path) -> None:
    """A deleted file takes its counter with it; the clock still keeps tokens growing."""
    async with opened(home) as store:
        token = await taken(store, "one")
        for file in home.glob("lock.db*"):
            file.unlink()
        assert await taken(store, "one", "b") > token


async def test_dead_names_leave_the_file(home: Path) -> None:
    """Locks that expired are deleted by later acquisitions."""
    async with opened(home) as store:
        for number in range(30):
            await taken(store, f"short-{number}", expiry=0.001)
        for number in range(12):
            await taken(store, f"long-{number}")
        with closing(sqlite3.connect(home / "lock.db")) as connection:
            assert connection.execute("SELECT count(*) FROM lock").fetchone() == (12,)


async def test_meaningless_requests_are_refused(home: Path) -> None:
    """An expiry of nothing or never, and names that are no text."""
    async with opened(home) as store:
        for expiry in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(Invalid):
                await store.lock("one", "a", expiry)
        for resource, owner in (("\ud800", "a"), ("one", "\ud800")):
            with pytest.raises(Invalid):
                await store.lock(resource, owner, 1.0)


async def test_damaged_file_is_reported_and_left_alone(home: Path) -> None:
    """A counter that is lost silently would let old tokens come back."""
    async with opened(home) as store:
        await taken(store, "one")
    (home / "lock.db").write_bytes(b"\xa5" * 8192)
    with pytest.raises(Unavailable) as raised:
        async with opened(home):
            pass
    assert raised.value.reason == "corrupt"
    assert (home / "lock.db").read_bytes() == b"\xa5" * 8192


async def test_held_file_fails_in_time(home: Path) -> None:
    """While another process writes, a lock is not given, and the caller knows in time."""
    async with opened(home, busyTimeout="100ms") as store:
        with closing(sqlite3.connect(home / "lock.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as raised:
                await store.lock("one", "a", 60.0)
            assert raised.value.reason == "locked"
        await taken(store, "one")
        await store.ping()
