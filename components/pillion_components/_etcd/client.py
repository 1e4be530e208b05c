"""The client: the operations of etcd's key-value, lease and watch services that we use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from pillion_components._etcd import messages
from pillion_components._etcd.connection import Connection
from pillion_components._etcd.leases import Expiries, Lease, kept
from pillion_components._etcd.model import (
    Compare,
    Delete,
    Get,
    KeyValue,
    News,
    Operation,
    Outcome,
    Page,
    Put,
    Snapshot,
    Target,
)
from pillion_components._etcd.settings import ConnectionSettings
from pillion_components._etcd.watch import follow

_PAGE = 1000


class Granted(NamedTuple):
    """A lease; the server may have chosen a longer time than was asked."""

    id: int
    seconds: int


class Client:
    """One cluster. Every operation ends by its deadline and raises failures only.

    Operations that only read, and those whose repetition does no harm, are tried at another
    endpoint within their deadline; a write is only when it certainly was not sent. ``until`` is
    the loop's time at which an operation gives up, by default the setting ``timeout`` from now.

    Attributes:
        connection: the channels.
        expiries: leases for keys that only have to go away some time after their end.
    """

    def __init__(self, settings: ConnectionSettings, name: str) -> None:
        self.connection = Connection(settings, name)
        self.expiries = Expiries(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def until(self) -> float:
        """Return the loop's time at which an operation that begins now must be over."""
        return self.connection.until()

    def spawn(self, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``body`` in a task that ends with this client at the latest."""
        task = asyncio.get_running_loop().create_task(body)
        if self._closed:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End all tasks and close the connection."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        await self.connection.close()

    # Keys.

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
        until: float | None = None,
    ) -> Page:
        """Read a key, or the keys from ``key`` to before ``range_end``, in order.

        ``serializable`` lets a member answer alone, from what it knows.
        """
        request = messages.RangeRequest(
            key=key,
            range_end=range_end,
            limit=limit,
            revision=revision,
            keys_only=keys_only,
            serializable=serializable,
        )
        answer = await self.connection.call(messages.RANGE, request, again=True, until=until)
        return Page(list(map(_item, answer.kvs)), answer.more, answer.header.revision)

    async def snapshot(self, key: bytes, range_end: bytes = b"", *, page: int = _PAGE) -> Snapshot:
        """Read a key or a range whole, ``page`` keys at a time and all at one revision."""
        found = await self.range(key, range_end, limit=page)
        items, revision = found.items, found.revision
        while found.more:
            start = items[-1].key + b"\0"
            found = await self.range(start, range_end, limit=page, revision=revision)
            items.extend(found.items)
        return Snapshot(items, revision)

    async def put(
        self, key: bytes, value: bytes, lease: int = 0, *, until: float | None = None
    ) -> int:
        """Write a key and return the revision.

        Raises:
            NotFound: the lease is gone.
        """
        request = messages.PutRequest(key=key, value=value, lease=lease)
        answer = await self.connection.call(messages.PUT, request, again=False, until=until)
        revision: int = answer.header.revision
        return revision

    async def delete(
        self, key: bytes, range_end: bytes = b"", *, until: float | None = None
    ) -> int:
        """Delete a key or a range and return how many keys there were."""
        request = messages.DeleteRangeRequest(key=key, range_end=range_end)
        answer = await self.connection.call(messages.DELETE, request, again=False, until=until)
        deleted: int = answer.deleted
        return deleted

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        until: float | None = None,
    ) -> Outcome:
        """Do ``success`` when all comparisons hold, else ``failure``, in one step."""
        request = messages.TxnRequest(
            compare=[_COMPARES[one.target](one) for one in compares],
            success=[_OPERATIONS[type(one)](one) for one in success],
            failure=[_OPERATIONS[type(one)](one) for one in failure],
        )
        again = all(type(one) is Get for one in (*success, *failure))
        answer = await self.connection.call(messages.TXN, request, again=again, until=until)
        found = [list(map(_item, one.response_range.kvs)) for one in answer.responses]
        return Outcome(answer.succeeded, answer.header.revision, found)

    def watch(self, key: bytes, range_end: bytes = b"") -> AsyncGenerator[News, None]:
        """Yield a Snapshot, then every change after it; see :mod:`.watch`."""
        return follow(self, key, range_end)

    # Leases.

    async def grant(self, seconds: int, *, until: float | None = None) -> Granted:
        """Make a lease."""
        request = messages.LeaseGrantRequest(TTL=seconds)
        answer = await self.connection.call(messages.GRANT, request, again=True, until=until)
        return Granted(answer.ID, answer.TTL)

    async def revoke(self, lease: int, *, until: float | None = None) -> None:
        """End a lease and delete its keys.

        Raises:
            NotFound: it has ended.
        """
        request = messages.LeaseRevokeRequest(ID=lease)
        await self.connection.call(messages.REVOKE, request, again=True, until=until)

    async def keep_alive(self, lease: int, *, until: float | None = None) -> int:
        """Begin a lease's time anew; return its seconds, 0 when it has ended."""
        # The procedure takes streams; one request and one answer are the shortest of them.
        request = messages.LeaseKeepAliveRequest(ID=lease)
        answer = await self.connection.call(messages.KEEP_ALIVE, request, again=True, until=until)
        return max(int(answer.TTL), 0)

    def lease(self, seconds: int) -> AbstractAsyncContextManager[Lease]:
        """Hold a lease that is kept alive until the context is left, and revoked then."""
        return kept(self, seconds)


def _item(kv: Any) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


_COMPARES: dict[Target, Callable[[Compare], Any]] = {
    Target.VERSION: lambda one: messages.Compare(target=0, key=one.key, version=one.number),
    Target.CREATE: lambda one: messages.Compare(target=1, key=one.key, create_revision=one.number),
    Target.MOD: lambda one: messages.Compare(target=2, key=one.key, mod_revision=one.number),
}


def _get(one: Get) -> Any:
    return messages.RequestOp(
        request_range=messages.RangeRequest(
            key=one.key,
            range_end=one.range_end,
            limit=one.limit,
            serializable=one.serializable,
        )
    )


def _put(one: Put) -> Any:
    return messages.RequestOp(
        request_put=messages.PutRequest(key=one.key, value=one.value, lease=one.lease)
    )


def _delete(one: Delete) -> Any:
    return messages.RequestOp(request_delete_range=messages.DeleteRangeRequest(key=one.key))


_OPERATIONS: dict[type, Callable[[Any], Any]] = {Get: _get, Put: _put, Delete: _delete}

__all__ = ["Client", "Granted"]
