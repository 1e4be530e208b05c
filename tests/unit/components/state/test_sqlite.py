"""The embedded state store beside its contract: settings, clean-up, groups, files that change."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.support.conditions import eventually

from pillion.errors import Conflict, Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Changed, Put, Remove
from pillion_components._sqlite import Transaction
from pillion_components.state import _table as table
from pillion_components.state import _watch
from pillion_components.state import sqlite as module
from pillion_components.state.sqlite import SqliteState

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@asynccontextmanager
async def opened(home: Path, name: str = "store", **settings: str) -> AsyncIterator[SqliteState]:
    context = Context(name=name, home=home, app_id="tester", settings=settings)
    async with SqliteState.open(context) as store:
        yield store


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("SELECT count(*) FROM item").fetchone()[0]
        return count


async def refused(home: Path, **settings: str) -> str:
    with pytest.raises(Invalid) as raised:
        async with opened(home, **settings):
            pass
    return raised.value.message


# Settings.


async def test_wrong_settings_are_all_named(home: Path) -> None:
    """One start shows every mistake, with what would be right."""
    message = await refused(home, tabelName="x", durability="some", timeout="soon", busyTimeout="0")
    for part in ('"tableName"', "full, relaxed", "timeout must be a duration", "busyTimeout"):
        assert part in message
    assert "tableName" in await refused(home, tableName=" ")
    assert not home.exists()


async def test_database_in_memory_is_refused(home: Path) -> None:
    """What cannot be shared between processes has another type."""
    assert "state.in-memory" in await refused(home, connectionString=":memory:")


async def test_file_is_in_the_home_and_private(home: Path) -> None:
    """Without a connection string the file is state.db in the home, 0600."""
    async with opened(home) as store:
        await store.write(Put("key", b"1"))
        for file in home.iterdir():
            mode = 0o700 if file.is_dir() else 0o600
            assert stat.S_IMODE(file.stat().st_mode) == mode, file
        assert (home / "state.db").exists()


async def test_connection_string_places_the_file(home: Path, tmp_path: Path) -> None:
    """The same file by path and by URI is the same store; another home does not matter."""
    path = tmp_path / "else where" / "data.db"
    uri = f"file:{path}".replace(" ", "%20")
    async with (
        opened(home, connectionString=str(path)) as here,
        opened(home / "other", connectionString=uri) as there,
    ):
        await here.write(Put("key", b"1"))
        assert await there.get("key") == await here.get("key")
    assert path.exists()
    assert not (home / "state.db").exists()


async def test_table_names_keep_collections_apart(home: Path) -> None:
    """Components with different table names do not see each other's keys, in one file."""
    async with (
        opened(home) as here,
        opened(home, tableName="other'; DROP TABLE item; --") as there,
    ):
        await here.write(Put("key", b"here"))
        assert await there.get("key") is None
        await there.write(Put("key", b"there", create_only=True))
        await there.write(Remove("key"))
        assert (await here.list("", 10)).keys == ("key",)
        assert (await there.list("", 10)).keys == ()
        assert (await there.query({})).items == ()


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("relaxed", 1)])
async def test_durability_sets_when_the_disk_is_synced(
    home: Path, durability: str, level: int
) -> None:
    """``full`` syncs every commit (level 2), ``relaxed`` the log now and then (level 1)."""

    def synchronous(transaction: Transaction) -> int:
        found: int = transaction.execute("PRAGMA synchronous").fetchone()[0]
        return found

    async with opened(home, durability=durability) as store:
        assert await store._database.submit(synchronous) == level


# Writing.


async def test_conflict_fails_alone_in_its_group(home: Path) -> None:
    """Of writes that share one commit, those whose condition does not hold fail and no others."""
    async with opened(home) as store:
        await store.write(Put("taken", b"1"))
        gate, started = threading.Event(), threading.Event()

        def slow(_transaction: Transaction) -> None:
            started.set()
            gate.wait(5.0)

        first = store._database.submit(slow)
        await asyncio.to_thread(started.wait, 5.0)
        async with asyncio.TaskGroup() as group:
            saves = [group.create_task(store.write(Put(f"key-{n}", b"1"))) for n in range(50)]
            losers = [
                group.create_task(_outcome(store, Put("taken", b"2", create_only=True))),
                group.create_task(_transaction_outcome(store)),
            ]
            await asyncio.sleep(0)
            gate.set()
            await first
        assert all(save.result() is None for save in saves)
        assert [type(loser.result()) for loser in losers] == [Conflict, Conflict]
        assert all(await store.get_many([f"key-{n}" for n in range(50)]))
        assert await store.get("half") is None


async def _outcome(store: SqliteState, change: Put) -> Exception | None:
    try:
        await store.write(change)
    except Conflict as conflict:
        return conflict
    return None


async def _transaction_outcome(store: SqliteState) -> Exception | None:
    try:
        await store.transact([Put("half", b"1"), Put("taken", b"2", create_only=True)])
    except Conflict as conflict:
        return conflict
    return None


async def test_write_that_waits_too_long_fails_in_time(home: Path) -> None:
    """When the writer hangs, waiting writes fail after the timeout, and later ones work."""
    async with opened(home, timeout="200ms") as store:
        gate = threading.Event()

        def slow(_transaction: Transaction) -> None:
            gate.wait(5.0)

        first = store._database.submit(slow)
        begun = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            await store.write(Put("key", b"1"))
        assert raised.value.reason == "timeout"
        assert 0.15 < time.monotonic() - begun < 2.0
        gate.set()
        with pytest.raises(Unavailable):
            await first
        await store.write(Put("key", b"2"))
        item = await store.get("key")
        assert item is not None
        assert item.value == b"2"


async def test_query_that_takes_too_long_is_ended(home: Path) -> None:
    """A query is interrupted at the timeout and leaves nothing running."""
    document = b'{"a": "' + b"x" * 2000 + b'"}'
    async with opened(home, timeout="20ms") as store:

        def fill(transaction: Transaction) -> None:
            for number in range(20_000):
                table.apply(transaction, "state", Put(f"key-{number}", document), 0.0)

        store._database._deadlines.timeout = 0.0
        await store._database.submit(fill)
        with pytest.raises(Unavailable) as raised:
            await store.query({"filter": {"EQ": {"a": "y"}}, "sort": [{"key": "a"}]})
        assert raised.value.reason == "timeout"


async def test_wrong_changes_never_reach_the_file(home: Path) -> None:
    """Half of a surrogate pair in a key, a ttl of nothing and half a gigabyte are refused."""
    async with opened(home) as store:
        for change in (
            Put("\ud800", b"1"),
            Put("key", b"1", ttl=0),
            Put("key", bytes(table.LARGEST + 1)),
            Remove("key", etag="0" * 15),
        ):
            with pytest.raises(Invalid):
                await store.write(change)
        with pytest.raises(Invalid):
            await store.get("\ud800")
        with pytest.raises(Invalid):
            await store.transact([Put(str(n), b"") for n in range(10_001)])
        assert rows(home / "state.db") == 0


# Cleaning up.


async def test_expired_rows_leave_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clean-up deletes expired rows in steps, and no others."""
    monkeypatch.setattr(module, "_SWEEP", 10)
    async with opened(home, cleanupInterval="50ms") as store:
        await store.write_many([Put(f"short-{n}", b"1", ttl=1) for n in range(35)])
        await store.write_many([Put("long", b"1", ttl=1000), Put("for ever", b"1")])
        assert rows(home / "state.db") == 37
        await eventually(lambda: rows(home / "state.db") == 2, "the clean-up")


async def test_without_clean_up_expired_rows_stay_and_are_missing(home: Path) -> None:
    """With an interval of 0 the file keeps expired rows; nobody sees them."""

    def backdate(transaction: Transaction) -> None:
        transaction.execute("UPDATE item SET expires = 1.0")

    async with opened(home, cleanupInterval="0") as store:
        await store.write(Put("key", b'{"a": 1}', ttl=1000))
        await store._database.submit(backdate)
        assert await store.get("key") is None
        assert await store.get_many(["key"]) == [None]
        assert (await store.list("", 10)).keys == ()
        assert (await store.query({})).items == ()
        assert rows(home / "state.db") == 1


# Watching.


async def following(store: SqliteState, key: str, seen: list[Changed]) -> None:
    changes: AsyncGenerator[Changed, None]
    async with aclosing(store.watch(key)) as changes:
        async for change in changes:
            seen.append(change)  # noqa: PERF401 - others look at it meanwhile


async def test_news_come_by_the_bell(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher hears of another opener's write long before its next poll."""
    monkeypatch.setattr(_watch, "_POLL", 60.0)
    seen: list[Changed] = []
    async with opened(home) as here, opened(home) as there, asyncio.TaskGroup() as group:
        task = group.create_task(following(here, "key", seen))
        await eventually(lambda: len(seen) == 1)
        for number in range(20):
            await there.write(Put("key", b"%d" % number))
            begun = time.monotonic()
            await eventually(lambda: len(seen) == number + 2)  # noqa: B023 - used at once
            assert time.monotonic() - begun < 1.0
        task.cancel()


async def test_watch_of_a_lost_ring_is_told_by_the_poll(home: Path) -> None:
    """What a process that died before ringing has written is found within a second or so."""
    seen: list[Changed] = []
    async with opened(home) as store, asyncio.TaskGroup() as group:
        task = group.create_task(following(store, "key", seen))
        await eventually(lambda: len(seen) == 1)
        with closing(sqlite3.connect(home / "state.db")) as other:
            other.execute("INSERT INTO item VALUES ('state', 'key', x'31', 7, NULL)")
            other.commit()
        await eventually(lambda: len(seen) == 2)
        assert seen[-1].item is not None
        task.cancel()


async def test_closing_ends_watches(home: Path) -> None:
    """Who still watches when the store closes sees the end, not a hang."""
    seen: list[Changed] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        store = await stack.enter_async_context(opened(home))
        group.create_task(following(store, "key", seen))
        await eventually(lambda: len(seen) == 1)
        async with asyncio.timeout(5.0):
            await stack.aclose()


# Files that change underneath.


async def test_restored_file_is_noticed(home: Path) -> None:
    """After a copy took the file's place, reads and watches go on with what it holds."""
    seen: list[Changed] = []
    async with opened(home) as store:
        await store.write(Put("key", b"old"))
    shutil.copy(home / "state.db", home / "copy")
    async with opened(home) as store, asyncio.TaskGroup() as group:
        await store.write(Put("key", b"new"))
        task = group.create_task(following(store, "key", seen))
        await eventually(lambda: len(seen) == 1)
        for suffix in ("", "-wal", "-shm"):
            (home / f"state.db{suffix}").unlink()
        (home / "copy").rename(home / "state.db")
        await store.ping()
        item = await store.get("key")
        assert item is not None
        assert item.value == b"old"
        await eventually(lambda: len(seen) == 2)
        assert seen[-1].item == item
        task.cancel()


async def test_newer_format_is_refused(home: Path) -> None:
    """A file of a newer Pillion is left alone."""
    async with opened(home) as store:
        await store.write(Put("key", b"1"))
    with closing(sqlite3.connect(home / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Unavailable) as raised:
        async with opened(home):
            pass
    assert raised.value.reason == "newer-format"


async def test_file_of_another_program_is_refused(home: Path) -> None:
    """A database that is not ours is not touched."""
    home.mkdir()
    with closing(sqlite3.connect(home / "state.db")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    before = (home / "state.db").read_bytes()
    with pytest.raises(Unavailable) as raised:
        async with opened(home):
            pass
    assert raised.value.reason == "foreign-file"
    assert (home / "state.db").read_bytes() == before


async def test_closed_store_is_unavailable(home: Path) -> None:
    """After closing, operations fail with a reason."""
    async with opened(home) as store:
        pass
    for operation in (store.ping(), store.get("a"), store.write(Put("a", b"")), store.query({})):
        with pytest.raises(Unavailable):
            await operation
