"""``lock.redis``: locks in one Redis or Valkey server.

A lock is a key with its owner as the value and an expiry by the server's clock, as Dapr's
component of that name keeps it. It is as safe as the server: one that forgets its data, or a
replica that takes over before it has heard of a lock, lets a second owner in. The fencing token
grows even then. Needs Redis 5 or newer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion.kinds.settings import settings_of
from pillion_components import _redis
from pillion_components._redis.scripts import LOCK, RENEW, UNLOCK
from pillion_components._redis.settings import ConnectionSettings

if TYPE_CHECKING:
    from pillion_components._redis.client import Client, Script

_COUNTER = b"pillion||fencing"
"""The last fencing token; one for all resources, so that it costs one key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConnectionSettings):
    """The metadata of ``lock.redis``."""


class RedisLock(LockStore):
    """Locks as keys that expire."""

    settings: ClassVar[type] = Settings
    requires = ("redis",)

    def __init__(self, client: Client, timeout: float, scripts: tuple[Script, ...]) -> None:
        self._client = client
        self._timeout = timeout
        self._lock, self._renew, self._unlock = scripts

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the store; the server need not be there yet.

        Raises:
            Invalid: a setting is missing, wrong or not supported.
        """
        settings = settings_of(Settings, context.settings, context.name)
        async with _redis.connected(settings, context.name) as client:
            from pillion_components._redis.client import Script

            scripts = tuple(Script(text) for text in (LOCK, RENEW, UNLOCK))
            yield cls(client, settings.time_to_write(), scripts)

    async def ping(self) -> None:
        """Ask the server."""
        (reply,) = await self._client.run([(b"PING",)], within=self._timeout, again=True)
        if isinstance(reply, Exception):
            raise self._client.refused(reply)

    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        """Take the lock; see the kind."""
        keys = (resource.encode(), _COUNTER)
        token = await self._run(self._lock, keys, owner.encode(), _milliseconds(expiry))
        return token or None

    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        """Hold on; see the kind."""
        keys = (resource.encode(),)
        return await self._run(self._renew, keys, owner.encode(), _milliseconds(expiry)) == 1

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give the lock up; see the kind."""
        return Unlocked(await self._run(self._unlock, (resource.encode(),), owner.encode()))

    async def _run(self, script: Script, keys: tuple[bytes, ...], *values: bytes) -> int:
        (reply,) = await self._client.call(script, [(keys, values)], within=self._timeout)
        if isinstance(reply, Exception):
            raise self._client.refused(reply)
        return int(reply)


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % max(round(seconds * 1000), 1)


__all__ = ["RedisLock", "Settings"]
