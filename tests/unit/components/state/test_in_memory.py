"""The in-memory state store beside its contract: who shares it, its bound, its forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.support.conditions import eventually

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Changed, Put, Remove
from pillion_components.state.in_memory import InMemoryState

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(home: Path, name: str = "store", **settings: str) -> AsyncIterator[InMemoryState]:
    context = Context(name=name, home=home, app_id="tester", settings=settings)
    async with InMemoryState.open(context) as store:
        yield store


async def test_names_and_homes_keep_stores_apart(tmp_path: Path) -> None:
    """Only components with the same home and the same name share values."""
    async with (
        opened(tmp_path) as store,
        opened(tmp_path) as same,
        opened(tmp_path, "other") as other,
        opened(tmp_path / "else") as elsewhere,
    ):
        await store.write(Put("key", b"1"))
        assert await same.get("key") is not None
        assert await other.get("key") is None
        assert await elsewhere.get("key") is None


async def test_values_end_with_the_last_component(tmp_path: Path) -> None:
    """A component that is opened before its predecessor closes takes the values over."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(opened(tmp_path))
        await old.write(Put("key", b"1"))
        async with opened(tmp_path) as new:
            await stack.aclose()
            assert await new.get("key") is not None
            with pytest.raises(Unavailable):
                await old.get("key")
    del old, new
    async with opened(tmp_path) as store:
        assert await store.get("key") is None


async def test_full_store_refuses_new_keys_only(tmp_path: Path) -> None:
    """At maxKeys a new key is refused; known ones can be written, and deleting makes room."""
    async with opened(tmp_path, maxKeys="2") as store:
        await store.transact([Put("a", b"1"), Put("b", b"1")])
        for changes in ([Put("c", b"1")], [Put("a", b"2"), Put("c", b"1")]):
            with pytest.raises(Unavailable) as raised:
                await store.transact(changes)
            assert raised.value.reason == "full"
        item = await store.get("a")
        assert item is not None
        assert item.value == b"1"
        await store.write(Put("a", b"3"))
        await store.transact([Remove("b"), Put("c", b"1")])
        assert (await store.list("", 9)).keys == ("a", "c")


async def test_wrong_limit_is_refused(tmp_path: Path) -> None:
    """A limit is a number of keys."""
    with pytest.raises(Invalid, match="maxKeys"):
        async with opened(tmp_path, maxKeys="-1"):
            pass


async def test_expired_values_leave_the_memory(tmp_path: Path) -> None:
    """What expired is dropped without being asked for, also after many rewrites of one key."""
    async with opened(tmp_path) as store:
        for _ in range(3000):
            await store.write(Put("often", b"1", ttl=1000))
        await store.write(Put("soon", b"1", ttl=1))
        await store.write(Put("soon kept", b"1", ttl=1))
        await store.write(Put("soon kept", b"1"))
        await eventually(lambda: len(store._space._items) == 2, "the sweep")
        assert len(store._space._terms) < 3000
        assert await store.get("soon kept") is not None


async def test_closing_ends_watches(tmp_path: Path) -> None:
    """Who still watches when the store closes sees the end, not a hang."""
    seen: list[Changed] = []

    async def follow(store: InMemoryState) -> None:
        async for change in store.watch("key"):
            seen.append(change)  # noqa: PERF401 - others look at it meanwhile

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        store = await stack.enter_async_context(opened(tmp_path))
        group.create_task(follow(store))
        await eventually(lambda: len(seen) == 1)
        async with asyncio.timeout(5.0):
            await stack.aclose()
