"""What is particular about locks in etcd: leases, revisions as tokens, and lost answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.support.etcd_server import EtcdServer

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.lock import Unlocked
from pillion_components.lock.etcd import EtcdLock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def locks(etcd_server: Mapping[str, str], tmp_path: Path) -> AsyncIterator[EtcdLock]:
    settings = {**etcd_server, "timeout": "2s"}
    context = Context(name="locks", home=tmp_path, app_id="app", settings=settings)
    async with EtcdLock.open(context) as opened:
        yield opened


async def leases(locks: EtcdLock, resource: str) -> int:
    """Return the lease of a lock that is held, 0 when it is not."""
    items = (await locks._client.range(locks._full(resource))).items
    return items[0].lease if items else 0


async def test_one_owner_at_a_time(locks: EtcdLock) -> None:
    """Of fifty who try, one gets the lock; tokens grow from holder to holder."""
    tokens = []
    for _ in range(5):
        got = await asyncio.gather(*(locks.lock("r", f"o{number}", 30) for number in range(50)))
        (owner,) = [number for number, token in enumerate(got) if token is not None]
        tokens.append(got[owner])
        assert await locks.lock("r", f"o{owner}", 30) is None
        assert await locks.unlock("r", "another") is Unlocked.BELONGS_TO_OTHERS
        assert await locks.unlock("r", f"o{owner}") is Unlocked.SUCCESS
        assert await locks.unlock("r", f"o{owner}") is Unlocked.DOES_NOT_EXIST
    assert tokens == sorted(set(tokens))


async def test_lock_ends_at_its_expiry(locks: EtcdLock) -> None:
    """Nobody gets a lock before its expiry; soon after it, somebody does, with a larger token."""
    began = time.monotonic()
    first = await locks.lock("r", "sleeper", 1)
    assert first is not None
    second = None
    while second is None:
        second = await locks.lock("r", "next", 30)
        assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 1
    assert second > first
    assert not await locks.renew("r", "sleeper", 1)
    assert await locks.unlock("r", "sleeper") is Unlocked.BELONGS_TO_OTHERS


async def test_renewal_holds_on_and_keeps_the_token(locks: EtcdLock) -> None:
    """A lock renewed in time is held past its expiry, with the same or another one."""
    token = await locks.lock("r", "o", 1)
    for _ in range(5):
        await asyncio.sleep(0.5)
        assert await locks.renew("r", "o", 1)
        assert await locks.lock("r", "p", 1) is None
    before = await leases(locks, "r")
    assert await locks.renew("r", "o", 40)
    after = await leases(locks, "r")
    assert after != before
    await asyncio.sleep(2.5)
    assert not await locks.renew("r", "p", 40)
    (item,) = (await locks._client.range(locks._full("r"))).items
    assert (item.create_revision, item.lease) == (token, after)
    assert await locks.unlock("r", "o") is Unlocked.SUCCESS


async def test_lost_answer_leaves_no_lock_behind(
    etcd_server: Mapping[str, str], etcd_process: EtcdServer, tmp_path: Path
) -> None:
    """Whoever was told that the lock may not be theirs does not keep it from others.

    The server is frozen at different moments of the operation, some after it took the lock.
    """
    settings = {**etcd_server, "timeout": "300ms"}
    context = Context(name="locks", home=tmp_path, app_id="app", settings=settings)
    lost = 0
    async with EtcdLock.open(context) as locks:
        for moment in range(12):
            resource = f"r{moment}"
            await locks.ping()
            asking = asyncio.gather(locks.lock(resource, "o", 600), return_exceptions=True)
            await asyncio.sleep(moment * 0.0005)
            with etcd_process.frozen():
                (outcome,) = await asking
            if isinstance(outcome, int):
                assert await locks.unlock(resource, "o") is Unlocked.SUCCESS
            else:
                lost += 1
                assert isinstance(outcome, Unavailable)
            async with asyncio.timeout(10):
                while await locks.lock(resource, "p", 5) is None:
                    await asyncio.sleep(0.02)
    assert lost


async def test_lock_survives_a_kill_of_the_server(
    locks: EtcdLock, etcd_process: EtcdServer
) -> None:
    """A lock is held across kill -9 and a restart, and its holder can renew it."""
    token = await locks.lock("r", "o", 30)
    assert token is not None
    await asyncio.to_thread(etcd_process.restart)
    async with asyncio.timeout(15):
        while True:
            try:
                assert await locks.renew("r", "o", 30)
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert await locks.lock("r", "p", 30) is None
    assert await locks.unlock("r", "o") is Unlocked.SUCCESS
    later = await locks.lock("r", "p", 30)
    assert later is not None
    assert later > token


async def test_foreign_key_is_held_by_others(locks: EtcdLock) -> None:
    """A key that another program put is a lock nobody of ours can take, renew or give up."""
    await locks._client.put(locks._full("r"), b"\xff")
    assert await locks.lock("r", "o", 5) is None
    assert not await locks.renew("r", "o", 5)
    assert await locks.unlock("r", "o") is Unlocked.BELONGS_TO_OTHERS


@pytest.mark.parametrize("expiry", [0.0, -1.0, float("nan"), float("inf"), 1e12])
async def test_impossible_expiry_is_refused(locks: EtcdLock, expiry: float) -> None:
    """An expiry that is no time or no end is the request's fault."""
    with pytest.raises(Invalid, match="expiry"):
        await locks.lock("r", "o", expiry)
