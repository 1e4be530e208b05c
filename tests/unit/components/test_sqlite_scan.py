"""Long reads: in a thread, interrupted when nobody waits, and told in our words."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from pillion.errors import Unavailable
from pillion_components._sqlite import Database, Schema
from pillion_components._sqlite_file import DatabaseFile
from pillion_components._sqlite_scan import Scan

pytestmark = pytest.mark.anyio

SCHEMA = Schema(
    what="test store",
    application_id=0x54455354,
    steps=(("CREATE TABLE item (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",),),
)
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "test.db"


async def test_scan_runs_beside_the_loop(path: Path) -> None:
    """It sees what was written, in another thread, and cannot write."""

    def work(connection: sqlite3.Connection) -> tuple[int, bool]:
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("DELETE FROM item")
        count = connection.execute("SELECT count(*) FROM item").fetchone()[0]
        return count, threading.current_thread() is threading.main_thread()

    async with Database.open(path, SCHEMA) as database:
        await database.submit(lambda writer: writer.execute("INSERT INTO item VALUES ('a', 1)"))
        assert await database.scan(work) == (1, False)


async def test_cancelled_scan_is_interrupted(path: Path) -> None:
    """An endless query ends with its caller, and the next one runs."""
    started = threading.Event()

    def endless(connection: sqlite3.Connection) -> None:
        started.set()
        connection.execute(ENDLESS).fetchone()

    async with Database.open(path, SCHEMA) as database:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(database.scan(endless))
            await asyncio.to_thread(started.wait, 5.0)
            begun = time.monotonic()
            task.cancel()
        assert time.monotonic() - begun < 2.0
        assert await database.scan(lambda _: "next") == "next"


async def test_failed_scan_is_unavailable(path: Path) -> None:
    """What SQLite says becomes a failure of ours."""
    async with Database.open(path, SCHEMA) as database:
        with pytest.raises(Unavailable):
            await database.scan(lambda connection: connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(Unavailable):
        await database.scan(lambda _: None)


def test_interrupt_before_the_work_is_not_lost(path: Path) -> None:
    """A scan that is interrupted while it waits for its turn ends at its first long statement."""
    file = DatabaseFile(path, SCHEMA)
    connections = file.connect()
    scan = Scan(file)
    scan.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        scan.run(lambda connection: connection.execute(ENDLESS).fetchone())
    file.disconnect(connections)
