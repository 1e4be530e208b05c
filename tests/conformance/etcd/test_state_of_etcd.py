"""What is particular about state in etcd: how it is stored, how it ends, how it is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.etcd_server import EtcdServer

from pillion.errors import Conflict, Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put, Remove
from pillion_components._etcd import model
from pillion_components.state.etcd import EtcdState

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(etcd_server: Mapping[str, str], tmp_path: Path) -> AsyncIterator[EtcdState]:
    context = Context(name="store", home=tmp_path, app_id="app", settings=etcd_server)
    async with EtcdState.open(context) as opened:
        yield opened


async def raw(store: EtcdState, key: str) -> model.KeyValue:
    """Return the key as etcd has it."""
    (item,) = (await store._client.range(store._full(key))).items
    return item


async def leave_expired(store: EtcdState, key: str) -> str:
    """Leave a key whose value has expired and that etcd has not removed; return its tag."""
    await store.write(Put(key, b"old", ttl=100))
    item = await store.get(key)
    assert item is not None
    assert item.expires is not None
    kv = await raw(store, key)
    stored = store._envelope.wrap(b"old", time.time() - 200, 100)
    revision = await store._client.put(kv.key, stored, kv.lease)
    return f"{revision}-{round((time.time() - 100) * 1000)}"


async def test_value_is_stored_as_dapr_does(store: EtcdState) -> None:
    """The stored bytes are the message of Dapr's v2: data, time of writing, time to live."""
    await store.write(Put("key", b'"x"', ttl=60))
    value = (await raw(store, "key")).value
    seconds = int(time.time())
    assert value.startswith(b'\x0a\x03"x"\x12')
    assert value.endswith(b"\x1a\x02\x08\x3c")
    message = type(store._envelope.messages.StoredValue()).FromString(value)
    assert seconds - 5 <= message.ts.seconds <= seconds


@given(st.binary(max_size=64), st.floats(0, 4e9), st.none() | st.integers(1, 2**31 - 1))
def test_envelope_gives_back_what_it_was_given(data: bytes, now: float, ttl: int | None) -> None:
    """Data and end come out of the stored bytes as they went in, to the microsecond."""
    from pillion_components._etcd import envelope

    value, expires = envelope.unwrap(envelope.wrap(data, now, ttl))
    assert value == data
    if ttl is None:
        assert expires is None
    else:
        assert expires == pytest.approx(now + ttl, abs=1e-6)


async def test_value_of_another_program_is_read_as_it_is(store: EtcdState) -> None:
    """A key that somebody put with etcdctl reads as the text they put."""
    for text in (b'{"a":1}', b"123456789", b"", b"\xff\x00", b'"hello"'):
        await store._client.put(store._full("key"), text)
        item = await store.get("key")
        assert item is not None
        assert item.value == text


async def test_keys_lie_below_the_prefix(
    store: EtcdState, etcd_server: Mapping[str, str], etcd_process: EtcdServer
) -> None:
    """keyPrefixPath, a slash and the key are the key in etcd, as with Dapr."""
    await store.write(Put("app||key", b"x"))
    path = f"{etcd_server['keyPrefixPath']}/app||key"
    assert etcd_process.ctl("get", path, "--keys-only").strip() == path


async def test_expired_value_is_missing_before_etcd_removes_it(store: EtcdState) -> None:
    """Reads, lists and conditions treat a value as missing from its end on."""
    tag = await leave_expired(store, "key")
    assert await store.get("key") is None
    assert await store.get_many(["key"]) == [None]
    assert (await store.list("", 10)).keys == ()
    with pytest.raises(Conflict):
        await store.write(Put("key", b"x", etag=tag))
    with pytest.raises(Conflict):
        await store.write(Remove("key", etag=tag))
    await store.write(Put("key", b"new", create_only=True))
    item = await store.get("key")
    assert item is not None
    assert (item.value, item.expires) == (b"new", None)


async def test_watch_tells_the_end_on_time(store: EtcdState) -> None:
    """A watcher hears that a value expired within a second of its end, once."""
    await store.write(Put("key", b"x", ttl=1))
    async with aclosing(store.watch("key")) as changes:
        first = await anext(changes)
        assert first.item is not None
        assert first.item.expires is not None
        async with asyncio.timeout(5):
            second = await anext(changes)
        assert second.item is None
        assert 0 <= time.time() - first.item.expires < 1
        await asyncio.sleep(2.5)  # meanwhile etcd removes the key
        await store.write(Put("key", b"y"))
        third = await anext(changes)
        assert third.item is not None
        assert third.item.value == b"y"


async def test_overwriting_ends_an_expiry(store: EtcdState) -> None:
    """A value put without a ttl stays though the one before it would have ended."""
    await store.write(Put("key", b"x", ttl=1))
    await store.write(Put("key", b"y"))
    await asyncio.sleep(3)
    item = await store.get("key")
    assert item is not None
    assert item.value == b"y"


async def test_revoked_lease_does_not_stop_writes(store: EtcdState) -> None:
    """When a shared lease was ended by hand, the next write gets a new one."""
    await store.write(Put("key", b"x", ttl=500))
    await store._client.revoke((await raw(store, "key")).lease)
    assert await store.get("key") is None
    await store.write(Put("key", b"y", ttl=500))
    await store.transact([Put("key", b"z", ttl=500), Put("other", b"z", ttl=500)])
    assert [one and one.value for one in await store.get_many(["key", "other"])] == [b"z", b"z"]


async def test_bulk_goes_beyond_one_transaction(store: EtcdState) -> None:
    """A thousand keys are written side by side and read in a few transactions, in order."""
    keys = [f"key{number:04}" for number in range(1000)]
    assert await store.write_many([Put(key, key.encode()) for key in keys]) == [None] * 1000
    found = await store.get_many([*keys, "missing", keys[0]])
    assert [one and one.value.decode() for one in found] == [*keys, None, keys[0]]


async def test_transaction_has_the_servers_limit(store: EtcdState) -> None:
    """As many changes as the servers take are made at once; one more is refused."""
    changes = [Put(f"key{number}", b"x") for number in range(128)]
    await store.transact(changes)
    with pytest.raises(Invalid, match="maxTxnOps"):
        await store.transact([*changes, Remove("one-more")])


async def test_value_over_the_servers_limit_is_refused(store: EtcdState) -> None:
    """A value that etcd does not take is the request's fault, not the engine's."""
    with pytest.raises(Invalid) as caught:
        await store.write(Put("key", b"x" * 2_000_000))
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize("tag", ["", "0", "x", "-1", "1-", "1-x", "9" * 19, "01", "1.5"])
async def test_foreign_tag_is_invalid(store: EtcdState, tag: str) -> None:
    """A tag this store cannot have given is told apart from one that is out of date."""
    with pytest.raises(Invalid) as caught:
        await store.write(Put("key", b"x", etag=tag))
    assert caught.value.reason == "etag-invalid"


@pytest.mark.parametrize("token", ["", "x", "%", "a2V5", "L2tleQ=="])
async def test_foreign_token_is_invalid(store: EtcdState, token: str) -> None:
    """A token this store cannot have given for this prefix is refused."""
    with pytest.raises(Invalid, match="token"):
        await store.list("key", 10, token)


async def test_writers_with_one_tag_race(store: EtcdState) -> None:
    """Of fifty writers with the same tag, or that all create the key, exactly one succeeds."""
    for round_ in range(10):
        item = await store.get("key")
        conditions = {"create_only": True} if item is None else {"etag": item.etag}
        changes = [Put("key", b"%d" % number, **conditions) for number in range(50)]
        outcomes = await store.write_many(changes)
        assert outcomes.count(None) == 1
        assert sum(isinstance(one, Conflict) for one in outcomes) == 49
        assert (await store.get("key")).value == b"%d" % outcomes.index(None)  # type: ignore[union-attr]
        if round_ == 5:
            await store.write(Remove("key"))


async def test_acknowledged_writes_survive_kills(
    store: EtcdState, etcd_process: EtcdServer
) -> None:
    """Writers under load while the server is killed twice: what was acknowledged reads back."""
    acknowledged: dict[str, bytes] = {}
    stop = False

    async def write(writer: int) -> None:
        number = 0
        while not stop:
            key, number = f"w{writer}-{number % 50}", number + 1
            began = time.monotonic()
            try:
                await store.write(Put(key, b"%d" % number))
                acknowledged[key] = b"%d" % number
            except Unavailable:
                acknowledged.pop(key, None)  # it may be the old or the new value
                await asyncio.sleep(0.02)
            assert time.monotonic() - began < 6

    async with asyncio.TaskGroup() as group:
        for writer in range(8):
            group.create_task(write(writer))
        for _ in range(2):
            await asyncio.sleep(0.4)
            await asyncio.to_thread(etcd_process.restart)
        await asyncio.sleep(0.4)
        stop = True
    keys = list(acknowledged)
    assert len(keys) > 100
    found = await store.get_many(keys)
    assert {one.key: one.value for one in found if one} == acknowledged
