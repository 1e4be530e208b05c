"""The etcd client against a real server: keys, transactions, leases and watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from tests.support.conditions import eventually
from tests.support.etcd_server import EtcdServer

from pillion.errors import Conflict, Invalid, NotFound, TooLarge
from pillion.kinds.settings import settings_of
from pillion_components._etcd import connected
from pillion_components._etcd.model import (
    Compare,
    Delete,
    Event,
    Events,
    Get,
    Put,
    Snapshot,
    Target,
    prefix_end,
)
from pillion_components._etcd.settings import ConnectionSettings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def client_of(server: EtcdServer, **settings: str) -> AsyncIterator[Any]:
    given = settings_of(ConnectionSettings, {**server.settings, **settings}, "tested")
    async with connected(given, "tested") as client:
        yield client


@pytest.fixture
async def client(etcd_process: EtcdServer) -> AsyncIterator[Any]:
    async with client_of(etcd_process) as opened:
        yield opened


@pytest.fixture
def key(request: pytest.FixtureRequest) -> bytes:
    """A key of the test's own."""
    return f"/client/{request.node.name}/{time.time_ns()}".encode()


async def test_written_key_is_read(client: Any, key: bytes) -> None:
    """A put is read back with its revisions, and a delete says how many keys there were."""
    first = await client.put(key, b"\x00\xff")
    second = await client.put(key, b"")
    (item,) = (await client.range(key)).items
    assert item == (key, b"", first, second, 2, 0)
    assert await client.delete(key) == 1
    assert await client.delete(key) == 0
    assert (await client.range(key, serializable=True)).items == []


async def test_range_is_read_in_pages(client: Any, key: bytes) -> None:
    """A range read page by page has every key once, in order, as of one revision."""
    keys = [key + b"/%03d" % number for number in range(25)]
    for one in keys:
        await client.put(one, one)
    page = await client.range(key + b"/", prefix_end(key + b"/"), limit=10, keys_only=True)
    assert page.more
    assert [(item.key, item.value) for item in page.items] == [(one, b"") for one in keys[:10]]
    whole = await client.snapshot(key + b"/", prefix_end(key + b"/"), page=7)
    assert [item.key for item in whole.items] == keys
    assert whole.revision >= whole.items[-1].mod_revision


@pytest.mark.parametrize("target", list(Target))
async def test_transaction_compares(client: Any, key: bytes, target: Target) -> None:
    """Each target is compared exactly; the branch that ran is told with what it read."""
    await client.put(key, b"1")
    revision = await client.put(key, b"2")
    item = (await client.range(key)).items[0]
    number = {
        Target.VERSION: 2,
        Target.CREATE: item.create_revision,
        Target.MOD: revision,
    }[target]
    wrong = await client.txn([Compare(key, target, number + 1)], [Delete(key)], [Get(key)])
    assert not wrong.succeeded
    assert wrong.found == [[item]]
    right = await client.txn([Compare(key, target, number)], [Get(key), Put(key, b"3")])
    assert right.succeeded
    assert right.found == [[item], []]
    assert (await client.range(key)).items[0].value == b"3"
    assert (await client.txn([Compare(key + b"x", target, 0)], [])).succeeded


async def test_refusals_are_translated(client: Any, key: bytes) -> None:
    """What the server refuses is our failure of the fitting class, with the cluster's name."""
    with pytest.raises(TooLarge, match="component tested"):
        await client.put(key, b"x" * (1_600_000))
    with pytest.raises(TooLarge):
        await client.put(key, b"x" * (3_000_000))
    with pytest.raises(NotFound):
        await client.put(key, b"x", 12345)
    with pytest.raises(Invalid, match="duplicate key"):
        await client.txn([], [Put(key, b"1"), Put(key, b"2")])
    with pytest.raises(Invalid, match="too many operations"):
        await client.txn([], [Get(key)] * 129)
    with pytest.raises(NotFound):
        await client.revoke(12345)
    assert await client.keep_alive(12345) == 0


async def test_answer_larger_than_grpcs_default_arrives(client: Any, key: bytes) -> None:
    """Eight of the largest values come in one answer, though gRPC alone would take four MiB."""
    keys = [key + b"%d" % number for number in range(8)]
    for one in keys:
        await client.put(one, b"x" * 1_500_000)
    outcome = await client.txn([], [Get(one) for one in keys])
    assert [len(found[0].value) for found in outcome.found] == [1_500_000] * 8
    await client.delete(key, prefix_end(key))


async def test_compacted_revision_is_a_conflict(
    client: Any, key: bytes, etcd_process: EtcdServer
) -> None:
    """Reading at a revision that was compacted says so."""
    old = await client.put(key, b"1")
    new = await client.put(key, b"2")
    etcd_process.ctl("compact", str(new))
    with pytest.raises(Conflict) as caught:
        await client.range(key, revision=old)
    assert caught.value.reason == "compacted"


# Leases.


async def test_key_ends_with_its_lease(client: Any, key: bytes) -> None:
    """A key on a lease that nobody keeps alive is removed after it, and not before."""
    began = time.monotonic()
    granted = await client.grant(1)
    await client.put(key, b"x", granted.id)
    while (await client.range(key)).items:
        await asyncio.sleep(0.02)
    assert granted.seconds <= time.monotonic() - began < granted.seconds + 3


async def test_held_lease_is_kept_alive_and_revoked(client: Any, key: bytes) -> None:
    """A held lease outlives its time; its keys go when the context is left."""
    async with client.lease(1) as lease:
        await client.put(key, b"x", lease.id)
        await asyncio.sleep(lease.seconds + 1.6)
        assert (await client.range(key)).items
        assert not lease.lost.is_set()
    assert not (await client.range(key)).items


async def test_revoked_lease_is_told(client: Any) -> None:
    """Who holds a lease learns that somebody ended it."""
    async with client.lease(1) as lease:
        await client.revoke(lease.id)
        async with asyncio.timeout(5):
            await lease.lost.wait()


async def test_keys_with_near_ends_share_leases(client: Any) -> None:
    """A hundred keys that end at about the same time need a few leases that all last enough."""
    leases = await asyncio.gather(*(client.expiries.lease(800) for _ in range(100)))
    assert len(set(leases)) <= 2
    assert await client.expiries.lease(100_000) not in leases
    client.expiries.clear()
    assert await client.expiries.lease(800) not in leases


async def test_lease_shared_by_many_fails_for_all_and_recovers(client: Any) -> None:
    """A refused grant fails all who wait for it, and is not remembered."""
    outcomes = await asyncio.gather(
        *(client.expiries.lease(0) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(one, Invalid) for one in outcomes)
    waiting = [client.spawn(client.expiries.lease(60)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(5):
        _, second, third = await asyncio.gather(*waiting, return_exceptions=True)
    assert second == third > 0


# Watches.


async def test_watch_tells_what_is_there_and_every_change(client: Any, key: bytes) -> None:
    """A watch begins with what is there and then has every event of its range, in order."""
    end = prefix_end(key)
    first = await client.put(key + b"a", b"1")
    async with aclosing(client.watch(key, end)) as news:
        snapshot = await anext(news)
        assert isinstance(snapshot, Snapshot)
        assert [item.mod_revision for item in snapshot.items] == [first]
        second = await client.put(key + b"b", b"2")
        await client.put(key[:-1], b"not watched")
        await client.delete(key + b"a")
        events: list[Event] = []
        async with asyncio.timeout(5):
            while len(events) < 2:
                one = await anext(news)
                assert isinstance(one, Events)
                events += one.events
    assert [(event.item.key, event.deleted) for event in events] == [
        (key + b"b", False),
        (key + b"a", True),
    ]
    assert events[0].item.mod_revision == second


async def test_watches_end_with_the_client(etcd_process: EtcdServer, key: bytes) -> None:
    """Closing the client ends its tasks, whatever they wait for."""
    told: list[Any] = []

    async def follow(client: Any) -> None:
        async with aclosing(client.watch(key)) as news:
            told.append(await anext(news))
            await anext(news)

    async with client_of(etcd_process) as client:
        task = client.spawn(follow(client))
        await eventually(lambda: told, "the snapshot")
    assert task.cancelled()


async def test_another_client_may_share_the_process() -> None:
    """The names of etcd's published messages are still free for other libraries."""
    from google.protobuf import descriptor_pool

    from pillion_components._etcd import messages

    assert messages.RangeRequest.DESCRIPTOR.full_name == "pillion.etcd.RangeRequest"
    for name in ("pillion.etcd.RangeRequest", "etcdserverpb.RangeRequest", "mvccpb.KeyValue"):
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(name)
