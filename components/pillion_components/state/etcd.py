"""``state.etcd``: values in an etcd cluster, stored as Dapr's component of this name (v2) does.

A write that returned was agreed on by most members and is on their disks. Strong reads see every
write before them; others may be answered by a member that lags behind.

The entity tag is the key's ``mod_revision``, with the end of the value when it has one. A value's
end is kept beside it, so it is missing on time by the clock of whoever reads; a lease removes the
key from etcd, up to an eighth of its time to live (at least a second) later. Leases are shared by
keys that end at about the same time, because one per key would double the writes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from pillion.errors import Invalid, NotFound, TooLarge
from pillion.kinds.component import Context
from pillion.kinds.settings import setting, settings_of, whole
from pillion.kinds.state import (
    Changed,
    Expiring,
    Item,
    Listable,
    Page,
    Remove,
    Transactional,
    Watchable,
    Write,
)
from pillion_components._etcd import connected, model
from pillion_components._etcd.each import each
from pillion_components._etcd.latest import Latest
from pillion_components._etcd.settings import ConnectionSettings
from pillion_components.state._etcd_changes import Step, fold, moved, tag_of

if TYPE_CHECKING:
    from pillion_components._etcd.client import Client

_AT_ONCE = 32
"""Calls of one operation that are under way at the same time."""

_LARGEST_PAGE = 10_000
_TRIES = 4


# In the class "list" is the operation.
Items: TypeAlias = list[Item | None]
Outcomes: TypeAlias = list[Exception | None]
Found: TypeAlias = list[list[model.KeyValue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConnectionSettings):
    """The cluster, and how much it takes at once."""

    max_txn_ops: int = setting(
        "operations in one transaction; the servers' --max-txn-ops",
        default="128",
        read=whole(1, 100_000),
    )


class EtcdState(Expiring, Transactional, Listable, Watchable):
    """Values in etcd."""

    settings: ClassVar[type[Settings]] = Settings
    requires: ClassVar[tuple[str, ...]] = ("etcd",)
    max_operations: int = 128

    def __init__(self, client: Client, envelope: ModuleType, settings: Settings) -> None:
        self._client = client
        self._envelope: Any = envelope
        self._path = settings.key_prefix_path.encode() + b"/"
        self.max_operations = settings.max_txn_ops

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the store; the cluster need not be up yet.

        Raises:
            Invalid: a setting is missing or wrong, or grpcio or protobuf is not installed.
        """
        settings = settings_of(Settings, context.settings, context.name)
        async with connected(settings, context.name) as client:
            from pillion_components._etcd import envelope

            yield cls(client, envelope, settings)

    async def ping(self) -> None:
        """Read one key, which takes most members."""
        await self._client.range(self._path, limit=1, keys_only=True)

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item; see the kind."""
        page = await self._client.range(self._full(key), serializable=not strong)
        return self._live(page.items, key)

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> Items:
        """Return the items, one round trip per ``maxTxnOps`` keys and these side by side."""
        until = self._client.until()
        gets = [model.Get(self._full(key), serializable=not strong) for key in keys]
        size = self.max_operations
        chunks = [gets[start : start + size] for start in range(0, len(gets), size)]

        async def read(chunk: Sequence[model.Get]) -> model.Outcome:
            return await self._client.txn((), chunk, until=until)

        outcomes = await each(_AT_ONCE, read, chunks)
        found: Found = []
        while outcomes:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                try:
                    raise outcome
                finally:
                    del outcome  # its traceback refers to this frame
            found.extend(outcome.found)
        return [self._live(items, key) for items, key in zip(found, keys, strict=True)]

    async def write(self, change: Write) -> None:
        """Make one change; see the kind."""
        await self._commit([change])

    async def write_many(self, changes: Sequence[Write]) -> Outcomes:
        """Make changes side by side, those of one key in their order; see the kind."""
        results: Outcomes = [None] * len(changes)
        positions: dict[str, list[int]] = {}
        for position, change in enumerate(changes):
            positions.setdefault(change.key, []).append(position)

        async def write(mine: Sequence[int]) -> None:
            for position in mine:
                (results[position],) = await each(1, self.write, [changes[position]])

        await each(_AT_ONCE, write, list(positions.values()))
        return results

    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes or none; see the kind.

        Raises:
            Invalid: there are more than ``maxTxnOps``.
        """
        if len(changes) > self.max_operations:
            raise Invalid(
                f"{len(changes)} operations in one transaction; this store takes "
                f"{self.max_operations} (maxTxnOps)",
                reason="too-many",
            )
        await self._commit(changes)

    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return keys in the order of their UTF-8; a page may hold fewer than there are."""
        if limit < 1:
            raise Invalid(f"a page of {limit} keys; ask for at least one")
        first = self._full(prefix)
        start = first if token is None else _after(token, first)
        limit = min(limit, _LARGEST_PAGE)
        page = await self._client.range(start, model.prefix_end(first), limit=limit, keys_only=True)
        named = {}
        for item in page.items:
            try:
                named[item.key[len(self._path) :].decode()] = item.lease
            except UnicodeDecodeError:
                continue  # another program's
        ending = [key for key, lease in named.items() if lease]
        for key, found in zip(ending, await self.get_many(ending), strict=True):
            if found is None:
                del named[key]
        following = _token(page.items[-1].key) if page.more and page.items else None
        return Page(tuple(named), following)

    async def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state, then every newer one; see the kind."""
        latest: Latest[model.KeyValue | None] = Latest()
        task = self._client.spawn(latest.follow(_states(self._client.watch(self._full(key)))))
        seen: str | None = ""
        item: Item | None = None
        try:
            while True:
                ends = item.expires if item else None
                got = await latest.next(None if ends is None else max(ends - time.time(), 0.0))
                if got is None:
                    return
                for kv in got:
                    item = self._live([kv] if kv else [], key)
                if not got and ends is not None and ends <= time.time():
                    item = None
                tag = item.etag if item else None
                if tag != seen:
                    seen = tag
                    yield Changed(key, item)
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _full(self, key: str) -> bytes:
        try:
            return self._path + key.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"the key {key[:40]!r} is no text: {error.reason}") from error

    def _live(self, items: Sequence[model.KeyValue], key: str) -> Item | None:
        if not items:
            return None
        value, expires = self._envelope.unwrap(items[0].value)
        if expires is not None and expires <= time.time():
            return None
        return Item(key, value, tag_of(items[0].mod_revision, expires), expires)

    async def _commit(self, changes: Sequence[Write]) -> None:
        now, until = time.time(), self._client.until()
        steps = fold(changes, now)
        if not steps:
            return
        try:
            try:
                await self._try(steps, now, until)
            except NotFound:
                # A shared lease was revoked or its cluster replaced; those of later writes too.
                self._client.expiries.clear()
                await self._try(steps, now, until)
        except TooLarge as failure:
            raise Invalid(failure.message, reason=failure.reason) from failure

    async def _try(self, steps: Sequence[Step], now: float, until: float) -> None:
        writes = [await self._operation(step, now, until) for step in steps]
        only = writes[0]
        if len(steps) == 1 and steps[0].revision is None:
            if isinstance(only, model.Put):
                await self._client.put(only.key, only.value, only.lease, until=until)
            else:
                await self._client.delete(only.key, until=until)
            return
        for _ in range(_TRIES):
            guarded = [
                (self._full(step.key), step.revision, step)
                for step in steps
                if step.revision is not None
            ]
            outcome = await self._client.txn(
                [model.Compare(key, model.Target.MOD, revision) for key, revision, _ in guarded],
                writes,
                [model.Get(key) for key, _, _ in guarded],
                until=until,
            )
            if outcome.succeeded:
                return
            for (_, _, step), found in zip(guarded, outcome.found, strict=True):
                self._reconsider(step, found)
        raise moved(steps[0].key)

    def _reconsider(self, step: Step, found: Sequence[model.KeyValue]) -> None:
        """Let a step create a key whose old value has expired but is not removed yet."""
        present = found[0].mod_revision if found else 0
        if present == step.revision:
            return
        if not step.creates or self._live(found, step.key) is not None:
            raise moved(step.key)
        step.revision = present

    async def _operation(self, step: Step, now: float, until: float) -> model.Operation:
        key, change = self._full(step.key), step.change
        if isinstance(change, Remove):
            return model.Delete(key)
        lease = 0
        if change.ttl is not None:
            lease = await self._client.expiries.lease(change.ttl, until=until)
        return model.Put(key, self._envelope.wrap(change.value, now, change.ttl), lease)


async def _states(
    news: AsyncGenerator[model.News, None],
) -> AsyncGenerator[model.KeyValue | None, None]:
    """Yield what a single watched key is, None when it is missing."""
    async with aclosing(news):
        async for one in news:
            if isinstance(one, model.Snapshot):
                yield one.items[0] if one.items else None
            else:
                last = one.events[-1]
                yield None if last.deleted else last.item


def _token(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _after(token: str, prefix: bytes) -> bytes:
    try:
        key = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key.startswith(prefix) or _token(key) != token:
        raise Invalid("the token is none that this store gave for this prefix")
    return key + b"\0"


__all__ = ["EtcdState", "Settings"]
