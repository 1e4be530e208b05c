"""What every lock store keeps: one holder at a time, ends at the expiry, tokens that grow."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pillion.errors import Invalid
from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion_conformance.peers import Peer, together
from pillion_conformance.plugin import Opener, Subject

pytestmark = pytest.mark.anyio

LONG = 60.0
SHORT = 2.0
"""Seconds; engines that count in whole seconds can keep it."""


@pytest.fixture
def own() -> str:
    """What the resources of one test begin with, because servers outlive tests."""
    return f"{secrets.token_hex(6)}:"


@pytest.fixture
async def store(open_component: Opener) -> AsyncIterator[Any]:
    """One open store."""
    async with open_component() as opened:
        yield opened


async def taken(store: LockStore, resource: str, owner: str, expiry: float = LONG) -> int:
    token = await store.lock(resource, owner, expiry)
    assert token is not None
    return token


async def until_taken(store: LockStore, resource: str, owner: str, seconds: float) -> int:
    """Try until the lock is taken; return its token."""
    async with asyncio.timeout(seconds):
        while (token := await store.lock(resource, owner, LONG)) is None:
            await asyncio.sleep(0.02)
    return token


async def test_open_store_answers_ping(store: LockStore) -> None:
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


async def test_held_lock_is_nobody_elses(open_component: Opener, own: str) -> None:
    """While one owner holds a resource another gets nothing, through any opener."""
    async with open_component() as here, open_component() as there:
        await taken(here, own, "a")
        assert await here.lock(own, "b", LONG) is None
        assert await there.lock(own, "b", LONG) is None


async def test_lock_is_not_reentrant(store: LockStore, own: str) -> None:
    """The holder does not get the lock a second time, and keeps it."""
    await taken(store, own, "a")
    assert await store.lock(own, "a", LONG) is None
    assert await store.unlock(own, "a") is Unlocked.SUCCESS


async def test_resources_do_not_touch(store: LockStore, own: str) -> None:
    """Names that differ in one character are different locks."""
    names = ("", "a", "A", "a b", "a/b", "a||b", "*", "é", "a" * 200)
    for name in names:
        await taken(store, own + name, "a")
    for name in names:
        assert await store.unlock(own + name, "a") is Unlocked.SUCCESS


async def test_unlocked_lock_is_free(open_component: Opener, own: str) -> None:
    """After an unlock the next one gets it at once."""
    async with open_component() as here, open_component() as there:
        await taken(here, own, "a")
        assert await here.unlock(own, "a") is Unlocked.SUCCESS
        await taken(there, own, "b")


async def test_unlock_says_what_became_of_it(store: LockStore, own: str) -> None:
    """Nothing there, somebody else's, given up, given up already."""
    assert await store.unlock(own, "a") is Unlocked.DOES_NOT_EXIST
    await taken(store, own, "a")
    assert await store.unlock(own, "b") is Unlocked.BELONGS_TO_OTHERS
    assert await store.lock(own, "b", LONG) is None
    assert await store.unlock(own, "a") is Unlocked.SUCCESS
    assert await store.unlock(own, "a") is Unlocked.DOES_NOT_EXIST


async def test_lock_ends_at_its_expiry(store: LockStore, own: str) -> None:
    """Not before its time, and within a second or so after it."""
    before = time.monotonic()
    await taken(store, own, "a", SHORT)
    returned = time.monotonic()
    await until_taken(store, own, "b", 10.0)
    ended = time.monotonic()
    assert ended >= before + SHORT - 0.05
    assert ended <= returned + SHORT + 1.5


async def test_expired_lock_does_not_exist(store: LockStore, own: str) -> None:
    """Who slept past the expiry has nothing to unlock or renew, even when nobody else took it."""
    await taken(store, own, "a", SHORT)
    await asyncio.sleep(SHORT + 1.5)
    assert await store.renew(own, "a", LONG) is False
    assert await store.unlock(own, "a") is Unlocked.DOES_NOT_EXIST


async def test_holder_that_slept_cannot_do_harm(store: LockStore, own: str) -> None:
    """What the lock protects sees tokens grow, and refuses the old holder by its token."""
    old = await taken(store, own, "a", SHORT)
    new = await until_taken(store, own, "b", 10.0)
    assert new > old
    assert await store.unlock(own, "a") is Unlocked.BELONGS_TO_OTHERS
    assert await store.renew(own, "a", LONG) is False
    assert await store.unlock(own, "b") is Unlocked.SUCCESS


async def test_tokens_grow_with_every_acquisition(open_component: Opener, own: str) -> None:
    """By the same owner or another, through any opener, after an unlock."""
    async with open_component() as here, open_component() as there:
        tokens = []
        for number in range(10):
            owner, store = ("a", here) if number % 3 else ("b", there)
            tokens.append(await taken(store, own, owner))
            await store.unlock(own, owner)
        assert tokens == sorted(set(tokens))
        assert all(type(token) is int for token in tokens)


@pytest.mark.lacks("volatile")
async def test_tokens_grow_and_locks_hold_across_reopening(
    open_component: Opener, own: str
) -> None:
    """Closing the store neither frees a lock nor lets a token come back."""
    async with open_component() as store:
        token = await taken(store, own, "a")
        await taken(store, f"{own}held", "a")
        await store.unlock(own, "a")
    async with open_component() as store:
        assert await taken(store, own, "b") > token
        assert await store.lock(f"{own}held", "b", LONG) is None
        assert await store.unlock(f"{own}held", "a") is Unlocked.SUCCESS


async def test_renewed_lock_outlives_its_expiry(store: LockStore, own: str) -> None:
    """A renewal counts from now; without another one the lock ends then."""
    await taken(store, own, "a", SHORT)
    deadline = time.monotonic() + 2 * SHORT
    while time.monotonic() < deadline:
        await asyncio.sleep(SHORT / 4)
        begun = time.monotonic()
        assert await store.renew(own, "a", SHORT) is True
        assert await store.lock(own, "b", LONG) is None
    await until_taken(store, own, "b", 10.0)
    assert time.monotonic() >= begun + SHORT - 0.05


async def test_only_the_holder_renews(store: LockStore, own: str) -> None:
    """Others do not hold on to what they do not hold, and do not end it either."""
    assert await store.renew(own, "a", LONG) is False
    await taken(store, own, "a")
    assert await store.renew(own, "b", LONG) is False
    assert await store.renew(own, "a", LONG) is True
    await store.unlock(own, "a")
    assert await store.renew(own, "a", LONG) is False


async def test_one_of_a_crowd_gets_the_lock(open_component: Opener, own: str) -> None:
    """Forty owners through two openers at once: one token, thirty-nine times nothing."""
    async with open_component() as here, open_component() as there:
        for round_number in range(3):
            resource = f"{own}{round_number}"
            tries = [
                (here, there)[number % 2].lock(resource, f"owner-{number}", LONG)
                for number in range(40)
            ]
            tokens = await asyncio.gather(*tries)
            winners = [number for number, token in enumerate(tokens) if token is not None]
            assert len(winners) == 1
            assert await here.unlock(resource, f"owner-{winners[0]}") is Unlocked.SUCCESS


async def test_holders_are_never_two(open_component: Opener, own: str) -> None:
    """Eight tasks that take, work and give up in turn never meet, and see their tokens grow."""
    inside: list[str] = []
    tokens: list[int] = []

    async def work(store: LockStore, owner: str) -> None:
        for _ in range(3):
            tokens.append(await until_taken(store, own, owner, 30.0))
            inside.append(owner)
            assert inside == [owner]
            await asyncio.sleep(0.002)
            inside.clear()
            assert await store.unlock(own, owner) is Unlocked.SUCCESS

    async with (
        open_component() as here,
        open_component() as there,
        asyncio.TaskGroup() as group,
    ):
        for number in range(8):
            group.create_task(work((here, there)[number % 2], f"owner-{number}"))
    assert len(tokens) == 24
    assert tokens == sorted(set(tokens))


@pytest.mark.lacks("volatile")
async def test_processes_racing_for_locks_share_them_out(
    store: LockStore,
    subject: Subject,
    component_settings: Mapping[str, Any],
    home: Path,
    own: str,
) -> None:
    """Of two processes that take the same locks at once, each lock has one holder."""
    count = 200
    peers = [
        await Peer.start(
            subject.type_name,
            home,
            component_settings,
            "locks",
            prefix=own,
            name=name,
            count=count,
        )
        for name in ("a", "b")
    ]
    first, second = await together(*peers)
    assert sorted(map(int, [*first, *second])) == list(range(count))
    assert await store.lock(f"{own}0", "c", LONG) is None
