"""``lock.etcd``: locks in an etcd cluster.

A lock is a key with a lease of its own, so it ends by the cluster's clock whatever happens to its
holder. etcd counts leases in whole seconds and has a shortest one (about one and a half of its
election timeouts, two seconds by default): an expiry is rounded up to that, never down. After a
change of leader a lock may last one expiry longer.

The fencing token is the revision at which the key was created. etcd's revision grows with every
change in the cluster, so of two acquisitions the later has the larger one.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from pillion.errors import Failure, Invalid, NotFound, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion.kinds.settings import settings_of
from pillion_components._etcd import connected
from pillion_components._etcd.model import Compare, Delete, Get, KeyValue, Put, Target
from pillion_components._etcd.settings import ConnectionSettings

if TYPE_CHECKING:
    from pillion_components._etcd.client import Client

_LONGEST = 1_000_000_000
"""Seconds; etcd's own limit is nine times that."""

_TRIES = 4


class Holder(NamedTuple):
    """What a lock's key holds: by whom, and for how many seconds it was asked."""

    owner: str | None
    seconds: int


class EtcdLock(LockStore):
    """Locks in etcd."""

    settings: ClassVar[type[ConnectionSettings]] = ConnectionSettings
    requires: ClassVar[tuple[str, ...]] = ("etcd",)

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path.encode() + b"/"

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the store; the cluster need not be up yet.

        Raises:
            Invalid: a setting is missing or wrong, or grpcio or protobuf is not installed.
        """
        settings = settings_of(ConnectionSettings, context.settings, context.name)
        async with connected(settings, context.name) as client:
            yield cls(client, settings.key_prefix_path)

    async def ping(self) -> None:
        """Read one key, which takes most members."""
        await self._client.range(self._path, limit=1, keys_only=True)

    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        """Take the lock; see the kind.

        Raises:
            Invalid: the expiry is no time at all or longer than thirty years.
        """
        key, seconds, until = self._full(resource), _whole(expiry), self._client.until()
        # A look is cheap; a lease that nobody will use is a write to every member.
        if (await self._client.range(key, until=until)).items:
            return None
        lease = (await self._client.grant(seconds, until=until)).id
        token = None
        try:
            outcome = await self._client.txn(
                [Compare(key, Target.CREATE, 0)],
                [Put(key, _written(owner, seconds), lease)],
                [Get(key)],
                until=until,
            )
            if outcome.succeeded:
                token = outcome.revision
        except NotFound as failure:
            raise Unavailable(
                f"the lock {resource}: its lease ended before it was taken; try again"
            ) from failure
        finally:
            if token is None:
                # Whoever was not told of the lock must not keep it; the lease would end anyway.
                self._client.spawn(self._drop(lease))
        return token

    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        """Hold on; see the kind."""
        key, seconds, until = self._full(resource), _whole(expiry), self._client.until()
        for _ in range(_TRIES):
            found = await self._held(key, until)
            if found is None or found[1].owner != owner:
                return False
            kv, holder = found
            if holder.seconds == seconds:
                if await self._client.keep_alive(kv.lease, until=until):
                    return True
            elif await self._move(kv, _written(owner, seconds), seconds, until):
                return True
            # It ended, or was renewed, moved or taken, since it was read.
        raise Unavailable(f"the lock {resource} changes too fast to be renewed; try again")

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give the lock up; see the kind."""
        key, until = self._full(resource), self._client.until()
        for _ in range(_TRIES):
            found = await self._held(key, until)
            if found is None:
                return Unlocked.DOES_NOT_EXIST
            kv, holder = found
            if holder.owner != owner:
                return Unlocked.BELONGS_TO_OTHERS
            outcome = await self._client.txn(
                [Compare(key, Target.CREATE, kv.create_revision)], [Delete(key)], until=until
            )
            if outcome.succeeded:
                self._client.spawn(self._drop(kv.lease))
                return Unlocked.SUCCESS
            # It ended since it was read, and may be somebody else's by now.
        raise Unavailable(f"the lock {resource} changes too fast to be given up; try again")

    async def _held(self, key: bytes, until: float) -> tuple[KeyValue, Holder] | None:
        items = (await self._client.range(key, until=until)).items
        return (items[0], _read(items[0].value)) if items else None

    async def _move(self, kv: KeyValue, value: bytes, seconds: int, until: float) -> bool:
        """Give a lock that stays held a lease of another length."""
        lease = (await self._client.grant(seconds, until=until)).id
        # When the answer is lost the key may be on either lease, so that none is revoked then.
        outcome = await self._client.txn(
            [Compare(kv.key, Target.MOD, kv.mod_revision)],
            [Put(kv.key, value, lease)],
            until=until,
        )
        self._client.spawn(self._drop(kv.lease if outcome.succeeded else lease))
        return outcome.succeeded

    async def _drop(self, lease: int) -> None:
        with suppress(Failure):
            await self._client.revoke(lease)

    def _full(self, resource: str) -> bytes:
        try:
            return self._path + resource.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"the resource {resource[:40]!r} is no text: {error.reason}") from error


def _whole(expiry: float) -> int:
    if not 0 < expiry <= _LONGEST:
        raise Invalid(f"an expiry of {expiry:g} s; a lock lasts from a second to thirty years")
    return math.ceil(expiry)


def _written(owner: str, seconds: int) -> bytes:
    return json.dumps({"owner": owner, "seconds": seconds}).encode()


def _read(value: bytes) -> Holder:
    try:
        fields = json.loads(value)
        return Holder(str(fields["owner"]), int(fields["seconds"]))
    except (ValueError, TypeError, KeyError):
        # Another program's key: held, and by none of our owners.
        return Holder(None, 0)


__all__ = ["EtcdLock"]
