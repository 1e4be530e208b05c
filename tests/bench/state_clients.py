"""Clients that use a store without a runtime: ``python -m tests.bench.state_clients NAME``.

Each is a process of its own with many callers on one event loop. ``redis-py``, ``grpc.aio``,
``nats-py`` and ``sqlite3`` are what an app would use by itself; ``component`` is the runtime's own
component without the runtime around it. The result is one line of JSON with the fields of
:class:`Outcome`. The first wrong answer ends the process with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import uvloop

from tests.bench.stats import percentile

VALUE_BYTES = 1024
VALUE = b'"' + b"x" * (VALUE_BYTES - 2) + b'"'
KEYS = 1000
GONE_SECONDS = 30.0
"""Longest time for the last answers after the end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client saw; times in seconds.

    Attributes:
        requests: right answers.
        seconds: how long they took together.
        p50: median latency.
        p99: its 99th percentile.
        cpu: CPU seconds of the process meanwhile, all threads.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float


class Client(Protocol):
    """A way to a store."""

    async def save(self, key: str) -> None:
        """Store the value at ``key``."""

    async def get(self, key: str) -> bytes:
        """Return the value at ``key``."""


@dataclass(frozen=True, slots=True)
class Redis:
    """Plain SET and GET, a pool with a connection for each caller."""

    redis: Any

    @classmethod
    @asynccontextmanager
    async def open(cls, where: dict[str, str], callers: int) -> AsyncIterator[Client]:
        from redis.asyncio import Redis as Library

        host, _, port = where["redisHost"].rpartition(":")
        async with Library(host=host, port=int(port), max_connections=callers) as redis:
            yield cls(redis)

    async def save(self, key: str) -> None:
        await self.redis.set("direct:" + key, VALUE)

    async def get(self, key: str) -> bytes:
        value: bytes = await self.redis.get("direct:" + key)
        return value


@dataclass(frozen=True, slots=True)
class Etcd:
    """Put and Range over one gRPC channel."""

    put: Any
    range: Any

    @classmethod
    @asynccontextmanager
    async def open(cls, where: dict[str, str], callers: int) -> AsyncIterator[Client]:
        import grpc

        from pillion_components._etcd.messages import PUT, RANGE

        del callers
        async with grpc.aio.insecure_channel(where["endpoints"]) as channel:
            put, look = (
                channel.unary_unary(
                    method.path, request_serializer=method.write, response_deserializer=method.read
                )
                for method in (PUT, RANGE)
            )
            yield cls(put, look)

    async def save(self, key: str) -> None:
        from pillion_components._etcd.messages import PutRequest

        await self.put(PutRequest(key=b"direct/" + key.encode(), value=VALUE), timeout=5)

    async def get(self, key: str) -> bytes:
        from pillion_components._etcd.messages import RangeRequest

        answer = await self.range(RangeRequest(key=b"direct/" + key.encode()), timeout=5)
        value: bytes = answer.kvs[0].value
        return value


@dataclass(frozen=True, slots=True)
class Nats:
    """The library's own key-value interface over one connection."""

    bucket: Any

    @classmethod
    @asynccontextmanager
    async def open(cls, where: dict[str, str], callers: int) -> AsyncIterator[Client]:
        import nats
        from nats.js.errors import BucketNotFoundError

        del callers
        connection = await nats.connect(where["natsURL"])
        try:
            stream = connection.jetstream()
            try:
                bucket = await stream.key_value("direct")
            except BucketNotFoundError:
                bucket = await stream.create_key_value(bucket="direct", history=1, direct=True)
            yield cls(bucket)
        finally:
            await connection.close()

    async def save(self, key: str) -> None:
        await self.bucket.put(key, VALUE)

    async def get(self, key: str) -> bytes:
        value: bytes = (await self.bucket.get(key)).value
        return value


@dataclass(frozen=True, slots=True)
class Component:
    """The component that the runtime would open."""

    store: Any

    @classmethod
    @asynccontextmanager
    async def open(cls, where: dict[str, str], callers: int) -> AsyncIterator[Client]:
        from pillion import registry
        from pillion.kinds.component import Context

        del callers
        settings = dict(where)
        kind, home = settings.pop("type"), Path(settings.pop("home"))
        found: Any = registry.find(kind)
        context = Context(name="bench", home=home, app_id="component", settings=settings)
        async with found.open(context) as store:
            yield cls(store)

    async def save(self, key: str) -> None:
        from pillion.kinds.state import Put

        await self.store.write(Put("component||" + key, VALUE))

    async def get(self, key: str) -> bytes:
        value: bytes = (await self.store.get("component||" + key)).value
        return value


Opener = Callable[[dict[str, str], int], AbstractAsyncContextManager[Client]]
CLIENTS: dict[str, Opener] = {
    "redis-py": Redis.open,
    "grpc.aio": Etcd.open,
    "nats-py": Nats.open,
    "component": Component.open,
}
ONE_COMMIT = "sqlite3"


async def run(opener: AbstractAsyncContextManager[Client], args: argparse.Namespace) -> Outcome:
    """Fill the store if asked to, then call it from all callers at once.

    Raises:
        ValueError: an answer was not the stored value.
    """
    async with opener as client:

        async def get(key: str) -> None:
            if await client.get(key) != VALUE:
                raise ValueError(f"{key} has another value than was stored")

        await client.save("key-0")  # connects
        if args.operation == "get":
            for first in range(0, KEYS, args.callers):
                keys = range(first, min(first + args.callers, KEYS))
                await asyncio.gather(*(client.save(f"key-{n}") for n in keys))
        operation = client.save if args.operation == "save" else get
        async with asyncio.timeout(args.seconds + GONE_SECONDS):
            return await loaded(operation, args.callers, args.seconds)


async def loaded(
    operation: Callable[[str], Awaitable[None]], callers: int, seconds: float
) -> Outcome:
    """Run ``operation`` on key after key from ``callers`` tasks for ``seconds``."""
    times: list[float] = []
    started = 0
    cpu, begun = cpu_used(), time.perf_counter()

    async def caller() -> None:
        nonlocal started
        while (now := time.perf_counter()) - begun < seconds:
            started += 1
            await operation(f"key-{started % KEYS}")
            times.append(time.perf_counter() - now)
            # An answer that was at hand took no turn of the loop, and the others want theirs.
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return outcome(times, time.perf_counter() - begun, cpu_used() - cpu)


def one_commit_per_write(folder: Path, seconds: float) -> Outcome:
    """Save as an app alone would: one connection, every write commits and syncs."""
    with closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS item (key TEXT PRIMARY KEY, value BLOB)")
        times: list[float] = []
        cpu, begun = cpu_used(), time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds:
            key = f"key-{len(times) % KEYS}"
            connection.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (key, VALUE))
            times.append(time.perf_counter() - now)
        return outcome(times, time.perf_counter() - begun, cpu_used() - cpu)


def outcome(times: list[float], seconds: float, cpu: float) -> Outcome:
    """Summarise latencies in seconds."""
    times.sort()
    return Outcome(len(times), seconds, percentile(times, 0.5), percentile(times, 0.99), cpu)


def cpu_used() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run the client that the command line describes and print its outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("client", choices=(*CLIENTS, ONE_COMMIT))
    parser.add_argument("--where", type=json.loads, required=True, help="settings as JSON")
    parser.add_argument("--operation", choices=("save", "get"), default="save")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    if args.client == ONE_COMMIT:
        if args.operation != "save":
            sys.exit(f"{ONE_COMMIT} is measured with saves only")
        found = one_commit_per_write(Path(args.where["folder"]), args.seconds)
    else:
        gc.disable()  # as the load generator; a collection would be charged to the library
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(run(CLIENTS[args.client](args.where, args.callers), args))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
