"""``state.sqlite``: an embedded store, one SQLite file for all runtimes of one user.

The file is ``<home>/state.db`` unless ``connectionString`` names another. A write that returned is
on the disk: writes that wait at one time share one commit and one fsync(2), so durability costs
little under load. With ``durability: relaxed`` a commit is not synced by itself; a killed process
still loses nothing, a power cut may take the last seconds. A write whose condition does not hold
fails alone, whatever shares its commit.

Entity tags are random and never come back. Expired values are missing at once and leave the file
with the next clean-up. Watchers in every process hear of a commit within milliseconds. Queries
read JSON values in a thread; without a sort they walk the keys, with one they read all values. A
field's name is compared as it is written in the stored JSON, so one that was written with escapes
(``\\u00e9``) is not found by its letter.

A damaged file is reported and left as it is: it is the only copy. A full disk fails writes until
there is space again. A file of another program or of a newer Pillion is refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from pillion.errors import Failure, Invalid, Unavailable
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
from pillion_components._doorbell import Doorbell
from pillion_components._durations import duration, positive_duration
from pillion_components._sqlite import Database, Row, Transaction
from pillion_components._sqlite_location import connection_string, location
from pillion_components.state import _query, _query_sql
from pillion_components.state import _table as table
from pillion_components.state._token import key_after, token_after
from pillion_components.state._watch import Feed

Rows: TypeAlias = list[Row]
Items: TypeAlias = list[Item | None]
Outcomes: TypeAlias = list[Exception | None]

_SWEEP = 1000
"""Expired rows deleted in one transaction."""

_CHECK = 1.0
"""Seconds between two looks at whether the file still has its path."""


def _named(text: str) -> str:
    if not text.strip():
        raise ValueError("a name")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The metadata of ``state.sqlite``."""

    connection_string: str = setting(
        "path or file: URI of the file, from the working directory; empty for state.db in the "
        "home folder",
        default="",
        read=connection_string,
        example="file:orders.db",
    )
    table_name: str = setting(
        "collection of keys in the file; components with the same file and name share their keys",
        default="state",
        read=_named,
    )
    durability: str = setting(
        "full: an acknowledged write survives a power cut; relaxed: it survives a killed process",
        default="full",
        choices=("full", "relaxed"),
    )
    timeout: float = setting(
        "time for one operation", default="20s", read=positive_duration, example="5s"
    )
    busy_timeout: float = setting(
        "time to wait for another process that writes",
        default="2s",
        read=positive_duration,
        example="2s",
    )
    cleanup_interval: float = setting(
        "time between two deletions of expired values; 0 for never", default="1h", read=duration
    )
    max_operations: int = setting(
        "changes in one transaction", default="10000", read=whole(1, 1_000_000)
    )


class SqliteState(Expiring, Transactional, Listable, Watchable, Queryable):
    """Values in an SQLite file that all runtimes of the user share."""

    settings: ClassVar[type[Settings]] = Settings

    def __init__(self, database: Database, bell: Doorbell, settings: Settings) -> None:
        self._database = database
        self._bell = bell
        self._space = settings.table_name
        self._timeout = settings.timeout
        self._cleanup = settings.cleanup_interval
        self._most = self.max_operations = settings.max_operations
        self._feed = Feed(database, bell, self._space)
        self._loop = asyncio.get_running_loop()
        self._checked = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the file, and make it when there is none.

        Raises:
            Invalid: a setting is wrong.
            Unavailable: the file is locked, damaged, of another program or of a newer Pillion.
        """
        settings = settings_of(Settings, context.settings, context.name)
        path = location(settings.connection_string, context.home, "state.db")
        schema = table.SCHEMA
        if settings.durability == "relaxed":
            schema = dataclasses.replace(schema, synchronous="NORMAL")
        bell = Doorbell(path.with_name(f"{path.name}.bell"))
        times = {"busy_timeout": settings.busy_timeout, "timeout": settings.timeout}
        async with Database.open(path, schema, **times) as database:
            self = cls(database, bell, settings)
            self._clean()
            try:
                yield self
            finally:
                self._close()

    async def ping(self) -> None:
        """Read the file once, and have it opened anew when it was replaced."""
        if self._database.moved():
            await self._database.submit(_nothing)
        self._read(table.READ_ITEM, (self._space, "", 0.0))

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item; see the kind. Every read is strong."""
        table.check_key(key)
        rows = self._read(table.READ_ITEM, (self._space, key, time.time()))
        return table.item_of(rows[0]) if rows else None

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> Items:
        """Return the items in the order of ``keys``; see the kind."""
        for key in keys:
            table.check_key(key)
        found: dict[str, Item] = {}
        now = time.time()
        for start in range(0, len(keys), table.CHUNK):
            chunk = keys[start : start + table.CHUNK]
            padding = [None] * (table.CHUNK - len(chunk))
            for row in self._read(table.READ_ITEMS, (self._space, *chunk, *padding, now)):
                found[row[0]] = table.item_of(row)
            if start:
                await asyncio.sleep(0)
        return [found.get(key) for key in keys]

    async def write(self, change: Write) -> None:
        """Make one change; see the kind."""
        table.check(change)

        def write(transaction: Transaction) -> None:
            table.apply(transaction, self._space, change, time.time())
            transaction.after_commit(self._bell.ring)

        await self._database.submit(write, single=True)

    async def write_many(self, changes: Sequence[Write]) -> Outcomes:
        """Make changes that do not depend on each other, in one commit; see the kind."""
        results: Outcomes = [_wrong(change) for change in changes]

        def write(transaction: Transaction) -> Outcomes:
            now = time.time()
            outcomes = list(results)
            for number, change in enumerate(changes):
                if outcomes[number] is None:
                    try:
                        table.apply(transaction, self._space, change, now)
                    except Failure as failure:
                        outcomes[number] = failure
            transaction.after_commit(self._bell.ring)
            return outcomes

        try:
            return await self._database.submit(write)
        except Failure as failure:
            return [failure if one is None else one for one in results]

    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes or none; see the kind."""
        if len(changes) > self._most:
            raise Invalid(
                f"a transaction has {len(changes)} operations and may have {self._most}; "
                "see the setting maxOperations"
            )
        for change in changes:
            table.check(change)

        def write(transaction: Transaction) -> None:
            now = time.time()
            for change in changes:
                table.apply(transaction, self._space, change, now)
            transaction.after_commit(self._bell.ring)

        await self._database.submit(write)

    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return keys in the order of their code points; see the kind."""
        table.check_key(prefix)
        after = key_after(token)
        statement, begin = table.READ_KEYS_FROM, prefix
        if after is not None and after >= prefix:
            statement, begin = table.READ_KEYS_BEHIND, after
        end = table.after_prefix(prefix)
        rows = self._read(statement, (self._space, begin, end, time.time(), limit + 1))
        keys = tuple(row[0] for row in rows[:limit])
        return Page(keys, token_after(keys[-1]) if len(rows) > limit else None)

    async def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state and newer ones; see the kind."""
        table.check_key(key)
        with self._feed.following(key) as watch:
            while not self._feed.closed:
                watch.rung.clear()
                try:
                    rows = self._read(table.READ_ITEM, (self._space, key, time.time()))
                except Unavailable as failure:
                    self._feed.trouble(failure)
                else:
                    etag, expires = (rows[0][2], rows[0][3]) if rows else (None, None)
                    if etag != watch.told:
                        self._feed.told(watch, etag, expires)
                        yield Changed(key, table.item_of(rows[0]) if rows else None)
                        continue  # the state may have changed while the caller was busy
                await watch.rung.wait()

    async def query(self, query: Mapping[str, Any]) -> Answer:
        """Answer a query; see the kind and ``_query`` for what it means."""
        work = _query_sql.work(_query.parse(query), self._space, time.time())
        try:
            async with asyncio.timeout(self._timeout):
                return await self._database.scan(work)
        except TimeoutError:
            raise Unavailable(
                f"the query of {self._database.path} took more than {self._timeout:g} s",
                reason="timeout",
            ) from None

    def _read(self, statement: str, parameters: Sequence[object]) -> Rows:
        now = self._loop.time()
        if now - self._checked > _CHECK:
            self._checked = now
            if self._database.moved():
                self._database.refresh()
        return self._database.read(statement, parameters)

    # Cleaning up.

    def _clean(self) -> None:
        """Delete some expired rows, and come back soon when there are more."""
        if not self._cleanup or self._closed:
            return

        def sweep(transaction: Transaction) -> int:
            return table.sweep(transaction, time.time(), _SWEEP)

        try:
            self._database.submit(sweep).add_done_callback(self._cleaned)
        except Failure:
            self._arm(self._cleanup)

    def _cleaned(self, future: asyncio.Future[int]) -> None:
        if future.cancelled() or future.exception() is not None or future.result() < _SWEEP:
            self._arm(self._cleanup)
        else:
            self._arm(0.0)

    def _arm(self, delay: float) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(delay, self._clean)

    def _close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._feed.close()
        self._bell.close()


def _nothing(_transaction: Transaction) -> None:
    return


def _wrong(change: Write) -> Exception | None:
    try:
        table.check(change)
    except Invalid as invalid:
        return invalid
    return None


__all__ = ["Settings", "SqliteState"]
