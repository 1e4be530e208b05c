"""What discovery costs: picking, one change among many, being seen elsewhere, and doing nothing.

``python -m tests.bench.registry`` prints a table. The registry is the embedded one in a temporary
home; watchers are other processes, and times are compared on the machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pillion import registry
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Instance, Put, Registry, Snapshot
from pillion.node import node_id
from pillion.policy.balance import PICKERS, EndpointSet
from tests.bench.stats import percentile

SIZES = (10, 1_000, 10_000)
TYPE = "registry.sqlite"
LONG_LEASE = 3600.0
LEASE = 5.0
LOOPS = 100_000


def instance(identifier: str, app_id: str = "orders", *, healthy: bool = True) -> Instance:
    return Instance(
        id=identifier,
        app_id=app_id,
        namespace="default",
        host="127.0.0.1",
        port=7000,
        labels={"version": "v1"},
        healthy=healthy,
        pid=os.getpid(),
        node=node_id(),
        since=1_700_000_000.0,
    )


def opened(home: Path) -> Any:
    component: Any = registry.find(TYPE)
    return component.open(Context(name="bench", home=home, app_id="bench"))


# Picking, in this process.


def per_call(action: Callable[[], object], loops: int = LOOPS) -> float:
    """Return nanoseconds per call, the best of five rounds, the loop's own cost taken off."""

    def timed(body: Callable[[], object]) -> float:
        rounds = []
        for _ in range(5):
            begun = time.perf_counter_ns()
            for _ in range(loops):
                body()
            rounds.append((time.perf_counter_ns() - begun) / loops)
        return min(rounds)

    return timed(action) - timed(lambda: None)


def filled(picker: str, size: int) -> EndpointSet:
    source = random.Random(1)
    endpoints = EndpointSet(PICKERS[picker](source))
    endpoints.apply(Snapshot(tuple(instance(str(number)) for number in range(size))))
    for endpoint in endpoints:
        endpoint.started(0.0)
        endpoint.finished(0.02, source.expovariate(50.0), failed=False)
    return endpoints


def pick_cost(picker: str, size: int) -> float:
    endpoints = filled(picker, size)
    return per_call(lambda: endpoints.pick((), 1.0))


def apply_cost(size: int) -> float:
    endpoints = filled("peak-ewma", size)
    changes = [Put(instance("5", healthy=False)), Put(instance("5"))]

    def both() -> None:
        for change in changes:
            endpoints.apply(change)

    return per_call(both, LOOPS // 4) / 2


# Watching, in another process.


async def child(home: str, app_id: str, lease: float) -> None:
    """Watch an app, register one instance when ``lease`` is not 0, and answer on lines of input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    seen: list[tuple[float, str, bool]] = []
    known = asyncio.Event()

    def take(change: Change) -> None:
        if isinstance(change, Put):
            seen.append((time.monotonic(), change.instance.id, change.instance.healthy))
        known.set()

    async def follow(opened_registry: Registry) -> None:
        async for change in opened_registry.watch("default", app_id):
            take(change)

    async with (
        opened(Path(home)) as opened_registry,
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        if lease:
            own = instance(f"own-{os.getpid()}", "own")
            await stack.enter_async_context(opened_registry.registered(own, lease))
        begun = time.perf_counter()
        follower = group.create_task(follow(opened_registry))
        await known.wait()
        print(json.dumps(time.perf_counter() - begun), flush=True)
        while line := await reader.readline():
            answer: object = time.process_time()
            if line == b"seen\n":
                answer, seen[:] = seen[:], []
            print(json.dumps(answer), flush=True)
        follower.cancel()


class Child:
    """A watching process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.snapshot_seconds = 0.0

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n".encode())
        return await self.answer()


@asynccontextmanager
async def watcher(home: Path, app_id: str = "orders", lease: float = 0.0) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.registry", "--child"),
        *(str(home), app_id, str(lease)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    made = Child(process)
    try:
        made.snapshot_seconds = await made.answer()
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def crowd(home: Path, size: int) -> AsyncIterator[Registry]:
    """Keep ``size`` instances of one app registered."""
    async with opened(home) as opened_registry, AsyncExitStack() as stack:
        entering = (
            stack.enter_async_context(
                opened_registry.registered(instance(f"i{number}"), LONG_LEASE)
            )
            for number in range(size)
        )
        await asyncio.gather(*entering)
        yield opened_registry


async def visibility(opened_registry: Registry, home: Path, rounds: int) -> dict[str, float]:
    """Register and change one instance again and again; time when another process sees it."""
    async with watcher(home) as other:
        begun: dict[tuple[str, bool], float] = {}
        written: list[float] = []
        for number in range(rounds):
            identifier = f"new-{number}"
            begun[identifier, True] = started = time.monotonic()
            async with opened_registry.registered(instance(identifier), LONG_LEASE) as mine:
                written.append(time.monotonic() - started)
                # Spread out, as real changes are; back to back they would be merged.
                await asyncio.sleep(0.004)
                begun[identifier, False] = time.monotonic()
                await mine.update(healthy=False)
                await asyncio.sleep(0.004)
        snapshot = other.snapshot_seconds
        seen = await other.ask("seen")
    arrived = {(identifier, healthy): at for at, identifier, healthy in reversed(seen)}
    delays = sorted(arrived[key] - begun[key] for key in begun if key in arrived)
    return {
        "snapshot": snapshot,
        "p50": percentile(delays, 0.50),
        "p99": percentile(delays, 0.99),
        "max": delays[-1],
        "written": percentile(sorted(written), 0.50),
        "seen": len(delays) / len(begun),
    }


async def change_cost(opened_registry: Registry, home: Path, changes: int) -> tuple[float, float]:
    """Return CPU seconds per change of the process that writes and of one that watches."""
    async with (
        watcher(home) as other,
        opened_registry.registered(instance("changing"), LONG_LEASE) as mine,
    ):
        theirs, ours = await other.ask("cpu"), time.process_time()
        for number in range(changes):
            await mine.update(healthy=number % 2 == 0)
            await asyncio.sleep(0.001)
        ours = time.process_time() - ours
        theirs = await other.ask("cpu") - theirs
    return ours / changes, theirs / changes


async def idle_cpu(home: Path, seconds: float) -> float:
    """Return the share of one core that a runtime's registry uses with nothing going on."""
    async with watcher(home, lease=LEASE) as other:
        await asyncio.sleep(1.0)
        before = await other.ask("cpu")
        await asyncio.sleep(seconds)
        used: float = await other.ask("cpu") - before
    return used / seconds


# The table.


def line(what: str, cells: Sequence[str]) -> None:
    print(f"| {what:<58} | " + " | ".join(f"{cell:>10}" for cell in cells) + " |", flush=True)


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def milli(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


async def report(rounds: int, idle_seconds: float) -> None:
    line("instances", [f"{size:,}" for size in SIZES])
    line("-" * 58, ["-" * 9 + ":"] * len(SIZES))
    for picker in PICKERS:
        line(f"pick, {picker}", [f"{pick_cost(picker, size):.0f} ns" for size in SIZES])
    line("apply one change to the balancer", [f"{apply_cost(size):.0f} ns" for size in SIZES])
    columns = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
            home = Path(folder) / "home"
            async with crowd(home, size) as opened_registry:
                seen = await visibility(opened_registry, home, rounds)
                ours, theirs = await change_cost(opened_registry, home, rounds)
                idle = await idle_cpu(home, idle_seconds)
            columns.append(
                (
                    milli(seen["snapshot"]),
                    milli(seen["written"]),
                    milli(seen["p50"]),
                    milli(seen["p99"]),
                    milli(seen["max"]),
                    f"{seen['seen']:.1%}",
                    micro(ours),
                    micro(theirs),
                    f"{idle:.3%}",
                )
            )
    names = (
        "snapshot of the app in a new watcher",
        "registration written, p50",
        "registration or change seen by another process, p50",
        "registration or change seen by another process, p99",
        "registration or change seen by another process, max",
        "of these, seen singly and not merged",
        "CPU of one change, writing process",
        "CPU of one change, watching process",
        f"idle CPU, registering (lease {LEASE:g} s) and watching",
    )
    for name, cells in zip(names, zip(*columns, strict=True), strict=True):
        line(name, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="changes per measurement")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idleness to measure")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        home, app_id, lease = arguments.child
        asyncio.run(child(home, app_id, float(lease)))
    else:
        asyncio.run(report(arguments.rounds, arguments.idle))


if __name__ == "__main__":
    main()
