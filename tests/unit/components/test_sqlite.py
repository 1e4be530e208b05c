"""SQLite from an event loop: grouped writes, inline reads, and files that change underneath."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pillion.errors import Conflict, Overloaded, Unavailable
from pillion_components import _sqlite, _sqlite_file
from pillion_components._sqlite import Database, Schema, Transaction

pytestmark = pytest.mark.anyio

SCHEMA = Schema(
    what="test store",
    application_id=0x54455354,
    steps=(("CREATE TABLE item (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",),),
)
READ = "SELECT key, value FROM item ORDER BY key"


def put(key: str, value: int) -> Callable[[Transaction], None]:
    def write(transaction: Transaction) -> None:
        transaction.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (key, value))

    return write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "test.db"


async def test_write_is_read_back_at_once(path: Path) -> None:
    """After the await, the inline reader sees the write; results come back typed."""
    async with Database.open(path, SCHEMA) as database:
        assert await database.submit(lambda _: "result") == "result"
        await database.submit(put("a", 1))
        assert database.read(READ) == [("a", 1)]


async def test_writes_that_wait_share_one_commit(path: Path) -> None:
    """A hundred writes queued behind a slow one are committed together."""
    commits = []

    def commit() -> None:
        commits.append(1)

    def counted(number: int) -> Callable[[Transaction], None]:
        def write(transaction: Transaction) -> None:
            put(str(number), number)(transaction)
            transaction.after_commit(commit)

        return write

    async with Database.open(path, SCHEMA) as database:
        gate = threading.Event()
        started = threading.Event()

        def slow(_transaction: Transaction) -> None:
            started.set()
            gate.wait(5.0)

        first = database.submit(slow)
        await asyncio.to_thread(started.wait, 5.0)
        rest = [database.submit(counted(number)) for number in range(100)]
        gate.set()
        await asyncio.gather(first, *rest)
        assert len(commits) == 1
        assert len(database.read(READ)) == 100


async def test_failing_write_leaves_the_others_alone(path: Path) -> None:
    """An error undoes its own write, whole, and reaches its own caller."""

    def failing(transaction: Transaction) -> None:
        put("half", 1)(transaction)
        raise Conflict("no")

    def constraint(transaction: Transaction) -> None:
        put("half", 1)(transaction)
        transaction.execute("INSERT INTO item VALUES ('a', NULL)")

    async with Database.open(path, SCHEMA) as database:
        outcomes = await asyncio.gather(
            database.submit(put("a", 1)),
            database.submit(failing),
            database.submit(constraint),
            database.submit(put("b", 2)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            Conflict,
            sqlite3.IntegrityError,
            type(None),
        ]
        assert database.read(READ) == [("a", 1), ("b", 2)]
        assert database.generation == 0


async def test_cancelled_caller_does_not_undo_its_write(path: Path) -> None:
    """What was queued is carried out in order, whoever waits for it."""
    async with Database.open(path, SCHEMA) as database:
        database.submit(put("a", 1)).cancel()
        await database.submit(put("b", 2))
        assert database.read(READ) == [("a", 1), ("b", 2)]


async def test_closing_commits_what_is_queued(path: Path) -> None:
    """Leaving the context waits for the queue, and later calls are refused."""
    async with Database.open(path, SCHEMA) as database:
        queued = [database.submit(put(str(number), number)) for number in range(3000)]
    assert all(future.done() and future.exception() is None for future in queued)
    with pytest.raises(Unavailable, match="is closed"):
        database.submit(put("late", 1))
    with pytest.raises(Unavailable, match="is closed"):
        database.read(READ)
    async with Database.open(path, SCHEMA) as database:
        assert len(database.read(READ)) == 3000


async def test_queue_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes beyond the bound are refused at once, and accepted again later."""
    monkeypatch.setattr(_sqlite, "_QUEUED", 10)
    async with Database.open(path, SCHEMA) as database:
        queued = [database.submit(put(str(number), number)) for number in range(10)]
        with pytest.raises(Overloaded, match="10 writes wait"):
            database.submit(put("one too many", 1))
        await asyncio.gather(*queued)
        await database.submit(put("later", 1))


async def test_full_disk_is_an_error_and_not_the_end(path: Path) -> None:
    """A group that has no room fails whole with a clear message; smaller ones go on."""

    def grow(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO item SELECT hex(randomblob(2000000)), 1")

    async with Database.open(path, SCHEMA) as database:
        await database.submit(lambda transaction: transaction.execute("PRAGMA max_page_count = 50"))
        with pytest.raises(Unavailable, match="disk is full") as caught:
            await database.submit(grow)
        assert caught.value.reason == "disk-full"
        await database.submit(put("small", 1))
        assert database.read(READ) == [("small", 1)]


async def test_two_processes_lose_no_write(path: Path) -> None:
    """Increments from two processes at one time add up."""
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sqlite import SCHEMA, increment
from pillion_components._sqlite import Database
async def main():
    async with Database.open(Path(sys.argv[1]), SCHEMA) as database:
        for _ in range(50):
            await asyncio.gather(*(database.submit(increment) for _ in range(4)))
asyncio.run(main())
"""
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path))
        for _ in range(2)
    ]
    assert [await child.wait() for child in children] == [0, 0]
    async with Database.open(path, SCHEMA) as database:
        assert database.read(READ) == [("n", 400)]


def increment(transaction: Transaction) -> None:
    """Add one to ``n``."""
    transaction.execute(
        "INSERT INTO item VALUES ('n', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1"
    )


async def test_locked_file_fails_in_time_and_heals(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock held elsewhere is a clear error after the time-out; nothing is half-written."""
    monkeypatch.setattr(_sqlite_file, "BUSY_TIMEOUT", 0.1)
    async with Database.open(path, SCHEMA) as database:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"test\.db is locked by another process") as caught:
            await database.submit(put("a", 1))
        assert caught.value.reason == "locked"
        assert database.read(READ) == []
        holder.execute("ROLLBACK")
        holder.close()
        await database.submit(put("b", 2))
        assert database.read(READ) == [("b", 2)]
        assert database.generation == 0


async def test_replaced_file_is_opened(path: Path) -> None:
    """When the file is deleted or replaced, the next write goes to the one that has the path."""
    async with Database.open(path, SCHEMA) as database:
        reopened = []
        database.on_reopen = lambda: reopened.append(database.generation)
        await database.submit(put("old", 1))
        for file in path.parent.iterdir():
            file.unlink()
        assert database.moved()
        assert database.read(READ) == [("old", 1)]
        await database.submit(put("new", 2))
        assert not database.moved()
        assert database.read(READ) == [("new", 2)]
        assert reopened == [1]
    async with Database.open(path, SCHEMA) as database:
        assert database.read(READ) == [("new", 2)]


async def test_refresh_opens_without_a_write(path: Path) -> None:
    """A process that only reads can ask for the new file."""
    async with Database.open(path, SCHEMA) as database:
        reopened = asyncio.Event()
        database.on_reopen = reopened.set
        path.unlink()
        database.refresh()
        async with asyncio.timeout(5.0):
            await reopened.wait()
        assert database.read(READ) == []


async def test_files_are_private(path: Path) -> None:
    """Folder 0700 and every file 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        async with Database.open(path, SCHEMA) as database:
            await database.submit(put("a", 1))
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm", "test.db.lock"), 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
