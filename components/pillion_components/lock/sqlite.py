"""``lock.sqlite``: locks for all processes of one user on one machine, in one SQLite file.

The file is ``<home>/lock.db`` unless ``connectionString`` names another. Expiry is on the
machine's monotonic clock, which nobody can set; a lock of an earlier boot has ended with its
holder. Fencing tokens come from one counter of the file, synced to the disk with every
acquisition; see ``_fencing`` for what happens to them when the file is lost.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

from pillion.errors import Invalid
from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion.kinds.settings import setting, settings_of
from pillion.node import boot_id
from pillion_components._durations import positive_duration
from pillion_components._sqlite import Database, Schema, Transaction
from pillion_components._sqlite_location import connection_string, location
from pillion_components.lock._fencing import next_token

_SWEPT = 4
"""Expired locks deleted by one acquisition, so that the file does not grow with dead names."""

SCHEMA = Schema(
    what="lock store",
    application_id=0x50494C4C,
    steps=(
        (
            "CREATE TABLE fencing (one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER)",
            "INSERT INTO fencing VALUES (1, 0)",
            """CREATE TABLE lock (
                resource TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                boot TEXT NOT NULL,
                expires REAL NOT NULL
            )""",
            "CREATE INDEX term ON lock (expires)",
        ),
    ),
)

_HOLDER = "SELECT owner FROM lock WHERE resource = ? AND boot = ? AND expires > ?"
_TAKE = "INSERT OR REPLACE INTO lock VALUES (?, ?, ?, ?)"
_RENEW = "UPDATE lock SET expires = ? WHERE resource = ? AND owner = ? AND boot = ? AND expires > ?"
_FREE = "DELETE FROM lock WHERE resource = ?"
_SWEEP = "DELETE FROM lock WHERE resource IN (SELECT resource FROM lock WHERE expires <= ? LIMIT ?)"
_FORGET = "DELETE FROM lock WHERE boot <> ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The metadata of ``lock.sqlite``."""

    connection_string: str = setting(
        "path or file: URI of the file, from the working directory; empty for lock.db in the "
        "home folder",
        default="",
        read=connection_string,
        example="file:locks.db",
    )
    timeout: float = setting(
        "time for one operation", default="5s", read=positive_duration, example="5s"
    )
    busy_timeout: float = setting(
        "time to wait for another process that writes",
        default="2s",
        read=positive_duration,
        example="2s",
    )


class SqliteLock(LockStore):
    """Locks in an SQLite file that all processes of the user share."""

    settings: ClassVar[type[Settings]] = Settings

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the file, and make it when there is none.

        Raises:
            Invalid: a setting is wrong.
            Unavailable: the file is locked, damaged, of another program or of a newer Pillion.
        """
        settings = settings_of(Settings, context.settings, context.name)
        path = location(settings.connection_string, context.home, "lock.db")
        times = {"busy_timeout": settings.busy_timeout, "timeout": settings.timeout}
        async with Database.open(path, SCHEMA, **times) as database:
            await database.submit(_forget)
            yield cls(database)

    async def ping(self) -> None:
        """Read the file once."""
        if self._database.moved():
            await self._database.submit(_nothing)
        self._database.read(_HOLDER, ("", "", 0.0))

    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        """Take the lock; see the kind."""
        _check(resource, owner, expiry)

        def take(transaction: Transaction) -> int | None:
            now = time.monotonic()
            if transaction.execute(_HOLDER, (resource, boot_id(), now)).fetchone() is not None:
                return None
            transaction.execute(_SWEEP, (now, _SWEPT))
            last = transaction.execute("SELECT token FROM fencing").fetchone()[0]
            token = next_token(last, time.time())
            transaction.execute("UPDATE fencing SET token = ?", (token,))
            transaction.execute(_TAKE, (resource, owner, boot_id(), now + expiry))
            return token

        return await self._database.submit(take)

    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        """Hold on from now; see the kind."""
        _check(resource, owner, expiry)

        def hold(transaction: Transaction) -> bool:
            now = time.monotonic()
            cursor = transaction.execute(_RENEW, (now + expiry, resource, owner, boot_id(), now))
            return cursor.rowcount == 1

        return await self._database.submit(hold)

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give the lock up; see the kind."""
        _check(resource, owner, 1.0)

        def free(transaction: Transaction) -> Unlocked:
            row = transaction.execute(_HOLDER, (resource, boot_id(), time.monotonic())).fetchone()
            if row is None:
                return Unlocked.DOES_NOT_EXIST
            if row[0] != owner:
                return Unlocked.BELONGS_TO_OTHERS
            transaction.execute(_FREE, (resource,))
            return Unlocked.SUCCESS

        return await self._database.submit(free)


def _check(resource: str, owner: str, expiry: float) -> None:
    if not 0 < expiry < float("inf"):
        raise Invalid(f"the lock {resource!r} cannot expire after {expiry:g} s")
    try:
        f"{resource}{owner}".encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"the lock {resource!r} or its owner is not valid Unicode text") from error


def _forget(transaction: Transaction) -> None:
    transaction.execute(_FORGET, (boot_id(),))


def _nothing(_transaction: Transaction) -> None:
    return


__all__ = ["Settings", "SqliteLock"]
