"""What durable saves cost in the embedded state store: group commit against one commit per write.

``python -m tests.bench.state_sqlite`` prints a table. All rows run in one process on the same disk
in the same run: plain ``sqlite3`` that commits (and syncs) every write by itself, the store with
its groups cut down to one write, the store under 1 to 256 concurrent writers, the store with
relaxed durability, reads, and reads of a thousand keys at once. Values have 1 KiB. What groups
save is the sync, so the ratios are higher the slower the disk; ``--folder`` chooses one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillion import registry
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components import _sqlite
from tests.bench.stats import percentile

VALUE = os.urandom(1024)
KEYS = 10_000
TARGET_RATIO = 20.0
TARGET_READS = 8000.0


UNGROUPED = "the store without groups, 64 at once"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured way.

    Attributes:
        rate: operations per second.
        p50, p99: milliseconds.
        cpu: microseconds of this process per operation, all threads.
    """

    what: str
    rate: float
    p50: float
    p99: float
    cpu: float


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def row(what: str, times: list[float], seconds: float, cpu: float) -> Row:
    times.sort()
    p50, p99 = (percentile(times, fraction) * 1e3 for fraction in (0.5, 0.99))
    return Row(what, len(times) / seconds, p50, p99, cpu / len(times) * 1e6)


def one_commit_per_write(home: Path, seconds: float) -> Row:
    """Save as a program without a store would: one connection, every write commits and syncs."""
    with closing(sqlite3.connect(home / "plain.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE item (key TEXT PRIMARY KEY, value BLOB)")
        times: list[float] = []
        cpu, begun = cpu_seconds(), time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds:
            key = f"key-{len(times) % KEYS}"
            connection.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (key, VALUE))
            times.append(time.perf_counter() - now)
        return row(
            "one commit per write (sqlite3)",
            times,
            time.perf_counter() - begun,
            cpu_seconds() - cpu,
        )


async def concurrently(
    what: str, clients: int, seconds: float, operation: Callable[[int], Awaitable[object]]
) -> Row:
    """Run ``operation`` on growing numbers from ``clients`` tasks."""
    times: list[float] = []
    numbers = iter(range(1 << 40))
    cpu, begun = cpu_seconds(), time.perf_counter()

    async def client() -> None:
        while (now := time.perf_counter()) - begun < seconds:
            await operation(next(numbers))
            times.append(time.perf_counter() - now)
            # A read never waits, and the loop must see the other clients.
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return row(what, times, time.perf_counter() - begun, cpu_seconds() - cpu)


@asynccontextmanager
async def opened(home: Path, **settings: str) -> Any:
    component: Any = registry.find("state.sqlite")
    context = Context(name="bench", home=home, app_id="bench", settings=settings)
    async with component.open(context) as store:
        yield store


@contextmanager
def no_groups() -> Iterator[None]:
    """Let every write have a commit of its own."""
    usual, _sqlite._BATCH = _sqlite._BATCH, 1
    try:
        yield
    finally:
        _sqlite._BATCH = usual


async def measured(home: Path, seconds: float) -> list[Row]:
    """Measure everything on the disk of ``home``; the plain way first and last."""
    rows = [one_commit_per_write(home, seconds)]
    async with opened(home) as store:

        async def save(number: int) -> None:
            await store.write(Put(f"key-{number % KEYS}", VALUE))

        async def read(number: int) -> None:
            await store.get(f"key-{number % KEYS}")

        async def read_thousand(number: int) -> None:
            await store.get_many([f"key-{(number * 997 + one) % KEYS}" for one in range(1000)])

        with no_groups():
            rows.append(await concurrently(UNGROUPED, 64, seconds, save))
        rows += [
            await concurrently(f"durable saves, {clients} at once", clients, seconds, save)
            for clients in (1, 16, 64, 256)
        ]
        await store.write_many([Put(f"key-{number}", VALUE) for number in range(KEYS)])
        rows.append(await concurrently("reads, 1 at once", 1, seconds, read))
        rows.append(await concurrently("reads, 64 at once", 64, seconds, read))
        rows.append(await concurrently("reads of 1,000 keys, 1 at once", 1, seconds, read_thousand))
    async with opened(home / "relaxed", durability="relaxed") as store:
        rows.append(await concurrently("relaxed saves, 64 at once", 64, seconds, save))
    return rows


def shown(rows: Sequence[Row], again: Row) -> str:
    """Return the table and the two ratios that are asked of the store."""
    lines = [f"{'':<38}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}"]
    lines += [
        f"{one.what:<38}{one.rate:>10,.0f}{one.p50:>9.3f}{one.p99:>9.3f}{one.cpu:>9.1f}"
        for one in (*rows, again)
    ]
    by_name = {one.what: one for one in rows}
    plain = (rows[0].rate + again.rate) / 2
    saves = by_name["durable saves, 64 at once"].rate
    reads = by_name["reads, 64 at once"].rate
    lines.append(
        f"durable saves, 64 at once: {saves / by_name[UNGROUPED].rate:.1f} times the store without "
        f"groups, {saves / plain:.1f} times sqlite3 in a loop (asked: {TARGET_RATIO:g}); "
        f"reads {reads:,.0f}/s (asked: {TARGET_READS:,.0f})"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 0."""
    parser = argparse.ArgumentParser(prog="state_sqlite", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per row")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder)
        rows = asyncio.run(measured(home, options.seconds))
        print(shown(rows, one_commit_per_write_again(home, options.seconds)))
    return 0


def one_commit_per_write_again(home: Path, seconds: float) -> Row:
    """Measure the plain way once more, because other work on the disk comes and goes."""
    (home / "again").mkdir()
    return one_commit_per_write(home / "again", seconds)


if __name__ == "__main__":
    raise SystemExit(main())
