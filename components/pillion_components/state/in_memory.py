"""``state.in-memory``: values inside one process, for tests and single-process systems.

Components with the same home and name share their values; the last one to close takes them with
it. Entity tags are random, as in ``state.sqlite``, and queries mean the same. There is no limit
to the number of keys unless ``maxKeys`` sets one: it is a store, and dropping values is not its
to decide. Expired values are missing at once and leave the memory within a second or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from pillion.errors import Unavailable
from pillion.kinds.component import Context
from pillion.kinds.settings import setting, settings_of, whole
from pillion.kinds.state import (
    Answer,
    Changed,
    Expiring,
    Item,
    Listable,
    Page,
    Queryable,
    Transactional,
    Watchable,
    Write,
)
from pillion_components.state import _query, _query_match
from pillion_components.state._space import Space, Watcher, space_of
from pillion_components.state._token import key_after, token_after

Items: TypeAlias = list[Item | None]

_MANY_KEYS = 10**9
_SWEEP = 1.0
"""Seconds between two deletions of expired values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The metadata of ``state.in-memory``."""

    max_keys: int = setting(
        "keys that the store takes; 0 for no limit", default="0", read=whole(0, _MANY_KEYS)
    )


class InMemoryState(Expiring, Transactional, Listable, Watchable, Queryable):
    """Values in this process' memory."""

    settings: ClassVar[type[Settings]] = Settings
    volatile: ClassVar[bool] = True
    """Other processes do not see its values, and they end with this one."""

    def __init__(self, space: Space, settings: Settings) -> None:
        self._space = space
        self._max_keys = settings.max_keys
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watchers: set[Watcher] = set()
        self._open = True

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the values of ``context.home`` and ``context.name``.

        Raises:
            Invalid: a setting is wrong.
        """
        settings = settings_of(Settings, context.settings, context.name)
        self = cls(space_of((str(context.home), context.name)), settings)
        self._sweep()
        try:
            yield self
        finally:
            self._open = False
            if self._timer is not None:
                self._timer.cancel()
            for watcher in self._watchers:
                watcher.wake()

    async def ping(self) -> None:
        """Return while the component is open."""
        self._require_open()

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item; see the kind."""
        self._require_open()
        return self._space.get(key)

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> Items:
        """Return the items in the order of ``keys``; see the kind."""
        self._require_open()
        return [self._space.get(key) for key in keys]

    async def write(self, change: Write) -> None:
        """Make one change; see the kind."""
        self._require_open()
        self._space.write((change,), self._max_keys)

    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes or none; see the kind."""
        self._require_open()
        self._space.write(changes, self._max_keys)

    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return keys in the order of their code points; see the kind.

        A call sorts the keys behind the token, so it suits thousands of keys, not millions.
        """
        self._require_open()
        after = key_after(token)
        keys = self._space.keys(prefix, after, limit + 1)
        return Page(tuple(keys[:limit]), token_after(keys[limit - 1]) if keys[limit:] else None)

    async def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state and newer ones; see the kind."""
        watcher = Watcher(self._loop)
        self._watchers.add(watcher)
        self._space.attach(key, watcher)
        told: object = watcher
        try:
            while self._open:
                watcher.rung.clear()
                item = self._space.get(key)
                etag = None if item is None else item.etag
                if etag != told:
                    told = etag
                    yield Changed(key, item)
                    continue  # the state may have changed while the caller was busy
                await watcher.rung.wait()
        finally:
            self._space.detach(key, watcher)
            self._watchers.discard(watcher)

    async def query(self, query: Mapping[str, Any]) -> Answer:
        """Answer a query; see the kind and ``_query`` for what it means."""
        self._require_open()
        return await _query_match.answer(self._space.items(), _query.parse(query))

    def _sweep(self) -> None:
        self._space.sweep()
        self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def _require_open(self) -> None:
        if not self._open:
            raise Unavailable("the in-memory state store is closed", reason="closed")


__all__ = ["InMemoryState", "Settings"]
