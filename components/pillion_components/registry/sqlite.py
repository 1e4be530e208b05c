"""``registry.sqlite``: the embedded registry, one SQLite file for all runtimes of one user.

The file is ``<home>/registry.db``. A change rings a bell that every watching process hears; it
then reads the rows with a newer revision and nothing else. Each watcher also applies expired
leases on its own clock, so a killed instance disappears even when nobody can write.

The file holds nothing that its registrants do not write again. So a damaged file is set aside as
``registry.db.corrupt-<time>`` with one warning, and the live instances are back within a third of
their lease; a file that is deleted or restored from a copy heals the same way. A locked file, a
file of another program and a file of a newer Pillion are refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import ClassVar, Self

from pillion.errors import Failure, Invalid
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Instance, Registration, Registry
from pillion.node import node_id, process_gone
from pillion_components._doorbell import Doorbell
from pillion_components._sqlite import Database, Transaction
from pillion_components.registry import _table as table
from pillion_components.registry._watch import Feed, Watch

_log = logging.getLogger(__name__)

_PAGE = 256
_RETRY = 0.25
"""Seconds to the next try after a renewal failed."""


class SqliteRegistry(Registry):
    """Instances in ``<home>/registry.db``; it has no settings."""

    shared: ClassVar[bool] = True
    """Processes with the same home see one another's instances."""

    def __init__(self, database: Database, bell: Doorbell, feed: Feed) -> None:
        self._database = database
        self._bell = bell
        self._feed = feed
        self._registrations: set[_Registration] = set()
        database.on_reopen = self._reopened

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the registry below ``context.home``.

        Raises:
            Invalid: a setting is given.
            Unavailable: the file is locked, of another program or of a newer Pillion.
        """
        if context.settings:
            unknown = ", ".join(sorted(context.settings))
            raise Invalid(f"component {context.name}: registry.sqlite has no setting {unknown}")
        bell = Doorbell(context.home / "doorbell" / "registry")

        def tidy(transaction: Transaction) -> None:
            if table.tidy(transaction):
                transaction.after_commit(bell.ring)

        try:
            async with Database.open(context.home / "registry.db", table.SCHEMA) as database:
                await database.submit(tidy)
                with Feed(database, bell) as feed:
                    yield cls(database, bell, feed)
        finally:
            bell.close()  # behind the last commit, which rings

    async def ping(self) -> None:
        """Read the file once."""
        self._database.read(table.READ_STATE)

    @asynccontextmanager
    async def registered(self, instance: Instance, lease: float) -> AsyncIterator[Registration]:
        """Keep ``instance`` registered; see the kind."""
        if lease <= 0:
            raise Invalid(f"instance {instance.id}: a lease of {lease:g} s is no time at all")
        registration = _Registration(self._database, self._bell, instance, lease)
        self._registrations.add(registration)
        try:
            await registration.enter()
            yield registration
        finally:
            self._registrations.discard(registration)
            await registration.leave()

    async def watch(self, namespace: str, app_id: str) -> AsyncGenerator[Change, None]:
        """Yield a Snapshot, then changes; see the kind.

        A slow reader costs no memory: it reads the newest state of what changed meanwhile.
        """
        watch = Watch(namespace, app_id)
        self._feed.add(watch)
        try:
            while not self._feed.closed:
                for change in await self._feed.read(watch):
                    yield change
                if not watch.behind:
                    await watch.rung.wait()
        finally:
            self._feed.remove(watch)

    async def instances(self, namespace: str | None = None) -> Sequence[Instance]:
        """Return the live instances; see the kind."""
        found: dict[str, Instance] = {}
        revision = 0
        while True:
            rows = self._database.read(
                table.READ_LIVE, (time.monotonic(), revision, namespace, _PAGE)
            )
            for row in rows:
                instance = table.instance_of(row[1:])
                found[instance.id] = instance
            if len(rows) < _PAGE:
                return tuple(found.values())
            revision = rows[-1][0]
            await asyncio.sleep(0)

    async def report_dead(self, instance: Instance) -> None:
        """Remove ``instance`` when its process is gone; see the kind."""
        if instance.node != node_id() or instance.pid <= 0:
            return

        def remove(transaction: Transaction) -> None:
            if process_gone(instance.pid) and table.remove(transaction, instance.id):
                transaction.after_commit(self._bell.ring)

        # The lease settles it when the file cannot be written.
        with suppress(Failure):
            await self._database.submit(remove)

    def _reopened(self) -> None:
        for registration in self._registrations:
            registration.renew()
        self._feed.look()


class _Registration(Registration):
    """One row and the timer that renews it."""

    def __init__(
        self, database: Database, bell: Doorbell, instance: Instance, lease: float
    ) -> None:
        self._database = database
        self._bell = bell
        self._instance = instance
        self._lease = lease
        self._written: tuple[Instance, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._failing = False

    async def enter(self) -> None:
        try:
            await self._database.submit(self._keep)
        except Failure:
            self._refused = True
            raise
        self._arm(self._lease / 3)

    async def update(self, *, healthy: bool) -> None:
        self._instance = replace(self._instance, healthy=healthy)
        await self._database.submit(self._keep)

    async def leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._refused:
            return
        try:
            await self._database.submit(self._remove)
        except Failure as failure:
            _log.warning(
                "instance %s is left to its lease of %g s: %s",
                self._instance.id,
                self._lease,
                failure.message,
            )

    def renew(self) -> None:
        """Queue a renewal and arm the next one when it is done."""
        if self._timer is None:
            return  # entering or left
        try:
            self._database.submit(self._keep).add_done_callback(self._renewed)
        except Failure as failure:
            self._tell(failure)

    def _renewed(self, future: asyncio.Future[None]) -> None:
        if self._timer is not None and not future.cancelled():
            self._tell(future.exception())

    def _tell(self, error: BaseException | None) -> None:
        if (error is not None) is not self._failing:
            self._failing = error is not None
            if error is None:
                _log.info("instance %s is renewed again", self._instance.id)
            else:
                _log.warning("cannot renew instance %s: %s", self._instance.id, error)
        self._arm(min(_RETRY, self._lease / 3) if self._failing else self._lease / 3)

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.renew)

    # In the writer thread.

    def _keep(self, transaction: Transaction) -> None:
        instance = self._instance
        if self._written is not None:
            written, revision = self._written
            if written is instance and table.renew(transaction, instance.id, revision, self._lease):
                return
        outcome = instance, table.put(transaction, instance, self._lease)

        def confirm() -> None:
            self._written = outcome

        transaction.after_commit(confirm)
        transaction.after_commit(self._bell.ring)

    def _remove(self, transaction: Transaction) -> None:
        if table.remove(transaction, self._instance.id):
            transaction.after_commit(self._bell.ring)


__all__ = ["SqliteRegistry"]
