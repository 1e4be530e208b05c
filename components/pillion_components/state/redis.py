"""``state.redis``: values in Redis or Valkey, as Dapr's component of that name lays them out.

Every write is one script, so its condition and its effect are one step. How durable an
acknowledged write is depends on the server: with ``appendonly yes`` it survives the death of the
server's process, with ``appendfsync always`` that of the machine; without a log on disk it is in
memory only. Needs Redis 5 or newer, and 6 or newer to list keys.

Redis has no index of its keys: every page of a listing walks through all keys of the database.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pillion.errors import Conflict, Failure, Invalid, Unavailable, Unsupported
from pillion.kinds.component import Context
from pillion.kinds.settings import setting, settings_of, whole
from pillion.kinds.state import (
    Changed,
    Expiring,
    Item,
    Listable,
    Page,
    Put,
    Transactional,
    Watchable,
    Write,
)
from pillion_components import _redis
from pillion_components._first_keys import FirstKeys
from pillion_components._redis.scripts import READ, WRITE
from pillion_components._redis.settings import ConnectionSettings, duration

if TYPE_CHECKING:
    from pillion_components._redis.client import Client, Script

_SCAN_AT_ONCE = b"1000"
_FIRST_VERSION_BITS = 48
_TROUBLE_PAUSE = 0.5
"""Seconds after which a watch looks again when the server could not be asked."""


def _none_or(read: Any) -> Any:
    return lambda text: read(text) if text.strip() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConnectionSettings):
    """The metadata of ``state.redis``."""

    ttl_in_seconds: int | None = setting(
        "seconds until a value disappears that is saved without a time of its own; "
        "without it, or with -1, it stays",
        default="",
        read=_none_or(whole(-1, 2**31 - 1)),
    )
    watch_interval: float = setting(
        "time between two looks at a watched key", default="500ms", read=duration
    )
    query_indexes: str = setting("indexes for queries; not supported", default="")


class RedisState(Expiring, Transactional, Listable, Watchable):
    """Values as hashes with ``data`` and ``version``; the version is the entity tag."""

    settings: ClassVar[type] = Settings
    requires = ("redis",)

    def __init__(self, client: Client, settings: Settings, read: Script, write: Script) -> None:
        self._client = client
        self._settings = settings
        self._read, self._write = read, write
        self._to_read, self._to_write = settings.time_to_read(), settings.time_to_write()

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the store; the server need not be there yet.

        Raises:
            Invalid: a setting is missing, wrong or not supported.
        """
        settings = settings_of(Settings, context.settings, context.name)
        if settings.query_indexes:
            raise Invalid(f"component {context.name}: queryIndexes is not supported; remove it")
        async with _redis.connected(settings, context.name) as client:
            from pillion_components._redis.client import Script

            yield cls(client, settings, Script(READ), Script(WRITE))

    async def ping(self) -> None:
        """Ask the server."""
        (reply,) = await self._client.run([(b"PING",)], within=self._to_read, again=True)
        self._check(reply)

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item; see the kind."""
        (item,) = await self.get_many((key,), strong=strong)
        return item

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        """Return the items, in one round trip; see the kind."""
        if not keys:
            return []
        replies = await self._client.call(
            self._read,
            [((key.encode(),), ()) for key in keys],
            within=self._to_read,
            again=True,
        )
        return [self._item(key, reply) for key, reply in zip(keys, replies, strict=True)]

    async def write(self, change: Write) -> None:
        """Make one change; see the kind."""
        await self.transact((change,))

    async def write_many(self, changes: Sequence[Write]) -> list[Exception | None]:
        """Make changes in one round trip; see the kind."""
        results: list[Exception | None] = [None] * len(changes)
        calls = {}
        for at, change in enumerate(changes):
            try:
                calls[at] = ((change.key.encode(),), self._values(change))
            except Failure as failure:
                results[at] = failure
        if not calls:
            return results
        try:
            replies: Sequence[Any] = await self._client.call(
                self._write, list(calls.values()), within=self._to_write
            )
        except Failure as failure:
            replies = [failure] * len(calls)
        for at, reply in zip(calls, replies, strict=True):
            try:
                self._outcome(reply, (changes[at],))
            except Failure as failure:
                results[at] = failure
        return results

    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes or none; see the kind."""
        if not changes:
            return
        keys = [change.key.encode() for change in changes]
        values = [value for change in changes for value in self._values(change)]
        (reply,) = await self._client.call(self._write, [(keys, values)], within=self._to_write)
        self._outcome(reply, changes)

    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return keys in the order of their bytes; see the kind.

        The token is the last key of the page before, in hexadecimal digits.

        Raises:
            Unsupported: the server is older than Redis 6.
        """
        first = FirstKeys(prefix.encode(), _after(token), limit)
        until = time.monotonic() + self._to_read
        async for keys in self._scan(prefix.encode(), until):
            for key in keys:
                first.add(key)
        found, last = first.page()
        return Page(_texts(found), last.hex() if last is not None else None)

    async def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state, then newer ones; see the kind.

        The server tells nobody about changes unless it is configured to, and then not reliably; so
        this looks at the key's version every ``watchInterval``.
        """
        seen: Item | None = None
        first = True
        while True:
            try:
                if first or await self._moved(key, seen):
                    item = await self.get(key)
                    if first or _differ(seen, item):
                        yield Changed(key, item)
                    seen, first = item, False
            except Unavailable as failure:
                if failure.reason == "closed":
                    return
                await asyncio.sleep(_TROUBLE_PAUSE)
            else:
                await asyncio.sleep(self._settings.watch_interval)

    async def _moved(self, key: str, seen: Item | None) -> bool:
        (reply,) = await self._client.run(
            [(b"HGET", key.encode(), b"version")], within=self._to_read, again=True
        )
        if isinstance(reply, Exception):
            return True  # a plain text has no version; get() knows
        return reply is None or seen is None or bool(reply.decode() != seen.etag)

    async def _scan(self, prefix: bytes, until: float) -> AsyncIterator[Sequence[bytes]]:
        pattern = b"".join(
            b"\\" + bytes((byte,)) if byte in b"*?[]\\" else bytes((byte,)) for byte in prefix
        )
        cursor = b"0"
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"{self._client.place} has too many keys to list in time; raise timeout",
                    reason="deadline",
                )
            scan = (b"SCAN", cursor, b"MATCH", pattern + b"*", b"COUNT", _SCAN_AT_ONCE)
            (reply,) = await self._client.run([(*scan, b"TYPE", b"hash")], within=left, again=True)
            if isinstance(reply, Exception) and "syntax error" in str(reply):
                raise Unsupported(f"{self._client.place} cannot list keys; Redis 6 and newer can")
            self._check(reply)
            cursor, keys = reply
            yield keys
            if cursor == b"0":
                return

    def _values(self, change: Write) -> tuple[bytes, ...]:
        """Return what the script wants to know of a change."""
        if change.etag is not None and not (change.etag.isascii() and change.etag.isdecimal()):
            raise Invalid(
                f"{change.etag[:60]!r} is no entity tag of this store; send the one that a get "
                "returned",
                reason="etag-invalid",
            )
        tag = (change.etag or "").encode()
        if not isinstance(change, Put):
            return (b"delete", tag, b"", b"", b"")
        ttl = change.ttl if change.ttl is not None else self._settings.ttl_in_seconds
        end = b"%d" % ttl if ttl is not None and ttl > 0 else b""
        start = b"%d" % (secrets.randbits(_FIRST_VERSION_BITS) + 1)
        return (b"create" if change.create_only else b"put", tag, change.value, end, start)

    def _outcome(self, reply: Any, changes: Sequence[Write]) -> None:
        self._check(reply)
        if reply == 0:
            return
        key = changes[abs(reply) - 1].key
        if reply < 0:
            raise self._foreign(key)
        raise Conflict(f"key {key}: the value is not the one that the entity tag stands for")

    def _item(self, key: str, reply: Any) -> Item | None:
        self._check(reply)
        if reply is None:
            return None
        if reply == b"foreign":
            raise self._foreign(key)
        value, version, left = reply
        expires = time.time() + left / 1000 if left >= 0 else None
        return Item(key, value, version.decode(), expires)

    def _check(self, reply: Any) -> None:
        if isinstance(reply, Failure):
            raise reply
        if isinstance(reply, Exception):
            raise self._client.refused(reply)

    def _foreign(self, key: str) -> Invalid:
        return Invalid(f"{self._client.place} has data of another program at key {key}")


def _after(token: str | None) -> bytes:
    try:
        return bytes.fromhex(token or "")
    except ValueError:
        raise Invalid("the token is none of this store's; begin without one") from None


def _texts(keys: Sequence[bytes]) -> tuple[str, ...]:
    """Return the keys that are text; others are not of this store."""
    texts = []
    for key in keys:
        with suppress(UnicodeDecodeError):
            texts.append(key.decode())
    return tuple(texts)


def _differ(one: Item | None, other: Item | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.etag != other.etag or (one.etag == "0" and one.value != other.value)


__all__ = ["RedisState", "Settings"]
