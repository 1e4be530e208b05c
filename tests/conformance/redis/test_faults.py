"""Redis killed, frozen, away: nothing acknowledged is lost and nothing hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.support.conditions import eventually
from tests.support.redis_server import RedisServer

from pillion.errors import Failure, Overloaded, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components.state.redis import RedisState

pytestmark = pytest.mark.anyio


def context(settings: Mapping[str, str], **more: str) -> Context:
    """Where the tests open components."""
    return Context(
        name="subject", home=Path("/nowhere"), app_id="tester", settings={**settings, **more}
    )


async def test_killed_under_load(own_redis: RedisServer) -> None:
    """Saves acknowledged before, while and after the server is killed twice are all there."""
    await asyncio.to_thread(own_redis.start)
    acknowledged: set[str] = set()
    slowest = 0.0
    failed = 0
    done = False

    async def client(store: RedisState, number: int) -> None:
        nonlocal failed, slowest
        count = 0
        while not done:
            key = f"k{number}-{count}"
            count += 1
            began = time.monotonic()
            try:
                await store.write(Put(key, key.encode()))
            except Unavailable:
                failed += 1
                await asyncio.sleep(0.001)
            else:
                acknowledged.add(key)
            slowest = max(slowest, time.monotonic() - began)

    async with RedisState.open(context(own_redis.settings, timeout="2s")) as store:
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(client(store, number))
            for _ in range(2):
                before = len(acknowledged)
                while len(acknowledged) < before + 500:
                    await asyncio.sleep(0.002)
                await asyncio.to_thread(own_redis.kill)
                before = failed
                while failed < before + 50:
                    await asyncio.sleep(0.002)
                await asyncio.to_thread(own_redis.start)
            before = len(acknowledged)
            while len(acknowledged) < before + 500:
                await asyncio.sleep(0.002)
            done = True
        keys = sorted(acknowledged)
        items = await store.get_many(keys)
    assert [item and item.value for item in items] == [key.encode() for key in keys]
    assert slowest < 3.0


async def test_away_when_opened(own_redis: RedisServer) -> None:
    """Opening does not need the server; operations fail at once until it comes, then succeed."""
    async with RedisState.open(context(own_redis.settings)) as store:
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable) as away:
                await store.ping()
            assert not away.value.reached
        assert time.monotonic() - began < 2.0
        await asyncio.to_thread(own_redis.start)
        deadline = time.monotonic() + 5
        while True:
            try:
                await store.write(Put("k", b"1"))
                break
            except Unavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)


async def test_frozen(own_redis: RedisServer) -> None:
    """Operations on a frozen server end at their deadline, and go on when it does."""
    await asyncio.to_thread(own_redis.start)
    async with RedisState.open(
        context(own_redis.settings, timeout="300ms", dialTimeout="300ms")
    ) as store:
        await store.write(Put("k", b"1"))
        silent = store._client._session
        own_redis.freeze()
        began = time.monotonic()
        results = await asyncio.gather(*(store.get("k") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert silent is not None
        await eventually(silent.done, "giving up a silent connection")
        with pytest.raises(Unavailable):
            await store.write(Put("k", b"2"))
        assert time.monotonic() - began < 2.5
        own_redis.thaw()
        deadline = time.monotonic() + 5
        while True:
            try:
                item = await store.get("k")
                break
            except Unavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
        assert item is not None


async def test_reads_survive_a_lost_connection(own_redis: RedisServer) -> None:
    """A read whose connection breaks is made again on another."""
    await asyncio.to_thread(own_redis.start)
    async with RedisState.open(context(own_redis.settings)) as store:
        await store.write(Put("k", b"1"))
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(store.get("k")) for _ in range(500)]
            await asyncio.sleep(0)
            own_redis.command("CLIENT", "KILL", "TYPE", "normal")
        items = [read.result() for read in reads]
    assert [item and item.value for item in items] == [b"1"] * 500


async def test_waiting_is_bounded(own_redis: RedisServer) -> None:
    """While the server does not answer, no more than a bounded number of operations waits."""
    await asyncio.to_thread(own_redis.start)
    async with RedisState.open(context(own_redis.settings, timeout="1s")) as store:
        await store.ping()
        own_redis.freeze()
        results = await asyncio.gather(
            *(store.get("k") for _ in range(17_000)), return_exceptions=True
        )
        assert sum(isinstance(result, Overloaded) for result in results) == 17_000 - 16_384
        assert all(isinstance(result, Failure) for result in results)


async def test_watch_survives_a_restart(own_redis: RedisServer) -> None:
    """A watch goes on after its server was killed, with what is there then."""
    await asyncio.to_thread(own_redis.start)
    async with RedisState.open(context(own_redis.settings, watchInterval="10ms")) as store:
        await store.write(Put("k", b"1"))
        async with aclosing(store.watch("k")) as changes:
            assert (await anext(changes)).item is not None
            await asyncio.to_thread(own_redis.kill)
            await asyncio.to_thread(own_redis.start)
            own_redis.command("HSET", "k", "data", "2", "version", "99")
            async with asyncio.timeout(10):
                change = await anext(changes)
    assert change.item is not None
    assert (change.item.value, change.item.etag) == (b"2", "99")
