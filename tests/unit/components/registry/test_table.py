"""The registry's rows: revisions, leases, tombstones, and what a crash or a reboot leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pillion.kinds.registry import Instance
from pillion.node import node_id
from pillion_components._sqlite import Database, Transaction
from pillion_components.registry import _table as table

pytestmark = pytest.mark.anyio

ROWS = "SELECT id, gone, revision FROM instance ORDER BY id"
PLAN = "EXPLAIN QUERY PLAN "


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
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(tmp_path / "registry.db", table.SCHEMA) as opened:
        yield opened


def put(identifier: str, lease: float = 30.0, **fields: Any) -> Callable[[Transaction], int]:
    return lambda transaction: table.put(transaction, instance(identifier, **fields), lease)


async def test_every_change_takes_the_next_revision(database: Database) -> None:
    """A row holds the revision of its last change, and an end is a change."""
    assert await database.submit(put("a")) == 1
    assert await database.submit(put("b")) == 2
    assert await database.submit(put("a", healthy=False)) == 3
    assert await database.submit(lambda transaction: table.remove(transaction, "b"))
    assert database.read(ROWS) == [("a", 0, 3), ("b", 1, 4)]
    assert not await database.submit(lambda transaction: table.remove(transaction, "b"))
    assert not await database.submit(lambda transaction: table.remove(transaction, "unknown"))
    assert database.read(table.READ_STATE) == [(4, 0)]


async def test_renewal_is_no_change(database: Database) -> None:
    """A renewal moves the expiry alone, and only for the row as it was written."""
    revision = await database.submit(put("a", 10.0))
    (before,) = database.read("SELECT expires FROM instance")
    assert await database.submit(lambda transaction: table.renew(transaction, "a", revision, 20.0))
    (after,) = database.read("SELECT expires FROM instance")
    assert after[0] - before[0] == pytest.approx(10.0, abs=1.0)
    assert database.read(ROWS) == [("a", 0, revision)]
    assert not await database.submit(lambda transaction: table.renew(transaction, "a", 99, 20.0))
    await database.submit(lambda transaction: table.remove(transaction, "a"))
    assert not await database.submit(
        lambda transaction: table.renew(transaction, "a", revision, 20.0)
    )
    assert not await database.submit(
        lambda transaction: table.renew(transaction, "a", revision + 1, 20.0)
    )


async def test_expired_row_cannot_be_renewed(database: Database) -> None:
    """Who comes too late registers anew, because watchers have told that it is gone."""
    revision = await database.submit(put("a", 0.0))
    assert not await database.submit(
        lambda transaction: table.renew(transaction, "a", revision, 20.0)
    )


async def test_sweep_buries_what_expired(database: Database) -> None:
    """Expired rows become tombstones, live ones stay."""
    await database.submit(put("dead", 0.0))
    await database.submit(put("live"))
    assert await database.submit(table.sweep)
    assert not await database.submit(table.sweep)
    assert database.read(ROWS) == [("dead", 1, 3), ("live", 0, 2)]


async def test_settling_a_row_renewed_in_time(database: Database) -> None:
    """A row seen expired that was renewed takes a new revision, so that it is told again."""
    revision = await database.submit(put("a"))
    assert await database.submit(lambda transaction: table.settle(transaction, [("a", revision)]))
    assert database.read(ROWS) == [("a", 0, revision + 1)]
    assert not await database.submit(
        lambda transaction: table.settle(transaction, [("a", revision)])
    )
    assert database.read(ROWS) == [("a", 0, revision + 1)]


async def test_settling_a_row_that_expired(database: Database) -> None:
    """A row that is still expired is buried, once."""
    revision = await database.submit(put("a", 0.0))
    assert await database.submit(lambda transaction: table.settle(transaction, [("a", revision)]))
    assert not await database.submit(
        lambda transaction: table.settle(transaction, [("a", revision)])
    )
    assert database.read(ROWS) == [("a", 1, revision + 1)]


async def test_old_tombstones_are_purged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next burial removes tombstones that are old enough, and says up to which revision."""
    for identifier in ("a", "b"):
        await database.submit(put(identifier))
    await database.submit(lambda transaction: table.remove(transaction, "a"))
    assert database.read(ROWS) == [("a", 1, 3), ("b", 0, 2)]
    monkeypatch.setattr(table, "TOMBSTONE_AGE", -1.0)
    await database.submit(lambda transaction: table.remove(transaction, "b"))
    assert database.read(ROWS) == []
    assert database.read(table.READ_STATE) == [(4, 4)]


async def test_rows_of_another_boot_are_void(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reboot the clock starts anew, so nothing from before counts."""
    await database.submit(put("now"))
    monkeypatch.setattr(table, "boot_id", lambda: "an earlier boot")
    await database.submit(put("before"))
    monkeypatch.undo()
    await database.submit(put("impossible"))
    await database.submit(
        lambda transaction: transaction.execute(
            "UPDATE instance SET expires = ? WHERE id = 'impossible'", (time.monotonic() + 1e6,)
        )
    )
    assert not await database.submit(table.tidy)
    assert [row[0] for row in database.read(ROWS)] == ["now"]


async def test_instances_of_ended_processes_are_tidied(database: Database) -> None:
    """The next runtime to open removes what a killed one left, and keeps what it cannot judge."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    await database.submit(put("killed", pid=process.pid))
    await database.submit(put("alive"))
    await database.submit(put("elsewhere", pid=process.pid, node="another"))
    await database.submit(put("unknown", pid=0))
    assert await database.submit(table.tidy)
    live = [identifier for identifier, gone, _ in database.read(ROWS) if not gone]
    assert live == ["alive", "elsewhere", "unknown"]


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (table.READ_APPS, (1,)),
        (table.READ_CHANGES, ("default", "orders", 1, 10)),
        (table.READ_EXPIRED, (1.0, 10)),
        (table.READ_NEXT_EXPIRY, (1.0,)),
    ],
)
async def test_watching_never_scans_the_table(
    database: Database, statement: str, parameters: tuple[object, ...]
) -> None:
    """What runs for every change is answered from an index."""
    plan = [row[3] for row in database.read(PLAN + statement, parameters)]
    assert any(step.startswith("SEARCH instance USING") for step in plan)
    assert not any(step.startswith("SCAN") for step in plan)
