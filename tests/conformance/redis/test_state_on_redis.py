"""What is particular to state in Redis: Dapr's layout, scripts, and data of other programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer

from pillion.errors import Conflict, Invalid, NotAllowed
from pillion.kinds.component import Context
from pillion.kinds.state import Put, Remove
from pillion_components.lock.redis import RedisLock
from pillion_components.state.redis import RedisState

pytestmark = pytest.mark.anyio


def context(settings: Mapping[str, str]) -> Context:
    """Where the tests open components."""
    return Context(name="subject", home=Path("/nowhere"), app_id="tester", settings=settings)


@pytest.fixture
async def store(redis_server: Mapping[str, str]) -> AsyncIterator[RedisState]:
    """A store on the session's server."""
    async with RedisState.open(context({**redis_server, "watchInterval": "10ms"})) as opened:
        yield opened


async def test_reads_what_dapr_wrote(store: RedisState, redis_process: RedisServer) -> None:
    """A hash as Dapr writes it is an item whose tag is the version, and can be replaced by it."""
    redis_process.command("HSET", "app||k", "data", '{"a":1}', "first-write", "0", "version", "7")
    item = await store.get("app||k")
    assert item is not None
    assert (item.value, item.etag, item.expires) == (b'{"a":1}', "7", None)
    with pytest.raises(Conflict):
        await store.write(Put("app||k", b"2", etag="6"))
    await store.write(Put("app||k", b"2", etag="7"))
    assert redis_process.command("HGET", "app||k", "version") == b"$1\r\n8\r\n"
    assert redis_process.command("HGET", "app||k", "data") == b"$1\r\n2\r\n"


async def test_reads_texts(store: RedisState, redis_process: RedisServer) -> None:
    """A plain text, as Dapr's first versions stored it, is read and replaced."""
    redis_process.command("SET", "old", "value", "EX", "100")
    item = await store.get("old")
    assert item is not None
    assert item.value == b"value"
    assert item.expires is not None
    await store.transact((Put("old", b"new", etag=item.etag), Put("old", b"newer")))
    newer = await store.get("old")
    assert newer is not None
    assert (newer.value, newer.expires) == (b"newer", None)
    assert newer.etag != item.etag


@pytest.mark.parametrize("foreign", [("RPUSH", "k", "1"), ("HSET", "k", "other", "1")])
async def test_leaves_other_programs_alone(
    store: RedisState, redis_process: RedisServer, foreign: tuple[str, ...]
) -> None:
    """What is not state is neither read nor overwritten, alone or in a transaction."""
    redis_process.command(*foreign)
    for refused in (
        store.get("k"),
        store.write(Put("k", b"")),
        store.write(Remove("k")),
        store.transact((Put("mine", b""), Put("k", b""))),
    ):
        with pytest.raises(Invalid, match="another program"):
            await refused
    assert await store.get("mine") is None
    assert redis_process.command("EXISTS", "k") == b":1\r\n"


async def test_a_tag_does_not_come_back(store: RedisState) -> None:
    """The tag of a deleted value does not fit the value that is made in its place."""
    await store.write(Put("k", b"1", create_only=True))
    old = await store.get("k")
    assert old is not None
    await store.write(Remove("k"))
    await store.write(Put("k", b"2", create_only=True))
    with pytest.raises(Conflict):
        await store.write(Put("k", b"3", etag=old.etag))


async def test_forgotten_scripts(store: RedisState, redis_process: RedisServer) -> None:
    """A server that has lost its scripts is taught them again, also in the midst of many."""
    await store.write(Put("k", b"1"))
    redis_process.command("SCRIPT", "FLUSH")
    items = await store.get_many(["k", "none", "k"])
    assert [item and item.value for item in items] == [b"1", None, b"1"]


async def test_default_ttl(redis_server: Mapping[str, str]) -> None:
    """ttlInSeconds of the component ends values that are saved without a time of their own."""
    async with RedisState.open(context({**redis_server, "ttlInSeconds": "100"})) as store:
        await store.write(Put("k", b"1"))
        item = await store.get("k")
        assert item is not None
        assert item.expires is not None


async def test_cancelled_callers(store: RedisState) -> None:
    """A caller that gives up takes nobody else's answer with it."""
    await store.write_many([Put(f"k{n}", b"%d" % n) for n in range(200)])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.get(f"k{n}")) for n in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    for number, task in enumerate(tasks):
        if not task.cancelled():
            item = task.result()
            assert item is not None
            assert item.value == b"%d" % number


async def test_lists_with_any_prefix(store: RedisState, redis_process: RedisServer) -> None:
    """Signs that mean something in a pattern of Redis mean themselves, and locks are no state."""
    keys = ["a*b", "a?b", "a[b]", "a\\b", "axb", "ä||b", "a||1", "a||2", "a||3"]
    await store.write_many([Put(key, b"") for key in keys])
    redis_process.command("SET", "a||lock", "owner")
    for prefix in ("a*", "a?", "a[", "a\\", "ä", "a", "", "a||"):
        expected = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
        found: list[str] = []
        token = None
        while True:
            page = await store.list(prefix, 2, token)
            found += page.keys
            if (token := page.token) is None:
                break
        assert found == expected


async def test_watch_notices_what_others_do(store: RedisState, redis_process: RedisServer) -> None:
    """A watch sees a text become a hash, other values, an expiry by others, and a new life."""
    async with aclosing(store.watch("k")) as changes:
        assert (await anext(changes)).item is None
        for command in (
            ("SET", "k", "1"),
            ("SET", "k", "2"),
            ("HSET", "k2", "data", "3", "version", "1"),
            ("RENAME", "k2", "k"),
        ):
            redis_process.command(*command)
            if command[1] == "k" or command[0] == "RENAME":
                assert (await anext(changes)).item is not None
        redis_process.command("PEXPIRE", "k", "1")
        assert (await anext(changes)).item is None


async def test_wrong_password(own_redis: RedisServer) -> None:
    """A missing or wrong password is a refusal that says so and shows no password."""
    own_redis._flags = ("--requirepass", "right-secret")
    await asyncio.to_thread(own_redis.start)
    for password in ({}, {"redisPassword": "wrong-secret"}):
        async with RedisState.open(context({**own_redis.settings, **password})) as store:
            with pytest.raises(NotAllowed) as refused:
                await store.get("k")
            assert "secret" not in refused.value.message
    right = {**own_redis.settings, "redisPassword": "right-secret", "redisDB": "3"}
    async with RedisState.open(context(right)) as store:
        await store.write(Put("k", b"1"))
        assert await store.get("k") is not None


async def test_fencing_outlives_lost_data(
    redis_server: Mapping[str, str], redis_process: RedisServer
) -> None:
    """Tokens grow although the server has forgotten everything."""
    async with RedisLock.open(context(redis_server)) as locks:
        first = await locks.lock("r", "one", 10)
        redis_process.command("FLUSHALL")
        second = await locks.lock("r", "two", 10)
    assert first is not None
    assert second is not None
    assert second > first
