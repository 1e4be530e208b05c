"""Leases: one that is held, and those that many keys share."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pillion.errors import Failure, Invalid
from pillion_components._etcd.backoff import Backoff

if TYPE_CHECKING:
    from pillion_components._etcd.client import Client

_LONGEST = 9_000_000_000
"""Seconds of the longest lease etcd grants."""

_SHARED = 1024
"""Leases remembered; forgetting one costs a grant."""

# The time that passes while a machine sleeps counts.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """A lease that is kept alive.

    Attributes:
        id: its number.
        seconds: how long it lasts without being kept alive.
        lost: set when it has ended, or may have ended because no endpoint could be reached.
    """

    __slots__ = ("id", "lost", "seconds")

    def __init__(self, number: int, seconds: int) -> None:
        self.id = number
        self.seconds = seconds
        self.lost = asyncio.Event()


@asynccontextmanager
async def kept(client: Client, seconds: int) -> AsyncIterator[Lease]:
    """Hold a lease and keep it alive in a task of the client; revoke it on leaving."""
    began = time.clock_gettime(_CLOCK)
    granted = await client.grant(seconds)
    lease = Lease(granted.id, granted.seconds)
    task = client.spawn(_keep(client, lease, began))
    try:
        yield lease
    finally:
        task.cancel()
        await asyncio.wait({task})
        with suppress(Failure):
            await client.revoke(lease.id)


async def _keep(client: Client, lease: Lease, began: float) -> None:
    backoff = Backoff()
    try:
        pause = lease.seconds / 3
        while (left := began + lease.seconds - time.clock_gettime(_CLOCK)) > 0:
            await asyncio.sleep(min(pause, left))
            asked = time.clock_gettime(_CLOCK)
            try:
                until = asyncio.get_running_loop().time() + max(lease.seconds / 3, 0.1)
                if not await client.keep_alive(lease.id, until=until):
                    return
            except Failure:
                pause = backoff.next()
            else:
                began = asked
                pause = lease.seconds / 3
                backoff.reset()
    finally:
        lease.lost.set()


class Expiries:
    """Leases that remove keys after their end; keys that end at about the same time share one.

    A lease per key would double the writes of every key that expires, and etcd ends about a
    thousand leases a second. A key may stay up to an eighth of its time, or a second, longer than
    it must: whoever cares keeps the exact end in the value.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._slots: dict[tuple[int, int], asyncio.Future[int]] = {}

    async def lease(self, seconds: int, *, until: float | None = None) -> int:
        """Return a lease that lasts at least ``seconds`` from now.

        Raises:
            Invalid: etcd grants no lease that long, or it is no time at all.
            Unavailable: no endpoint could be reached.
        """
        if not 0 < seconds <= _LONGEST:
            raise Invalid(f"a time to live of {seconds} s; etcd takes 1 to {_LONGEST}")
        now = time.clock_gettime(_CLOCK)
        width = 1 << max((seconds // 8).bit_length() - 1, 0)
        slot = width, math.ceil((now + seconds) / width)
        future = self._slots.get(slot)
        if future is None:
            length = min(math.ceil(slot[1] * width - now), _LONGEST)
            return await self._grant(slot, length, until)
        await asyncio.wait({future})
        if future.cancelled():
            return await self.lease(seconds, until=until)
        return future.result()

    def clear(self) -> None:
        """Forget all leases, after one turned out to be gone."""
        self._slots.clear()

    async def _grant(self, slot: tuple[int, int], seconds: int, until: float | None) -> int:
        self._make_room()
        future = self._slots[slot] = asyncio.get_running_loop().create_future()
        try:
            lease = (await self._client.grant(seconds, until=until)).id
        except BaseException:
            self._slots.pop(slot, None)
            future.cancel()  # those that wait ask for themselves
            raise
        future.set_result(lease)
        return lease

    def _make_room(self) -> None:
        if len(self._slots) < _SHARED:
            return
        now = time.clock_gettime(_CLOCK)
        over = [slot for slot in self._slots if slot[0] * slot[1] < now]
        for slot in over or list(self._slots)[: _SHARED // 2]:
            del self._slots[slot]


__all__ = ["Expiries", "Lease", "kept"]
