"""Watching keys of an embedded state store: per ring one look at the tags of the watched keys.

Nothing is kept about changes: a watcher knows the tag it told last, and every write draws a new
one. So a look reads the present tags, and whoever sees another one reads its item. Deletions need
no traces, changes that follow fast are joined, and a slow watcher costs no memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from pillion.errors import Unavailable
from pillion_components._doorbell import Doorbell, Listener
from pillion_components._sqlite import Database
from pillion_components.state import _table as table

_log = logging.getLogger(__name__)

_POLL = 1.0
"""Seconds between two looks without a ring, for the news of a process that died before ringing."""

_GAP = 0.005
"""Seconds between two looks at least, so that a busy writer elsewhere costs little here."""

NEVER = object()
"""The tag of a watcher that has told nothing yet."""


class Watch:
    """One watcher of one key.

    Attributes:
        key: which.
        told: the tag that it told last, None for a missing key.
        rung: set when there may be news.
    """

    __slots__ = ("key", "rung", "told")

    def __init__(self, key: str) -> None:
        self.key = key
        self.told: object = NEVER
        self.rung = asyncio.Event()


class Feed:
    """All watchers of one component; listens to the bell while there are any."""

    def __init__(self, database: Database, bell: Doorbell, space: str) -> None:
        self.closed = False
        self._database = database
        self._bell = bell
        self._space = space
        self._loop = asyncio.get_running_loop()
        self._watches: dict[str, list[Watch]] = {}
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._due = 0.0
        self._failing = False

    def close(self) -> None:
        """End all watches."""
        self.closed = True
        self._stop()
        self._wake_all()

    @contextmanager
    def following(self, key: str) -> Iterator[Watch]:
        """Wake the watcher it yields as long as the context lasts.

        Raises:
            Unavailable: the bell cannot be heard.
        """
        watch = Watch(key)
        if self._listener is None:
            self._listener = self._bell.listen(self._heard)
            self._arm(_POLL)
        self._watches.setdefault(key, []).append(watch)
        try:
            yield watch
        finally:
            group = self._watches[key]
            group.remove(watch)
            if not group:
                del self._watches[key]
            if not self._watches:
                self._stop()

    def told(self, watch: Watch, etag: object, expires: float | None) -> None:
        """Note what ``watch`` knows now."""
        watch.told = etag
        if expires is not None:
            self._arm_by(self._loop.time() + expires - time.time())

    def trouble(self, failure: Unavailable) -> None:
        """Wake every watcher once the file can be read again."""
        if not self._failing and not self.closed:
            self._failing = True
            _log.warning("watches wait until it works again: %s", failure.message)

    def _heard(self) -> None:
        self._arm_by(self._looked + _GAP)

    def _look(self) -> None:
        self._looked = self._loop.time()
        delay = _POLL
        try:
            if self._database.moved():
                self._database.refresh()
            if self._listener is not None:
                self._listener.mend()
            delay = self._compare()
            if self._failing:
                self._failing = False
                self._wake_all()
        except Unavailable as failure:
            self.trouble(failure)
        self._arm(delay)

    def _compare(self) -> float:
        """Wake the watchers of changed keys; return the seconds until one can expire."""
        now = time.time()
        nearest = now + _POLL
        keys = iter(self._watches)
        while chunk := list(islice(keys, table.CHUNK)):
            padded = chunk + [None] * (table.CHUNK - len(chunk))
            rows = self._database.read(table.READ_TAGS, (self._space, *padded, now))
            tags = {key: etag for key, etag, _ in rows}
            nearest = min([nearest, *(row[2] for row in rows if row[2] is not None)])
            for key in chunk:
                present = tags.get(key)
                for watch in self._watches[key]:
                    if watch.told != present:
                        watch.rung.set()
        return max(0.0, min(_POLL, nearest - now + 0.001))

    def _wake_all(self) -> None:
        for group in self._watches.values():
            for watch in group:
                watch.rung.set()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listener is not None and not self.closed:
            self._due = self._loop.time() + delay
            self._timer = self._loop.call_later(delay, self._look)

    def _arm_by(self, due: float) -> None:
        if self._timer is not None and due < self._due:
            self._arm(max(0.0, due - self._loop.time()))


__all__ = ["NEVER", "Feed", "Watch"]
