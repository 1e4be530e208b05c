"""The values of in-memory stores, shared by the loops of one process."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from pillion.errors import Conflict, Unavailable
from pillion.kinds.state import Item, Put, Remove, Write
from pillion_components.state._table import check


class Watcher:
    """Someone in a loop who waits for news of a key."""

    __slots__ = ("_loop", "rung")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.rung = asyncio.Event()
        self._loop = loop

    def wake(self) -> None:
        """Set ``rung`` in the watcher's loop, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody is left to wake
            self._loop.call_soon_threadsafe(self.rung.set)


class Space:
    """Items by key, their expiries in a heap, and who watches them."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._terms: list[tuple[float, str]] = []
        self._watchers: dict[str, set[Watcher]] = {}
        self._guard = threading.Lock()
        self._random = random.SystemRandom()

    def get(self, key: str) -> Item | None:
        """Return the item unless it is missing or expired."""
        with self._guard:
            return self._present(key)

    def write(self, changes: Sequence[Write], max_keys: int) -> None:
        """Make all changes in their order, or none.

        Raises:
            Conflict: a condition does not hold.
            Invalid: a change is wrong in itself.
            Unavailable: more than ``max_keys`` keys (reason ``full``); 0 for no limit.
        """
        for change in changes:
            check(change)
        with self._guard:
            before: dict[str, Item | None] = {}
            try:
                for change in changes:
                    before.setdefault(change.key, self._items.get(change.key))
                    self._apply(change)
                self._require_room(before, max_keys)
            except (Conflict, Unavailable):
                for key, item in before.items():
                    self._set(key, item)
                raise
            for key in before:
                item = self._items.get(key)
                if item is not None and item.expires is not None:
                    heapq.heappush(self._terms, (item.expires, key))
                self._wake(key)

    def keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        """Return the first keys in order, with a prefix and behind a key."""
        with self._guard:
            found = (
                key
                for key in self._items
                if key.startswith(prefix)
                and (after is None or key > after)
                and self._present(key) is not None
            )
            return heapq.nsmallest(limit, found)

    def items(self) -> list[Item]:
        """Return all items that have not expired."""
        now = time.time()
        with self._guard:
            return [
                item for item in self._items.values() if item.expires is None or item.expires > now
            ]

    def sweep(self) -> None:
        """Delete what has expired and tell its watchers."""
        now = time.time()
        with self._guard:
            while self._terms and self._terms[0][0] <= now:
                term, key = heapq.heappop(self._terms)
                item = self._items.get(key)
                if item is not None and item.expires == term:
                    del self._items[key]
                    self._wake(key)
            # A key that is written again and again leaves its earlier terms behind.
            if len(self._terms) > 2 * len(self._items) + 1024:
                self._terms = [
                    (item.expires, key)
                    for key, item in self._items.items()
                    if item.expires is not None
                ]
                heapq.heapify(self._terms)

    def attach(self, key: str, watcher: Watcher) -> None:
        """Wake ``watcher`` when ``key`` changes."""
        with self._guard:
            self._watchers.setdefault(key, set()).add(watcher)

    def detach(self, key: str, watcher: Watcher) -> None:
        """Wake it no more."""
        with self._guard:
            group = self._watchers[key]
            group.discard(watcher)
            if not group:
                del self._watchers[key]

    def _present(self, key: str) -> Item | None:
        item = self._items.get(key)
        if item is None or (item.expires is not None and item.expires <= time.time()):
            return None
        return item

    def _apply(self, change: Write) -> None:
        present = self._present(change.key)
        tag = None if present is None else present.etag
        if change.etag is not None and change.etag != tag:
            raise Conflict(
                f"possible etag mismatch: the key {change.key!r} has another etag or is missing",
                reason="etag",
            )
        if isinstance(change, Remove):
            self._items.pop(change.key, None)
            return
        if change.create_only and present is not None:
            raise Conflict(
                f"possible etag mismatch: the key {change.key!r} is there already", reason="etag"
            )
        self._items[change.key] = self._item(change)

    def _item(self, change: Put) -> Item:
        expires = None if change.ttl is None else time.time() + change.ttl
        etag = f"{self._random.getrandbits(64):016x}"
        return Item(change.key, change.value, etag, expires)

    def _require_room(self, before: dict[str, Item | None], max_keys: int) -> None:
        if not max_keys or len(self._items) <= max_keys:
            return
        if all(item is not None or key not in self._items for key, item in before.items()):
            return  # no new key
        raise Unavailable(
            f"the in-memory state store is full: it has {max_keys} keys, its setting maxKeys",
            reason="full",
        )

    def _set(self, key: str, item: Item | None) -> None:
        if item is None:
            self._items.pop(key, None)
        else:
            self._items[key] = item

    def _wake(self, key: str) -> None:
        for watcher in self._watchers.get(key, ()):
            watcher.wake()


_spaces: WeakValueDictionary[tuple[str, str], Space] = WeakValueDictionary()
_spaces_guard = threading.Lock()


def space_of(name: tuple[str, str]) -> Space:
    """Return the space of a home and a component name; it lives as long as someone holds it."""
    with _spaces_guard:
        space = _spaces.get(name)
        if space is None:
            space = _spaces[name] = Space()
        return space


__all__ = ["Space", "Watcher", "space_of"]
