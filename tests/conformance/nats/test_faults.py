"""NATS killed, frozen, away: nothing acknowledged is lost and nothing hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.support.conditions import eventually
from tests.support.nats_server import NatsServer

from pillion.errors import Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components.state.nats_kv import NatsKvState

pytestmark = pytest.mark.anyio


def context(settings: Mapping[str, str], **more: str) -> Context:
    """Where the tests open components."""
    return Context(
        name="subject",
        home=Path("/nowhere"),
        app_id="tester",
        settings={"bucket": "tests", **settings, **more},
    )


async def test_killed_under_load(own_nats: NatsServer) -> None:
    """Saves acknowledged before, while and after the server is killed twice are all there."""
    await asyncio.to_thread(own_nats.start)
    acknowledged: set[str] = set()
    slowest = 0.0
    failed = 0
    done = False

    async def client(store: NatsKvState, number: int) -> None:
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

    async with NatsKvState.open(context(own_nats.settings, timeout="2s")) as store:
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(client(store, number))
            for _ in range(2):
                before = len(acknowledged)
                while len(acknowledged) < before + 500:
                    await asyncio.sleep(0.002)
                await asyncio.to_thread(own_nats.kill)
                before = failed
                while failed < before + 50:
                    await asyncio.sleep(0.002)
                await asyncio.to_thread(own_nats.start)
            before = len(acknowledged)
            while len(acknowledged) < before + 500:
                await asyncio.sleep(0.002)
            done = True
        keys = sorted(acknowledged)
        items = await store.get_many(keys)
    assert [item and item.value for item in items] == [key.encode() for key in keys]
    assert slowest < 3.0


async def test_away_when_opened(own_nats: NatsServer) -> None:
    """Opening does not need the server; operations fail at once until it comes, then succeed."""
    async with NatsKvState.open(context(own_nats.settings)) as store:
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable) as away:
                await store.ping()
            assert not away.value.reached
        assert time.monotonic() - began < 2.0
        await asyncio.to_thread(own_nats.start)
        deadline = time.monotonic() + 5
        while True:
            try:
                await store.write(Put("k", b"1"))
                break
            except Unavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)


async def test_frozen(own_nats: NatsServer) -> None:
    """Operations on a frozen server end at their deadline, and go on when it does."""
    await asyncio.to_thread(own_nats.start)
    async with NatsKvState.open(context(own_nats.settings, timeout="300ms")) as store:
        await store.write(Put("k", b"1"))
        silent = store._client._session
        own_nats.freeze()
        began = time.monotonic()
        results = await asyncio.gather(*(store.get("k") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert silent is not None
        await eventually(silent.done, "giving up a silent connection")
        with pytest.raises(Unavailable):
            await store.write(Put("k", b"2"))
        assert time.monotonic() - began < 2.5
        own_nats.thaw()
        deadline = time.monotonic() + 5
        while True:
            try:
                item = await store.get("k")
                break
            except Unavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
        assert item is not None


async def test_watch_survives_a_restart(own_nats: NatsServer) -> None:
    """A watch goes on after its server was killed, with what is there then and later."""
    await asyncio.to_thread(own_nats.start)
    async with NatsKvState.open(context(own_nats.settings, watchInterval="1m")) as store:
        await store.write(Put("k", b"1"))
        async with aclosing(store.watch("k")) as changes:
            assert (await anext(changes)).item is not None
            await asyncio.to_thread(own_nats.kill)
            await asyncio.to_thread(own_nats.start)
            for value in (b"2", b"3"):
                async with asyncio.timeout(10):
                    await _written(store, value)
                    change = await anext(changes)
                assert change.item is not None
                assert change.item.value == value


async def test_nothing_is_printed(
    own_nats: NatsServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is away, comes and is killed makes nobody print tracebacks."""
    async with NatsKvState.open(context(own_nats.settings)) as store:
        with pytest.raises(Unavailable):
            await store.ping()
        await asyncio.to_thread(own_nats.start)
        await _written(store, b"1")
        await asyncio.to_thread(own_nats.kill)
        with pytest.raises(Unavailable):
            await store.get("k")
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err + caplog.text


async def _written(store: NatsKvState, value: bytes) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            await store.write(Put("k", value))
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        else:
            return
