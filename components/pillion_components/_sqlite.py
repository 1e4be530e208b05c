"""SQLite from an event loop: one thread commits writes in groups, reads run where they are asked.

A hop to a thread costs more than most statements, and a commit may wait for the disk. So all
writes that wait at one time share one transaction in the writer thread, and reads, some
microseconds each, run inline on a second connection.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pillion.errors import Failure, Overloaded, Unavailable
from pillion_components._sqlite_deadlines import Deadlines
from pillion_components._sqlite_file import (
    Connections,
    DatabaseFile,
    Schema,
    primary,
)
from pillion_components._sqlite_scan import Scan

_log = logging.getLogger(__name__)

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

_BATCH = 1024
"""Writes in one transaction."""

_QUEUED = 65_536
"""Writes that may wait."""

_SCANS = 4
"""Long reads at one time."""

_DOUBTFUL = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_ERROR,  # such as a table that is gone
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors after which the file is opened and checked again."""

_OF_THE_WRITE = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
"""Errors that are between a write and its author."""


class Transaction:
    """What a write may do, inside the group's transaction."""

    __slots__ = ("_connection", "hooks")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.hooks: dict[Callable[[], object], None] = {}

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(statement, parameters)

    def after_commit(self, hook: Callable[[], object]) -> None:
        """Call ``hook`` in the writer thread once the group is durable; equal hooks once."""
        self.hooks[hook] = None


Write: TypeAlias = Callable[[Transaction], T]
_Job: TypeAlias = "tuple[Write[Any], asyncio.Future[Any], bool]"
_Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"


class Database:
    """An open file. Made by :meth:`open`; belongs to the loop that opened it.

    When the file is replaced under it (deleted, restored from a copy, set aside as damaged), it
    opens the new one: :attr:`generation` grows and ``on_reopen`` is called in the loop.
    """

    def __init__(self, path: Path, schema: Schema, busy_timeout: float | None) -> None:
        self.path = path
        self.generation = 0
        self.on_reopen: Callable[[], None] | None = None
        self._file = DatabaseFile(path, schema, busy_timeout)
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._deadlines = Deadlines(None, self._late)
        self._closing = False
        self._scans = asyncio.Semaphore(_SCANS)
        self._ended = asyncio.Event()
        self._suspect = False
        self._connections: Connections | None = None
        self._reader: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._thread = threading.Thread(target=self._work, name=f"sqlite {path.name}", daemon=True)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        schema: Schema,
        *,
        busy_timeout: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of every later operation, not of this one
    ) -> AsyncIterator[Database]:
        """Open ``path``; leaving the context commits what is queued and closes it.

        Args:
            path: the file; its folder is made.
            schema: its tables.
            busy_timeout: seconds to wait for another process; None for the usual two.
            timeout: seconds after which a write that waits fails; None for never.

        Raises:
            Unavailable: the file is locked, damaged, foreign or of a newer version.
        """
        self = cls(path, schema, busy_timeout)
        self._thread.start()
        try:
            await self.submit(_nothing)
            self._deadlines.timeout = timeout or 0.0
            yield self
        finally:
            self._closing = True
            self._queue.put(None)
            await self._ended.wait()
            self._deadlines.close()

    def submit(self, write: Write[T], *, single: bool = False) -> asyncio.Future[T]:
        """Queue a write at once, in order; the future is done when its group is committed.

        The write is carried out even when nobody awaits the future any more. The future raises
        what ``write`` raised, or Unavailable when the group cannot be committed or takes too long.

        Args:
            write: what to do, in the writer thread.
            single: True when it runs one statement at most that changes anything, and raises
                nothing after it; then it needs no savepoint of its own.

        Raises:
            Overloaded: too many writes wait.
            Unavailable: the database is closing.
        """
        if self._closing:
            raise Unavailable(f"{self.path} is closed", reason="closed")
        if self._waiting >= _QUEUED:
            raise Overloaded(f"{self._waiting} writes wait for {self.path}")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting += 1
        self._queue.put((write, future, single))
        self._deadlines.add(future)
        return future

    def read(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a query inline and return all its rows; keep it to some hundred rows.

        Raises:
            Unavailable: the file cannot be read.
        """
        reader = self._reader
        if reader is None or self._closing:
            raise Unavailable(f"{self.path} is closed", reason="closed")
        try:
            return reader.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            self._doubt(error)
            raise self._file.failure(error) from error

    async def scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read that may be long in a thread, on a connection of its own.

        A caller that is cancelled interrupts it and waits for its end, which takes milliseconds.

        Raises:
            Unavailable: the file cannot be read.
        """
        if self._closing:
            raise Unavailable(f"{self.path} is closed", reason="closed")
        async with self._scans:
            scan = Scan(self._file)
            running = self._loop.run_in_executor(None, scan.run, work)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                scan.interrupt()
                await asyncio.wait([running])
                _retrieve(running)
                raise
            except sqlite3.Error as error:
                self._doubt(error)
                raise self._file.failure(error) from error

    def moved(self) -> bool:
        """Tell whether another file, or none, now has this path; see :meth:`refresh`."""
        return self._suspect or self._file.moved(self._identity)

    def refresh(self) -> None:
        """Have the writer thread look at the path and open what is there, if it changed."""
        with suppress(Failure):
            self.submit(_nothing).add_done_callback(_retrieve)

    def _doubt(self, error: sqlite3.Error) -> None:
        if primary(error) in _DOUBTFUL:
            self._suspect = True

    # The writer thread.

    def _work(self) -> None:
        running = True
        while running:
            jobs: list[_Job] = []
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == _BATCH:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                running = False
            if jobs:
                self._tell(self._deliver, self._outcomes(jobs))
        if self._connections is not None:
            self._file.disconnect(self._connections)
        self._tell(_set, self._ended)

    def _outcomes(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            connection = self._current()
            self._file.begin(connection)
            return self._group(connection, jobs)
        except sqlite3.Error as error:
            self._doubt(error)
            failure: BaseException = self._file.failure(error)
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - the waiting callers must hear of it
            failure = error
        self._roll_back()
        return [(future, None, failure) for _, future, _ in jobs]

    def _group(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[_Outcome]:
        transaction = Transaction(connection)
        outcomes: list[_Outcome] = []
        for write, future, single in jobs:
            if not single:
                connection.execute("SAVEPOINT job")
            try:
                value = write(transaction)
            except Exception as error:
                if not connection.in_transaction:
                    raise  # SQLite gave up the whole group: disk full, input or output error
                if not single:
                    connection.execute("ROLLBACK TO job")
                outcomes.append((future, None, self._translated(error)))
            else:
                outcomes.append((future, value, None))
            if not single:
                connection.execute("RELEASE job")
        connection.execute("COMMIT")
        for hook in transaction.hooks:
            hook()
        return outcomes

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error) or isinstance(error, _OF_THE_WRITE):
            return error
        self._doubt(error)
        failure = self._file.failure(error)
        failure.__cause__ = error
        return failure

    def _roll_back(self) -> None:
        if self._connections is not None and self._connections.writer.in_transaction:
            with suppress(sqlite3.Error):
                self._connections.writer.execute("ROLLBACK")

    def _current(self) -> sqlite3.Connection:
        """Return a writer of the file that has the path now."""
        connections = self._connections
        if connections is not None and not self.moved():
            return connections.writer
        fresh = self._file.connect()
        if connections is not None:
            _log.warning("%s was replaced or in doubt and is opened anew", self.path)
            # Its reader belongs to the loop, which closes it when it takes the new one.
            with suppress(sqlite3.Error):
                connections.writer.close()
        self._connections = fresh
        self._identity = fresh.identity
        self._suspect = False
        self._tell(self._take, fresh)
        return fresh.writer

    def _tell(self, callback: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, value)

    # The loop.

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        self._waiting -= len(outcomes)
        for future, value, error in outcomes:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._deadlines.tidy()

    def _late(self) -> Unavailable:
        return Unavailable(
            f"{self.path} did not answer within {self._deadlines.timeout:g} s; the write may be "
            "made yet",
            reason="timeout",
        )

    def _take(self, connections: Connections) -> None:
        old, self._reader = self._reader, connections.reader
        if old is None:
            return
        with suppress(sqlite3.Error):
            old.close()
        self.generation += 1
        if self.on_reopen is not None:
            self.on_reopen()


def _nothing(_transaction: Transaction) -> None:
    return


def _set(event: asyncio.Event) -> None:
    event.set()


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


__all__ = ["Database", "Row", "Schema", "Transaction", "Write"]
