"""The SDK's stores and locks on a real runtime with nothing declared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import anyio
import pytest
from tests.support.runtimes import Machine

from pillion_sdk import (
    Client,
    Delete,
    LockError,
    LockHeld,
    LockLost,
    Save,
    StateConflict,
    StateError,
    Stored,
)

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    id: int
    item: str = "lamp"


@pytest.fixture
async def client(machine: Machine) -> AsyncIterator[Client]:
    """A client of a runtime."""
    runtime = await machine.runtime("orders")
    async with Client(f"http://127.0.0.1:{runtime.port}") as client:
        yield client


async def test_values(client: Client) -> None:
    """Values, tags, creation, expiry, transactions and listing do what the SDK says of them."""
    store = client.state("statestore")
    key = "orders/7 | ü"
    assert await store.get(key, type=Order) is None
    await store.save(key, Order(7), create_only=True, ttl=100)
    first = await store.get(key, type=Order)
    assert first is not None
    assert first.value == Order(7)
    assert first.expires is not None
    await store.save(key, Order(8), etag=first.etag)
    attempts = (
        store.save(key, Order(9), etag=first.etag),
        store.save(key, Order(9), create_only=True),
        store.delete(key, etag=first.etag),
        store.transact([Save("other", 1), Delete(key, etag=first.etag)]),
    )
    for attempt in attempts:
        with pytest.raises(StateConflict):
            await attempt
    async with store.transaction() as changes:
        for number in range(5):
            changes.save(f"n{number}", number)
        changes.delete("nothing")
    assert [one async for one in store.keys("n", page_size=2)] == [f"n{n}" for n in range(5)]
    found = await store.get_many([key, "n3", "missing"])
    assert {one.key: one.value for one in found.values()} == {
        key: {"id": 8, "item": "lamp"},
        "n3": 3,
    }
    for dots in (".", ".."):
        await store.save(dots, dots)
        stored = await store.get(dots, type=str)
        assert stored is not None
        assert stored.value == dots
    with pytest.raises(
        StateError, match="state store none, key 'k': 400 ERR_STATE_STORE_NOT_FOUND"
    ):
        await client.state("none").get("k")


async def test_updates_race(client: Client) -> None:
    """Concurrent updates of one key are all counted."""
    store = client.state("statestore")

    async def count() -> None:
        for _ in range(5):
            await store.update("n", lambda value: value + 1, type=int, default=0, attempts=100)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(count)
    stored = await store.get("n", type=int)
    assert stored is not None
    assert stored.value == 30


async def test_a_watch(client: Client) -> None:
    """A watch yields what is there, then changes, then that the key is gone."""
    store = client.state("statestore")
    await store.save("k", 1)
    seen: list[int | None] = []
    with anyio.fail_after(10):
        async with aclosing(store.watch("k", type=int)) as changes:
            async for stored in changes:
                assert stored is None or isinstance(stored, Stored)
                seen.append(None if stored is None else stored.value)
                if stored is None:
                    break
                if stored.value == 1:
                    await store.save("k", 2)
                else:
                    await store.delete("k")
    assert seen == [1, 2, None]


async def test_locks(client: Client) -> None:
    """A lock outlives its time to live while it is held, and is free afterwards."""
    async with client.lock("lockstore", "file", ttl=1) as first:
        for _ in range(3):
            with pytest.raises(LockHeld):
                async with client.lock("lockstore", "file", wait=0.6):
                    pytest.fail("it was taken twice")
    async with client.lock("lockstore", "file") as second:
        assert second.fencing_token > first.fencing_token
    with pytest.raises(LockError, match="400 ERR_LOCK_STORE_NOT_FOUND"):
        async with client.lock("none", "file"):
            pytest.fail("there is no such store")


async def test_a_lock_without_its_runtime_is_lost(machine: Machine) -> None:
    """When the runtime dies the body is cancelled before the lock can be anybody else's."""
    runtime = await machine.runtime("orders")
    cancelled = False

    async def hold(client: Client) -> None:
        nonlocal cancelled
        async with client.lock("lockstore", "file", ttl=1):
            runtime.kill()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled = True

    async with Client(f"http://127.0.0.1:{runtime.port}") as client:
        with anyio.fail_after(10), pytest.raises(LockLost):
            await hold(client)
    assert cancelled
