"""What is particular to state in NATS: buckets of others, markers, servers that lack something."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import nats
import pytest
from tests.support.nats_server import NatsServer

from pillion.errors import Conflict, Invalid, NotAllowed, Unsupported
from pillion.kinds.component import Context
from pillion.kinds.state import Put, Remove
from pillion_components.state.nats_kv import NatsKvState

pytestmark = pytest.mark.anyio


def context(settings: Mapping[str, str]) -> Context:
    """Where the tests open components."""
    return Context(name="subject", home=Path("/nowhere"), app_id="tester", settings=settings)


@pytest.fixture
async def store(nats_server: Mapping[str, str]) -> AsyncIterator[NatsKvState]:
    """A store on a bucket of its own."""
    async with NatsKvState.open(context(nats_server)) as opened:
        yield opened


@pytest.fixture
async def other(nats_server: Mapping[str, str]) -> AsyncIterator[Any]:
    """Another client of the same server."""
    connection = await nats.connect(nats_server["natsURL"])
    yield connection
    await connection.close()


async def test_other_clients_read_it(
    store: NatsKvState, other: Any, nats_server: Mapping[str, str]
) -> None:
    """What is written the library's own key-value interface reads, and the other way round."""
    await store.write(Put("app||k", b"1"))
    bucket = await other.jetstream().key_value(nats_server["bucket"])
    assert (await bucket.get("app.k")).value == b"1"
    await bucket.put("app.k", b"2")
    item = await store.get("app||k")
    assert item is not None
    assert item.value == b"2"
    await bucket.delete("app.k")
    assert await store.get("app||k") is None


async def test_expired_key_is_made_again(store: NatsKvState) -> None:
    """The server's marker of an expired key is no value and in nobody's way."""
    await store.write(Put("k", b"1", ttl=1))
    old = await store.get("k")
    assert old is not None
    assert old.expires is not None
    async with asyncio.timeout(5):
        while await store.get("k") is not None:
            await asyncio.sleep(0.02)
    assert (await store.list("", 10)).keys == ()
    with pytest.raises(Conflict):
        await store.write(Put("k", b"2", etag=old.etag))
    await store.write(Put("k", b"2", create_only=True))
    with pytest.raises(Conflict):
        await store.write(Put("k", b"3", create_only=True))
    item = await store.get("k")
    assert item is not None
    assert (item.value, item.expires) == (b"2", None)


async def test_bucket_without_expiry(other: Any, nats_server: Mapping[str, str]) -> None:
    """Where single values cannot expire, a time to live is refused and the rest works."""
    name = nats_server["bucket"]
    config = {"name": f"KV_{name}", "subjects": [f"$KV.{name}.>"], "max_msgs_per_subject": 1}
    await other.request(f"$JS.API.STREAM.CREATE.KV_{name}", json.dumps(config).encode())
    async with NatsKvState.open(context(nats_server)) as store:
        with pytest.raises(Unsupported, match="allow_msg_ttl"):
            await store.write(Put("k", b"1", ttl=10))
        assert await store.get("k") is None
        await store.write(Put("k", b"\x00\xff", create_only=True))
        item = await store.get("k")
        assert item is not None
        assert item.value == b"\x00\xff"
        await store.write(Remove("k", etag=item.etag))
        assert await store.get("k") is None
        assert (await store.list("", 10)).keys == ()


async def test_largest_value(store: NatsKvState) -> None:
    """A value over the server's limit is refused in words, and the connection stays."""
    with pytest.raises(Invalid, match="1048576 bytes"):
        await store.write(Put("k", bytes((1 << 20) + 1)))
    results = await store.write_many(
        [Put("a", b"1"), Put("b", bytes((1 << 20) + 1)), Put("c", b"3")]
    )
    assert [type(result) for result in results] == [type(None), Invalid, type(None)]
    with pytest.raises(Invalid, match="too long"):
        await store.write(Put("k" * 3000, b""))
    assert await store.get("c") is not None


async def test_watch_hears_of_a_change_at_once(nats_server: Mapping[str, str]) -> None:
    """A change is announced, so that a watch need not wait until it looks again."""
    async with NatsKvState.open(context({**nats_server, "watchInterval": "30s"})) as store:
        async with aclosing(store.watch("k")) as changes:
            assert (await anext(changes)).item is None
            heard = 0
            for number in range(20):
                await store.write(Put("k", b"%d" % number))
                try:
                    async with asyncio.timeout(1):
                        change = await anext(changes)
                except TimeoutError:
                    break
                assert change.item is not None
                heard += 1
        # One whose announcement is faster than the value may be late; not all of them are.
        assert heard > 0


async def test_lists_more_than_a_batch(store: NatsKvState) -> None:
    """Pages of a bucket with thousands of keys and deletions hold every key once, in order."""
    keys = [f"app||{number:05}" for number in range(3000)] + ["app", "app||", "apple", "ä||ö||ü"]
    results = await store.write_many([Put(key, b"") for key in keys])
    assert not any(results)
    deleted = [key for key in keys if key.endswith("7")]
    await store.write_many([Remove(key) for key in deleted])
    left = sorted(set(keys) - set(deleted), key=str.encode)
    for prefix, limit in (("app||", 400), ("app", 2000), ("app||0100", 3), ("ä", 1), ("", 10_000)):
        found: list[str] = []
        token = None
        while True:
            page = await store.list(prefix, limit, token)
            assert len(page.keys) <= limit
            found += page.keys
            if (token := page.token) is None:
                break
        assert found == [key for key in left if key.startswith(prefix)]


async def test_bucket_that_is_deleted(
    store: NatsKvState, other: Any, nats_server: Mapping[str, str]
) -> None:
    """A bucket that somebody deletes is made again by a later operation."""
    await store.write(Put("k", b"1"))
    await other.request(f"$JS.API.STREAM.DELETE.KV_{nats_server['bucket']}", b"")
    await store.ping()
    assert await store.get("k") is None
    await store.write(Put("k", b"2"))
    assert await store.get("k") is not None


async def test_wrong_password(own_nats: NatsServer) -> None:
    """A wrong password is a refusal that says so and shows no password."""
    own_nats._flags = ("--user", "me", "--pass", "right-secret")
    await asyncio.to_thread(own_nats.start)
    base = {**own_nats.settings, "bucket": "b"}
    for wrong in ({}, {"user": "me", "password": "wrong-secret"}):
        async with NatsKvState.open(context({**base, **wrong})) as store:
            with pytest.raises(NotAllowed) as refused:
                await store.get("k")
            assert "secret" not in refused.value.message
    for right in (
        {"user": "me", "password": "right-secret"},
        {"natsURL": base["natsURL"].replace("//", "//me:right-secret@")},
    ):
        async with NatsKvState.open(context({**base, **right})) as store:
            await store.write(Put("k", b"1"))


async def test_leaves_no_subscription(store: NatsKvState) -> None:
    """Listings and watches that have ended leave nothing behind in the connection."""
    await store.write(Put("k", b"1"))
    before = subscriptions(store)
    for _ in range(3):
        await store.list("", 10)
        async with aclosing(store.watch("k")) as one, aclosing(store.watch("k")) as two:
            await anext(one)
            await anext(two)
            assert subscriptions(store) == before + 1
    assert subscriptions(store) == before


def subscriptions(store: NatsKvState) -> int:
    """Return how many subscriptions the connection has."""
    assert store._client._up is not None
    return len(store._client._up.result()._subs)
