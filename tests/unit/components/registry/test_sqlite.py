"""The embedded registry when its file is locked, lost, restored, damaged or foreign."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Gone, Instance, Put, Snapshot
from pillion.node import node_id
from pillion_components import _sqlite_file
from pillion_components.registry import _table as table
from pillion_components.registry.sqlite import SqliteRegistry

pytestmark = pytest.mark.anyio


def instance(identifier: str, **fields: Any) -> Instance:
    values: dict[str, Any] = {"pid": os.getpid(), "node": node_id()}
    return Instance(
        id=identifier,
        app_id="orders",
        namespace="default",
        host="127.0.0.1",
        port=1,
        **(values | fields),
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[SqliteRegistry]:
    context = Context(name="registry", home=home, app_id="tester")
    async with SqliteRegistry.open(context) as registry:
        yield registry


def watch(registry: SqliteRegistry) -> AsyncGenerator[Change, None]:
    return registry.watch("default", "orders")


class View:
    """What a watcher believes."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.ids: set[str] = set()
        self._news = asyncio.Event()

    async def follow(self, registry: SqliteRegistry) -> None:
        async with aclosing(watch(registry)) as changes:
            async for change in changes:
                self.changes.append(change)
                match change:
                    case Snapshot(instances):
                        self.ids = {one.id for one in instances}
                    case Put(one):
                        self.ids.add(one.id)
                    case Gone(identifier):
                        self.ids.remove(identifier)
                self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10.0):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def watching(registry: SqliteRegistry) -> AsyncIterator[View]:
    view = View()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(view.follow(registry))
        await view.until(lambda: bool(view.changes))
        yield view
        task.cancel()


def by_hand(home: Path, statement: str) -> None:
    """Change the file from another process, as somebody with the sqlite3 program would."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
    )
    arguments = [sys.executable, "-c", program, str(home / "registry.db"), statement]
    subprocess.run(arguments, check=True)


async def test_row_deleted_by_hand_comes_back(home: Path) -> None:
    """The next renewal registers again what somebody deleted."""
    async with opened(home) as registry, registry.registered(instance("one"), 1.0):
        by_hand(home, "DELETE FROM instance")
        assert await registry.instances() == ()
        async with watching(registry) as view:
            await view.until(lambda: view.ids == {"one"})
            assert view.changes == [Snapshot(()), Put(instance("one"))]


async def test_deleted_row_is_noticed_by_who_watched_it(home: Path) -> None:
    """A row that is deleted for good, without a tombstone, is gone after a look at the file."""
    async with (
        opened(home) as here,
        opened(home) as there,
        watching(there) as view,
        here.registered(instance("one"), 60.0),
    ):
        await view.until(lambda: view.ids == {"one"})
        for file in home.glob("registry.db*"):
            file.unlink()
        await view.until(lambda: view.ids == set())


async def test_deleted_home_is_made_again(home: Path) -> None:
    """When everything is deleted the runtimes carry on in a new file and hear one another."""
    async with (
        opened(home) as here,
        opened(home) as there,
        watching(there) as view,
        here.registered(instance("one"), 0.6),
    ):
        await view.until(lambda: view.ids == {"one"})
        shutil.rmtree(home)
        heard = len(view.changes)
        await view.until(lambda: any(isinstance(one, Snapshot) for one in view.changes[heard:]))
        await view.until(lambda: view.ids == {"one"})
        async with here.registered(instance("two"), 30.0):
            await view.until(lambda: view.ids == {"one", "two"})
            assert {one.id for one in await there.instances()} == {"one", "two"}


async def test_file_restored_from_a_copy_heals(home: Path) -> None:
    """After an old copy took the file's place, what is alive comes back and the rest goes."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(opened(home))
        there = await stack.enter_async_context(opened(home))
        view = await stack.enter_async_context(watching(there))
        async with here.registered(instance("old"), 1.0):
            with closing(sqlite3.connect(home / "registry.db")) as connection:
                connection.execute(f"VACUUM INTO '{home / 'copy'}'")
        async with here.registered(instance("new"), 1.0):
            await view.until(lambda: view.ids == {"new"})
            (home / "copy").rename(home / "registry.db")
            for suffix in ("-wal", "-shm"):
                (home / f"registry.db{suffix}").unlink()
            await view.until(lambda: view.ids == {"old", "new"} or "old" in str(view.changes[-1]))
            await view.until(lambda: view.ids == {"new"})
            assert [one.id for one in await there.instances()] == ["new"]


async def test_damage_while_running_is_repaired(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file overwritten with garbage is set aside by whoever notices, and everyone is back."""
    async with (
        opened(home) as here,
        opened(home) as there,
        watching(there) as view,
        here.registered(instance("one"), 0.6),
        there.registered(instance("two"), 0.6),
    ):
        await view.until(lambda: view.ids == {"one", "two"})
        garbage = "import sys; open(sys.argv[1], 'r+b').write(b'garbage!' * 8192)"
        for name in ("registry.db", "registry.db-wal"):
            subprocess.run([sys.executable, "-c", garbage, str(home / name)], check=True)
        async with asyncio.timeout(10.0):
            while not list(home.glob("registry.db.corrupt-*")):
                await asyncio.sleep(0.05)
        await view.until(lambda: view.ids == {"one", "two"})
        async with here.registered(instance("three"), 30.0):
            await view.until(lambda: view.ids == {"one", "two", "three"})
    assert sum("is kept as" in record.message for record in caplog.records) == 1


async def test_watches_outlast_a_lock(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While nobody can write, the lease still runs out for watchers, and all heals by itself."""
    monkeypatch.setattr(_sqlite_file, "BUSY_TIMEOUT", 0.05)
    async with opened(home) as here, opened(home) as there, watching(there) as view:
        async with here.registered(instance("one"), 0.6) as registration:
            await view.until(lambda: view.ids == {"one"})
            holder = sqlite3.connect(home / "registry.db", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match=r"registry\.db is locked"):
                await registration.update(healthy=False)
            await view.until(lambda: view.ids == set())
            assert await there.instances() == ()
            holder.execute("ROLLBACK")
            holder.close()
            await view.until(lambda: view.ids == {"one"})
            assert view.changes[-1] == Put(instance("one", healthy=False))
        await view.until(lambda: view.ids == set())
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "cannot renew instance one" in warnings[0]


async def test_registering_in_a_locked_file_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registration that cannot be written is an error, and leaves nothing behind."""
    monkeypatch.setattr(_sqlite_file, "BUSY_TIMEOUT", 0.05)
    async with opened(home) as registry:
        with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="is locked"):
                async with registry.registered(instance("one"), 5.0):
                    pass
        assert await registry.instances() == ()


async def test_lagging_watcher_starts_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who missed tombstones that are purged by now gets a new Snapshot."""
    monkeypatch.setattr(table, "TOMBSTONE_AGE", 0.0)
    async with (
        opened(home) as here,
        opened(home) as there,
        aclosing(watch(there)) as changes,
        here.registered(instance("stays"), 30.0),
    ):
        async with here.registered(instance("leaves"), 30.0):
            first = await anext(changes)
            assert isinstance(first, Snapshot)
            assert {one.id for one in first.instances} == {"stays", "leaves"}
        for number in range(3):
            async with here.registered(instance(f"passes{number}"), 30.0):
                await asyncio.sleep(0.02)  # the watching side hears every ring meanwhile
        assert await anext(changes) == Snapshot((instance("stays"),))


async def test_purges_do_not_disturb_watchers_of_other_apps(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet app's watcher hears its next change as a change, whoever came and went meanwhile."""
    monkeypatch.setattr(table, "TOMBSTONE_AGE", 0.3)
    async with opened(home) as here, opened(home) as there, watching(there) as view:
        for number in range(20):
            passing = Instance(
                id=f"p{number}", app_id="stock", namespace="default", host="127.0.0.1", port=1
            )
            async with here.registered(passing, 30.0):
                await asyncio.sleep(0.03)
        async with here.registered(instance("one"), 30.0):
            await view.until(lambda: view.ids == {"one"})
        await view.until(lambda: view.ids == set())
        assert view.changes == [Snapshot(()), Put(instance("one")), Gone("one")]


async def test_newer_file_stops_the_start(home: Path) -> None:
    """A registry of a later Pillion is refused in one sentence."""
    async with opened(home):
        pass
    by_hand(home, "PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="newer Pillion"):
        async with opened(home):
            pass


async def test_lease_must_be_time(home: Path) -> None:
    """A lease of no seconds is a mistake."""
    async with opened(home) as registry:
        with pytest.raises(Invalid, match="lease"):
            async with registry.registered(instance("one"), 0.0):
                pass


async def test_nothing_stays_behind(home: Path) -> None:
    """After a clean end there is the file, its lock, and no task, socket or log."""
    before = asyncio.all_tasks()
    async with (
        opened(home) as registry,
        registry.registered(instance("one"), 5.0),
        watching(registry) as view,
    ):
        await view.until(lambda: view.ids == {"one"})
    assert asyncio.all_tasks() == before
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
    assert left == ["registry.db", "registry.db.lock"]
