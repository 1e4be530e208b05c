"""Watching the embedded registry: per ring one look for the process, then one read per watch."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator, Sequence
from typing import Self

from pillion.errors import Failure, Unavailable
from pillion.kinds.registry import Change, Gone, Instance, Put, Snapshot
from pillion_components._doorbell import Doorbell
from pillion_components._sqlite import Database, Transaction
from pillion_components.registry import _table as table

_log = logging.getLogger(__name__)

_POLL = 1.0
"""Seconds between two looks without a ring, for the news of a process that died before ringing."""

_SPREAD = 0.1
"""Seconds over which watchers spread their writes about one expired row; the first is enough."""

_PAGE = 256
_EXPIRED = 1000


class Watch:
    """What one watcher of an app has seen.

    Attributes:
        known: the instances it was told of.
        revision: the newest row it read.
        floor: no change at or below this revision is unread.
        expired: instances whose lease ran out since it read.
        behind: True when the last read stopped at a full page.
        fresh: True when it needs a Snapshot.
        rung: set when there may be news.
    """

    __slots__ = (
        "behind",
        "expired",
        "floor",
        "fresh",
        "generation",
        "key",
        "known",
        "revision",
        "rung",
    )

    def __init__(self, namespace: str, app_id: str) -> None:
        self.key = (namespace, app_id)
        self.known: dict[str, Instance] = {}
        self.revision = 0
        self.floor = 0
        self.expired: set[str] = set()
        self.behind = False
        self.fresh = True
        self.generation = 0
        self.rung = asyncio.Event()


class Feed:
    """All watches of one process; a context manager that listens to the bell while it is open."""

    def __init__(self, database: Database, bell: Doorbell) -> None:
        self.closed = False
        self._database = database
        self._bell = bell
        self._listener = bell.listen(self.look)
        self._loop = asyncio.get_running_loop()
        self._watches: dict[tuple[str, str], list[Watch]] = {}
        self._seen = 0
        self._generation = 0
        self._doubtful: dict[str, int] = {}
        self._settling = False
        self._failing = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.closed = True
        self._listener.close()
        if self._timer is not None:
            self._timer.cancel()
        self._wake_all(fresh=False)

    def add(self, watch: Watch) -> None:
        """Wake ``watch`` from now on."""
        idle = not self._watches
        self._watches.setdefault(watch.key, []).append(watch)
        if idle:
            self._failing = True  # nothing is known until the first look succeeds
            self.look()

    def remove(self, watch: Watch) -> None:
        """Forget ``watch``; the last one takes the timer with it."""
        group = self._watches[watch.key]
        group.remove(watch)
        if not group:
            del self._watches[watch.key]
        if not self._watches and self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Wake the watches that have news, and arm the next look."""
        if not self._watches or self.closed:
            return
        delay = _POLL
        try:
            if self._database.moved():
                self._database.refresh()
            self._listener.mend()
            self._find_changed()
            delay = self._find_expired()
        except Unavailable as failure:
            self._trouble(failure)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, self.look)

    async def read(self, watch: Watch) -> Sequence[Change]:
        """Return what ``watch`` has not seen; empty when that is nothing, or on trouble."""
        watch.rung.clear()
        try:
            if not watch.fresh and watch.generation == self._database.generation:
                changes = self._changes(watch)
                if self._state()[1] <= watch.floor:
                    return changes
            return (await self._snapshot(watch),)
        except Unavailable as failure:
            self._trouble(failure)
            return ()

    # Looking.

    def _find_changed(self) -> None:
        generation = self._database.generation
        revision, purged = self._state()
        seen = self._seen
        if self._failing or generation != self._generation or not purged <= seen <= revision:
            # First look, trouble before, another file, or too long asleep: start over.
            self._failing = False
            self._generation = generation
            self._seen = revision
            self._wake_all(fresh=True)
        elif revision != seen:
            for namespace, app_id in self._database.read(table.READ_APPS, (seen,)):
                for watch in self._watches.get((namespace, app_id), ()):
                    self._wake(watch)
            self._seen = revision

    def _find_expired(self) -> float:
        """Wake the watches of expired rows; return the seconds until the next row can expire."""
        now = time.monotonic()
        rows = self._database.read(table.READ_EXPIRED, (now, _EXPIRED))
        for identifier, revision, namespace, app_id in rows:
            self._doubt(identifier, revision)
            for watch in self._watches.get((namespace, app_id), ()):
                if identifier in watch.known:
                    watch.expired.add(identifier)
                    self._wake(watch)
        next_expiry = self._database.read(table.READ_NEXT_EXPIRY, (now,))[0][0]
        if next_expiry is None:
            return _POLL
        return min(_POLL, float(next_expiry) - now + 0.001)

    def _wake(self, watch: Watch) -> None:
        if not watch.rung.is_set():
            watch.floor = self._seen
            watch.rung.set()

    def _wake_all(self, *, fresh: bool) -> None:
        for watch in self._all():
            watch.fresh = watch.fresh or fresh
            watch.rung.set()

    def _all(self) -> Iterator[Watch]:
        for group in self._watches.values():
            yield from group

    def _trouble(self, failure: Unavailable) -> None:
        if not self._failing and not self.closed:
            self._failing = True
            _log.warning("watches keep what they know until it works again: %s", failure.message)

    def _state(self) -> tuple[int, int]:
        rows = self._database.read(table.READ_STATE)
        if not rows:
            raise Unavailable(f"{self._database.path} has lost its state", reason="corrupt")
        revision, purged = rows[0]
        return revision, purged

    # Settling, because two clocks' looks at one lease can disagree.

    def _doubt(self, identifier: str, revision: int) -> None:
        self._doubtful[identifier] = revision
        if not self._settling:
            self._settling = True
            # Jitter, not a secret.
            self._loop.call_later(random.random() * _SPREAD, self._settle)  # noqa: S311

    def _settle(self) -> None:
        doubtful, self._doubtful = self._doubtful, {}

        def settle(transaction: Transaction) -> None:
            if table.settle(transaction, doubtful.items()):
                transaction.after_commit(self._bell.ring)

        def settled(future: asyncio.Future[None]) -> None:
            self._settling = False
            if not future.cancelled() and future.exception() is not None:
                self._doubtful = doubtful | self._doubtful

        try:
            self._database.submit(settle).add_done_callback(settled)
        except Failure:
            self._settling = False
            self._doubtful = doubtful | self._doubtful

    # Reading.

    async def _snapshot(self, watch: Watch) -> Snapshot:
        while True:
            generation = self._database.generation
            start, _ = self._state()
            watch.known.clear()
            watch.expired.clear()
            watch.revision = 0
            watch.behind = True
            while watch.behind:
                self._changes(watch)
                await asyncio.sleep(0)
            # A tombstone that was made and purged while this read went on would be missed.
            if self._state()[1] <= start and generation == self._database.generation:
                watch.revision = max(watch.revision, start)
                watch.generation = generation
                watch.fresh = False
                return Snapshot(tuple(watch.known.values()))

    def _changes(self, watch: Watch) -> list[Change]:
        changes: list[Change] = []
        while watch.expired:
            self._forget(watch, watch.expired.pop(), changes)
        rows = self._database.read(table.READ_CHANGES, (*watch.key, watch.revision, _PAGE))
        now = time.monotonic()
        for gone, revision, expires, *columns in rows:
            identifier = columns[0]
            if gone:
                self._forget(watch, identifier, changes)
            elif expires <= now:
                self._doubt(identifier, revision)
                self._forget(watch, identifier, changes)
            else:
                instance = table.instance_of(tuple(columns))
                if watch.known.get(identifier) != instance:
                    watch.known[identifier] = instance
                    changes.append(Put(instance))
        if rows:
            watch.revision = rows[-1][1]
        watch.behind = len(rows) == _PAGE
        return changes

    @staticmethod
    def _forget(watch: Watch, identifier: str, changes: list[Change]) -> None:
        if watch.known.pop(identifier, None) is not None:
            changes.append(Gone(identifier))


__all__ = ["Feed", "Watch"]
