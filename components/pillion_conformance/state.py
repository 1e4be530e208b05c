"""What every state store keeps: values, tags that decide between writers, and its abilities."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pillion.errors import Conflict, Invalid, Unsupported
from pillion.kinds.component import Context
from pillion.kinds.state import (
    Changed,
    Expiring,
    Item,
    Listable,
    Put,
    Queryable,
    Remove,
    StateStore,
    Transactional,
    Watchable,
    Write,
)
from pillion_conformance.peers import Peer, together
from pillion_conformance.plugin import Opener, Subject

pytestmark = pytest.mark.anyio

DEADLINE = 10.0
NO_TAG = "no tag of any store!"
ODD_KEYS = (
    "app||key",
    "with space",
    "a/b/../c?d=e&f#g",
    "*",
    "a.>",
    "100%_[x]?",
    ".dots..",
    "Zürich-日本-\U0001f680",
    '"quoted" \\ back',
    "UPPER",
    "upper",
)


@pytest.fixture
def own() -> str:
    """What the keys of one test begin with, because servers outlive tests."""
    return f"{secrets.token_hex(6)}:"


@pytest.fixture
async def store(open_component: Opener) -> AsyncIterator[Any]:
    """One open store."""
    async with open_component() as opened:
        yield opened


async def value_of(store: StateStore, key: str) -> bytes | None:
    item = await store.get(key)
    return None if item is None else item.value


async def tag_of(store: StateStore, key: str) -> str:
    item = await store.get(key)
    assert item is not None
    return item.etag


async def gone(store: StateStore, key: str, seconds: float) -> float:
    """Return the time at which the key was missing; fail when it is there after ``seconds``."""
    async with asyncio.timeout(seconds):
        while await store.get(key) is not None:
            await asyncio.sleep(0.02)
    return time.time()


# Opening.


async def test_open_store_answers_ping(store: StateStore) -> None:
    """A store that opened works."""
    await store.ping()


async def test_unknown_setting_is_refused(
    subject: Subject, component_settings: Mapping[str, Any], home: Path
) -> None:
    """A misspelt setting is an error that names it."""
    settings = {**component_settings, "no-such-setting": "1"}
    context = Context(name="subject", home=home, app_id="tester", settings=settings)
    with pytest.raises(Invalid, match="no-such-setting"):
        async with subject.component.open(context):
            pass


# Reading what was written.


@pytest.mark.parametrize(
    "value", [b'{"a": 1}', b"", b"null", bytes(range(256)), b"x" * 262_144], ids=len
)
async def test_value_comes_back_as_it_was_stored(store: StateStore, own: str, value: bytes) -> None:
    """The store does not look into values: JSON, bytes, nothing, a quarter of a megabyte."""
    await store.write(Put(own, value))
    item = await store.get(own)
    assert item is not None
    assert (item.key, item.value, item.expires) == (own, value, None)
    assert item.etag


async def test_missing_key_is_none(store: StateStore, own: str) -> None:
    """A key that was never written is missing, for strong and for other reads."""
    assert await store.get(own) is None
    assert await store.get(own, strong=False) is None


async def test_weak_read_answers_in_the_end(store: StateStore, own: str) -> None:
    """A read that may lag finds a write after some time at the latest."""
    await store.write(Put(own, b"1"))
    async with asyncio.timeout(DEADLINE):
        while (item := await store.get(own, strong=False)) is None:
            await asyncio.sleep(0.02)
    assert item.value == b"1"
    assert [one and one.value for one in await store.get_many([own], strong=False)] == [b"1"]


async def test_keys_are_any_text_and_differ_by_every_character(store: StateStore, own: str) -> None:
    """Keys with separators, wildcards, spaces and any script do not mix."""
    for number, key in enumerate(ODD_KEYS):
        await store.write(Put(own + key, str(number).encode()))
    for number, key in enumerate(ODD_KEYS):
        item = await store.get(own + key)
        assert item is not None
        assert (item.key, item.value) == (own + key, str(number).encode())
    await store.write(Remove(own + ODD_KEYS[3]))
    left = await store.get_many([own + key for key in ODD_KEYS])
    assert [item is None for item in left] == [number == 3 for number in range(len(ODD_KEYS))]


async def test_many_come_in_the_order_of_their_keys(store: StateStore, own: str) -> None:
    """Missing keys are None in their places, repeated ones are repeated, none is none."""
    for name in ("a", "b", "c"):
        await store.write(Put(own + name, name.encode()))
    asked = [own + name for name in ("c", "nowhere", "a", "b", "a")]
    found = await store.get_many(asked)
    assert [one and one.value for one in found] == [b"c", None, b"a", b"b", b"a"]
    assert [one.key for one in found if one] == [asked[0], *asked[2:]]
    single = await store.get(asked[0])
    assert found[0] == single
    assert await store.get_many([]) == []


async def test_many_may_be_a_thousand(store: StateStore, own: str) -> None:
    """A thousand keys are read in one call."""
    keys = [f"{own}{number}" for number in range(1000)]
    assert await store.write_many([Put(key, key.encode()) for key in keys]) == [None] * 1000
    found = await store.get_many(keys)
    assert [one and one.value for one in found] == [key.encode() for key in keys]


async def test_write_is_seen_by_another_opener(open_component: Opener, own: str) -> None:
    """What one has written the other reads, with the same tag."""
    async with open_component() as here, open_component() as there:
        await here.write(Put(own, b"1"))
        assert await there.get(own) == await here.get(own)
        await there.write(Remove(own))
        assert await here.get(own) is None


@pytest.mark.lacks("volatile")
async def test_write_outlives_the_store(open_component: Opener, own: str) -> None:
    """After closing and opening again the value and its tag are there."""
    async with open_component() as store:
        await store.write(Put(own, b"1"))
        before = await store.get(own)
    async with open_component() as store:
        assert await store.get(own) == before


@pytest.mark.lacks("volatile")
async def test_write_is_seen_by_another_process(
    store: StateStore,
    subject: Subject,
    component_settings: Mapping[str, Any],
    home: Path,
    own: str,
) -> None:
    """Processes share what they write."""
    peer = await Peer.start(subject.type_name, home, component_settings, "read", key=own)
    await store.write(Put(own, b"from here"))
    assert await together(peer) == ["from here"]


# Tags.


async def test_every_write_changes_the_tag(store: StateStore, own: str) -> None:
    """No tag comes back, be the value the same or the key deleted in between."""
    tags = []
    for _ in range(3):
        await store.write(Put(own, b"same"))
        tags.append(await tag_of(store, own))
        await store.write(Put(own, b"same"))
        tags.append(await tag_of(store, own))
        await store.write(Remove(own))
    assert len(set(tags)) == len(tags)


async def test_write_with_the_present_tag_counts(store: StateStore, own: str) -> None:
    """The holder of the newest tag may write."""
    await store.write(Put(own, b"1"))
    await store.write(Put(own, b"2", etag=await tag_of(store, own)))
    assert await value_of(store, own) == b"2"


async def test_write_with_an_old_tag_is_a_conflict(store: StateStore, own: str) -> None:
    """The second of two writers with one tag loses, and changes nothing."""
    await store.write(Put(own, b"1"))
    old = await tag_of(store, own)
    await store.write(Put(own, b"2", etag=old))
    before = await store.get(own)
    with pytest.raises(Conflict):
        await store.write(Put(own, b"3", etag=old))
    assert await store.get(own) == before


async def test_write_with_a_tag_needs_the_key(store: StateStore, own: str) -> None:
    """A tag never matches a missing key, nor the successor of a deleted one."""
    await store.write(Put(own, b"1"))
    old = await tag_of(store, own)
    await store.write(Remove(own))
    with pytest.raises(Conflict):
        await store.write(Put(own, b"2", etag=old))
    assert await store.get(own) is None
    await store.write(Put(own, b"3"))
    with pytest.raises(Conflict):
        await store.write(Put(own, b"4", etag=old))
    assert await value_of(store, own) == b"3"


async def test_write_without_a_tag_always_counts(store: StateStore, own: str) -> None:
    """Without a condition the last writer wins."""
    for value in (b"1", b"2"):
        await store.write(Put(own, value))
        assert await value_of(store, own) == value


async def test_first_write_counts_once(store: StateStore, own: str) -> None:
    """A key is created once, and again after it was deleted."""
    await store.write(Put(own, b"1", create_only=True))
    with pytest.raises(Conflict):
        await store.write(Put(own, b"2", create_only=True))
    assert await value_of(store, own) == b"1"
    await store.write(Remove(own))
    await store.write(Put(own, b"3", create_only=True))
    assert await value_of(store, own) == b"3"


@pytest.mark.parametrize("make", [lambda key: Put(key, b"2", etag=NO_TAG), None])
async def test_tag_of_no_store_is_invalid(
    store: StateStore, own: str, make: Callable[[str], Write] | None
) -> None:
    """A text that cannot be a tag is the caller's mistake, not a conflict."""
    await store.write(Put(own, b"1"))
    change = make(own) if make is not None else Remove(own, etag=NO_TAG)
    with pytest.raises(Invalid) as raised:
        await store.write(change)
    assert raised.value.reason == "etag-invalid"
    assert await value_of(store, own) == b"1"


# Deleting.


async def test_deleted_key_is_missing(store: StateStore, own: str) -> None:
    """Deleting removes; deleting what is missing is done already."""
    await store.write(Put(own, b"1"))
    await store.write(Remove(own))
    assert await store.get(own) is None
    await store.write(Remove(own))


async def test_delete_with_a_tag_needs_it(store: StateStore, own: str) -> None:
    """With the present tag the key goes; with another one, or none there, it is a conflict."""
    await store.write(Put(own, b"1"))
    old = await tag_of(store, own)
    await store.write(Put(own, b"2"))
    with pytest.raises(Conflict):
        await store.write(Remove(own, etag=old))
    assert await value_of(store, own) == b"2"
    await store.write(Remove(own, etag=await tag_of(store, own)))
    assert await store.get(own) is None
    with pytest.raises(Conflict):
        await store.write(Remove(own, etag=old))


# Writers against each other.


async def test_one_of_many_writers_with_one_tag_wins(open_component: Opener, own: str) -> None:
    """Forty writers through two openers, one tag: one success, thirty-nine conflicts."""
    async with open_component() as here, open_component() as there:
        await here.write(Put(own, b"-"))
        tag = await tag_of(here, own)
        writes = [
            (here, there)[number % 2].write(Put(own, str(number).encode(), etag=tag))
            for number in range(40)
        ]
        results = await asyncio.gather(*writes, return_exceptions=True)
        winners = [number for number, result in enumerate(results) if result is None]
        assert len(winners) == 1
        assert all(isinstance(one, Conflict) for one in results if one is not None)
        assert await value_of(there, own) == str(winners[0]).encode()


async def test_increments_by_tag_lose_nothing(store: StateStore, own: str) -> None:
    """Eight tasks that read, add one and write by tag until it counts add up exactly."""
    await store.write(Put(own, b"0"))

    async def add() -> None:
        for _ in range(5):
            while True:
                item = await store.get(own)
                assert item is not None
                try:
                    await store.write(Put(own, b"%d" % (int(item.value) + 1), etag=item.etag))
                except Conflict:
                    continue
                break

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(add())
    assert await value_of(store, own) == b"40"


@pytest.mark.lacks("volatile")
async def test_processes_racing_for_first_writes_share_them_out(
    store: StateStore,
    subject: Subject,
    component_settings: Mapping[str, Any],
    home: Path,
    own: str,
) -> None:
    """Of two processes that create the same keys at the same time, each key has one winner."""
    count = 400
    peers = [
        await Peer.start(
            subject.type_name,
            home,
            component_settings,
            "first_writes",
            prefix=own,
            name=name,
            rival=rival,
            count=count,
        )
        for name, rival in (("a", "b"), ("b", "a"))
    ]
    first, second = await together(*peers)
    assert sorted(first + second) == list(range(count))
    for number in range(count):
        assert await value_of(store, f"{own}{number}") == (b"a" if number in first else b"b")


# Several writes.


async def test_many_writes_have_an_outcome_each(store: StateStore, own: str) -> None:
    """A conflict and a bad tag fail alone, in their places."""
    await store.write(Put(f"{own}b", b"old"))
    results = await store.write_many(
        [
            Put(f"{own}a", b"1"),
            Put(f"{own}b", b"2", create_only=True),
            Put(f"{own}c", b"3", etag=NO_TAG),
            Put(f"{own}d", b"4"),
            Remove(f"{own}b"),
        ]
    )
    assert [type(one) for one in results] == [type(None), Conflict, Invalid, type(None), type(None)]
    found = await store.get_many([own + name for name in "abcd"])
    assert [one and one.value for one in found] == [b"1", None, None, b"4"]
    assert await store.write_many([]) == []


# Expiry.


@pytest.mark.promises.with_args(Expiring)
async def test_value_disappears_at_its_time(store: StateStore, own: str) -> None:
    """A value with a ttl is there until then, says until when, and is gone within a second."""
    before = time.time()
    await store.write(Put(own, b"1", ttl=2))
    written = time.time()
    item = await store.get(own)
    assert item is not None
    assert item.expires is not None
    assert before + 0.9 <= item.expires <= written + 3.1
    await store.write(Put(f"{own}kept", b"1"))
    ended = await gone(store, own, 6.0)
    assert before + 1.9 <= ended <= written + 3.2
    assert await store.get_many([own]) == [None]
    assert await value_of(store, f"{own}kept") == b"1"


@pytest.mark.promises.with_args(Expiring)
async def test_expired_value_is_missing_for_writers(store: StateStore, own: str) -> None:
    """After its time a key can be created, and its tag is worth nothing."""
    await store.write(Put(own, b"1", ttl=1))
    await store.write(Put(f"{own}tag", b"1", ttl=1))
    tag = await tag_of(store, f"{own}tag")
    await gone(store, own, 5.0)
    await gone(store, f"{own}tag", 5.0)
    await store.write(Put(own, b"2", create_only=True))
    assert await value_of(store, own) == b"2"
    with pytest.raises(Conflict):
        await store.write(Put(f"{own}tag", b"2", etag=tag))
    with pytest.raises(Conflict):
        await store.write(Remove(f"{own}tag", etag=tag))


@pytest.mark.promises.with_args(Expiring)
async def test_write_without_ttl_ends_an_earlier_expiry(store: StateStore, own: str) -> None:
    """A later write decides about the expiry anew."""
    await store.write(Put(own, b"1", ttl=1))
    await store.write(Put(f"{own}tagged", b"1", ttl=1))
    await store.write(Put(f"{own}other", b"1", ttl=1))
    await store.write(Put(own, b"2"))
    await store.write(Put(f"{own}tagged", b"2", etag=await tag_of(store, f"{own}tagged")))
    item = await store.get(own)
    assert item is not None
    assert item.expires is None
    await gone(store, f"{own}other", 5.0)
    assert await value_of(store, own) == b"2"
    assert await value_of(store, f"{own}tagged") == b"2"


@pytest.mark.lacks.with_args(Expiring)
async def test_ttl_is_refused(store: StateStore, own: str) -> None:
    """A store that cannot forget says so and stores nothing."""
    with pytest.raises(Unsupported):
        await store.write(Put(own, b"1", ttl=5))
    assert await store.get(own) is None


# Transactions.


@pytest.mark.promises.with_args(Transactional)
async def test_transaction_makes_all_changes_in_order(store: Transactional, own: str) -> None:
    """Puts and removes take effect together; of two changes to a key the later one stays."""
    await store.write(Put(f"{own}b", b"old"))
    await store.transact(
        [
            Put(f"{own}a", b"1"),
            Remove(f"{own}b"),
            Put(f"{own}c", b"1"),
            Put(f"{own}c", b"2"),
            Put(f"{own}d", b"1"),
            Remove(f"{own}d"),
            Remove(f"{own}e"),
            Put(f"{own}e", b"3"),
        ]
    )
    found = await store.get_many([own + name for name in "abcde"])
    assert [one and one.value for one in found] == [b"1", None, b"2", None, b"3"]
    await store.transact([])


@pytest.mark.promises.with_args(Transactional)
@pytest.mark.parametrize("kind", ["old tag", "created", "removed"])
async def test_transaction_with_a_conflict_changes_nothing(
    store: Transactional, own: str, kind: str
) -> None:
    """One condition that does not hold undoes what came before it."""
    await store.write(Put(f"{own}b", b"1"))
    old = await tag_of(store, f"{own}b")
    await store.write(Put(f"{own}b", b"2"))
    failing: Write = {
        "old tag": Put(f"{own}b", b"3", etag=old),
        "created": Put(f"{own}b", b"3", create_only=True),
        "removed": Remove(f"{own}b", etag=old),
    }[kind]
    with pytest.raises(Conflict):
        await store.transact([Put(f"{own}a", b"1"), failing, Put(f"{own}c", b"1")])
    found = await store.get_many([own + name for name in "abc"])
    assert [one and one.value for one in found] == [None, b"2", None]


@pytest.mark.promises.with_args(Transactional)
async def test_transaction_with_conditions_that_hold_counts(store: Transactional, own: str) -> None:
    """Tags and first writes are checked inside the transaction."""
    await store.write(Put(f"{own}a", b"1"))
    await store.write(Put(f"{own}b", b"1"))
    await store.transact(
        [
            Put(f"{own}a", b"2", etag=await tag_of(store, f"{own}a")),
            Remove(f"{own}b", etag=await tag_of(store, f"{own}b")),
            Put(f"{own}c", b"2", create_only=True),
        ]
    )
    found = await store.get_many([own + name for name in "abc"])
    assert [one and one.value for one in found] == [b"2", None, b"2"]


@pytest.mark.promises.with_args(Transactional)
async def test_transaction_with_a_bad_tag_changes_nothing(store: Transactional, own: str) -> None:
    """What is invalid in itself fails the whole."""
    with pytest.raises(Invalid) as raised:
        await store.transact([Put(f"{own}a", b"1"), Remove(f"{own}b", etag=NO_TAG)])
    assert raised.value.reason == "etag-invalid"
    assert await store.get(f"{own}a") is None


@pytest.mark.promises.with_args(Transactional)
async def test_transfers_by_tag_keep_the_sum(open_component: Opener, own: str) -> None:
    """Concurrent transfers between two accounts through two openers neither make nor lose money."""
    async with open_component() as here, open_component() as there:
        await here.transact([Put(f"{own}a", b"100"), Put(f"{own}b", b"100")])

        async def transfer(store: Transactional, amount: int) -> None:
            while True:
                one, other = await store.get_many([f"{own}a", f"{own}b"])
                assert one is not None
                assert other is not None
                try:
                    await store.transact(
                        [
                            Put(one.key, b"%d" % (int(one.value) - amount), etag=one.etag),
                            Put(other.key, b"%d" % (int(other.value) + amount), etag=other.etag),
                        ]
                    )
                except Conflict:
                    continue
                return

        async with asyncio.TaskGroup() as group:
            for number in range(1, 11):
                group.create_task(transfer((here, there)[number % 2], number))
        assert await value_of(here, f"{own}a") == b"45"
        assert await value_of(there, f"{own}b") == b"155"


@pytest.mark.promises(Transactional, Expiring)
async def test_transaction_takes_ttls(store: Transactional, own: str) -> None:
    """A change in a transaction expires like any other."""
    await store.transact([Put(f"{own}a", b"1", ttl=1), Put(f"{own}b", b"1")])
    item = await store.get(f"{own}a")
    assert item is not None
    assert item.expires is not None
    await gone(store, f"{own}a", 5.0)
    assert await value_of(store, f"{own}b") == b"1"


@pytest.mark.promises.with_args(Transactional)
@pytest.mark.lacks.with_args(Expiring)
async def test_ttl_in_a_transaction_is_refused(store: Transactional, own: str) -> None:
    """A store that cannot forget refuses the whole."""
    with pytest.raises(Unsupported):
        await store.transact([Put(f"{own}a", b"1"), Put(f"{own}b", b"1", ttl=5)])
    assert await store.get_many([f"{own}a", f"{own}b"]) == [None, None]


# Listing.


async def pages(store: Listable, prefix: str, limit: int) -> list[tuple[str, ...]]:
    found = []
    token = None
    while True:
        page = await store.list(prefix, limit, token)
        assert len(page.keys) <= limit
        found.append(page.keys)
        token = page.token
        if token is None:
            return found


@pytest.mark.promises.with_args(Listable)
async def test_list_has_every_key_with_the_prefix_once(store: Listable, own: str) -> None:
    """Pages of any size give the same keys in the same order, and no token at the end."""
    keys = [f"{own}in:{number}" for number in range(25)]
    await store.write_many([Put(key, b"1") for key in [*keys, f"{own}out", f"{own}in"]])
    whole = await store.list(f"{own}in:", 100)
    assert sorted(whole.keys) == sorted(keys)
    assert whole.token is None
    for limit in (1, 7, 25):
        joined = [key for page in await pages(store, f"{own}in:", limit) for key in page]
        assert joined == list(whole.keys)
    assert (await store.list(f"{own}nothing", 10)).keys == ()
    assert (await store.list("", 1)).keys


@pytest.mark.promises.with_args(Listable)
async def test_list_leaves_out_deleted_keys(store: Listable, own: str) -> None:
    """A key is listed while it is there."""
    await store.write_many([Put(f"{own}a", b"1"), Put(f"{own}b", b"1")])
    await store.write(Remove(f"{own}a"))
    assert (await store.list(own, 10)).keys == (f"{own}b",)


@pytest.mark.promises(Listable, Expiring)
async def test_list_leaves_out_expired_keys(store: Listable, own: str) -> None:
    """An expired key is not listed."""
    await store.write_many([Put(f"{own}a", b"1", ttl=1), Put(f"{own}b", b"1")])
    await gone(store, f"{own}a", 5.0)
    assert (await store.list(own, 10)).keys == (f"{own}b",)


@pytest.mark.promises.with_args(Listable)
async def test_list_takes_prefixes_literally(store: Listable, own: str) -> None:
    """Wildcards of any engine are characters like others, in keys and in prefixes."""
    await store.write_many([Put(own + key, b"1") for key in ODD_KEYS])
    assert sorted((await store.list(own, 100)).keys) == sorted(own + key for key in ODD_KEYS)
    for prefix in ("*", "a.", "100%_[", "Z", "Zürich-日", '"', "U", "%", "?", "[x]"):
        expected = [own + key for key in ODD_KEYS if key.startswith(prefix)]
        assert sorted((await store.list(own + prefix, 100)).keys) == sorted(expected)


@pytest.mark.promises.with_args(Listable)
async def test_list_survives_changes_between_pages(store: Listable, own: str) -> None:
    """Keys that stay are in exactly one page, whatever comes and goes around them."""
    stay = [f"{own}{number:03}-stay" for number in range(0, 60, 2)]
    leave = [f"{own}{number:03}-leave" for number in range(1, 60, 2)]
    await store.write_many([Put(key, b"1") for key in stay + leave])
    seen: list[str] = []
    token = None
    number = 0
    while True:
        page = await store.list(own, 7, token)
        seen += page.keys
        token = page.token
        if token is None:
            break
        await store.write_many([Remove(key) for key in leave[number : number + 5]])
        await store.write_many([Put(f"{own}{60 - number:03}-new", b"1")])
        await store.write_many([Put(key, b"again") for key in stay[::3]])
        number += 5
    assert sorted(key for key in seen if key in stay) == stay
    assert len(set(seen)) == len(seen)


@pytest.mark.promises.with_args(Listable)
async def test_list_refuses_a_foreign_token(store: Listable, own: str) -> None:
    """A token that the store did not give is a mistake, not a page."""
    for token in ("no token!", "\x00", "é"):
        with pytest.raises(Invalid):
            await store.list(own, 10, token)


# Watching.


class Watched:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.changes: list[Changed] = []
        self._news = asyncio.Event()

    def take(self, change: Changed) -> None:
        self.changes.append(change)
        self._news.set()

    @property
    def value(self) -> bytes | None:
        item = self.changes[-1].item
        return None if item is None else item.value

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_value(self, value: bytes | None) -> None:
        await self.until(lambda: bool(self.changes) and self.value == value)


@asynccontextmanager
async def watching(store: Watchable, key: str) -> AsyncIterator[Watched]:
    """Watch in a task; the present state has been told when the context is entered."""
    watched = Watched()

    async def follow() -> None:
        async with aclosing(store.watch(key)) as changes:
            async for change in changes:
                assert change.key == key
                watched.take(change)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        await watched.until(lambda: bool(watched.changes))
        yield watched
        task.cancel()


@pytest.mark.promises.with_args(Watchable)
async def test_watch_begins_with_the_present_state(store: Watchable, own: str) -> None:
    """A watcher is told what is there, or that nothing is."""
    async with watching(store, own) as watched:
        assert watched.changes == [Changed(own, None)]
    await store.write(Put(own, b"1"))
    async with watching(store, own) as watched:
        assert watched.changes == [Changed(own, await store.get(own))]


@pytest.mark.promises.with_args(Watchable)
async def test_watch_tells_writes_and_deletions(open_component: Opener, own: str) -> None:
    """What another opener does is told with value and tag."""
    async with open_component() as here, open_component() as there, watching(here, own) as watched:
        await there.write(Put(own, b"1"))
        await watched.until_value(b"1")
        assert watched.changes[-1].item == await there.get(own)
        await there.write(Put(own, b"2"))
        await watched.until_value(b"2")
        await there.write(Remove(own))
        await watched.until_value(None)
        await there.write(Put(own, b"3"))
        await watched.until_value(b"3")


@pytest.mark.promises.with_args(Watchable)
async def test_watch_tells_nothing_about_other_keys(store: Watchable, own: str) -> None:
    """Keys that begin alike are other keys."""
    async with watching(store, f"{own}a") as watched:
        for key in (own, f"{own}ab", f"{own}b", f"{own}A"):
            await store.write(Put(key, b"other"))
        await store.write(Put(f"{own}a", b"end"))
        await watched.until_value(b"end")
        assert len(watched.changes) == 2


@pytest.mark.promises.with_args(Watchable)
async def test_watch_never_goes_back_and_ends_with_the_last(store: Watchable, own: str) -> None:
    """Of two hundred fast writes some may be joined; none comes after a newer one."""
    async with watching(store, own) as watched:
        for number in range(200):
            await store.write(Put(own, b"%d" % number))
        await watched.until_value(b"199")
        told = [int(change.item.value) for change in watched.changes if change.item is not None]
        assert told == sorted(set(told))


@pytest.mark.promises.with_args(Watchable)
async def test_slow_watcher_is_told_the_last(store: Watchable, own: str) -> None:
    """Who does not read for a while finds the newest state in the end."""
    changes: AsyncGenerator[Changed, None]
    async with aclosing(store.watch(own)) as changes:
        await anext(changes)
        for number in range(100):
            await store.write(Put(own, b"%d" % number))
        async with asyncio.timeout(DEADLINE):
            async for change in changes:
                if change.item is not None and change.item.value == b"99":
                    break


@pytest.mark.promises(Watchable, Expiring)
async def test_watch_tells_an_expiry(store: Watchable, own: str) -> None:
    """An expired value is gone for its watcher too, soon after its time."""
    await store.write(Put(own, b"1", ttl=1))
    begun = time.time()
    async with watching(store, own) as watched:
        await watched.until_value(None)
        assert time.time() - begun < 3.5


@pytest.mark.promises.with_args(Watchable)
async def test_several_watch_one_key(store: Watchable, own: str) -> None:
    """Each watcher is told, also after another one has ended."""
    async with watching(store, own) as first:
        async with watching(store, own) as second:
            await store.write(Put(own, b"1"))
            await first.until_value(b"1")
            await second.until_value(b"1")
        await store.write(Put(own, b"2"))
        await first.until_value(b"2")


@pytest.mark.promises.with_args(Watchable)
@pytest.mark.lacks("volatile")
async def test_watch_tells_what_another_process_wrote(
    store: Watchable,
    subject: Subject,
    component_settings: Mapping[str, Any],
    home: Path,
    own: str,
) -> None:
    """News cross processes without waiting for a poll."""
    peer = await Peer.start(
        subject.type_name, home, component_settings, "write", key=own, value="there"
    )
    async with watching(store, own) as watched:
        await together(peer)
        await watched.until_value(b"there")


# Queries.


def document(own: str, **fields: Any) -> bytes:
    return json.dumps({"own": own, **fields}).encode()


PEOPLE: dict[str, dict[str, Any]] = {
    "1": {"person": {"org": "Dev Ops", "id": 1036}, "city": "Seattle", "state": "WA"},
    "2": {"person": {"org": "Hardware", "id": 1028}, "city": "Portland", "state": "OR"},
    "3": {"person": {"org": "Finance", "id": 1071}, "city": "Sacramento", "state": "CA"},
    "4": {"person": {"org": "Dev Ops", "id": 1042}, "city": "Spokane", "state": "WA"},
    "5": {"person": {"org": "Hardware", "id": 1007.5}, "city": "Los Angeles", "state": "CA"},
    "6": {"person": None, "city": "", "state": True},
    "7": {"person": {"org": "1036", "id": "1036"}, "state": None, "list": [1], "city": {"x": 1}},
}
"""After the sample data of the state query format, with some types mixed in."""


@pytest.fixture
async def people(store: Queryable, own: str) -> Queryable:
    """A store with the people and with values that are not theirs, or not JSON."""
    await store.write_many(
        [Put(own + name, document(own, **fields)) for name, fields in PEOPLE.items()]
    )
    await store.write_many(
        [
            Put(f"{own}bytes", b"\xff\xfe\x00"),
            Put(f"{own}text", b"Dev Ops"),
            Put(f"{own}broken", b'{"own": "%s", "state": "WA"' % own.encode()),
            Put(f"{own}zero", b'{"own": "%s", "state": "WA"}\x00' % own.encode()),
            Put(f"{own}latin", b'{"own": "%s", "state": "WA", "x": "\xe9"}' % own.encode()),
            Put(f"{own}scalar", b'"WA"'),
            Put(f"{own}empty", b""),
        ]
    )
    return store


async def found(store: Queryable, own: str, selected: Any, **query: Any) -> list[str]:
    parts = [{"EQ": {"own": own}}, *([selected] if selected else [])]
    answer = await store.query({"filter": {"AND": parts}, **query})
    assert answer.token is None
    return [item.key.removeprefix(own) for item in answer.items]


@pytest.mark.promises.with_args(Queryable)
@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        (None, "1234567"),
        ({"EQ": {"state": "WA"}}, "14"),
        ({"EQ": {"person.org": "Hardware"}}, "25"),
        ({"EQ": {"person.id": 1036}}, "1"),
        ({"EQ": {"person.id": 1036.0}}, "1"),
        ({"EQ": {"person.id": "1036"}}, "7"),
        ({"EQ": {"state": True}}, "6"),
        ({"EQ": {"state": 1}}, ""),
        ({"EQ": {"state": None}}, "7"),
        ({"EQ": {"nowhere": None}}, ""),
        ({"EQ": {"city": ""}}, "6"),
        ({"EQ": {"list": "[1]"}}, ""),
        ({"NEQ": {"state": "WA"}}, "23567"),
        ({"NEQ": {"person.id": 1036}}, "23457"),
        ({"NEQ": {"state": None}}, "123456"),
        ({"NEQ": {"state": True}}, "123457"),
        ({"NEQ": {"nowhere": "x"}}, ""),
        ({"GT": {"person.id": 1036}}, "34"),
        ({"GTE": {"person.id": 1036}}, "134"),
        ({"LT": {"person.id": 1028}}, "5"),
        ({"LTE": {"person.id": 1028}}, "25"),
        ({"GT": {"person.id": "0"}}, "7"),
        ({"GTE": {"state": "OR"}}, "124"),
        ({"LT": {"city": "P"}}, "56"),
        ({"IN": {"state": ["CA", "OR"]}}, "235"),
        ({"IN": {"person.id": [1036, "1036", 1007.5]}}, "157"),
        ({"IN": {"state": [None, True]}}, "67"),
        ({"IN": {"state": []}}, ""),
        ({"AND": [{"EQ": {"state": "WA"}}, {"EQ": {"city": "Spokane"}}]}, "4"),
        ({"OR": [{"EQ": {"state": "WA"}}, {"EQ": {"state": "CA"}}]}, "1345"),
        (
            {
                "OR": [
                    {"EQ": {"person.org": "Dev Ops"}},
                    {"AND": [{"EQ": {"person.org": "Finance"}}, {"IN": {"state": ["CA", "WA"]}}]},
                ]
            },
            "134",
        ),
        ({"EQ": {"city": "x' OR '1'='1"}}, ""),
        ({"EQ": {"x') OR 1=1 --": "x"}}, ""),
    ],
    ids=str,
)
async def test_filter_selects(people: Queryable, own: str, selected: Any, expected: str) -> None:
    """Each operator selects what its name says; types do not mix; what is not JSON never counts."""
    assert "".join(sorted(await found(people, own, selected))) == expected


@pytest.mark.promises.with_args(Queryable)
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([{"key": "person.id"}], "6521437"),
        ([{"key": "person.id", "order": "ASC"}], "6521437"),
        ([{"key": "person.id", "order": "DESC"}], "7341256"),
        ([{"key": "person.org"}, {"key": "person.id", "order": "DESC"}], "6741325"),
        ([{"key": "state", "order": "DESC"}, {"key": "city"}], "1425367"),
    ],
    ids=str,
)
async def test_sort_orders(people: Queryable, own: str, order: Any, expected: str) -> None:
    """Missing, null, numbers, texts is the ascending order; equal ones are in the order of keys."""
    assert "".join(await found(people, own, None, sort=order)) == expected


@pytest.mark.promises.with_args(Queryable)
@pytest.mark.parametrize(
    "order",
    [
        [],
        [{"key": "person.id"}],
        [{"key": "person.id", "order": "DESC"}],
        [{"key": "state"}, {"key": "person.id", "order": "DESC"}],
        [{"key": "state", "order": "DESC"}, {"key": "person.org"}],
        [{"key": "nowhere", "order": "DESC"}],
    ],
    ids=str,
)
async def test_pages_of_a_query_join_to_the_whole(
    people: Queryable, own: str, order: list[Any]
) -> None:
    """However small the pages, they give all items in the order of the whole, each once."""
    selected = {"EQ": {"own": own}}
    whole = [item.key for item in (await people.query({"filter": selected, "sort": order})).items]
    assert len(whole) == len(PEOPLE)
    for limit in (1, 2, 3, 7):
        joined: list[Item] = []
        page: dict[str, Any] = {"limit": limit}
        while True:
            answer = await people.query({"filter": selected, "sort": order, "page": page})
            assert len(answer.items) <= limit
            joined += answer.items
            if answer.token is None:
                break
            page["token"] = answer.token
        assert [item.key for item in joined] == whole


@pytest.mark.promises.with_args(Queryable)
async def test_query_answers_whole_items(people: Queryable, own: str) -> None:
    """Items come with value and tag, as a read gives them."""
    answer = await people.query({"filter": {"EQ": {"own": own}}, "page": {"limit": 2}})
    for item in answer.items:
        assert item == await people.get(item.key)


@pytest.mark.promises(Queryable, Expiring)
async def test_query_leaves_out_expired_items(store: Queryable, own: str) -> None:
    """An expired value is not found."""
    await store.write(Put(f"{own}a", document(own), ttl=1))
    await store.write(Put(f"{own}b", document(own)))
    await gone(store, f"{own}a", 5.0)
    assert await found(store, own, None) == ["b"]


@pytest.mark.promises.with_args(Queryable)
@pytest.mark.parametrize(
    "query",
    [
        {"filter": {"EQUALS": {"a": 1}}},
        {"filter": {"EQ": {"a": 1}, "NEQ": {"a": 2}}},
        {"filter": {"EQ": {"a": 1, "b": 2}}},
        {"filter": {"EQ": "a"}},
        {"filter": {"EQ": {"a": [1]}}},
        {"filter": {"EQ": {"": 1}}},
        {"filter": {"EQ": {"a..b": 1}}},
        {"filter": {"EQ": {'a"b': 1}}},
        {"filter": {"EQ": {"a": float("nan")}}},
        {"filter": {"EQ": {"a": 10**400}}},
        {"filter": {"GT": {"a": True}}},
        {"filter": {"LT": {"a": None}}},
        {"filter": {"IN": {"a": "b"}}},
        {"filter": {"IN": {"a": [{}]}}},
        {"filter": {"AND": []}},
        {"filter": {"AND": {"EQ": {"a": 1}}}},
        {"filter": {"OR": [1]}},
        {"filter": [1]},
        {"sort": {"key": "a"}},
        {"sort": [{"key": "a", "order": "UP"}]},
        {"sort": [{"order": "ASC"}]},
        {"sort": ["a"]},
        {"page": {"limit": -1}},
        {"page": {"limit": "many"}},
        {"page": {"limit": True}},
        {"page": {"token": 7}},
        {"page": {"token": "no token!"}},
        {"page": [1]},
        {"filters": {}},
    ],
    ids=str,
)
async def test_query_that_is_not_understood_is_invalid(store: Queryable, query: Any) -> None:
    """A mistake in a query is the caller's, and never a guess of what was meant."""
    with pytest.raises(Invalid):
        await store.query(query)


@pytest.mark.promises.with_args(Queryable)
async def test_deep_and_wide_filters_are_refused(store: Queryable) -> None:
    """A filter has a bound, so that nobody can exhaust the engine with one."""
    deep: dict[str, Any] = {"EQ": {"a": 1}}
    for _ in range(200):
        deep = {"AND": [deep]}
    with pytest.raises(Invalid):
        await store.query({"filter": deep})
    with pytest.raises(Invalid):
        await store.query({"filter": {"OR": [{"EQ": {"a": 1}}] * 5000}})


@pytest.mark.promises.with_args(Queryable)
async def test_token_of_another_query_is_invalid(people: Queryable, own: str) -> None:
    """A page goes on with the query it belongs to."""
    selected = {"EQ": {"own": own}}
    answer = await people.query({"filter": selected, "page": {"limit": 1}})
    with pytest.raises(Invalid):
        await people.query({"page": {"limit": 1, "token": answer.token}})


# Abilities.


@pytest.mark.parametrize(
    ("ability", "method"),
    [(Transactional, "transact"), (Listable, "list"), (Watchable, "watch"), (Queryable, "query")],
)
def test_methods_say_what_a_store_can(subject: Subject, ability: type, method: str) -> None:
    """A store has the methods of an ability exactly when it promises the ability."""
    assert hasattr(subject.component, method) == subject.promises(ability)
